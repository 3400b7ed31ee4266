"""Entry point of `python -m ratinglab`, the same as `ratinglab`."""

from ratinglab.cli import main

if __name__ == "__main__":
    main()
