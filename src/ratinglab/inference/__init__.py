"""A trained run in use: predictions, lists, evaluation, and fold-in of new users, items and ratings."""
