"""Results of a sweep's jobs: sets of comparable jobs, grouped by settings and ranked; test errors of the best."""

import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ratinglab.errors import UserError
from ratinglab.evaluation.metrics import MSE, MetricKind
from ratinglab.files import METRICS, RUN_RECORD
from ratinglab.inference.run import Run
from ratinglab.reports.averages import DECIMALS, mean_of
from ratinglab.runs.finished_runs import REPLICATES, FinishedRun, comparison_conditions
from ratinglab.runs.record import RunRecord, drop_undefined_metrics, read_metrics, read_record, write_metrics
from ratinglab.runs.saved_run import read_config_dir
from ratinglab.runs.storage import write_predictions
from ratinglab.runs.sweep_folder import SweepJob


class TableColumn(NamedTuple):
    """A metric of the table: its heading, its tag, and whether higher values are better."""

    label: str
    tag: str
    higher_is_better: bool = False

    def rank(self, runs: Sequence[FinishedRun]) -> tuple[float, float, float]:
        """Return a sort key for the runs of a configuration; the last one if a run lacks the metric.

        Of configurations whose means are equal as printed, the one with fewer parameters is first.
        """
        mean = mean_of(runs, self.tag)
        cost = math.inf if math.isnan(mean) else -mean if self.higher_is_better else mean
        return round(cost, DECIMALS), float(np.nan_to_num(mean_of(runs, "fit/parameters"))), cost


TEST_COLUMNS = (TableColumn("test MSE", "test/mse"), TableColumn("test RMSE", "test/rmse"))
"""Columns besides the monitored metric, if all finished jobs have them."""


class JobResult(NamedTuple):
    """A job, the record of its run (None before training begins), and its metrics ({} before it finishes)."""

    job: SweepJob
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
    def has_metrics(self) -> bool:
        """Whether the job has finished, pruned or not."""
        return self.status in ("finished", "pruned")

    @property
    def number(self) -> str:
        """The number at the start of the folder's name."""
        return self.job.folder.name.partition("-")[0]


class Group(NamedTuple):
    """Jobs that differ only in REPLICATES.

    Attributes:
        settings: the settings in which the groups differ, by key.
        results: its jobs.
        num_missing: number of seeds and folds that only other groups have finished.
    """

    settings: dict[str, str]
    results: list[JobResult]
    num_missing: int = 0

    @property
    def finished(self) -> list[JobResult]:
        """The jobs with metrics."""
        return [result for result in self.results if result.has_metrics]

    @property
    def runs(self) -> list[FinishedRun]:
        """The runs of the finished jobs."""
        return [FinishedRun(run.job.folder, run.record, run.metrics) for run in self.finished if run.record]


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
        return [result for group in self.groups for result in group.results]

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


def find_best(jobs: Sequence[SweepJob]) -> Group | None:
    """Find the best group of a sweep; None if there is none, or not all jobs are comparable."""
    sets = comparable_sets(read_results(jobs))
    return sets[0].best if len(sets) == 1 else None


def evaluate_test_rows(runs: Sequence[FinishedRun]) -> Iterator[str]:
    """Evaluate runs on their test rows, unless already done, and yield the mean of each metric as lines.

    Stores the test errors in metrics.json and predictions.parquet of each run.
    """
    metrics_of_runs = []
    for run in runs:
        metrics = run.metrics
        if not any(tag.startswith("test/") for tag in metrics):
            if (config_dir := read_config_dir(run.folder)) is not None:
                sys.path.insert(0, config_dir)  # for the run's own equation
            loaded = Run.load(run.folder)
            metrics = drop_undefined_metrics(
                metrics | loaded.evaluate(parts=("test",)) | loaded.evaluate_own_ranking(parts=("test",)),
                monitor=run.record.monitor,
            )
            if not run.record.predicts_scores:
                write_predictions(run.folder, {part: loaded.predictions(part) for part in ("val", "test")})
            write_metrics(run.folder, metrics)
        metrics_of_runs.append(metrics)
    count = "" if len(runs) == 1 else f", mean of {len(runs)} runs"
    record = runs[0].record
    for kind in dict.fromkeys(
        [*record.metric_kinds(), record.monitored_metric()]
    ):  # the monitored metric may be one of lists
        tag = f"test/{kind.name}"
        if all(tag in metrics for metrics in metrics_of_runs):
            yield f"test       {kind.label} {np.mean([metrics[tag] for metrics in metrics_of_runs]):.4f}{count}"


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
    members: defaultdict[tuple[str, ...], dict[tuple[str, ...], JobResult]] = defaultdict(dict)
    for result in results:
        place = tuple(result.job.arguments.get(key, "") for key in replicates)
        members[tuple(result.job.arguments.get(key, "") for key in settings)][place] = result
    finished = {place for by_place in members.values() for place, result in by_place.items() if result.has_metrics}
    groups = []
    for values, by_place in members.items():
        num_missing = len(finished) - sum(result.has_metrics for result in by_place.values()) if replicates else 0
        groups.append(Group(dict(zip(settings, values, strict=True)), list(by_place.values()), num_missing))
    groups.sort(key=lambda group: (group.num_missing > 0, columns[0].rank(group.runs)))
    return ComparableJobs(conditions, replicates, columns, groups)


def find_differing_keys(results: Sequence[JobResult]) -> list[str]:
    """List the arguments that differ between jobs."""
    keys = dict.fromkeys(key for result in results for key in result.job.arguments)
    return [key for key in keys if len({result.job.arguments.get(key) for result in results}) > 1]


def _columns(results: Sequence[JobResult]) -> list[TableColumn]:
    """List the monitored metric, and the test metrics that all finished jobs have."""
    finished = [result for result in results if result.has_metrics]
    kinds = {result.record.monitored_metric() for result in results if result.record is not None}
    monitor: MetricKind = next(iter(kinds), MSE)
    of_monitor = [
        TableColumn(f"{part} {monitor.label}", f"{part}/{monitor.name}", monitor.higher_is_better)
        for part in ("val", "test")
    ]
    of_test = dict.fromkeys([*TEST_COLUMNS, *of_monitor[1:]])
    return of_monitor[:1] + [
        column for column in of_test if finished and all(column.tag in result.metrics for result in finished)
    ]
