"""Loops over rows for the bias baseline. Each adds in the order of the rows, like torch.bincount.

Indices are not bounds-checked.
"""

import numpy as np

from ratinglab.compiled import njit


@njit(nogil=True)
def add_values(index, other, value, total):  # type: ignore[no-untyped-def]
    """Add value[other[n]] to total[index[n]] for each row n.

    Args:
        index: (N,) int32.
        other: (N,) int32.
        value: (num_others,) float64.
        total: (num_rows,) float64, changed.
    """
    for row in range(len(index)):
        total[index[row]] += value[other[row]]


@njit(nogil=True)
def add_ratings(index, rating, mean, total):  # type: ignore[no-untyped-def]
    """Add rating[n] − mean to total[index[n]] for each row n.

    Args:
        index: (N,) int32.
        rating: (N,) float32.
        mean: float64.
        total: (num_rows,) float64, changed.
    """
    for row in range(len(index)):
        total[index[row]] += np.float64(rating[row]) - mean
