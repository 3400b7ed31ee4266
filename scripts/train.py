"""Fit a model on a table of ratings: see --help."""

from ratinglab.cli import COMMANDS

if __name__ == "__main__":
    COMMANDS["train"]()
