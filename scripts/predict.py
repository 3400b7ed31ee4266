"""Predict the ratings of pairs: predict.py run=outputs/… input=pairs.csv output=predictions.csv."""

from ratinglab.cli import COMMANDS

if __name__ == "__main__":
    COMMANDS["predict"]()
