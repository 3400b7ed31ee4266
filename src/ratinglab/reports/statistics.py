"""Statistics of runs: means of metrics with their 95% intervals, paired tests, and shares of explained variance."""

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ratinglab.errors import UserError, format_count
from ratinglab.evaluation.metric_kinds import MetricKind
from ratinglab.runs.finished_runs import FinishedRun
from ratinglab.runs.storage import count_rows_by_part, read_part, read_squared_errors
from ratinglab.runs.sweep_folder import Curve
from ratinglab.splits.split import PART_NAMES

HALF_WIDTH_HEADER = "± 95%"
"""Header of a column of half-widths."""
NUM_RESAMPLES, MAX_BLOCKS = 2000, 1000
"""Number of resamples of a bootstrap, and largest number of blocks of users that it resamples."""
NUM_BINS = 4
"""Number of quantile bins of a numeric key with more values than that."""


def values_of(runs: Sequence[FinishedRun], tag: str) -> list[float]:
    """List the values of a metric to average, one per run. Returns [] if a run does not have the metric.

    With several splits, such as folds, there is one value per split, the mean over its runs, because runs on the same
    rows are not independent.
    """
    if not all(tag in run.metrics for run in runs):
        return []
    by_split = [[run.metrics[tag] for run in members] for members in group_by_split(runs).values()]
    return by_split[0] if len(by_split) == 1 else [float(np.mean(values)) for values in by_split]


def mean_of(runs: Sequence[FinishedRun], tag: str) -> float:
    """Average a metric over the runs. Returns NaN if a run does not have it."""
    values = values_of(runs, tag)
    return float(np.mean(values)) if values else math.nan


def half_width_of(runs: Sequence[FinishedRun], tag: str) -> float:
    """Compute half the width of the 95% confidence interval of a metric's mean.

    Runs on one split have the interval of Student's t over their seeds. Runs on several splits have the interval with
    Nadeau and Bengio's correction, because their training rows overlap. Returns NaN with fewer than two values, or if
    the rows of a run cannot be counted.
    """
    values = np.array(values_of(runs, tag))
    if len(values) < 2:
        return math.nan
    try:
        share = compute_evaluated_share(runs[0], tag.partition("/")[0]) if len(group_by_split(runs)) > 1 else 0.0
    except UserError:  # the run's rows are damaged; its metrics are not
        return math.nan
    interval = corrected_t(values, share=share)
    return (interval.high - interval.low) / 2


def average_curves(curves: Sequence[Curve]) -> pd.DataFrame:
    """Average curves over the epochs that all curves have, with a band around the mean.

    The band is the 95% confidence interval of the mean, by Student's t. With two curves, it is their range.

    Returns:
        The columns mean, low and high, float64, indexed by epoch. The mean ends with the shortest curve, because it
        would jump where a curve ends.
    """
    table = pd.concat([pd.Series(curve, dtype=np.float64) for curve in curves], axis=1, join="inner").sort_index()
    values, mean = table.to_numpy(), table.mean(axis=1)
    if len(curves) < 3:
        return pd.DataFrame({"mean": mean, "low": values.min(axis=1), "high": values.max(axis=1)})
    half_width = stats.t.ppf(0.975, len(curves) - 1) * stats.sem(values, axis=1)
    return pd.DataFrame({"mean": mean, "low": mean - half_width, "high": mean + half_width})


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
        return f"{self.mean:z.4f} ± {(self.high - self.low) / 2:.4f}"


def paired_difference(
    best: Sequence[FinishedRun], other: Sequence[FinishedRun], metric: MetricKind
) -> PairedDifference | None:
    """Test how far one configuration is behind the best one in a metric, named by its tag.

    Runs are paired by split. Runs on the same split, such as runs with several seeds, are averaged first. With several
    splits, the test is Nadeau and Bengio's corrected t test. With a single split, only MSEs are compared, by a
    bootstrap of the paired squared errors.

    Returns:
        The difference, or None if a run has no such metric or no predictions, or if the two have no split in common.
    """
    tag = metric.name
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
        behind = best_means - other_means if metric.higher_is_better else other_means - best_means
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
    counts = dict(zip(PART_NAMES, count_rows_by_part(run.folder_of(part)), strict=True))
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
    rows = format_count(len(differences), "row")
    test = f"a bootstrap over users of the paired squared errors of {rows} (not over seeds)"
    return PairedDifference(float(differences.mean()), float(low), float(high), float(p), test)


@lru_cache(maxsize=1)
def _draw_counts(num_blocks: int) -> NDArray[np.float64]:
    """Draw how often each block is in each resample: (NUM_RESAMPLES, num_blocks)."""
    counts = np.random.default_rng(0).multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), size=NUM_RESAMPLES)
    return counts.astype(np.float64)  # for a product in BLAS


def compute_explained_share(values: Sequence[str], metric: NDArray[np.float64]) -> float:
    """Compute the share of the variance of a metric's ranks that one key explains alone: adjusted η², from 0 to 1.

    η² = Σ_g n_g (r̄_g − r̄)² / Σ (r − r̄)², adjusted for the number G of groups: 1 − (1 − η²)(n − 1)/(n − G). Ranks
    limit the effect of a diverged run.

    Args:
        values: (n,) the key's value in each run, as typed.
        metric: (n,) the metric of each run.
    """
    bins = _bin_by_quantiles(values)
    groups = [metric[bins == value] for value in np.unique(bins)]
    if len(set(metric)) == 1 or not 1 < len(groups) < len(metric):
        return 0.0
    share = stats.kruskal(*groups).statistic / (len(metric) - 1)  # Kruskal and Wallis's H is (n − 1) η² of the ranks
    return float(max(0.0, 1 - (1 - share) * (len(metric) - 1) / (len(metric) - len(groups))))


def _bin_by_quantiles(values: Sequence[str]) -> NDArray[np.generic]:
    """Bin numbers by quantiles if there are more than NUM_BINS of them. Returns texts unchanged."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return np.array(values)
    if len(set(numbers)) <= NUM_BINS:
        return numbers
    # not pandas.qcut, which puts a frequent lowest value into one bin with the next values
    borders = np.quantile(numbers, np.linspace(0, 1, NUM_BINS + 1)[1:-1])
    return np.searchsorted(borders, numbers)
