"""Describe a table of ratings: inspect_data.py ratings.csv."""

from ratinglab.cli import inspect_data

if __name__ == "__main__":
    inspect_data()
