"""The two sides of the matrix of ratings, users and items. Code that serves both is written for a side."""

from typing import Literal, TypeAlias

SideName: TypeAlias = Literal["user", "item"]
"""A side of the matrix of ratings: its rows, the users, or its columns, the items."""
SIDE_NAMES: tuple[SideName, ...] = ("user", "item")


def other_side(name: SideName) -> SideName:
    """Return item for user, and user for item."""
    return "item" if name == "user" else "user"
