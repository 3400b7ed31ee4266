"""Options of the cleaning of rows. Imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ratinglab.options import at_least, finite


class Duplicates(Enum):
    """How to treat rows that repeat a user-item pair."""

    error = "error"
    last = "last"
    mean = "mean"


@dataclass
class CleaningOptions:
    """Rows to merge or drop, in data of any source."""

    duplicates: Duplicates
    """How to treat rows that repeat a user-item pair. error stops with an error. last keeps the latest row or, without
    timestamps, the last one in the file. mean keeps that row with the mean rating."""
    min_rating: float | None = field(metadata=finite())
    """Lowest rating to keep, for lists of liked items. Lower ratings are dropped before users and items are counted,
    but the scale includes them. With null, all are kept."""
    min_ratings_per_user: int = field(metadata=at_least(0))
    """Minimum number of ratings per user. Users with fewer are dropped, repeatedly, until all have enough. 0 keeps
    all."""
    min_ratings_per_item: int = field(metadata=at_least(0))
    """Minimum number of ratings per item. Items with fewer are dropped, repeatedly, until all have enough. 0 keeps
    all."""
