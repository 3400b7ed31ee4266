"""Errors whose message is one line for the user, and the words of messages: suggestions of names, and counts."""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from typing import NoReturn

CONTROL_CHARACTERS = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}
"""Escapes of line breaks and of codes that a terminal interprets, for str.translate. A file name, cell or title can
contain them."""


class UserError(ValueError):
    """A user's mistake. The message is one line that names the place, the rule and the value."""


class ArgumentError(UserError, TypeError):
    """An argument that a function of the Python API does not take, or whose type is wrong."""


class ConflictError(UserError):
    """Options that are valid on their own but not together, or that need a package that is missing."""


class RunFailedError(RuntimeError):
    """A run that cannot be completed, for example because its loss is NaN. The message is one line."""


def require(*packages: str, extra: str, needed_by: str) -> None:
    """Raise UserError if a package is missing. The message names `needed_by` and the `extra` to install."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise UserError(f"{needed_by} needs {', '.join(missing)}: pip install 'ratinglab[{extra}]'")


def refuse_arguments(message: str) -> NoReturn:
    """Raise UserError, in place of `ArgumentParser.error`, which prints the usage first."""
    raise UserError(f"{message}; see --help")


def format_count(number: int, noun: str) -> str:
    """Format a number of things in a message, such as `1 user` or `1,200 users`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def did_you_mean(name: str, valid: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return `; did you mean NAME?` for the closest valid name, or "" if none is close. Ignores the case.

    `cutoff` is the required similarity, from 0 to 1. File names need a higher cutoff, because a shared extension makes
    them similar.
    """
    names = {valid_name.casefold(): valid_name for valid_name in valid}
    nearest = get_close_matches(name.casefold(), names, n=1, cutoff=cutoff)
    return f"; did you mean {names[nearest[0]]}?" if nearest else ""
