"""Gibbs draws of a term's weights, one column of its design at a time.

Given the precision Λ of the rows, the D dimensions of a weight row are independent, so blocks of dimensions run in
parallel. A dimension's sums have the same order in any block.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from ratinglab.kernels.compiled import njit
from ratinglab.kernels.rows import empty_entries

BLOCK_WIDTH = 8
"""Approximate number of dimensions per block. Smaller blocks look up rows more often, larger ones leave cores idle."""


def split_columns(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut the columns of rows into blocks of equal width, padded with 0: (N, D) → (B, N, W) float32."""
    count, dim = rows.shape
    num_blocks = max(1, round(dim / BLOCK_WIDTH))
    width = -(-dim // num_blocks)
    blocks = np.zeros((num_blocks, count, width), dtype=np.float32)
    for block, columns in zip(blocks, np.split(rows, range(width, dim, width), axis=1), strict=True):
        block[:, : columns.shape[1]] = columns
    return blocks


def join_columns(blocks: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """Put blocks from `split_columns` side by side again: (B, N, W) → (N, dim) float32."""
    return np.ascontiguousarray(np.concatenate(list(blocks), axis=1)[:, :dim])


@njit(parallel=True, fastmath=True)
def draw_columns(by_column, scale, inner_row, repeats, squares, term_precision, deviations, weights, residual):  # type: ignore[no-untyped-def]
    """Draw the weights y of each column, in order, from their conditional given the weights of all other columns.

    Rows are v ~ Normal(m + S F y, Λ⁻¹) and y_c ~ Normal(0, (λ Λ)⁻¹). With f_c as column c of S F and e as the residual
    v − m − S F y, the conditional of y_c is

        Normal((f_c · e + f_c · f_c y_c) / (λ + f_c · f_c), ((λ + f_c · f_c) Λ)⁻¹)

    The residual is updated after every column.

    Args:
        by_column: Entries of Fᵀ, whose rows are the columns of F.
        scale: (num_inner,) float32, s: row r of F has the entries s_r.
        inner_row: (num_rows,) int32, the row of F that each row of S selects; empty if S is the identity.
        repeats: (num_inner,) float32, the number of rows of S that select each row of F.
        squares: (num_columns,) float32, f_c · f_c.
        term_precision: λ.
        deviations: (B, num_columns, W) float32, draws from Normal(0, ((λ + f_c · f_c) Λ)⁻¹), in blocks.
        weights: (B, num_columns, W) float32, y, in blocks; updated in place.
        residual: (B, num_rows, W) float32, e, in blocks; updated in place.
    """
    for block in prange(len(residual)):
        is_identity = len(inner_row) == 0
        sums = residual[block] if is_identity else _sum_by_inner(inner_row, residual[block], len(repeats))
        change = sums if is_identity else sums.copy()
        _draw_block(by_column, scale, repeats, squares, term_precision, deviations[block], weights[block], sums)
        if not is_identity:
            change -= sums
            _distribute_change(inner_row, repeats, change, residual[block])


@njit(fastmath=True)
def _draw_block(by_column, scale, repeats, squares, term_precision, deviations, weights, sums):  # type: ignore[no-untyped-def]
    """Draw one block in place. `sums` (num_inner, W) is the residual, summed over the rows that select a row of F."""
    start, row = by_column.start, by_column.column
    width = sums.shape[1]
    change = np.empty(width, dtype=np.float32)
    for column in range(len(squares)):
        change[:] = 0
        for entry in range(start[column], start[column + 1]):
            index = np.int64(row[entry])
            factor = scale[index]
            for d in range(width):
                change[d] += factor * sums[index, d]
        shrinkage = np.float32(1) / (term_precision + squares[column])
        for d in range(width):
            last = weights[column, d]
            weights[column, d] = shrinkage * (change[d] + squares[column] * last) + deviations[column, d]
            change[d] = weights[column, d] - last
        for entry in range(start[column], start[column + 1]):
            index = np.int64(row[entry])
            factor = scale[index] * repeats[index]
            for d in range(width):
                sums[index, d] -= factor * change[d]


@njit(fastmath=True)
def _sum_by_inner(inner_row, rows, num_inner):  # type: ignore[no-untyped-def]
    """Sum rows that select the same row of F: (num_rows, W) → (num_inner, W) float32."""
    sums = np.zeros((num_inner, rows.shape[1]), dtype=np.float32)
    for row in range(len(rows)):
        index = np.int64(inner_row[row])
        for d in range(rows.shape[1]):
            sums[index, d] += rows[row, d]
    return sums


@njit(fastmath=True)
def _distribute_change(inner_row, repeats, change, rows):  # type: ignore[no-untyped-def]
    """Subtract each sum's change from the rows that were summed, in equal shares, in place."""
    for row in range(len(rows)):
        index = np.int64(inner_row[row])
        share = np.float32(1) / repeats[index]
        for d in range(rows.shape[1]):
            rows[row, d] -= share * change[index, d]


def compile_loops() -> None:
    """Compile the loop."""
    by_column, blocks = empty_entries(), np.zeros((1, 0, 1), np.float32)
    value = by_column.value
    draw_columns(by_column, value, by_column.column, value, value, np.float32(1), blocks, blocks, blocks)
