"""Train a run again from its record, and compare the metrics: reproduce.py run=outputs/…."""

from ratinglab.cli import COMMANDS

if __name__ == "__main__":
    COMMANDS["reproduce"]()
