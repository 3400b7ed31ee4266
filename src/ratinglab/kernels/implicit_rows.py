"""Conjugate gradients for the rows of implicit-feedback ALS."""

import numpy as np
from numba import prange

from ratinglab.kernels.compiled import njit
from ratinglab.kernels.rows import compile_row_loops, empty_entries

MIN_SQUARED_RESIDUAL = np.float32(1e-20)
"""Squared length of the residual at which a row counts as solved."""


@njit(parallel=True, fastmath=True)
def improve_rows(pairs, others, shared, ridge, steps, rows):  # type: ignore[no-untyped-def]
    """Improve each row v towards the minimum of Σ (1 − v · x)² + vᵀ S v + ρ v · v, in place.

    The sum is over the row's rated pairs. D steps of conjugate gradients reach the minimum. A row without pairs becomes
    0.

    Args:
        pairs: Entries, the rated pairs by row.
        others: (num_others, D) float32, x.
        shared: (D, D) float32, S.
        ridge: (num_rows,) float32, ρ.
        steps: number of steps of conjugate gradients.
        rows: (num_rows, D) float32, v: the start of the steps; changed.

    Returns:
        Σ (1 − v · x)² of each row before its steps, (num_rows,) float64.
    """
    bounds, start, column = pairs.bounds, pairs.start, pairs.column
    dim = others.shape[1]
    errors = np.zeros(len(rows), dtype=np.float64)
    for chunk in prange(len(bounds) - 1):
        residual, direction = np.empty(dim, dtype=np.float32), np.empty(dim, dtype=np.float32)
        product = np.empty(dim, dtype=np.float32)
        for row in range(bounds[chunk], bounds[chunk + 1]):
            if start[row] == start[row + 1]:
                rows[row] = 0
                continue
            _times(shared, rows[row], ridge[row], product)
            for d in range(dim):
                residual[d] = -product[d]
            for entry in range(start[row], start[row + 1]):
                index = np.int64(column[entry])
                dot = np.float32(0)
                for d in range(dim):
                    dot += rows[row, d] * others[index, d]
                error = np.float32(1) - dot
                errors[row] += np.float64(error) * error
                for d in range(dim):
                    residual[d] += error * others[index, d]
            square = np.float32(0)
            for d in range(dim):
                direction[d] = residual[d]
                square += residual[d] * residual[d]
            for _ in range(steps):
                if square <= MIN_SQUARED_RESIDUAL:
                    break
                _times(shared, direction, ridge[row], product)
                for entry in range(start[row], start[row + 1]):
                    index = np.int64(column[entry])
                    dot = np.float32(0)
                    for d in range(dim):
                        dot += direction[d] * others[index, d]
                    for d in range(dim):
                        product[d] += dot * others[index, d]
                curvature = np.float32(0)
                for d in range(dim):
                    curvature += direction[d] * product[d]
                length = square / curvature
                last_square, square = square, np.float32(0)
                for d in range(dim):
                    rows[row, d] += length * direction[d]
                    residual[d] -= length * product[d]
                    square += residual[d] * residual[d]
                ratio = square / last_square
                for d in range(dim):
                    direction[d] = residual[d] + ratio * direction[d]
    return errors


@njit(fastmath=True)
def _times(matrix, vector, ridge, out):  # type: ignore[no-untyped-def]
    """Write out = (matrix + ridge I) vector; the matrix is symmetric."""
    dim = len(vector)
    for i in range(dim):
        out[i] = ridge * vector[i]
    for j in range(dim):
        for i in range(dim):
            out[i] += matrix[j, i] * vector[j]


def compile_implicit_loops() -> None:
    """Compile the loop, and the loops of `rows`."""
    compile_row_loops()
    pairs, table = empty_entries(), np.zeros((0, 1), np.float32)
    improve_rows(pairs, table, np.ones((1, 1), np.float32), pairs.value, 1, table)
