"""Priors of the rows of a side: a normal distribution, itself drawn from its posterior."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratinglab.fitting.kernels.rows import gram, times

FloatArray = NDArray[np.float32]
PRIOR_ROWS = 2.0
"""β₀ of the prior on the mean: it counts as so many rows around 0."""


class Normal(NamedTuple):
    """A normal distribution of rows: mean (D,) and precision (D, D), float64."""

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]

    def noise(self, count: int, random: np.random.Generator) -> FloatArray:
        """(count, D) float32 draws around 0 of this precision."""
        root = np.linalg.inv(np.linalg.cholesky(self.precision)).T  # R Rᵀ = Λ⁻¹
        draws = random.standard_normal((count, len(self.mean)), dtype=np.float32)
        out = np.empty_like(draws)
        times(draws, np.ascontiguousarray(root, dtype=np.float32), out)
        return out


def draw_normal(
    rows: FloatArray, random: np.random.Generator, *, spread: NDArray[np.float64], spread_rows: int
) -> Normal:
    """Draw the normal distribution that rows come from, given them, under Normal–Wishart(m₀ = 0, β₀, W₀ = I, ν₀ = D).

    Args:
        rows: (N, D) float32.
        random: the source of the draw.
        spread: (D, D), Σ of v vᵀ over further rows whose precision is the same and whose mean is known, taken off.
        spread_rows: how many these are.

    Source: Salakhutdinov, Mnih, ICML 2008, equation 14.
    """
    count, dim = rows.shape
    ones = np.ones((count, 1), dtype=np.float32)
    center = gram(rows, ones)[:, 0] / count
    # around the centre in float64: Σ v vᵀ − N v̄ v̄ᵀ
    scatter = gram(rows, rows) - count * np.outer(center, center)
    shrunk = PRIOR_ROWS * count / (PRIOR_ROWS + count) * np.outer(center, center)
    scale = np.linalg.inv(np.eye(dim) + scatter + shrunk + spread)
    precision = draw_wishart((scale + scale.T) / 2, dim + count + spread_rows, random)
    mean_root = np.linalg.inv(np.linalg.cholesky((PRIOR_ROWS + count) * precision)).T
    return Normal(count / (PRIOR_ROWS + count) * center + mean_root @ random.standard_normal(dim), precision)


def draw_wishart(scale: NDArray[np.float64], degrees: float, random: np.random.Generator) -> NDArray[np.float64]:
    """A draw from Wishart(scale, degrees), of mean degrees · scale: (D, D), by Bartlett's decomposition."""
    dim = len(scale)
    lower = np.tril(random.standard_normal((dim, dim)), -1)
    lower[np.diag_indices(dim)] = np.sqrt(random.chisquare(degrees - np.arange(dim)))
    root = np.linalg.cholesky(scale) @ lower
    return root @ root.T
