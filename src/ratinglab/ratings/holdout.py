"""Training, validation and test rows under indices in which trained users and items come first."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.side_information import AvailableData, Column, SideInformation, informative
from ratinglab.ratings.splits import TEST, TRAIN, VALIDATION, VALIDATION_HISTORY, Split
from ratinglab.ratings.table import MILLISECONDS, Ratings, RatingTable

SESSION = 2
"""Ratings on a user's day, on average, from which days are worth weights of their own."""

SESSION_ROWS = 1_000_000
"""Number of rows, about, from which that average is computed: every run takes it."""


@dataclass(frozen=True)
class Holdout:
    """A table and its parts, reindexed so that trained users and items come first.

    Users below `num_users` have training rows. Users from `num_users` on, and UNKNOWN, have none, and a model cannot
    predict for them. The same holds for items.

    Attributes:
        table: all rows, under the table's own indices.
        split: the part of each row.
        side: side information under the new indices.
        user_order: the table's index of each new user index: (table.num_users,) intp.
        item_order: the table's index of each new item index: (table.num_items,) intp.
        num_users: users with at least one training row.
        num_items: items with at least one training row.
    """

    table: RatingTable
    split: Split
    side: SideInformation
    user_order: NDArray[np.intp]
    item_order: NDArray[np.intp]
    num_users: int
    num_items: int

    @property
    def train(self) -> Ratings:
        """The training rows."""
        return self._take(self.split.part == TRAIN)

    @property
    def validation(self) -> Ratings:
        """The validation rows, possibly none."""
        return self._take(self.split.part == VALIDATION)

    @property
    def validation_history(self) -> Ratings:
        """What is known of users held out for validation, possibly no rows."""
        return self._take(self.split.part == VALIDATION_HISTORY)

    @property
    def test(self) -> Ratings:
        """The test rows, possibly none."""
        return self._take(self.split.part == TEST)

    @property
    def all_rows(self) -> Ratings:
        """All rows, in the table's order."""
        return self._take(slice(None))

    @property
    def scale(self) -> tuple[float, float]:
        """Lowest and highest possible rating, as set or else as found outside test: predictions are clipped to it."""
        lowest, highest = self.table.set_scale
        rating = self.table.ratings.rating[self.split.part != TEST]
        return (
            float(rating.min()) if lowest is None else lowest,
            float(rating.max()) if highest is None else highest,
        )

    def _take(self, rows: NDArray[np.bool_] | slice) -> Ratings:
        """Select rows under the new indices, with days if the equation needs them."""
        ratings = replace(self.table.ratings, day=self.side.day).take(rows)
        new_user, new_item = (np.argsort(order).astype(np.int32) for order in (self.user_order, self.item_order))
        return replace(ratings, user=new_user[ratings.user], item=new_item[ratings.item])

    @property
    def user_ids(self) -> IdMap:
        """The id of each new index."""
        return self.table.user_ids.reordered(self.user_order)

    @property
    def item_ids(self) -> IdMap:
        """The id of each new index."""
        return self.table.item_ids.reordered(self.item_order)

    @property
    def titles(self) -> NDArray[np.object_] | None:
        """The title of each new index."""
        return None if self.table.titles is None else self.table.titles[self.item_order]

    @property
    def item_features(self) -> dict[str, Column]:
        """All item features by new index, including those that the equation does not need."""
        return {name: column[self.item_order] for name, column in self.table.item_columns.items()}


def find_available_data(table: RatingTable, split: Split) -> AvailableData:
    """Find what a table has besides the ratings, for users and items with training rows."""
    is_train = split.part == TRAIN
    counts = [(table.ratings.user, table.num_users), (table.ratings.item, table.num_items)]
    user, item = (np.bincount(index[is_train], minlength=count) > 0 for index, count in counts)
    return AvailableData(
        has_times=_has_sessions(table, is_train),
        user_features=informative(table.user_columns, is_trained=user),
        item_features=informative(table.item_columns, is_trained=item),
    )


def _has_sessions(table: RatingTable, is_train: NDArray[np.bool_]) -> bool:
    """Return whether the training rows have times, with several ratings on a user's day on average."""
    if table.timestamp is None:
        return False
    step = 1 + len(is_train) // SESSION_ROWS  # of many users, some
    chosen = is_train & (table.ratings.user % step == 0)
    user, day = table.ratings.user[chosen].astype(np.int64), table.timestamp[chosen] // MILLISECONDS
    return len(user) > 0 and len(user) >= SESSION * len(np.unique((user << 32) + (day - day.min())))


def hold_out(table: RatingTable, split: Split, side: SideInformation) -> Holdout:
    """Reindex users and items, and side information: those with training rows first, each group in its old order."""
    is_train = split.part == TRAIN
    user_order, num_users = _trained_first(table.ratings.user[is_train], table.num_users)
    item_order, num_items = _trained_first(table.ratings.item[is_train], table.num_items)
    return Holdout(
        table=table,
        split=split,
        side=side.reordered(user_order, item_order),
        user_order=user_order,
        item_order=item_order,
        num_users=num_users,
        num_items=num_items,
    )


def _trained_first(trained: NDArray[np.int32], count: int) -> tuple[NDArray[np.intp], int]:
    """Find the old index of each new one: (count,) intp; and the number of them with training rows."""
    has_row = np.bincount(trained, minlength=count) > 0
    return np.argsort(~has_row, kind="stable"), int(has_row.sum())
