"""Loops over the rows of a side, users or items, each row with the ratings that it has.

They share the form of their first arguments:

    bounds: (chunks + 1,) int64, rows cut into chunks of about as much work; chunks run at once.
    start: (num_rows + 1,) int64, where the ratings of each row begin.
    other: (N,) int32, the row of the other side in each rating.

No sum crosses chunks in an order that depends on the number of threads, so the results are the same, bit for bit, at
any number of them.
"""

import numpy as np
from numba import njit, prange

CHUNKS = 64
"""Parts in which a sum over rows is taken."""


@njit(cache=True, nogil=True)
def sort_by(index, other, rating, place, sorted_other, sorted_rating):  # type: ignore[no-untyped-def]
    """Write other (N,) int32 and rating (N,) float32 in the order of index (N,) int32, equal ones in their old order.

    Args:
        index: the key.
        other: a column.
        rating: a column.
        place: (num_rows,) int64, where each key begins; moved on.
        sorted_other: (N,) int32, written.
        sorted_rating: (N,) float32, written.
    """
    for row in range(len(index)):
        to = place[index[row]]
        place[index[row]] += 1
        sorted_other[to], sorted_rating[to] = other[row], rating[row]


@njit(cache=True, nogil=True, parallel=True, fastmath={"reassoc", "contract", "nsz"})
def sample_rows(  # type: ignore[no-untyped-def]
    bounds, start, other, rating, features, offset, mean, precision, scale, weight, other_weight, noise, out
):
    """Draw each row v from its conditional, a normal distribution with the precision A and the mean A⁻¹ b:

        A = s Λ + α Σ β x xᵀ,   b = s Λ m + α Σ β x (r − o),   v = L⁻ᵀ (L⁻¹ b + z),   L Lᵀ = A

    over the row's ratings. Without noise v is the minimum of α Σ β (r − o − v · x)² + s (v − m)ᵀ Λ (v − m).

    Args:
        bounds, start, other: see above.
        rating: (N,) float32, r, in the order of `other`.
        features: (num_others, D) float32, x of each row of the other side.
        offset: (num_others,) float32, o, with the mean in it.
        mean: (num_rows, D) float32, m of each row.
        precision: (D, D) float32, Λ.
        scale: (num_rows,) float32, s of each row.
        weight: (num_rows,) float32, α of each row.
        other_weight: (num_others,) float32, β of each row of the other side.
        noise: (num_rows, D) float32, z.
        out: (num_rows, D) float32, written.
    """
    dim = features.shape[1]
    for chunk in prange(len(bounds) - 1):
        a = np.empty((dim, dim), dtype=np.float32)
        b = np.empty(dim, dtype=np.float32)
        x = np.empty(dim, dtype=np.float32)
        for row in range(bounds[chunk], bounds[chunk + 1]):
            for i in range(dim):
                total = np.float32(0)
                for j in range(dim):
                    a[i, j] = scale[row] * precision[i, j]
                    total += precision[i, j] * mean[row, j]
                b[i] = scale[row] * total
            for place in range(start[row], start[row + 1]):
                x[:] = features[other[place]]
                weighs = weight[row] * other_weight[other[place]]
                pull = weighs * (rating[place] - offset[other[place]])
                for i in range(dim):
                    b[i] += pull * x[i]
                    factor = weighs * x[i]
                    for j in range(dim):  # both halves: the compiler makes one instruction of many
                        a[i, j] += factor * x[j]
            _draw(a, b, noise[row], out[row])


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _draw(a, b, noise, out):  # type: ignore[no-untyped-def]
    """L⁻ᵀ (L⁻¹ b + z) into out; a is left with L in its lower half."""
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
        total = b[i] + noise[i]
        for k in range(i + 1, dim):
            total -= a[k, i] * out[k]
        out[i] = total / a[i, i]


@njit(cache=True, nogil=True, parallel=True, fastmath={"reassoc", "contract", "nsz"})
def gather(bounds, start, other, scale, other_scale, values, out):  # type: ignore[no-untyped-def]
    """out_row = s_row · Σ s_other · value_other, over the row's ratings.

    Args:
        bounds, start, other: see above.
        scale: (num_rows,) float32.
        other_scale: (num_others,) float32.
        values: (num_others, D) float32.
        out: (num_rows, D) float32, written.
    """
    dim = values.shape[1]
    for chunk in prange(len(bounds) - 1):
        for row in range(bounds[chunk], bounds[chunk + 1]):
            total = out[row]
            total[:] = 0
            for place in range(start[row], start[row + 1]):
                factor, value = other_scale[other[place]], values[other[place]]
                for d in range(dim):
                    total[d] += factor * value[d]
            for d in range(dim):
                total[d] *= scale[row]


@njit(cache=True, nogil=True, parallel=True)
def gram(left, right):  # type: ignore[no-untyped-def]
    """Σ over rows of left rightᵀ: (N, D) float32 and (N, E) float32 → (D, E) float64."""
    count, width = len(left), right.shape[1]
    parts = np.zeros((CHUNKS, left.shape[1], width), dtype=np.float64)
    for chunk in prange(CHUNKS):
        total = parts[chunk]
        for row in range(count * chunk // CHUNKS, count * (chunk + 1) // CHUNKS):
            for i in range(left.shape[1]):
                factor = np.float64(left[row, i])
                for j in range(width):
                    total[i, j] += factor * right[row, j]
    return parts.sum(axis=0)


@njit(cache=True, nogil=True, parallel=True)
def column_dots(left, right):  # type: ignore[no-untyped-def]
    """Σ over rows of left · right: both (N, D) float32 → (D,) float64."""
    count, dim = left.shape
    parts = np.zeros((CHUNKS, dim), dtype=np.float64)
    for chunk in prange(CHUNKS):
        for row in range(count * chunk // CHUNKS, count * (chunk + 1) // CHUNKS):
            for d in range(dim):
                parts[chunk, d] += np.float64(left[row, d]) * np.float64(right[row, d])
    return parts.sum(axis=0)


@njit(cache=True, nogil=True, parallel=True, fastmath={"reassoc", "contract", "nsz"})
def times(rows, matrix, out):  # type: ignore[no-untyped-def]
    """out = rows · matrixᵀ: (N, D) float32 and (E, D) float32 → (N, E) float32, in place."""
    count = len(rows)
    for chunk in prange(CHUNKS):
        for row in range(count * chunk // CHUNKS, count * (chunk + 1) // CHUNKS):
            for i in range(matrix.shape[0]):
                total = np.float32(0)
                for j in range(matrix.shape[1]):
                    total += matrix[i, j] * rows[row, j]
                out[row, i] = total


@njit(cache=True, nogil=True, parallel=True, fastmath={"reassoc", "contract", "nsz"})
def squared_errors(bounds, start, other, rating, rows, features, offset, other_weight):  # type: ignore[no-untyped-def]
    """Σ (r − o − v · x)² over the ratings of each row, and Σ β (r − o − v · x)²: two of (num_rows,) float64.

    Arguments as of sample_rows, and `rows` (num_rows, D) float32, v.
    """
    plain, weighted = np.zeros(len(rows), dtype=np.float64), np.zeros(len(rows), dtype=np.float64)
    dim = features.shape[1]
    for chunk in prange(len(bounds) - 1):
        for row in range(bounds[chunk], bounds[chunk + 1]):
            for place in range(start[row], start[row + 1]):
                dot = np.float32(0)
                for d in range(dim):
                    dot += rows[row, d] * features[other[place], d]
                error = np.float64(rating[place] - offset[other[place]] - dot)
                plain[row] += error * error
                weighted[row] += other_weight[other[place]] * error * error
    return plain, weighted


def load() -> None:
    """Load the loops from the compiler's cache, or compile them, which takes seconds."""
    bounds, start = np.zeros(2, dtype=np.int64), np.zeros(1, dtype=np.int64)
    index, value, table = np.empty(0, np.int32), np.empty(0, np.float32), np.zeros((0, 1), np.float32)
    unit = np.ones((1, 1), np.float32)
    sort_by(index, index, value, start, index, value)
    sample_rows(bounds, start, index, value, table, value, table, unit, value, value, value, table, table)
    gather(bounds, start, index, value, value, table, table)
    squared_errors(bounds, start, index, value, table, table, value, value)
    times(table, unit, table)
    gram(table, table)
    column_dots(table, table)
