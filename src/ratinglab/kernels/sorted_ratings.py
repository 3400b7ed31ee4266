"""Training ratings sorted by user and by item, for fits that work row by row."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ratinglab.kernels.rows import Entries, sort_by_row
from ratinglab.ratings.mapped_arrays import allocate_array, count_rows, drop_pages, row_ranges

RATINGS_PER_PASS = 1 << 26
"""Approximate number of ratings that a pass writes to mapped files: 512 MB."""
ROW_CHUNKS = 64
"""Number of chunks of rows that run in parallel. Independent of the thread count, so results are reproducible."""


def chunk_bounds(start: NDArray[np.int64], *, dim: int) -> NDArray[np.int64]:
    """Cut rows into ROW_CHUNKS chunks of about equal work; return the bounds in Entries, (ROW_CHUNKS + 1,) int64.

    Args:
        start: (num_rows + 1,) int64, where the entries of each row begin.
        dim: length of a weight row. In draw_rows, an entry takes about dim² steps and a row about dim³ / 2.
    """
    work = start + np.arange(len(start)) * max(1, dim // 2)
    return np.searchsorted(work, np.linspace(0, work[-1], ROW_CHUNKS + 1))


def sort_ratings(
    row: NDArray[np.int32],
    column: NDArray[np.int32],
    rating: NDArray[np.float32],
    *,
    num_rows: int,
    dim: int,
    folder: Path | None = None,
) -> Entries:
    """Sort ratings by row, stably. The result takes 8 bytes per rating.

    Args:
        row: (N,) int32, the row of each rating, below num_rows.
        column: (N,) int32, the row of each rating on the other side.
        rating: (N,) float32.
        num_rows: number of rows.
        dim: length of a weight row.
        folder: folder of the memory-mapped files that hold the result. With None, the result is in memory.

    Raises:
        OSError: the disk is full.
    """
    start = np.concatenate([[0], np.cumsum(count_rows(row, num_rows))])
    sorted_column = allocate_array(len(row), column.dtype, folder=folder)
    sorted_rating = allocate_array(len(row), rating.dtype, folder=folder)
    next_slot = start[:-1].copy()
    # mapped files are written range by range, each in a pass over all ratings, so only its pages are in memory
    per_pass = len(row) if folder is None else RATINGS_PER_PASS
    borders = np.unique(np.searchsorted(start, [*range(0, len(row), per_pass), len(row)]))
    for first_row, end_row in pairwise(borders.tolist()):
        for block in row_ranges(len(row)):
            sort_by_row(
                row[block], column[block], rating[block], first_row, end_row, next_slot, sorted_column, sorted_rating
            )
            drop_pages(row, column, rating)
        drop_pages(sorted_column, sorted_rating)
    return Entries(chunk_bounds(start, dim=dim), start, sorted_column, sorted_rating)
