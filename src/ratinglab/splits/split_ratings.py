"""Training, validation and test rows, reindexed so that users and items with training rows come first."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.ratings.mapped_arrays import allocate_array, count_rows
from ratinglab.ratings.side_information import AvailableData, SideInformation, informative_columns
from ratinglab.ratings.table import MILLISECONDS_PER_DAY, Ratings, RatingTable
from ratinglab.splits.split import TEST, TRAIN, Split

MIN_RATINGS_PER_DAY = 2
"""Minimum average number of ratings per user and day for which weights per day are worthwhile."""
NUM_SAMPLED_ROWS = 1_000_000
"""Approximate number of rows that the average is computed from."""


@dataclass(frozen=True)
class SplitRatings:
    """The ratings of a table, split into parts. New indices number users and items with training rows first.

    Users with an index below `num_users` and items with an index below `num_items` have training rows. Models cannot
    predict for other users and items, nor for UNKNOWN.

    Attributes:
        table: all rows, with the table's own indices.
        split: the part of each row.
        side_information: the days and features that the equation needs, with the new indices.
        user_order: (table.num_users,) intp, the table's index of each new user index.
        item_order: (table.num_items,) intp, the table's index of each new item index.
        num_users: number of users with training rows.
        num_items: number of items with training rows.
    """

    table: RatingTable
    split: Split
    side_information: SideInformation
    user_order: NDArray[np.intp]
    item_order: NDArray[np.intp]
    num_users: int
    num_items: int

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Range to clip predictions to: the configured scale, or else the range of the ratings outside test."""
        (lowest, highest), extremes = self.table.configured_scale, []
        for rows, block in self.table.ratings.blocks():
            rating = block.rating[self.split.part[rows] != TEST]
            extremes += [rating.min(), rating.max()] if len(rating) > 0 else []
        return (
            float(min(extremes)) if lowest is None else lowest,
            float(max(extremes)) if highest is None else highest,
        )

    def blocks(self) -> Iterator[tuple[Ratings, NDArray[np.int8]]]:
        """Yield blocks of all rows, in the table's order and with the new indices, and the part of each row."""
        for rows, block in self._table_blocks():
            yield self._reindex(block), self.split.part[rows]

    def copy_rows(self, part: int) -> Ratings:
        """Copy the rows of a part, possibly none, with the new indices. Copies a table on disk into mapped files.

        Args:
            part: TRAIN, VALIDATION, TEST or VALIDATION_HISTORY.

        Raises:
            UserError: the disk is full.
        """
        folder, count = self.table.ratings.folder, self.split.count(part)
        try:
            user, item, rating = (allocate_array(count, dtype, folder=folder) for dtype in ("i4", "i4", "f4"))
        except OSError as error:
            raise UserError(f"data.cache: {folder}: {error.strerror or error}") from error
        day = None if self.side_information.day is None else np.empty(count, dtype=np.int32)
        copy = Ratings(user, item, rating, day, folder=folder)
        start = 0
        for rows, block in self._table_blocks():
            part_rows = self._reindex(block.take(self.split.part[rows] == part))
            target = copy.take(slice(start, start + len(part_rows)))
            start += len(part_rows)
            for name, column in target.columns().items():
                column[:] = getattr(part_rows, name)
            copy.drop_pages()
        return copy

    def _table_blocks(self) -> Iterator[tuple[slice, Ratings]]:
        """Yield the table's rows block by block, with days if the equation needs them."""
        return replace(self.table.ratings, day=self.side_information.day).blocks()

    def _reindex(self, rows: Ratings) -> Ratings:
        return replace(rows, user=self._new_indices[0][rows.user], item=self._new_indices[1][rows.item])

    @cached_property
    def _new_indices(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """New index of each of the table's users, (table.num_users,), and of each of its items, (table.num_items,)."""
        return np.argsort(self.user_order).astype(np.int32), np.argsort(self.item_order).astype(np.int32)


def find_available_data(table: RatingTable, split: Split) -> AvailableData:
    """Find the data besides ratings that are worth using for users and items with training rows."""
    is_trained_user, is_trained_item = _find_trained(table, split)
    return AvailableData(
        has_sessions=_has_sessions(table, split.part == TRAIN),
        user_features=informative_columns(table.user_columns, is_trained=is_trained_user),
        item_features=informative_columns(table.item_columns, is_trained=is_trained_item),
        has_times=table.timestamp is not None,
    )


def _has_sessions(table: RatingTable, is_train: NDArray[np.bool_]) -> bool:
    """Return whether the training rows have timestamps, and users give at least two ratings a day on average."""
    if table.timestamp is None:
        return False
    step = 1 + len(is_train) // NUM_SAMPLED_ROWS  # samples the users of a large table
    is_sampled = is_train & (table.ratings.user % step == 0)
    user, day = table.ratings.user[is_sampled].astype(np.int64), table.timestamp[is_sampled] // MILLISECONDS_PER_DAY
    return len(user) > 0 and len(user) >= MIN_RATINGS_PER_DAY * len(np.unique((user << 32) + (day - day.min())))


def make_split_ratings(table: RatingTable, split: Split, side_information: SideInformation) -> SplitRatings:
    """Split a table's ratings, and number users and items with training rows first, in their old order."""
    is_trained = _find_trained(table, split)
    user_order, item_order = (np.argsort(~mask, kind="stable") for mask in is_trained)
    num_users, num_items = (int(mask.sum()) for mask in is_trained)
    return SplitRatings(
        table=table,
        split=split,
        side_information=side_information.reordered(user_order, item_order),
        user_order=user_order,
        item_order=item_order,
        num_users=num_users,
        num_items=num_items,
    )


def _find_trained(table: RatingTable, split: Split) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether each user, (table.num_users,), and each item, (table.num_items,), has training rows."""
    is_train, ratings = split.part == TRAIN, table.ratings
    user_count = count_rows(ratings.user, table.num_users, where=is_train)
    return user_count > 0, count_rows(ratings.item, table.num_items, where=is_train) > 0
