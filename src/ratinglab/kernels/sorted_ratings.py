"""Training ratings sorted by user and by item, for fits that work row by row."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ratinglab.kernels.rows import Entries, sort_by
from ratinglab.ratings.mapped_arrays import blocks_of, count_values, empty, release

RATINGS_PER_PASS = 1 << 26
"""Approximate number of ratings written to mapped files in one pass: 512 MB."""
ROW_CHUNKS = 64
"""Chunks of rows that run in parallel; independent of the thread count, so that results are reproducible."""


def chunk_bounds(start: NDArray[np.int64], *, dim: int) -> NDArray[np.int64]:
    """Cut rows into ROW_CHUNKS chunks of about equal work: (ROW_CHUNKS + 1,) int64.

    Args:
        start: (num_rows + 1,) int64, where the entries of each row begin.
        dim: length of a weight row, which sets the ratio of the work per row to the work per entry.
    """
    # an entry costs about dim² steps, a row about dim³ / 2
    work = start + np.arange(len(start)) * max(1, dim // 2)
    return np.searchsorted(work, np.linspace(0, work[-1], ROW_CHUNKS + 1))


def sort_ratings(
    index: NDArray[np.int32],
    other: NDArray[np.int32],
    rating: NDArray[np.float32],
    *,
    count: int,
    dim: int,
    folder: Path | None = None,
) -> Entries:
    """Sort ratings by row; the result takes 8 bytes per rating, in memory or, with a folder, in mapped files there.

    Args:
        index: (N,) int32, the row of each rating, below count.
        other: (N,) int32, the rating's row on the other side.
        rating: (N,) float32.
        count: number of rows.
        dim: length of a weight row.
        folder: folder of mapped files; None: memory.

    Raises:
        OSError: the disk is full.
    """
    start = np.concatenate([[0], np.cumsum(count_values(index, count))])
    sorted_other, sorted_rating = (empty(len(column), column.dtype, folder=folder) for column in (other, rating))
    place = start[:-1].copy()
    # one pass in memory; for mapped files, one pass over all ratings for each range that is written
    written = len(index) if folder is None else RATINGS_PER_PASS
    borders = np.unique(np.searchsorted(start, [*range(0, len(index), written), len(index)]))
    for first, last in pairwise(borders.tolist()):
        for rows in blocks_of(len(index)):
            sort_by(index[rows], other[rows], rating[rows], first, last, place, sorted_other, sorted_rating)
            release(index, other, rating)
        release(sorted_other, sorted_rating)
    return Entries(chunk_bounds(start, dim=dim), start, sorted_other, sorted_rating)
