"""Entry point of `python -m ratinglab`, the same as `ratinglab`."""

from ratinglab.commands import main

if __name__ == "__main__":
    main()
