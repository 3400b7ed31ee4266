"""Training ratings sorted by user and by item, for fits that work row by row."""

import numpy as np
from numpy.typing import NDArray

from ratinglab.fitting.kernels.rows import Entries, sort_by

ROW_CHUNKS = 64
"""Chunks of rows that run in parallel. The number must not depend on the number of threads, or the weights would."""


def chunk_bounds(start: NDArray[np.int64], *, dim: int) -> NDArray[np.int64]:
    """Cut rows into ROW_CHUNKS chunks of about equal work: (ROW_CHUNKS + 1,) int64.

    Args:
        start: (num_rows + 1,) int64, where the entries of each row begin.
        dim: length of a weight row, which sets the work per row relative to that per entry.
    """
    # an entry costs about dim² steps, a row about dim³ / 2
    work = start + np.arange(len(start)) * max(1, dim // 2)
    return np.searchsorted(work, np.linspace(0, work[-1], ROW_CHUNKS + 1))


def sort_ratings(
    index: NDArray[np.int32], other: NDArray[np.int32], rating: NDArray[np.float32], *, count: int, dim: int
) -> Entries:
    """Sort ratings by row; the result takes 8 bytes per rating.

    Args:
        index: (N,) int32, the row of each rating, below count.
        other: (N,) int32, the rating's row on the other side.
        rating: (N,) float32.
        count: number of rows.
        dim: length of a weight row.
    """
    start = np.concatenate([[0], np.cumsum(np.bincount(index, minlength=count))])
    sorted_other, sorted_rating = np.empty_like(other), np.empty_like(rating)
    sort_by(index, other, rating, start[:-1].copy(), sorted_other, sorted_rating)
    return Entries(chunk_bounds(start, dim=dim), start, sorted_other, sorted_rating)
