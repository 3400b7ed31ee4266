"""Describe a table of ratings: inspect_data.py ratings.csv."""

from ratinglab.cli import COMMANDS

if __name__ == "__main__":
    COMMANDS["inspect_data"]()
