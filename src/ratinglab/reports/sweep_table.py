"""Tables of a sweep's runs: on the terminal, and as files in the sweep's folder."""

import csv
import io
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ratinglab.evaluation.metrics import MSE, MetricKind
from ratinglab.files import RUN_RECORD, write_whole
from ratinglab.reports.protocols import table_of_folds
from ratinglab.reports.text_table import aligned, markdown
from ratinglab.runs.record import read_metrics, read_record
from ratinglab.runs.sweep_folder import Job

FOLD = "split.fold"
"""The only key in which the runs of a cross-validation differ."""
TEST_COLUMNS = {"test MSE": "test/mse", "test RMSE": "test/rmse"}


class JobResult(NamedTuple):
    """A job and its metrics by tag; {} if it has not finished."""

    job: Job
    metrics: dict[str, float]

    @property
    def status(self) -> str:
        """Return finished, failed or stopped."""
        return "failed" if self.job.failure is not None else "finished" if self.metrics else "stopped"


class Column(NamedTuple):
    """A metric of the table: its heading, its tag, and whether higher values are better."""

    label: str
    tag: str
    higher_is_better: bool = False


def write_sweep_table(folder: Path, jobs: Sequence[Job]) -> Iterator[str]:
    """Tabulate the jobs with the arguments in which they differ, best monitored validation metric first.

    If they differ only in split.fold, the table is a cross-validation and ends with a mean and a spread. Yields the
    table, the reasons of failed jobs, and the command that trains the best configuration. Writes to the folder:

    results.csv: a row per job in the order of the jobs: arguments, status, reason of a failure, all metrics.
    results.md: the table in Markdown.
    best.yaml: the configuration of the best run.
    """
    results = [JobResult(job, _metrics(job.folder)) for job in jobs]
    keys = _differing(jobs)
    columns = _columns(results)
    ranked = results if keys == [FOLD] else _ranked(results, columns)
    head, rows = [*keys, *(column.label for column in columns), "run"], _rows(ranked, keys, columns)
    if keys == [FOLD]:
        rows += _mean_and_spread(results, columns)
    _write(folder / "results.csv", _csv(results, keys))
    _write(folder / "results.md", "".join(f"{line}\n" for line in markdown([head, *rows])))
    yield from aligned([head, *rows])
    yield from _failures(results)
    if keys == [FOLD]:
        yield from _beside_figures([job.folder for job in jobs])
    elif keys and columns and ranked[0].status == "finished":
        best = ranked[0].job
        _write(folder / "best.yaml", (best.folder / ".hydra" / "config.yaml").read_text(encoding="utf-8"))
        typed = [f"{key}={value}" for key, value in best.arguments.items()]
        yield f"best       python {shlex.join([sys.argv[0], *typed])}"


def _metrics(folder: Path) -> dict[str, float]:
    return read_metrics(folder) if (folder / "metrics.json").exists() else {}


def _differing(jobs: Sequence[Job]) -> list[str]:
    """List the arguments that are not the same in all jobs."""
    keys = dict.fromkeys(key for job in jobs for key in job.arguments)
    return [key for key in keys if len({job.arguments.get(key) for job in jobs}) > 1]


def _columns(results: Sequence[JobResult]) -> list[Column]:
    """List the monitored metric and the test metrics, without those that no job has."""
    monitor = _monitored([result.job.folder for result in results])
    columns = [Column(f"val {monitor.label}", f"val/{monitor.name}", monitor.higher_is_better)]
    columns += [Column(label, tag) for label, tag in TEST_COLUMNS.items()]
    return [column for column in columns if any(column.tag in result.metrics for result in results)]


def _monitored(folders: Sequence[Path]) -> MetricKind:
    """Find the metric that the runs monitor; MSE if they monitor different ones or none has a record."""
    records = [read_record(folder) for folder in folders if (folder / RUN_RECORD).exists()]
    metrics = {record.monitored() for record in records}
    return metrics.pop() if len(metrics) == 1 else MSE


def _ranked(results: Sequence[JobResult], columns: Sequence[Column]) -> list[JobResult]:
    """Sort finished jobs by the first column, best first, and put the others at the end."""
    if not columns:
        return list(results)
    tag, sign = columns[0].tag, -1 if columns[0].higher_is_better else 1
    return sorted(results, key=lambda result: sign * result.metrics.get(tag, sign * math.inf))


def _rows(results: Sequence[JobResult], keys: Sequence[str], columns: Sequence[Column]) -> list[list[str]]:
    rows = []
    for result in results:
        cells = [f"{result.metrics[column.tag]:.4f}" if column.tag in result.metrics else "" for column in columns]
        if cells and result.status != "finished":
            cells[0] = result.status
        arguments = [result.job.arguments.get(key, "") for key in keys]
        rows.append([*arguments, *cells, result.job.folder.name])
    return rows


def _mean_and_spread(results: Sequence[JobResult], columns: Sequence[Column]) -> list[list[str]]:
    """Average each column over the folds; blank unless every fold has the metric."""
    mean, spread = ["mean"], ["± s.d."]
    for column in columns:
        values = np.array([result.metrics.get(column.tag, math.nan) for result in results])
        complete = not np.isnan(values).any()
        mean.append(f"{values.mean():.4f}" if complete else "")
        spread.append(f"{values.std(ddof=1):.4f}" if complete else "")
    return [[*mean, ""], [*spread, ""]]


def _failures(results: Sequence[JobResult]) -> Iterator[str]:
    for result in results:
        if result.job.failure is not None:
            yield f"failed     {result.job.folder.name}: {result.job.failure}"


def _csv(results: Sequence[JobResult], keys: Sequence[str]) -> str:
    """Format one row per job; a metric that a job lacks is blank."""
    tags = list(dict.fromkeys(tag for result in results for tag in result.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "status", "reason", *keys, *tags])
    for result in results:
        job, metrics = result.job, result.metrics
        arguments = [job.arguments.get(key, "") for key in keys]
        writer.writerow(
            [job.folder.name, result.status, job.failure or "", *arguments, *(metrics.get(tag, "") for tag in tags)]
        )
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write(text.encode()))


def _beside_figures(folders: Sequence[Path]) -> Iterator[str]:
    """Rank the mean over folds among the protocol's figures, if the runs are all of its folds."""
    if not all((folder / "metrics.json").exists() for folder in folders):
        return
    rmses = [read_metrics(folder).get("test/rmse", math.nan) for folder in folders]
    records = [read_record(folder) for folder in folders]
    protocols = [record.protocol for record in records if record.protocol is not None]
    if not protocols or np.isnan(rmses).any():
        return
    if sorted(record.fold or 0 for record in records) == list(range(1, protocols[0]["folds"] + 1)):
        yield ""
        yield from table_of_folds(protocols, name=f"{records[0].model} by {records[0].fit['optimizer']}", rmses=rmses)
