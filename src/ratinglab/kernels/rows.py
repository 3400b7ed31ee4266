"""Loops over one side's rows and their ratings."""

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from ratinglab.kernels.compiled import njit
from ratinglab.ratings.mapped_arrays import drop_pages

FloatArray = NDArray[np.float32]
SUM_CHUNKS = 64
"""Number of chunks of rows whose sums are computed in parallel."""


class Entries(NamedTuple):
    """Sparse matrix in compressed rows: the ratings of one side, or a design.

    Attributes:
        bounds: (chunks + 1,) int64, the first row of each chunk, and num_rows. Chunks run in parallel and have about
            equal work.
        start: (num_rows + 1,) int64, where the entries of each row begin.
        column: (E,) int32, the column of each entry. For a rating, it is the row of the other side.
        value: (E,) float32, the rating or residual of each entry. Empty for a design, whose values are kept by row.
    """

    bounds: NDArray[np.int64]
    start: NDArray[np.int64]
    column: NDArray[np.int32]
    value: NDArray[np.float32]

    @property
    def counts(self) -> NDArray[np.float32]:
        """Number of entries of each row: (num_rows,) float32."""
        return np.diff(self.start).astype(np.float32)

    def drop_pages(self) -> None:
        """Let the system drop the entries from memory, if they are in mapped files."""
        drop_pages(self.column, self.value)


class Regressors(NamedTuple):
    """The regression that predicts one side's ratings from the other side's rows: r = o + v · x + noise.

    Attributes:
        values: (num_others, D) float32, x: the other side's factors, preceded by 1 if there are biases.
        offset: (num_others,) float32, o: the global mean plus the other side's bias.
        noise_precision: (num_others,) float32, β. A rating's noise has the precision α β, with α of the row v.
    """

    values: NDArray[np.float32]
    offset: NDArray[np.float32]
    noise_precision: NDArray[np.float32]


class RowPriors(NamedTuple):
    """Normal priors of rows: row r has mean m_r and precision s_r Λ.

    Attributes:
        mean: (num_rows, D) float32, m.
        precision: (D, D) float32, Λ.
        scale: (num_rows,) float32, s.
    """

    mean: NDArray[np.float32]
    precision: NDArray[np.float32]
    scale: NDArray[np.float32]


@njit()
def sort_by_row(row, column, rating, first_row, end_row, next_slot, sorted_column, sorted_rating):  # type: ignore[no-untyped-def]
    """Write entries in the order of their rows, stably. Skips entries outside the rows from first_row to end_row − 1.

    Args:
        row: (N,) int32, the row of each entry.
        column: (N,) int32.
        rating: (N,) float32.
        first_row: the first row that is written.
        end_row: the row after the last one that is written.
        next_slot: (num_rows,) int64, where the next entry of each row goes; advanced in place.
        sorted_column: all columns, int32; written.
        sorted_rating: all ratings, float32; written.
    """
    for entry in range(len(row)):
        if first_row <= row[entry] < end_row:
            slot = next_slot[row[entry]]
            next_slot[row[entry]] += 1
            sorted_column[slot], sorted_rating[slot] = column[entry], rating[entry]


@njit()
def add_values(index, other, value, total):  # type: ignore[no-untyped-def]
    """Add value[other[n]] to total[index[n]] for each n, in order, like torch.bincount. Does not check the indices.

    Args:
        index: (N,) int32.
        other: (N,) int32.
        value: (num_others,) float64.
        total: (num_rows,) float64, changed.
    """
    for n in range(len(index)):
        total[index[n]] += value[other[n]]


@njit(parallel=True, fastmath=True)
def draw_rows(ratings, regressors, priors, noise_precision, normal_draws, out):  # type: ignore[no-untyped-def]
    """Draw each row v from its conditional, a normal distribution with precision A and mean A⁻¹ b:

        A = s Λ + α Σ β x xᵀ,   b = s Λ m + α Σ β x (r − o),   v = L⁻ᵀ (L⁻¹ b + z),   L Lᵀ = A

    with sums over the row's ratings. If z is 0, v minimizes α Σ β (r − o − v · x)² + s (v − m)ᵀ Λ (v − m).

    Args:
        ratings: Entries, r.
        regressors: Regressors, x, o and β.
        priors: RowPriors, m, Λ and s.
        noise_precision: (num_rows,) float32, α.
        normal_draws: (num_rows, D) float32, z: draws from the standard normal distribution, or 0.
        out: (num_rows, D) float32, written.
    """
    bounds, start, column, rating = ratings.bounds, ratings.start, ratings.column, ratings.value
    values, offset, other_precision = regressors.values, regressors.offset, regressors.noise_precision
    mean, prior_precision, scale = priors.mean, priors.precision, priors.scale
    dim = values.shape[1]
    for chunk in prange(len(bounds) - 1):
        a = np.empty((dim, dim), dtype=np.float32)
        b = np.empty(dim, dtype=np.float32)
        x = np.empty(dim, dtype=np.float32)
        for row in range(bounds[chunk], bounds[chunk + 1]):
            for i in range(dim):
                total = np.float32(0)
                for j in range(dim):
                    a[i, j] = scale[row] * prior_precision[i, j]
                    total += prior_precision[i, j] * mean[row, j]
                b[i] = scale[row] * total
            for entry in range(start[row], start[row + 1]):
                x[:] = values[column[entry]]
                rating_precision = noise_precision[row] * other_precision[column[entry]]
                target = rating_precision * (rating[entry] - offset[column[entry]])
                for i in range(dim):
                    b[i] += target * x[i]
                    factor = rating_precision * x[i]
                    for j in range(dim):  # fill both halves, which the compiler vectorizes
                        a[i, j] += factor * x[j]
            _draw_row(a, b, normal_draws[row], out[row])


@njit(fastmath=True)
def _draw_row(a, b, z, out):  # type: ignore[no-untyped-def]
    """Write L⁻ᵀ (L⁻¹ b + z) to out. Overwrites the lower half of a with L, and b."""
    dim = len(b)
    for j in range(dim):
        for k in range(j):
            factor = a[j, k]
            for i in range(j, dim):
                a[i, j] -= factor * a[i, k]
        pivot = np.float32(1) / np.sqrt(a[j, j])
        for i in range(j, dim):
            a[i, j] *= pivot
    for i in range(dim):
        total = b[i]
        for k in range(i):
            total -= a[i, k] * b[k]
        b[i] = total / a[i, i]
    for i in range(dim - 1, -1, -1):
        total = b[i] + z[i]
        for k in range(i + 1, dim):
            total -= a[k, i] * out[k]
        out[i] = total / a[i, i]


@njit(parallel=True, fastmath=True)
def multiply_sparse(entries, row_scale, column_scale, values, out):  # type: ignore[no-untyped-def]
    """Write diag(row_scale) M diag(column_scale) values, where M has the value 1 at each entry.

    Args:
        entries: Entries, M; its values are not read.
        row_scale: (num_rows,) float32.
        column_scale: (num_columns,) float32.
        values: (num_columns, D) float32.
        out: (num_rows, D) float32, written.
    """
    bounds, start, column = entries.bounds, entries.start, entries.column
    dim = values.shape[1]
    for chunk in prange(len(bounds) - 1):
        for row in range(bounds[chunk], bounds[chunk + 1]):
            # indexing out and values in full is up to 1.4 times as fast as views of their rows
            out[row] = 0
            for entry in range(start[row], start[row + 1]):
                index = np.int64(column[entry])
                factor = column_scale[index]
                for d in range(dim):
                    out[row, d] += factor * values[index, d]
            for d in range(dim):
                out[row, d] *= row_scale[row]


@njit(parallel=True)
def gram(left, right):  # type: ignore[no-untyped-def]
    """Compute leftᵀ · right: (N, D) float32 and (N, E) float32 → (D, E) float64."""
    count, width = len(left), right.shape[1]
    parts = np.zeros((SUM_CHUNKS, left.shape[1], width), dtype=np.float64)
    for chunk in prange(SUM_CHUNKS):
        total = parts[chunk]
        for row in range(count * chunk // SUM_CHUNKS, count * (chunk + 1) // SUM_CHUNKS):
            for i in range(left.shape[1]):
                factor = np.float64(left[row, i])
                for j in range(width):
                    total[i, j] += factor * right[row, j]
    return parts.sum(axis=0)


@njit(parallel=True)
def column_dots(left, right):  # type: ignore[no-untyped-def]
    """Compute the dot products of equal columns of left and right, both (N, D) float32 → (D,) float64."""
    count, dim = left.shape
    parts = np.zeros((SUM_CHUNKS, dim), dtype=np.float64)
    for chunk in prange(SUM_CHUNKS):
        for row in range(count * chunk // SUM_CHUNKS, count * (chunk + 1) // SUM_CHUNKS):
            for d in range(dim):
                parts[chunk, d] += np.float64(left[row, d]) * np.float64(right[row, d])
    return parts.sum(axis=0)


@njit(parallel=True, fastmath=True)
def matmul_transposed(rows, matrix, out):  # type: ignore[no-untyped-def]
    """Write rows · matrixᵀ to out: (N, D) float32 and (E, D) float32 → (N, E) float32."""
    count = len(rows)
    for chunk in prange(SUM_CHUNKS):
        for row in range(count * chunk // SUM_CHUNKS, count * (chunk + 1) // SUM_CHUNKS):
            for i in range(matrix.shape[0]):
                total = np.float32(0)
                for j in range(matrix.shape[1]):
                    total += matrix[i, j] * rows[row, j]
                out[row, i] = total


@njit(parallel=True, fastmath=True)
def sum_squared_errors(ratings, rows, regressors):  # type: ignore[no-untyped-def]
    """Sum (r − o − v · x)² and β (r − o − v · x)² over the ratings of each row: two of (num_rows,) float64.

    Args:
        ratings: Entries, r.
        rows: (num_rows, D) float32, v.
        regressors: Regressors, x, o and β.
    """
    bounds, start, column, rating = ratings.bounds, ratings.start, ratings.column, ratings.value
    values, offset, other_precision = regressors.values, regressors.offset, regressors.noise_precision
    plain, weighted = np.zeros(len(rows), dtype=np.float64), np.zeros(len(rows), dtype=np.float64)
    dim = values.shape[1]
    for chunk in prange(len(bounds) - 1):
        for row in range(bounds[chunk], bounds[chunk + 1]):
            for entry in range(start[row], start[row + 1]):
                dot = np.float32(0)
                for d in range(dim):
                    dot += rows[row, d] * values[column[entry], d]
                error = np.float64(rating[entry] - offset[column[entry]] - dot)
                plain[row] += error * error
                weighted[row] += other_precision[column[entry]] * error * error
    return plain, weighted


@njit(parallel=True, fastmath=True)
def subtract_dots(ratings, rows, values, out):  # type: ignore[no-untyped-def]
    """Write r − v · x of each rating, in the order of the entries.

    Args:
        ratings: Entries, r.
        rows: (num_rows, D) float32, v.
        values: (num_others, D) float32, x.
        out: (E,) float32, written.
    """
    bounds, start, column, rating = ratings.bounds, ratings.start, ratings.column, ratings.value
    dim = values.shape[1]
    for chunk in prange(len(bounds) - 1):
        for row in range(bounds[chunk], bounds[chunk + 1]):
            for entry in range(start[row], start[row + 1]):
                dot = np.float32(0)
                for d in range(dim):
                    dot += rows[row, d] * values[column[entry], d]
                out[entry] = rating[entry] - dot


def empty_entries() -> Entries:
    """Make a matrix without rows, for which loops are compiled."""
    return Entries(np.zeros(2, np.int64), np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))


def compile_row_loops() -> None:
    """Compile the loops."""
    ratings, table, unit = empty_entries(), np.zeros((0, 1), np.float32), np.ones((1, 1), np.float32)
    index, value = ratings.column, ratings.value
    regressors = Regressors(table, value, value)
    sort_by_row(index, index, value, 0, 0, ratings.start, index, value)
    draw_rows(ratings, regressors, RowPriors(table, unit, value), value, table, table)
    multiply_sparse(ratings, value, value, table, table)
    sum_squared_errors(ratings, table, regressors)
    subtract_dots(ratings, table, table, value)
    matmul_transposed(table, unit, table)
    gram(table, table)
    column_dots(table, table)
