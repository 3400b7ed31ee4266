"""What can go wrong that is not a fault of ratinglab's."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake of the user's: its message is one line that names the place, the rule and the value."""


class RunFailedError(RuntimeError):
    """A run cannot be completed, such as one whose loss is no longer a number: its message is one line."""


def did_you_mean(name: str, valid: Iterable[str], *, cutoff: float = 0.6) -> str:
    """`; did you mean NAME?` for the nearest of the valid names, or nothing where none is near.

    Args:
        name: what the user wrote.
        valid: the names there are.
        cutoff: from 0 to 1, how near a name must be; file names, whose endings are alike, want a higher one.
    """
    nearest = get_close_matches(name, list(valid), n=1, cutoff=cutoff)
    return f"; did you mean {nearest[0]}?" if nearest else ""
