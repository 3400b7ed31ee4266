"""The table at the end of a sweep: its runs, best first, or the mean over folds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ratinglab.evaluation.metrics import MSE, MetricKind
from ratinglab.files import RUN_RECORD
from ratinglab.reports.protocols import table_of_folds
from ratinglab.reports.text_table import aligned
from ratinglab.runs.record import read_metrics, read_record

FOLD = "split.fold"
"""The only key in which the runs of a cross-validation differ."""
TEST_COLUMNS = {"test MSE": "test/mse", "test RMSE": "test/rmse"}


class Job(NamedTuple):
    """One run of a sweep: its folder and its command-line arguments."""

    folder: Path
    arguments: list[str]


def sweep_table(jobs: Sequence[Job]) -> Iterator[str]:
    """Tabulate the runs with the arguments in which they differ, best monitored metric first.

    If they differ only in split.fold, the table is a cross-validation and ends with a mean and a spread. A failed run
    has the worst value in every column.
    """
    given = [dict(argument.split("=", 1) for argument in job.arguments) for job in jobs]
    keys = [key for key in given[0] if any(one[key] != given[0][key] for one in given)]
    monitor = _monitored(jobs)
    columns = {f"val {monitor.label}": f"val/{monitor.name}", **TEST_COLUMNS}
    values = [_values(job, columns, monitor) for job in jobs]
    shown = [name for name in columns if not all(math.isnan(one[name]) for one in values)]
    rows = [
        [*(one[key] for key in keys), *(f"{value[name]:.4f}" for name in shown), job.folder.name]
        for one, value, job in zip(given, values, jobs, strict=True)
    ]
    if keys == [FOLD]:
        arrays = [np.array([value[name] for value in values]) for name in shown]
        rows.append(["mean", *(f"{array.mean():.4f}" for array in arrays), ""])
        rows.append(["± s.d.", *(f"{array.std(ddof=1):.4f}" for array in arrays), ""])
    elif shown:
        sign = -1 if monitor.higher_is_better and shown[0] not in TEST_COLUMNS else 1
        rows = [rows[n] for n in sorted(range(len(jobs)), key=lambda n: sign * values[n][shown[0]])]
    yield from aligned([[*keys, *shown, "run"], *rows])
    if keys == [FOLD]:
        yield from _beside_figures(jobs)


def _monitored(jobs: Sequence[Job]) -> MetricKind:
    """The metric that the runs monitor; MSE if they monitor different ones or none has a record."""
    records = [read_record(job.folder) for job in jobs if (job.folder / RUN_RECORD).exists()]
    metrics = {record.monitored() for record in records}
    return metrics.pop() if len(metrics) == 1 else MetricKind(MSE.name, MSE.label, MSE.higher_is_better)


def _beside_figures(jobs: Sequence[Job]) -> Iterator[str]:
    """Rank the mean over folds among the protocol's figures, if the runs are all of its folds."""
    if not all((job.folder / "metrics.json").exists() for job in jobs):
        return
    metrics = [read_metrics(job.folder) for job in jobs]
    if not all("test/rmse" in each for each in metrics):
        return
    records = [read_record(job.folder) for job in jobs]
    protocols = [record.protocol for record in records if record.protocol is not None]
    if protocols and sorted(record.fold or 0 for record in records) == list(range(1, protocols[0]["folds"] + 1)):
        rmses = [each["test/rmse"] for each in metrics]
        yield ""
        yield from table_of_folds(protocols, name=f"{records[0].model} by {records[0].fit['optimizer']}", rmses=rmses)


def _values(job: Job, columns: Mapping[str, str], monitor: MetricKind) -> dict[str, float]:
    """Values by column name; NaN if the run had no such rows."""
    if not (job.folder / "metrics.json").exists():
        return {name: monitor.worst if name not in TEST_COLUMNS else math.inf for name in columns}
    metrics = read_metrics(job.folder)
    return {name: metrics.get(tag, math.nan) for name, tag in columns.items()}
