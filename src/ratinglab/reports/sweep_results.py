"""Results of a sweep's jobs: which can be compared, grouped by settings, best first."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ratinglab.evaluation.metrics import MSE, MetricKind
from ratinglab.files import RUN_RECORD
from ratinglab.reports.finished_runs import AXES, FinishedRun, basis
from ratinglab.runs.record import RunRecord, read_metrics, read_record
from ratinglab.runs.sweep_folder import Job

TEST_COLUMNS = {"test MSE": "test/mse", "test RMSE": "test/rmse"}


class Column(NamedTuple):
    """A metric of the table: its heading, its tag, and whether higher values are better."""

    label: str
    tag: str
    higher_is_better: bool = False

    def rank(self, values: Sequence[float]) -> float:
        """Return a number by which to sort: lower is better, infinite without values or with one that is undefined."""
        mean = float(np.mean(values)) if values else math.nan
        return math.inf if math.isnan(mean) else -mean if self.higher_is_better else mean


class JobResult(NamedTuple):
    """A job with the record of its run, None if it has not begun to train, and its metrics, {} if not finished."""

    job: Job
    record: RunRecord | None
    metrics: dict[str, float]

    @property
    def status(self) -> str:
        """Return finished, pruned, failed or stopped."""
        if self.job.failure is not None:
            return "failed"
        if not self.metrics:
            return "stopped"
        return "finished" if self.job.pruned is None else "pruned"

    @property
    def number(self) -> str:
        """The number at the start of the folder's name."""
        return self.job.folder.name.partition("-")[0]


class Group(NamedTuple):
    """Jobs of the same settings, which differ only in AXES.

    Attributes:
        settings: the settings in which the groups differ, by key.
        results: its jobs.
        num_missing: number of seeds and folds that another group has finished and this one has not.
    """

    settings: dict[str, str]
    results: list[JobResult]
    num_missing: int = 0

    @property
    def finished(self) -> list[JobResult]:
        """The jobs with metrics."""
        return [result for result in self.results if result.metrics and result.job.failure is None]

    @property
    def runs(self) -> list[FinishedRun]:
        """The runs of the finished jobs."""
        return [FinishedRun(each.job.folder, each.record, each.metrics) for each in self.finished if each.record]

    def values(self, tag: str) -> list[float]:
        """List a metric of the finished jobs; [] if one lacks it.

        With several splits, such as folds, the values of each are averaged: seeds on the same rows are not independent.
        """
        by_split: defaultdict[str, list[float]] = defaultdict(list)
        for result in self.finished:
            split = "" if result.record is None else result.record.provenance["split"]
            by_split[split].append(result.metrics.get(tag, math.nan))
        found = list(by_split.values())
        values = found[0] if len(found) == 1 else [float(np.mean(values)) for values in found]
        return [] if np.isnan(values).any() else values


class Comparison(NamedTuple):
    """Jobs with the same data, split and monitored metric.

    Attributes:
        basis: what they have in common, by name.
        axes: the keys of AXES in which they differ.
        columns: the monitored metric, and the test metrics that all finished jobs have.
        groups: best first. Groups that lack a seed or fold of others come last: their mean covers other rows.
    """

    basis: dict[str, str]
    axes: list[str]
    columns: list[Column]
    groups: list[Group]

    @property
    def results(self) -> list[JobResult]:
        """All jobs, in the order of the groups."""
        return [result for group in self.groups for result in group.results]

    @property
    def best(self) -> Group | None:
        """The best group; None if it is incomplete, or without validation rows: test errors must not choose."""
        first = self.groups[0]
        return first if first.num_missing == 0 and first.settings and first.values(self.columns[0].tag) else None


def read_results(jobs: Sequence[Job]) -> list[JobResult]:
    """Read the records and metrics of jobs."""
    return [
        JobResult(
            job,
            read_record(job.folder) if (job.folder / RUN_RECORD).exists() else None,
            read_metrics(job.folder) if (job.folder / "metrics.json").exists() else {},
        )
        for job in jobs
    ]


def find_best(jobs: Sequence[Job]) -> Group | None:
    """Find the best group of a sweep; None if there is none, or its jobs cannot all be compared."""
    parts = comparisons(read_results(jobs))
    return parts[0].best if len(parts) == 1 else None


def comparisons(results: Sequence[JobResult]) -> list[Comparison]:
    """Put the jobs that can be compared together. Jobs that have not begun to train are in the first comparison."""
    parts: defaultdict[tuple[tuple[str, str], ...], list[JobResult]] = defaultdict(list)
    for result in results:
        if result.record is not None:
            parts[tuple(basis(result.record).items())].append(result)
    unknown = [result for result in results if result.record is None]
    first = next(iter(parts), ())
    parts[first] = [result for result in results if result in parts[first] or result in unknown]
    return [_compare(members, dict(common)) for common, members in parts.items()]


def _compare(results: Sequence[JobResult], common: dict[str, str]) -> Comparison:
    """Group jobs by their settings, and rank the groups by the monitored metric."""
    keys, columns = differing([result.job for result in results]), _columns(results)
    axes, settings = [key for key in keys if key in AXES], [key for key in keys if key not in AXES]
    members: defaultdict[tuple[str, ...], dict[tuple[str, ...], JobResult]] = defaultdict(dict)
    finished: set[tuple[str, ...]] = set()
    for result in results:
        place = tuple(result.job.arguments.get(key, "") for key in axes)
        members[tuple(result.job.arguments.get(key, "") for key in settings)][place] = result
        if result.status == "finished":
            finished.add(place)
    groups = []
    for values, by_place in members.items():
        group = Group(dict(zip(settings, values, strict=True)), list(by_place.values()))
        groups.append(group._replace(num_missing=max(len(finished) - len(group.finished), 0)))
    column = columns[0]
    groups.sort(key=lambda group: (group.num_missing > 0 and bool(axes), column.rank(group.values(column.tag))))
    return Comparison(common, axes, columns, groups)


def differing(jobs: Sequence[Job]) -> list[str]:
    """List the arguments that are not the same in all jobs."""
    keys = dict.fromkeys(key for job in jobs for key in job.arguments)
    return [key for key in keys if len({job.arguments.get(key) for job in jobs}) > 1]


def _columns(results: Sequence[JobResult]) -> list[Column]:
    """List the monitored metric, and the test metrics that all finished jobs have."""
    finished = [result for result in results if result.metrics]
    kinds = {result.record.monitored() for result in results if result.record is not None}
    monitor: MetricKind = next(iter(kinds), MSE)
    columns = [Column(f"val {monitor.label}", f"val/{monitor.name}", monitor.higher_is_better)]
    return columns + [
        Column(label, tag)
        for label, tag in TEST_COLUMNS.items()
        if finished and all(tag in result.metrics for result in finished)
    ]
