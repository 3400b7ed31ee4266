"""Results of the jobs of one sweep: sets of comparable jobs, grouped by the arguments in which they differ."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from ratinglab.evaluation.metric_kinds import MetricKind
from ratinglab.evaluation.metrics import MSE
from ratinglab.reports.averages import mean_of
from ratinglab.reports.groups import Group, rank_groups
from ratinglab.runs.finished_runs import REPLICATES, comparison_conditions
from ratinglab.runs.sweep_folder import SweepJob

TEST_COLUMNS = (
    MetricKind("test/mse", "test MSE", higher_is_better=False),
    MetricKind("test/rmse", "test RMSE", higher_is_better=False),
)
"""Columns besides the monitored metric, if all finished jobs have them."""


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
        """The group with the best validation metric. None if it is incomplete, lacks the metric or is the only one."""
        first = self.groups[0]
        has_metric = not math.isnan(mean_of(first.runs, self.columns[0].name))
        return first if first.num_missing == 0 and first.settings and has_metric else None


def divide_jobs(jobs: Sequence[SweepJob]) -> list[ComparableJobs]:
    """Divide jobs into comparable sets. Jobs that have not started training join the first set."""
    first = next((comparison_conditions(job.record) for job in jobs if job.record is not None), {})
    sets: defaultdict[tuple[tuple[str, str], ...], list[SweepJob]] = defaultdict(list)
    for job in jobs:
        conditions = first if job.record is None else comparison_conditions(job.record)
        sets[tuple(conditions.items())].append(job)
    return [_group(members, dict(items)) for items, members in sets.items()]


def _group(jobs: Sequence[SweepJob], conditions: dict[str, str]) -> ComparableJobs:
    """Group jobs by their settings, and rank the groups by the monitored metric."""
    keys, columns = find_differing_keys(jobs), _columns(jobs)
    replicates, settings = [key for key in keys if key in REPLICATES], [key for key in keys if key not in REPLICATES]
    groups = group_jobs(jobs, settings=settings, replicates=replicates)
    return ComparableJobs(conditions, replicates, columns, rank_groups(groups, columns[0]))


def group_jobs(jobs: Sequence[SweepJob], *, settings: Sequence[str], replicates: Sequence[str]) -> list[Group]:
    """Group jobs by the arguments `settings`. Of jobs that also agree in the `replicates`, the last counts."""
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


def _columns(jobs: Sequence[SweepJob]) -> list[MetricKind]:
    """List the monitored metric, and the test metrics that all finished jobs have."""
    records = [job.record for job in jobs if job.record is not None]
    finished = [job.run for job in jobs if job.run is not None]
    monitor: MetricKind = records[0].monitored_metric() if records else MSE
    monitor_columns = [
        MetricKind(f"{part}/{monitor.name}", f"{part} {monitor.label}", monitor.higher_is_better)
        for part in ("val", "test")
    ]
    test_columns = dict.fromkeys([*TEST_COLUMNS, monitor_columns[1]])
    return monitor_columns[:1] + [
        column for column in test_columns if finished and all(column.name in run.metrics for run in finished)
    ]
