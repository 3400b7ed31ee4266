"""Importance of the swept keys."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

NUM_BINS = 4
"""Number of quantile bins of a numeric key with more values than that."""


def compute_explained_share(values: Sequence[str], metric: NDArray[np.float64]) -> float:
    """Compute the share of the variance of a metric's ranks that one key explains alone: adjusted η², from 0 to 1.

    η² = Σ_g n_g (r̄_g − r̄)² / Σ (r − r̄)², adjusted for the number G of groups: 1 − (1 − η²)(n − 1)/(n − G). Ranks
    limit the effect of a diverged run.

    Args:
        values: (n,) the key's value in each run, as typed.
        metric: (n,) the metric of each run.
    """
    binned = _binned(values)
    groups = [metric[binned == level] for level in np.unique(binned)]
    if len(set(metric)) == 1 or not 1 < len(groups) < len(metric):
        return 0.0
    share = stats.kruskal(*groups).statistic / (len(metric) - 1)  # Kruskal and Wallis's H is (n − 1) η² of the ranks
    return float(max(0.0, 1 - (1 - share) * (len(metric) - 1) / (len(metric) - len(groups))))


def _binned(values: Sequence[str]) -> NDArray[np.generic]:
    """Bin the values of a numeric key by quantiles if there are many; return other values unchanged."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return np.array(values)
    if len(set(numbers)) <= NUM_BINS:
        return numbers
    borders = np.quantile(numbers, np.linspace(0, 1, NUM_BINS + 1)[1:-1])
    return np.searchsorted(borders, numbers)
