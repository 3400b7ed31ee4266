"""`python -m ratinglab` is the same as `ratinglab`."""

from ratinglab.commands import main

if __name__ == "__main__":
    main()
