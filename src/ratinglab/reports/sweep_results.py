"""Results of a sweep's jobs: sets of comparable jobs, grouped by settings and ranked."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from ratinglab.errors import UserError
from ratinglab.evaluation.metric_kinds import MetricKind
from ratinglab.evaluation.metrics import MSE
from ratinglab.reports.averages import mean_of
from ratinglab.reports.groups import Group, JobResult, TableColumn, rank_groups
from ratinglab.runs.finished_runs import REPLICATES, comparison_conditions
from ratinglab.runs.record import read_metrics, read_record
from ratinglab.runs.run_files import METRICS, RUN_RECORD
from ratinglab.runs.sweep_folder import SweepJob

TEST_COLUMNS = (TableColumn("test MSE", "test/mse"), TableColumn("test RMSE", "test/rmse"))
"""Columns besides the monitored metric, if all finished jobs have them."""


class ComparableJobs(NamedTuple):
    """Jobs with the same data, split and monitored metric.

    Attributes:
        conditions: what they have in common, by key.
        replicates: the keys of REPLICATES in which they differ.
        columns: the monitored metric, and the test metrics that all finished jobs have.
        groups: best first. Incomplete groups come last because their means cover other rows.
    """

    conditions: dict[str, str]
    replicates: list[str]
    columns: list[TableColumn]
    groups: list[Group]

    @property
    def results(self) -> list[JobResult]:
        """All jobs, in the order of the groups."""
        return [result for group in self.groups for result in group.jobs]

    @property
    def best(self) -> Group | None:
        """The group with the best validation metric; None if it is incomplete, lacks the metric or is alone."""
        first = self.groups[0]
        has_metric = not math.isnan(mean_of(first.runs, self.columns[0].tag))
        return first if first.num_missing == 0 and first.settings and has_metric else None


def read_results(jobs: Sequence[SweepJob]) -> list[JobResult]:
    """Read the records and metrics of jobs. Jobs with damaged files count as failed."""
    results = []
    for job in jobs:
        try:
            has_metrics = (job.folder / METRICS).exists()
            record = read_record(job.folder) if has_metrics or (job.folder / RUN_RECORD).exists() else None
            results.append(JobResult(job, record, read_metrics(job.folder) if has_metrics else {}))
        except UserError as error:
            results.append(JobResult(job._replace(failure=str(error)), None, {}))
    return results


def comparable_sets(results: Sequence[JobResult]) -> list[ComparableJobs]:
    """Divide jobs into comparable sets. Jobs that have not started training join the first set."""
    first = next((comparison_conditions(result.record) for result in results if result.record is not None), {})
    sets: defaultdict[tuple[tuple[str, str], ...], list[JobResult]] = defaultdict(list)
    for result in results:
        conditions = first if result.record is None else comparison_conditions(result.record)
        sets[tuple(conditions.items())].append(result)
    return [_group(members, dict(items)) for items, members in sets.items()]


def _group(results: Sequence[JobResult], conditions: dict[str, str]) -> ComparableJobs:
    """Group jobs by their settings, and rank the groups by the monitored metric."""
    keys, columns = find_differing_keys(results), _columns(results)
    replicates, settings = [key for key in keys if key in REPLICATES], [key for key in keys if key not in REPLICATES]
    groups = group_jobs(results, settings=settings, replicates=replicates)
    return ComparableJobs(conditions, replicates, columns, rank_groups(groups, columns[0]))


def group_jobs(results: Sequence[JobResult], *, settings: Sequence[str], replicates: Sequence[str]) -> list[Group]:
    """Group jobs by the arguments `settings`. Of jobs that also agree in the `replicates`, the last counts."""
    by_settings: defaultdict[tuple[str, ...], dict[tuple[str, ...], JobResult]] = defaultdict(dict)
    for result in results:
        arguments = result.job.arguments
        replicate = tuple(arguments.get(key, "") for key in replicates)
        by_settings[tuple(arguments.get(key, "") for key in settings)][replicate] = result
    finished = {
        replicate for members in by_settings.values() for replicate, result in members.items() if result.run is not None
    }
    groups = []
    for values, members in by_settings.items():
        runs = [result.run for result in members.values() if result.run is not None]
        num_missing = len(finished) - len(runs) if replicates else 0
        groups.append(Group(dict(zip(settings, values, strict=True)), runs, num_missing, list(members.values())))
    return groups


def find_differing_keys(results: Sequence[JobResult]) -> list[str]:
    """List the arguments that differ between jobs."""
    keys = dict.fromkeys(key for result in results for key in result.job.arguments)
    return [key for key in keys if len({result.job.arguments.get(key) for result in results}) > 1]


def _columns(results: Sequence[JobResult]) -> list[TableColumn]:
    """List the monitored metric, and the test metrics that all finished jobs have."""
    records = [result.record for result in results if result.record is not None]
    finished = [result.run for result in results if result.run is not None]
    monitor: MetricKind = records[0].monitored_metric() if records else MSE
    monitor_columns = [
        TableColumn(f"{part} {monitor.label}", f"{part}/{monitor.name}", monitor.higher_is_better)
        for part in ("val", "test")
    ]
    test_columns = dict.fromkeys([*TEST_COLUMNS, monitor_columns[1]])
    return monitor_columns[:1] + [
        column for column in test_columns if finished and all(column.tag in run.metrics for run in finished)
    ]
