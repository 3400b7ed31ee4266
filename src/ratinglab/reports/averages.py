"""Means of metrics and curves over runs that differ only in seed or fold, with their 95% confidence intervals."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from ratinglab.errors import UserError
from ratinglab.reports.paired_tests import compute_evaluated_share, corrected_t, group_by_split
from ratinglab.runs.finished_runs import FinishedRun
from ratinglab.runs.learning_curves import Curve

DECIMALS = 4
"""Decimals of a printed metric."""
HALF_WIDTH_HEADER = "± 95%"
"""Header of a column of half-widths."""


def values_of(runs: Sequence[FinishedRun], tag: str) -> list[float]:
    """List the values of a metric to average, one per run. Returns [] if a run lacks the metric.

    With several splits, such as folds, there is one value per split, the mean over its runs, because runs on the same
    rows are not independent.
    """
    if not all(tag in run.metrics for run in runs):
        return []
    by_split = [[run.metrics[tag] for run in members] for members in group_by_split(runs).values()]
    return by_split[0] if len(by_split) == 1 else [float(np.mean(values)) for values in by_split]


def mean_of(runs: Sequence[FinishedRun], tag: str) -> float:
    """Average a metric over the runs. Returns NaN if a run lacks it."""
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


def format_metric(value: float) -> str:
    """Format a metric. Returns "" for NaN."""
    return "" if math.isnan(value) else f"{value:.{DECIMALS}f}"


def explain_intervals(groups: Iterable[Sequence[FinishedRun]], tag: str) -> list[str]:
    """Describe the intervals of the groups, one line per method."""
    counts = [len(group_by_split(runs)) for runs in groups if len(values_of(runs, tag)) > 1]
    methods = {"Student's t over seeds": 1 in counts}
    methods["Nadeau and Bengio's corrected t over splits"] = any(count > 1 for count in counts)
    return [
        f"half-width of the mean's 95% confidence interval, by {name}" for name, is_used in methods.items() if is_used
    ]


def average_curves(curves: Sequence[Curve]) -> pd.DataFrame:
    """Average curves over the epochs that all curves have, with a band around the mean.

    The band is the 95% confidence interval of the mean, by Student's t. With two curves, it is their range.

    Returns:
        Columns mean, low and high, float64; indexed by epoch. The mean ends with the shortest curve, because it would
        jump where a curve ends.
    """
    table = pd.concat([pd.Series(curve, dtype=np.float64) for curve in curves], axis=1, join="inner").sort_index()
    values, mean = table.to_numpy(), table.mean(axis=1)
    if len(curves) < 3:
        return pd.DataFrame({"mean": mean, "low": values.min(axis=1), "high": values.max(axis=1)})
    half_width = stats.t.ppf(0.975, len(curves) - 1) * stats.sem(values, axis=1)
    return pd.DataFrame({"mean": mean, "low": mean - half_width, "high": mean + half_width})
