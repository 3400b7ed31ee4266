"""Options of the cleaning of rows. Imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ratinglab.options import at_least, finite


class Duplicates(Enum):
    """Treatment of rows that repeat a pair of user and item."""

    error = "error"
    last = "last"
    mean = "mean"


@dataclass
class CleaningOptions:
    """Rows to merge or drop, in data of any source."""

    duplicates: Duplicates
    """Treatment of rows that repeat a pair of user and item. error: stop with an error; last: keep the latest or,
    without times, the last in the file; mean: keep that row with the mean rating."""
    min_rating: float | None = field(metadata=finite())
    """Lowest rating to keep, for lists of liked items. Lower ratings are dropped before users and items are counted,
    but the scale includes them. null: keep all."""
    min_ratings_per_user: int = field(metadata=at_least(0))
    """Minimum number of ratings per user. Drops users with fewer, repeatedly, until all have enough; 0: keep all."""
    min_ratings_per_item: int = field(metadata=at_least(0))
    """Minimum number of ratings per item. Drops items with fewer, repeatedly, until all have enough; 0: keep all."""
