"""Paired tests of two configurations, over the same folds or the same rows."""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ratinglab.runs.finished_runs import FinishedRun
from ratinglab.runs.storage import count_rows, read_part, read_squared_errors
from ratinglab.splits.split import PART_NAMES

NUM_RESAMPLES, MAX_BLOCKS = 2000, 1000
"""Number of resamples of a bootstrap, and largest number of blocks of users that it resamples."""


class PairedDifference(NamedTuple):
    """Mean difference of a configuration from the best one, with a 95% confidence interval.

    Attributes:
        mean, low, high: the difference in the units of the metric, positive if the configuration is worse.
        p: two-sided p-value of no difference, not adjusted for the number of comparisons.
        test: name of the test, and what it is computed over.
    """

    mean: float
    low: float
    high: float
    p: float
    test: str

    @property
    def text(self) -> str:
        """The mean and the half-width of the interval."""
        return f"{self.mean:.4f} ± {(self.high - self.low) / 2:.4f}"


def paired_difference(
    best: Sequence[FinishedRun], other: Sequence[FinishedRun], *, tag: str, higher_is_better: bool = False
) -> PairedDifference | None:
    """Test how far one configuration is behind the best one.

    Runs are paired by split, and runs on the same split, such as those of several seeds, are averaged first. Several
    splits are compared by Nadeau and Bengio's corrected t test; MSEs on a single split by a bootstrap of the paired
    squared errors.

    Returns:
        The difference, or None if a run lacks the metric or its predictions, or if the two share no split.
    """
    if not all(tag in run.metrics for run in (*best, *other)):
        return None
    part, _, name = tag.partition("/")
    best_by_split, other_by_split = group_by_split(best), group_by_split(other)
    shared = [split for split in best_by_split if split in other_by_split]
    if len(shared) > 1:
        best_means, other_means = (
            np.array([np.mean([run.metrics[tag] for run in by_split[split]]) for split in shared])
            for by_split in (best_by_split, other_by_split)
        )
        behind = best_means - other_means if higher_is_better else other_means - best_means
        return corrected_t(behind, share=compute_evaluated_share(best_by_split[shared[0]][0], part))
    if not shared or name != "mse":
        return None
    (split,) = shared
    best_errors = _mean_squared_errors(best_by_split[split], part)
    other_errors = _mean_squared_errors(other_by_split[split], part)
    if best_errors is None or other_errors is None or len(best_errors) == 0:
        return None
    (user,) = read_part(best_by_split[split][0].folder_of(part), part, ["user"])
    return bootstrap(other_errors - best_errors, user)


def group_by_split(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """Group runs by their split, including the fold."""
    groups: defaultdict[str, list[FinishedRun]] = defaultdict(list)
    for run in runs:
        groups[run.record.provenance["split"]].append(run)
    return dict(groups)


def compute_evaluated_share(run: FinishedRun, part: str) -> float:
    """Compute the number of rows of a part, val or test, divided by the number of training rows."""
    counts = dict(zip(PART_NAMES, count_rows(run.folder_of(part)), strict=True))
    return float(counts[part] / counts["train"])


def _mean_squared_errors(runs: Sequence[FinishedRun], part: str) -> NDArray[np.float64] | None:
    """Average the squared error of each row over runs, such as seeds. Returns None if a run has no predictions."""
    errors = [read_squared_errors(run.folder_of(part), part) for run in runs]
    available = [errors_of_run for errors_of_run in errors if errors_of_run is not None]
    return np.mean(available, axis=0) if len(available) == len(runs) else None


def corrected_t(differences: NDArray[np.float64], *, share: float) -> PairedDifference:
    """Nadeau and Bengio's corrected t test (2003): t = d̄ / √((1/k + n₂/n₁) s²), with k − 1 degrees of freedom.

    Training sets of different folds overlap, so the plain t test's variance s²/k is too small.

    Args:
        differences: (k,) difference in each split, k ≥ 2.
        share: n₂/n₁, the number of rows evaluated over the number of rows trained on.
    """
    count, mean = len(differences), float(differences.mean())
    scale = float(np.sqrt((1 / count + share) * differences.var(ddof=1)))
    half_width = stats.t.ppf(0.975, count - 1) * scale
    p = 2 * stats.t.sf(abs(mean) / scale, count - 1) if scale > 0 else float(mean == 0)
    test = f"Nadeau and Bengio's corrected t test over {count} splits"
    return PairedDifference(mean, mean - half_width, mean + half_width, float(p), test)


def bootstrap(differences: NDArray[np.float64], user: NDArray[np.integer]) -> PairedDifference:
    """Bootstrap the mean of paired differences. Its interval is from the 2.5% to the 97.5% quantile of resampled means.

    Users are resampled, with a fixed seed, because the errors of one user are not independent. Beyond MAX_BLOCKS users,
    blocks of users are resampled. The interval covers the choice of users, but not the variation between seeds.

    Args:
        differences: (N,) difference of the squared errors of each row.
        user: (N,) user of each row.
    """
    block = user % MAX_BLOCKS
    sums, sizes = np.bincount(block, weights=differences), np.bincount(block)
    sums, sizes = sums[sizes > 0], sizes[sizes > 0]
    counts = _draw_counts(len(sizes))
    means = (counts @ sums) / (counts @ sizes)
    low, high = np.quantile(means, [0.025, 0.975])
    p = min(1.0, 2 * max(min((means <= 0).mean(), (means >= 0).mean()), 1 / NUM_RESAMPLES))
    test = f"a bootstrap over users of the paired squared errors of {len(differences):,} rows (not over seeds)"
    return PairedDifference(float(differences.mean()), float(low), float(high), float(p), test)


@lru_cache(maxsize=1)
def _draw_counts(num_blocks: int) -> NDArray[np.float64]:
    """Draw how often each block is in each resample: (NUM_RESAMPLES, num_blocks)."""
    counts = np.random.default_rng(0).multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), size=NUM_RESAMPLES)
    return counts.astype(np.float64)  # for a product in BLAS
