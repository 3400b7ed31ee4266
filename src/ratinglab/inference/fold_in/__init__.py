"""Fold-in: weights of users and items that were not trained, and of users with more ratings."""
