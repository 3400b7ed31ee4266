"""Draws of the normal prior of a side's rows, given the rows."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratinglab.kernels.rows import FloatArray, gram, matmul_transposed

PRIOR_MEAN_WEIGHT = 2.0
"""β₀: weight of the prior mean, 0, in rows."""


class Normal(NamedTuple):
    """A normal distribution of rows: mean m (D,) and precision Λ (D, D), float64."""

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]

    def draw_deviations(self, count: int, random: np.random.Generator) -> FloatArray:
        """Draw deviations from the mean, from Normal(0, Λ⁻¹): (count, D) float32."""
        root = np.linalg.inv(np.linalg.cholesky(self.precision)).T  # R Rᵀ = Λ⁻¹
        draws = random.standard_normal((count, len(self.mean)), dtype=np.float32)
        out = np.empty_like(draws)
        matmul_transposed(draws, np.ascontiguousarray(root, dtype=np.float32), out)
        return out


def draw_prior(
    rows: FloatArray, random: np.random.Generator, *, centered_scatter: NDArray[np.float64], num_centered: int
) -> Normal:
    """Draw the normal prior of rows, given the rows and its own prior Normal–Wishart(m₀ = 0, β₀, W₀ = I, ν₀ = D).

    Args:
        rows: (N, D) float32.
        centered_scatter: (D, D), Σ v vᵀ over further rows, with the mean 0 and the same precision.
        num_centered: number of these rows.

    Source: Salakhutdinov, Mnih, ICML 2008, equation 14.
    """
    count, dim = rows.shape
    ones = np.ones((count, 1), dtype=np.float32)
    mean = gram(rows, ones)[:, 0] / count
    # scatter around the mean in float64: Σ v vᵀ − N v̄ v̄ᵀ
    scatter = gram(rows, rows) - count * np.outer(mean, mean)
    weight = PRIOR_MEAN_WEIGHT + count
    shrinkage = PRIOR_MEAN_WEIGHT * count / weight * np.outer(mean, mean)
    scale = np.linalg.inv(np.eye(dim) + scatter + shrinkage + centered_scatter)
    precision = draw_wishart((scale + scale.T) / 2, dim + count + num_centered, random)
    mean_root = np.linalg.inv(np.linalg.cholesky(weight * precision)).T
    return Normal(count / weight * mean + mean_root @ random.standard_normal(dim), precision)


def draw_wishart(scale: NDArray[np.float64], degrees: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw from Wishart(scale, degrees), whose mean is degrees · scale, by Bartlett's decomposition: (D, D)."""
    dim = len(scale)
    lower = np.tril(random.standard_normal((dim, dim)), -1)
    lower[np.diag_indices(dim)] = np.sqrt(random.chisquare(degrees - np.arange(dim)))
    root = np.linalg.cholesky(scale) @ lower
    return root @ root.T
