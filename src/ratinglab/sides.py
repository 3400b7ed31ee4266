"""The two sides of the matrix of ratings. What holds for users and items alike is written once, for a side."""

from typing import Literal, TypeAlias

SideName: TypeAlias = Literal["user", "item"]
"""A side of the matrix of ratings: its rows, the users, or its columns, the items."""
SIDE_NAMES: tuple[SideName, ...] = ("user", "item")


def other_side(name: SideName) -> SideName:
    """Return item for user, and user for item."""
    return "item" if name == "user" else "user"
