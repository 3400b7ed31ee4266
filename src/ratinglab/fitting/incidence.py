"""Weights of what a row has, such as the items that a user rated, drawn from their posterior."""

import numpy as np
from numpy.typing import NDArray

from ratinglab.fitting.kernels.rows import column_dots, gather, gram
from ratinglab.fitting.priors import Array, Normal
from ratinglab.fitting.sides import Side, chunks, sorted_side

SHAPE, RATE = 1.0, 1.0
"""Of the gamma prior on the precision of the weights."""
MAX_STEPS, TOLERANCE = 200, 1e-5
"""Of the conjugate gradients, and the size of their residual beside that of the right-hand side."""


class Incidence:
    """F, by which weights of what a row has are added up: (F w)_r = s_r Σ_{c ∈ N(r)} w_c."""

    def __init__(
        self,
        start: NDArray[np.int64],
        column: NDArray[np.int32],
        *,
        num_columns: int,
        scale: Array,
        dim: int,
        spread: "Incidence | None" = None,
    ) -> None:
        """Take what each row has.

        Args:
            start: (num_rows + 1,) int64, where the columns of each row begin.
            column: (E,) int32.
            num_columns: rows of the weights.
            scale: (num_rows,) float32, s.
            dim: numbers in a row of weights.
            spread: from these rows to further ones, each of which has one of them; F is then spread · F.
        """
        count, row = len(start) - 1, np.repeat(np.arange(len(start) - 1, dtype=np.int32), np.diff(start))
        none = np.zeros(len(column), dtype=np.float32)
        self._by_row = Side(bounds=chunks(start, dim=dim), start=start, other=column, rating=none)
        self._by_column = sorted_side(column, row, none, count=num_columns, dim=dim)
        self._scale, self._spread = scale, spread
        self._ones = np.ones(num_columns, dtype=np.float32)
        times = np.ones((count, 1), dtype=np.float32) if spread is None else spread.diagonal
        self.diagonal: Array = self._gather_by_column(
            scale[:, None] * times, np.empty((num_columns, 1), dtype=np.float32)
        )
        """Of FᵀF: (num_columns, 1) float32."""

    def part(self, weights: Array) -> Array:
        """F w: (num_rows, D) float32 of w (num_columns, D) float32."""
        side, out = self._by_row, np.empty((self._by_row.num_rows, weights.shape[1]), dtype=np.float32)
        gather(side.bounds, side.start, side.other, self._scale, self._ones, weights, out)
        return out if self._spread is None else self._spread.part(out)

    def _transposed(self, rows: Array, out: Array) -> Array:
        """Fᵀ v."""
        if self._spread is not None:
            inner = np.empty((self._by_row.num_rows, rows.shape[1]), dtype=np.float32)
            rows = self._spread._transposed(rows, inner)
        return self._gather_by_column(rows, out)

    def _gather_by_column(self, rows: Array, out: Array) -> Array:
        side = self._by_column
        gather(side.bounds, side.start, side.other, self._ones, self._scale, rows, out)
        return out

    def draw(
        self, rows: Array, weights: Array, *, precision: float, prior: Normal, random: np.random.Generator
    ) -> tuple[Array, float]:
        """Draw y and λ, where the rows are Normal(m + F y, Λ⁻¹) and each row of y is Normal(0, (λ Λ)⁻¹).

        y solves (FᵀF + λ I) y = Fᵀ (v − m + e₁) + √λ e₂ with e₁ and e₂ rows of Normal(0, Λ⁻¹), by conjugate gradients
        from the old y, preconditioned by the diagonal.

        Args:
            rows: (num_rows, D) float32, v.
            weights: (num_columns, D) float32, the last draw of y.
            precision: λ.
            prior: m and Λ.
            random: the source of the draws.

        Returns:
            y and λ.

        Source: Simm et al., "Macau", MLSP 2017, section 2.2.
        """
        count, dim = weights.shape
        noisy = rows - prior.mean.astype(np.float32) + prior.noise(len(rows), random)
        right = self._transposed(noisy, np.empty_like(weights))
        right += np.float32(precision**0.5) * prior.noise(count, random)
        weights = self._solve(right, weights, np.float32(precision))
        squares = float((prior.precision * gram(weights, weights)).sum())
        return weights, random.gamma(SHAPE + count * dim / 2, 1 / (RATE + squares / 2))

    def _solve(self, right: Array, start: Array, precision: np.float32) -> Array:
        """y of (FᵀF + λ I) y = right, each column by itself."""
        product = np.empty_like(right)
        diagonal = self.diagonal + precision

        def times_system(vectors: Array) -> Array:
            return self._transposed(self.part(vectors), product) + precision * vectors

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
            # a column that has come to its end stays there
            length = np.where(size > enough, size / np.maximum(column_dots(direction, curved), 1e-30), 0)
            solution += length.astype(np.float32) * direction
            residual -= length.astype(np.float32) * curved
            scaled = residual / diagonal
            last, size = size, column_dots(residual, scaled)
            direction = scaled + (size / np.maximum(last, 1e-30)).astype(np.float32) * direction
        return solution
