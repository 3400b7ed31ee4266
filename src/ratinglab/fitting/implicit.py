"""Weights of who rated what, drawn from their posterior."""

import numpy as np

from ratinglab.fitting.kernels.rows import column_dots, gather, gram
from ratinglab.fitting.priors import Array, Normal
from ratinglab.fitting.sides import Side

SHAPE, RATE = 1.0, 1.0
"""Of the gamma prior on the precision of the weights."""
MAX_STEPS, TOLERANCE = 200, 1e-5
"""Of the conjugate gradients, and the size of their residual beside that of the right-hand side."""


class Implicit:
    """F y, the part of a side's rows that follows from who rated what: (F y)_u = |N(u)|^−½ Σ_{j ∈ N(u)} y_j."""

    def __init__(self, side: Side, other: Side) -> None:
        """Of the rows of `side`, by a row y of each of `other`."""
        self._side, self._other = side, other
        self._scale = side.counts**-0.5
        self._ones = np.ones(other.num_rows, dtype=np.float32)
        diagonal = np.empty((other.num_rows, 1), dtype=np.float32)
        self._transposed((self._scale[:, None]).copy(), diagonal)
        self._diagonal = diagonal

    def part(self, weights: Array) -> Array:
        """F y: (num_rows, D) float32 of y (num_others, D) float32."""
        out = np.empty((self._side.num_rows, weights.shape[1]), dtype=np.float32)
        gather(self._side.bounds, self._side.start, self._side.other, self._scale, self._ones, weights, out)
        return out

    def _transposed(self, rows: Array, out: Array) -> Array:
        """Fᵀ v."""
        gather(self._other.bounds, self._other.start, self._other.other, self._ones, self._scale, rows, out)
        return out

    def draw(
        self, rows: Array, weights: Array, *, precision: float, prior: Normal, random: np.random.Generator
    ) -> tuple[Array, float]:
        """Draw y and λ, where the rows are Normal(m + F y, Λ⁻¹) and each y is Normal(0, (λ Λ)⁻¹).

        y solves (FᵀF + λ I) y = Fᵀ (v − m + e₁) + √λ e₂ with e₁ and e₂ rows of Normal(0, Λ⁻¹), by conjugate gradients
        from the old y, preconditioned by the diagonal.

        Args:
            rows: (num_rows, D) float32, v.
            weights: (num_others, D) float32, the last draw of y.
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
        diagonal = self._diagonal + precision

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
