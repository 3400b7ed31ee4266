"""Splits: the choice of rows held out for validation and test, and the parts of a table that it makes."""
