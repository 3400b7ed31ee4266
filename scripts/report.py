"""Compare runs with one another and with published results: report.py outputs/…."""

from ratinglab.cli import COMMANDS

if __name__ == "__main__":
    COMMANDS["report"]()
