"""The training ratings by users and by items, for fits that solve for a row of weights at a time."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratinglab.fitting.kernels.rows import sort_by
from ratinglab.ratings.table import Ratings

CHUNKS = 64
"""Chunks of rows, each at once with others: never by the number of threads, on which the weights must not depend."""


class Side(NamedTuple):
    """The ratings of each row of one side, users or items.

    Attributes:
        bounds: (CHUNKS + 1,) int64, rows cut into chunks of about as much work.
        start: (num_rows + 1,) int64, where the ratings of each row begin.
        other: (N,) int32, the row of the other side in each rating.
        rating: (N,) float32.
    """

    bounds: NDArray[np.int64]
    start: NDArray[np.int64]
    other: NDArray[np.int32]
    rating: NDArray[np.float32]

    @property
    def num_rows(self) -> int:
        """Users, or items."""
        return len(self.start) - 1

    @property
    def counts(self) -> NDArray[np.float32]:
        """(num_rows,) ratings of each row; none is 0."""
        return np.diff(self.start).astype(np.float32)


def sides(rows: Ratings, *, num_users: int, num_items: int, dim: int) -> tuple[Side, Side]:
    """The rows by user and by item: 8 bytes a rating each.

    Args:
        rows: the training rows.
        num_users: users, each with a row.
        num_items: items, each with a row.
        dim: numbers in a row of weights, by which the work for a row grows beside that for its ratings.
    """
    by_user = sorted_side(rows.user, rows.item, rows.rating, count=num_users, dim=dim)
    return by_user, sorted_side(rows.item, rows.user, rows.rating, count=num_items, dim=dim)


def chunks(start: NDArray[np.int64], *, dim: int) -> NDArray[np.int64]:
    """Rows cut into CHUNKS of about as much work: (CHUNKS + 1,) int64. Arguments as of Side and sides."""
    # a rating costs about dim² steps, what is done once a row about dim³ / 2
    work = start + np.arange(len(start)) * max(1, dim // 2)
    return np.searchsorted(work, np.linspace(0, work[-1], CHUNKS + 1))


def sorted_side(
    index: NDArray[np.int32], other: NDArray[np.int32], rating: NDArray[np.float32], *, count: int, dim: int
) -> Side:
    """Rows in the order of `index`, (N,) int32 below count; the other columns are (N,) int32 and (N,) float32."""
    start = np.concatenate([[0], np.cumsum(np.bincount(index, minlength=count))])
    sorted_other, sorted_rating = np.empty_like(other), np.empty_like(rating)
    sort_by(index, other, rating, start[:-1].copy(), sorted_other, sorted_rating)
    return Side(bounds=chunks(start, dim=dim), start=start, other=sorted_other, rating=sorted_rating)
