"""A table and its parts, in the order of indices that follows from the training part."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ratinglab.ratings.splits import Split
from ratinglab.ratings.table import Ratings, RatingTable


@dataclass(frozen=True)
class Holdout:
    """A table and its parts, the users and items of the training part first.

    Users below `num_users` have training rows; those of `table` from there on, and UNKNOWN, have none: a model has
    nothing to tell of them. So with items.

    Attributes:
        table: all rows, under the new indices.
        split: which rows are which.
        num_users: users with at least one training row.
        num_items: items with at least one training row.
    """

    table: RatingTable
    split: Split
    num_users: int
    num_items: int

    @property
    def train(self) -> Ratings:
        """The training rows."""
        return self.table.ratings.take(self.split.train)

    @property
    def validation(self) -> Ratings:
        """The validation rows; there may be none."""
        return self.table.ratings.take(self.split.validation)

    @property
    def test(self) -> Ratings:
        """The test rows; there may be none."""
        return self.table.ratings.take(self.split.test)


def hold_out(table: RatingTable, split: Split) -> Holdout:
    """Move the users and items of the training rows to the front, else in their old order."""
    ratings = table.ratings
    user_order, num_users = _trained_first(ratings.user[split.train], table.num_users)
    item_order, num_items = _trained_first(ratings.item[split.train], table.num_items)
    reordered = RatingTable(
        name=table.name,
        ratings=Ratings(
            user=_inverse(user_order)[ratings.user],
            item=_inverse(item_order)[ratings.item],
            rating=ratings.rating,
        ),
        user_ids=table.user_ids.reordered(user_order),
        item_ids=table.item_ids.reordered(item_order),
        titles=None if table.titles is None else table.titles[item_order],
        noise_floor=table.noise_floor,
    )
    return Holdout(table=reordered, split=split, num_users=num_users, num_items=num_items)


def _trained_first(trained: NDArray[np.int32], count: int) -> tuple[NDArray[np.intp], int]:
    """The old index at each new one: (count,) intp; and how many of them have a training row."""
    has_row = np.bincount(trained, minlength=count) > 0
    return np.argsort(~has_row, kind="stable"), int(has_row.sum())


def _inverse(order: NDArray[np.intp]) -> NDArray[np.int32]:
    inverse = np.empty(len(order), dtype=np.int32)
    inverse[order] = np.arange(len(order), dtype=np.int32)
    return inverse
