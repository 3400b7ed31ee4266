"""Recommend items to one or more users: recommend.py run=outputs/… user=42 k=10."""

from ratinglab.cli import COMMANDS

if __name__ == "__main__":
    COMMANDS["recommend"]()
