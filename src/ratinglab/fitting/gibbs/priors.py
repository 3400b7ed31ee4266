"""Normal prior of a side's rows, itself drawn from its posterior."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratinglab.kernels.rows import FloatArray, gram, times

PRIOR_MEAN_WEIGHT = 2.0
"""β₀: weight of the prior mean, 0, in rows."""


class Normal(NamedTuple):
    """A normal distribution of rows: mean (D,) and precision (D, D), float64."""

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]

    def noise(self, count: int, random: np.random.Generator) -> FloatArray:
        """Draw from Normal(0, Λ⁻¹): (count, D) float32."""
        root = np.linalg.inv(np.linalg.cholesky(self.precision)).T  # R Rᵀ = Λ⁻¹
        draws = random.standard_normal((count, len(self.mean)), dtype=np.float32)
        out = np.empty_like(draws)
        times(draws, np.ascontiguousarray(root, dtype=np.float32), out)
        return out


def draw_normal(
    rows: FloatArray, random: np.random.Generator, *, spread: NDArray[np.float64], spread_rows: int
) -> Normal:
    """Draw the normal distribution of rows, given the rows and the prior Normal–Wishart(m₀ = 0, β₀, W₀ = I, ν₀ = D).

    Args:
        rows: (N, D) float32.
        random: generator of the draw.
        spread: (D, D), Σ v vᵀ over further centred rows of the same precision.
        spread_rows: number of these rows.

    Source: Salakhutdinov, Mnih, ICML 2008, equation 14.
    """
    count, dim = rows.shape
    ones = np.ones((count, 1), dtype=np.float32)
    center = gram(rows, ones)[:, 0] / count
    # scatter around the mean in float64: Σ v vᵀ − N v̄ v̄ᵀ
    scatter = gram(rows, rows) - count * np.outer(center, center)
    shrunk = PRIOR_MEAN_WEIGHT * count / (PRIOR_MEAN_WEIGHT + count) * np.outer(center, center)
    scale = np.linalg.inv(np.eye(dim) + scatter + shrunk + spread)
    precision = draw_wishart((scale + scale.T) / 2, dim + count + spread_rows, random)
    mean_root = np.linalg.inv(np.linalg.cholesky((PRIOR_MEAN_WEIGHT + count) * precision)).T
    return Normal(count / (PRIOR_MEAN_WEIGHT + count) * center + mean_root @ random.standard_normal(dim), precision)


def draw_wishart(scale: NDArray[np.float64], degrees: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw from Wishart(scale, degrees), whose mean is degrees · scale, by Bartlett's decomposition: (D, D)."""
    dim = len(scale)
    lower = np.tril(random.standard_normal((dim, dim)), -1)
    lower[np.diag_indices(dim)] = np.sqrt(random.chisquare(degrees - np.arange(dim)))
    root = np.linalg.cholesky(scale) @ lower
    return root @ root.T
