"""Draw or solve for the weights of a term, for fits that work row by row."""

import numpy as np
import torch

from ratinglab.fitting.gibbs.priors import Normal
from ratinglab.kernels.column_draws import Selection, draw_columns, in_blocks, out_of_blocks
from ratinglab.kernels.rows import Entries, FloatArray, column_dots, gather, gram
from ratinglab.kernels.sorted_ratings import chunk_bounds, sort_ratings
from ratinglab.models.design import Design

GAMMA_SHAPE, GAMMA_RATE = 1.0, 1.0
"""Parameters of the gamma prior on λ, the precision of a term's weights."""
MAX_STEPS, TOLERANCE = 200, 1e-5
"""Step limit and relative residual tolerance of conjugate gradients."""


class TermSolver:
    """Compiled products with a term's design F, draws of its weights, and a solver of (FᵀF + R) y = c, R diagonal."""

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
        none = np.empty(0, dtype=np.float32)
        self._by_row = Entries(chunk_bounds(start, dim=dim), start, column, none)
        by_column = sort_ratings(column, row, np.empty(len(column), np.float32), count=design.num_columns, dim=dim)
        self._by_column = by_column._replace(rating=none)
        self._outer = None
        if inner_row is not None:
            weight = None if row_weight is None else torch.from_numpy(row_weight)
            outer = Design.one_hot(inner_row, num_columns=len(scale), scale=weight)
            self._outer = TermSolver(outer, dim=dim)
        elif row_weight is not None:
            scale = scale * row_weight
        self._scale = scale
        self._selection = Selection.from_rows(None if inner_row is None else inner_row.numpy(), num_inner=len(scale))
        self._ones = np.ones(design.num_columns, dtype=np.float32)
        times = np.ones((len(scale), 1), dtype=np.float32) if self._outer is None else self._outer.diagonal
        self.diagonal: FloatArray = self._gather_by_column(scale[:, None] * times, width=1)
        """Diagonal of FᵀF: (num_columns, 1) float32."""

    def times(self, weights: FloatArray) -> FloatArray:
        """Compute F w: (num_columns, D) float32 → (num_rows, D) float32."""
        out = np.empty((len(self._scale), weights.shape[1]), dtype=np.float32)
        gather(self._by_row, self._scale, self._ones, weights, out)
        return out if self._outer is None else self._outer.times(out)

    def transposed(self, rows: FloatArray) -> FloatArray:
        """Compute Fᵀ v: (num_rows, D) float32 → (num_columns, D) float32."""
        if self._outer is not None:
            rows = self._outer.transposed(rows)
        return self._gather_by_column(rows, width=rows.shape[1])

    def _gather_by_column(self, rows: FloatArray, *, width: int) -> FloatArray:
        out = np.empty((len(self._ones), width), dtype=np.float32)
        gather(self._by_column, self._ones, self._scale, rows, out)
        return out

    def draw(
        self, residual: FloatArray, weights: FloatArray, *, precision: float, prior: Normal, random: np.random.Generator
    ) -> tuple[FloatArray, float]:
        """Draw y and λ, given rows ~ Normal(m + F y + other terms, Λ⁻¹) and each row of y ~ Normal(0, (λ Λ)⁻¹).

        Each row of y is drawn given all others; see draw_columns. Only for a solver without row_weight.

        Args:
            residual: (B, num_rows, W) float32, the rows minus m and all terms, in blocks; updated in place.
            weights: (num_columns, D) float32, the last draw of y.
            precision: λ.
            prior: m and Λ.
            random: generator of the draws.

        Returns:
            y and λ.
        """
        count, dim = weights.shape
        noise = prior.noise(count, random) / np.sqrt(self.diagonal + np.float32(precision))
        drawn = in_blocks(weights)
        draw_columns(
            self._by_column,
            self._scale,
            self._selection,
            self.diagonal.ravel(),
            np.float32(precision),
            in_blocks(noise),
            drawn,
            residual,
        )
        weights = out_of_blocks(drawn, dim)
        squares = float((prior.precision * gram(weights, weights)).sum())
        return weights, random.gamma(GAMMA_SHAPE + count * dim / 2, 1 / (GAMMA_RATE + squares / 2))

    def solve(self, right: FloatArray, start: FloatArray, ridge: FloatArray | np.float32) -> FloatArray:
        """Solve (FᵀF + R) y = right for y, column by column, by conjugate gradients preconditioned by the diagonal.

        Args:
            right: (num_columns, D) float32.
            start: (num_columns, D) float32, the initial y.
            ridge: the diagonal of R: (num_columns, 1) float32, or one number.
        """
        diagonal = self.diagonal + ridge

        def times_system(vectors: FloatArray) -> FloatArray:
            return self.transposed(self.times(vectors)) + ridge * vectors

        solution = start.copy()
        residual = right - times_system(solution)
        scaled = residual / diagonal
        direction = scaled.copy()
        size = column_dots(residual, scaled)
        enough = TOLERANCE**2 * column_dots(right, right / diagonal)
        for _ in range(MAX_STEPS):
            if (size <= enough).all():
                break
            curved = times_system(direction)
            # leave converged columns unchanged
            length = np.where(size > enough, size / np.maximum(column_dots(direction, curved), 1e-30), 0)
            solution += length.astype(np.float32) * direction
            residual -= length.astype(np.float32) * curved
            scaled = residual / diagonal
            last, size = size, column_dots(residual, scaled)
            direction = scaled + (size / np.maximum(last, 1e-30)).astype(np.float32) * direction
        return solution
