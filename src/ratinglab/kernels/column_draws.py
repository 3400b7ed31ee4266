"""Gibbs draws of a term's weights, one column of its design at a time.

Given the precision Λ of the rows, the D dimensions of a weight row are independent, so blocks of dimensions run in
parallel. A dimension's sums have the same order in any block.
"""

import numpy as np
from numba import prange

from ratinglab.kernels.compiled import njit
from ratinglab.kernels.rows import empty_entries

BLOCK_WIDTH = 8
"""Approximate number of dimensions per block. Smaller blocks look up rows more often, larger ones leave cores idle."""


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
        deviations: (num_columns, D) float32, draws from Normal(0, ((λ + f_c · f_c) Λ)⁻¹).
        weights: (num_columns, D) float32, y; updated in place.
        residual: (num_rows, D) float32, e; updated in place.
    """
    dim = weights.shape[1]
    num_blocks = max(1, round(dim / BLOCK_WIDTH))
    for block in prange(num_blocks):
        dims = slice(dim * block // num_blocks, dim * (block + 1) // num_blocks)
        # copies, because a core reads adjacent memory faster
        rows, y = residual[:, dims].copy(), weights[:, dims].copy()
        is_identity = len(inner_row) == 0
        sums = rows if is_identity else _sum_by_inner(inner_row, rows, len(repeats))
        change = sums if is_identity else sums.copy()
        _draw_block(by_column, scale, repeats, squares, term_precision, deviations[:, dims].copy(), y, sums)
        if not is_identity:
            change -= sums
            _distribute_change(inner_row, repeats, change, rows)
        residual[:, dims], weights[:, dims] = rows, y


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


def compile_column_loops() -> None:
    """Compile the loop."""
    by_column, table = empty_entries(), np.zeros((0, 1), np.float32)
    value = by_column.value
    draw_columns(by_column, value, by_column.column, value, value, np.float32(1), table, table, table)
