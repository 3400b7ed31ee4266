"""Groups of runs that differ only in seed and fold: their ranking, paired tests, and the groups of a sweep's jobs.

`comparison` groups runs by all recorded settings, because the runs may come from anywhere. `divide_jobs` groups the
jobs of a sweep by the arguments in which they differ, and counts the jobs that are missing.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ratinglab.evaluation.metric_kinds import MetricKind
from ratinglab.evaluation.metrics import MSE, RMSE
from ratinglab.options import as_yaml
from ratinglab.reports.statistics import (
    HALF_WIDTH_HEADER,
    PairedDifference,
    group_by_split,
    half_width_of,
    mean_of,
    paired_difference,
    values_of,
)
from ratinglab.reports.table_layout import METRIC_DECIMALS, format_metric
from ratinglab.runs.finished_runs import FinishedRun
from ratinglab.runs.record import RunRecord
from ratinglab.runs.run_files import PRUNED
from ratinglab.runs.sweep_folder import SweepJob

FOLD = "split.fold"
REPLICATES = (FOLD, "seed", "split.seed")
"""Keys over which runs are averaged."""
DIFFERENT_TABLES = "note: rows of different tables are not compared: their data, splits or monitored metrics differ"


class Group(NamedTuple):
    """Runs that differ only in REPLICATES: seed, split.seed or split.fold.

    Attributes:
        settings: the settings in which the groups of a table differ, by key.
        runs: the finished runs.
        num_missing: number of missing runs: seeds or folds that other groups have.
        jobs: all jobs of the group, finished or not. Empty if the runs are not jobs of a sweep.
        behind: difference from the best testable group, or None if it was not tested.
    """

    settings: dict[str, str]
    runs: list[FinishedRun]
    num_missing: int = 0
    jobs: Sequence[SweepJob] = ()
    behind: PairedDifference | None = None

    @property
    def is_pruned(self) -> bool:
        """Whether a sweep has pruned one of the runs."""
        return any((run.folder / PRUNED).is_file() for run in self.runs)

    @property
    def is_testable(self) -> bool:
        """Whether the group can be tested against others, because no run is missing or pruned."""
        return self.num_missing == 0 and not self.is_pruned


def rank_groups(groups: Sequence[Group], metric: MetricKind) -> list[Group]:
    """Sort groups by the mean of a metric, named by its tag, best first.

    If printed means are equal, the group with fewer parameters comes first. Groups without the metric follow. Groups
    with missing runs come last, because their means cover different rows.
    """

    def sort_key(group: Group) -> tuple[bool, float, float, float]:
        mean = mean_of(group.runs, metric.name)
        cost = math.inf if math.isnan(mean) else -mean if metric.higher_is_better else mean
        parameters = float(np.nan_to_num(mean_of(group.runs, "fit/parameters")))
        return group.num_missing > 0, round(cost, METRIC_DECIMALS), parameters, cost

    return sorted(groups, key=sort_key)


def compare_with_best(groups: Sequence[Group], metric: MetricKind) -> list[Group]:
    """Test how far ranked groups are behind the best testable one in a metric, named by its tag.

    Returns the groups with `behind`, which stays None for groups that `paired_difference` cannot compare.
    """
    best = next((group for group in groups if group.is_testable), None)
    compared = []
    for group in groups:
        behind = None
        if best is not None and group is not best and group.is_testable:
            behind = paired_difference(best.runs, group.runs, metric)
        compared.append(group._replace(behind=behind))
    return compared


def explain_columns(groups: Sequence[Group], tag: str) -> Iterator[str]:
    """Explain the columns of intervals and of differences from the best group, one line per method and test."""
    counts = [len(group_by_split(group.runs)) for group in groups if len(values_of(group.runs, tag)) > 1]
    text = f"{HALF_WIDTH_HEADER:10} half-width of the mean's 95% confidence interval, by"
    if 1 in counts:
        yield f"{text} Student's t over seeds"
    if any(count > 1 for count in counts):
        yield f"{text} Nadeau and Bengio's corrected t over splits"
    best = "the best that was not pruned" if groups[0].is_pruned else "the best"
    tests = dict.fromkeys(group.behind.test for group in groups if group.behind is not None)
    yield from (f"behind     difference from {best} and its 95% interval, by {test}" for test in tests)


def comparison_conditions(record: RunRecord) -> dict[str, str]:
    """Collect what comparable runs share, by key: data, split except fold and seed, and monitored metric."""
    conditions = {
        "data": record.provenance["data"],
        "data_digest": record.provenance["data_digest"],
        **{key: value for key, value in record.split.items() if key not in (*REPLICATES, "split.refit")},
        **record.monitor_settings(),
    }
    return {key: as_yaml(value) for key, value in conditions.items()}


def describe_conditions(conditions: dict[str, str], *, among: list[dict[str, str]]) -> str:
    """Describe the conditions of a comparison: data, split, and other values that vary `among` all conditions."""
    varying = [key for key in conditions if len({other.get(key) for other in among}) > 1]
    options = [f"{key}={conditions[key]}" for key in varying if key not in ("data", "split")]
    return ", ".join([conditions["data"], f"split {conditions['split']}", *options])


class ComparableJobs(NamedTuple):
    """Jobs with the same data, split and monitored metric.

    Attributes:
        conditions: data, split and monitored metric, by key.
        replicates: the keys of REPLICATES in which the jobs differ.
        columns: the monitored metric, and the test metrics that all finished jobs have, named by their tags.
        groups: the groups in the order of `rank_groups`, best first.
    """

    conditions: dict[str, str]
    replicates: list[str]
    columns: list[MetricKind]
    groups: list[Group]

    @property
    def members(self) -> list[SweepJob]:
        """All jobs, in the order of the groups."""
        return [job for group in self.groups for job in group.jobs]

    @property
    def best(self) -> Group | None:
        """The group with the best validation metric. None if it is incomplete, has no metric or is the only one."""
        first = self.groups[0]
        has_metric = not math.isnan(mean_of(first.runs, self.columns[0].name))
        return first if first.num_missing == 0 and first.settings and has_metric else None


def divide_jobs(jobs: Sequence[SweepJob]) -> list[ComparableJobs]:
    """Divide jobs into comparable sets, group each set by settings, and rank the groups by monitored metric.

    Jobs that have not started training join the first set.
    """
    first = next((comparison_conditions(job.record) for job in jobs if job.record is not None), {})
    sets: defaultdict[tuple[tuple[str, str], ...], list[SweepJob]] = defaultdict(list)
    for job in jobs:
        conditions = first if job.record is None else comparison_conditions(job.record)
        sets[tuple(conditions.items())].append(job)
    divided = []
    for items, members in sets.items():
        keys = find_differing_keys(members)
        monitor: MetricKind = next((job.record.monitored_metric() for job in members if job.record is not None), MSE)
        columns = list_columns(monitor, [job.run for job in members if job.run is not None], quantifier=all)
        settings = [key for key in keys if key not in REPLICATES]
        replicates = [key for key in keys if key in REPLICATES]
        groups = rank_groups(group_jobs(members, settings=settings, replicates=replicates), columns[0])
        divided.append(ComparableJobs(dict(items), replicates, columns, groups))
    return divided


def group_jobs(jobs: Sequence[SweepJob], *, settings: Sequence[str], replicates: Sequence[str]) -> list[Group]:
    """Group jobs by the arguments `settings`. If jobs also agree in the `replicates`, the last one counts."""
    by_settings: defaultdict[tuple[str, ...], dict[tuple[str, ...], SweepJob]] = defaultdict(dict)
    for job in jobs:
        arguments = job.arguments
        replicate = tuple(arguments.get(key, "") for key in replicates)
        by_settings[tuple(arguments.get(key, "") for key in settings)][replicate] = job
    finished = {
        replicate for members in by_settings.values() for replicate, job in members.items() if job.run is not None
    }
    groups = []
    for values, members in by_settings.items():
        runs = [job.run for job in members.values() if job.run is not None]
        num_missing = len(finished) - len(runs) if replicates else 0
        groups.append(Group(dict(zip(settings, values, strict=True)), runs, num_missing, list(members.values())))
    return groups


def find_differing_keys(jobs: Sequence[SweepJob]) -> list[str]:
    """List the arguments that differ between jobs."""
    keys = dict.fromkeys(key for job in jobs for key in job.arguments)
    return [key for key in keys if len({job.arguments.get(key) for job in jobs}) > 1]


def list_columns(
    monitor: MetricKind, runs: Sequence[FinishedRun], *, quantifier: Callable[[Iterable[bool]], bool]
) -> list[MetricKind]:
    """List the monitored validation metric and, if `any` or `all` of the runs have them, the test metrics.

    These are MSE, RMSE and the monitored metric.
    """
    kinds = {kind.name: kind for kind in (MSE, RMSE, monitor)}
    columns = [kind.of_part("test") for kind in kinds.values()]
    shown = [column for column in columns if runs and quantifier(column.name in run.metrics for run in runs)]
    return [monitor.of_part("val"), *shown]


def format_metrics(runs: Sequence[FinishedRun], columns: Sequence[MetricKind]) -> list[str]:
    """Format the mean of each metric over runs, and half its interval's width. Empty for a metric that a run lacks."""
    averages = [(mean_of(runs, column.name), half_width_of(runs, column.name)) for column in columns]
    return [" ± ".join(filter(None, map(format_metric, average))) for average in averages]
