"""Compiled products with the design of a term, for fits that work row by row."""

import numpy as np
import torch

from ratinglab.kernels.rows import Entries, FloatArray, multiply_sparse
from ratinglab.kernels.sorted_ratings import chunk_bounds, sort_ratings
from ratinglab.models.design import Design


class CompiledDesign:
    """Compiled products with the design F of a term, and F's entries sorted for loops over its columns.

    F = S G, where S selects a row of the inner design G for each row of F. If the design selects no rows, G = F.

    Attributes:
        by_column: entries of Gᵀ.
        scale: (num_inner,) float32, the value of the entries in each row of G.
        inner_row: (num_rows,) int32, the row of G that each row of S selects; empty if G = F.
        repeats: (num_inner,) float32, the number of rows of S that select each row of G, or the sum of the squares of
            their weights.
        diagonal: (num_columns, 1) float32, the diagonal of FᵀF.
    """

    def __init__(self, design: Design, *, dim: int, row_weight: FloatArray | None = None) -> None:
        """Sort the design's entries by row and by column.

        Args:
            design: F.
            dim: length of a weight row.
            row_weight: (num_rows,) float32, which scales the rows: F becomes diag(row_weight) F.
        """
        start, column = design.start.numpy(), design.column.numpy()
        scale, inner_row = design.scale.numpy(), design.inner_row
        row = np.repeat(np.arange(len(scale), dtype=np.int32), np.diff(start))
        no_values = np.empty(0, dtype=np.float32)
        self._by_row = Entries(chunk_bounds(start, dim=dim), start, column, no_values)
        unused = np.empty(len(column), np.float32)
        by_column = sort_ratings(column, row, unused, num_rows=design.num_columns, dim=dim)
        self.by_column = by_column._replace(value=no_values)
        self._outer = None
        self.inner_row, self.repeats = np.empty(0, np.int32), np.ones(len(scale), np.float32)
        if inner_row is not None:
            outer_scale = None if row_weight is None else torch.from_numpy(row_weight)
            outer = Design.one_hot(inner_row, num_columns=len(scale), scale=outer_scale)
            self._outer = CompiledDesign(outer, dim=dim)
            self.inner_row, self.repeats = outer.column.numpy(), self._outer.diagonal.ravel()
        elif row_weight is not None:
            scale = scale * row_weight
        self.scale = scale
        self._ones = np.ones(design.num_columns, dtype=np.float32)
        self.diagonal: FloatArray = self._multiply_inner_transposed((scale * self.repeats)[:, None])

    def multiply(self, weights: FloatArray) -> FloatArray:
        """Compute F w: (num_columns, D) float32 → (num_rows, D) float32."""
        out = np.empty((len(self.scale), weights.shape[1]), dtype=np.float32)
        multiply_sparse(self._by_row, self.scale, self._ones, weights, out)
        return out if self._outer is None else self._outer.multiply(out)

    def multiply_transposed(self, rows: FloatArray) -> FloatArray:
        """Compute Fᵀ v: (num_rows, D) float32 → (num_columns, D) float32."""
        if self._outer is not None:
            rows = self._outer.multiply_transposed(rows)
        return self._multiply_inner_transposed(rows)

    def _multiply_inner_transposed(self, rows: FloatArray) -> FloatArray:
        out = np.empty((len(self._ones), rows.shape[1]), dtype=np.float32)
        multiply_sparse(self.by_column, self._ones, self.scale, rows, out)
        return out
