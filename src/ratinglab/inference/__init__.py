"""A trained run in use: predictions, lists and evaluation; `fold_in` adds users, items and ratings."""
