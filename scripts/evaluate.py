"""Recompute the metrics of a run: evaluate.py run=outputs/…."""

from ratinglab.cli import evaluate

if __name__ == "__main__":
    evaluate()
