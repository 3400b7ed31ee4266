"""Recompute the metrics of a run: evaluate.py run=outputs/…."""

from ratinglab.cli import COMMANDS

if __name__ == "__main__":
    COMMANDS["evaluate"]()
