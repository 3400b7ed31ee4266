"""Answer requests for predictions over HTTP: serve.py run=outputs/… port=8000."""

from ratinglab.cli import COMMANDS

if __name__ == "__main__":
    COMMANDS["serve"]()
