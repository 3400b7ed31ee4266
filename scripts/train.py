"""Fit a model on a table of ratings: see --help."""

from ratinglab.cli import train

if __name__ == "__main__":
    train()
