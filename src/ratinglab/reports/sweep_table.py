"""Tables of a sweep's runs: on the terminal, and as files in the sweep's folder."""

import csv
import io
import math
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ratinglab.evaluation.metrics import MSE, MetricKind
from ratinglab.files import RUN_RECORD, write_whole
from ratinglab.reports.protocols import table_of_folds
from ratinglab.reports.text_table import aligned, latex, markdown
from ratinglab.runs.record import read_metrics, read_record
from ratinglab.runs.sweep_folder import SAVED, Job, config_dir_of, short_number

FOLD = "split.fold"
"""The only key in which the runs of a cross-validation differ."""
AXES = (FOLD, "seed", "split.seed")
"""Keys over which runs are averaged."""
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
    """A job and its metrics by tag; {} if it has not finished."""

    job: Job
    metrics: dict[str, float]

    @property
    def status(self) -> str:
        """Return finished, failed or stopped."""
        return "failed" if self.job.failure is not None else "finished" if self.metrics else "stopped"

    def values(self, column: Column) -> list[float]:
        """Return the metric of a column in a list; an empty one if the job lacks it."""
        return [self.metrics[column.tag]] if column.tag in self.metrics else []


class SweepTable(NamedTuple):
    """Lines for the terminal, and the contents of files for the sweep's folder, by name."""

    lines: list[str]
    files: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write the files."""
        for name, text in self.files.items():
            write_whole(folder / name, partial(_put, text=text))


def sweep_table(jobs: Sequence[Job]) -> SweepTable:
    """Tabulate the jobs with the arguments in which they differ, best monitored validation metric first.

    Jobs that differ only in AXES share a row: their number, and each metric's mean with its 95 % confidence interval.
    If all jobs do, the table has a row for each and ends with their mean and spread. The lines are the table, the
    reasons of failed jobs, and the command that trains the best configuration. The files are:

    results.csv: a row per job in the order of the jobs: arguments, status, reason of a failure, all metrics.
    results.md, results.tex: the table in Markdown and LaTeX, with the best row in bold.
    best.yaml: the configuration of the best run, or of the first in the best group.
    """
    results = [JobResult(job, _metrics(job.folder)) for job in jobs]
    keys, columns = _differing(jobs), _columns(results)
    axes = [key for key in keys if key in AXES]
    settings = [key for key in keys if key not in AXES]
    best = None
    if not any(column.tag in result.metrics for column in columns[:1] for result in results):
        table = _table_of_jobs(results, keys, columns)  # no validation rows: test errors must not choose
    elif settings and axes:
        best, table = _table_of_groups(results, settings, axes, columns)
    elif settings:
        ranked = sorted(results, key=lambda result: columns[0].rank(result.values(columns[0])))
        best, table = ranked[0].job, _table_of_jobs(ranked, keys, columns)
    else:
        table = [*_table_of_jobs(results, keys, columns), *_mean_and_spread(results, keys, columns)]
    bold = None if best is None else 1
    files = {"results.csv": _csv(results, keys)}
    for name, form in (("results.md", markdown), ("results.tex", latex)):
        files[name] = "".join(f"{line}\n" for line in form(table, bold=bold))
    lines = [*aligned(table), *_failures(results)]
    if keys == [FOLD]:
        lines += _beside_figures([job.folder for job in jobs])
    if best is not None:
        files["best.yaml"] = (best.folder / SAVED / "config.yaml").read_text(encoding="utf-8")
        lines.append(_best_command(best, axes, has_test=any("test/mse" in result.metrics for result in results)))
    return SweepTable(lines, files)


def _best_command(best: Job, axes: Sequence[str], *, has_test: bool) -> str:
    """Return the line with the command that trains the best configuration and evaluates it on the test rows."""
    arguments = {key: value for key, value in best.arguments.items() if key not in axes}
    if not has_test:
        arguments["test"] = "true"
    config_dir = config_dir_of(best.folder)
    typed = [f"{key}={value}" for key, value in arguments.items()]
    typed = typed if config_dir is None else ["--config-dir", config_dir, *typed]
    return f"best       python {shlex.join([str(Path(sys.argv[0]).with_name('train.py')), *typed])}"


def _metrics(folder: Path) -> dict[str, float]:
    return read_metrics(folder) if (folder / "metrics.json").exists() else {}


def _differing(jobs: Sequence[Job]) -> list[str]:
    """List the arguments that are not the same in all jobs."""
    keys = dict.fromkeys(key for job in jobs for key in job.arguments)
    return [key for key in keys if len({job.arguments.get(key) for job in jobs}) > 1]


def _columns(results: Sequence[JobResult]) -> list[Column]:
    """List the monitored metric, and the test metrics that a job has."""
    monitor = _monitored([result.job.folder for result in results])
    columns = [Column(f"val {monitor.label}", f"val/{monitor.name}", monitor.higher_is_better)]
    return columns + [
        Column(label, tag) for label, tag in TEST_COLUMNS.items() if any(tag in result.metrics for result in results)
    ]


def _monitored(folders: Sequence[Path]) -> MetricKind:
    """Find the metric that the runs monitor; MSE if they monitor different ones or none has a record."""
    records = [read_record(folder) for folder in folders if (folder / RUN_RECORD).exists()]
    metrics = {record.monitored() for record in records}
    return metrics.pop() if len(metrics) == 1 else MSE


def _table_of_jobs(results: Sequence[JobResult], keys: Sequence[str], columns: Sequence[Column]) -> list[list[str]]:
    """Tabulate one row per job, below a head. A job that has not finished shows its status."""
    rows = [[*keys, *(column.label for column in columns), "run"]]
    for result in results:
        arguments = [short_number(result.job.arguments.get(key, "")) for key in keys]
        cells = [f"{result.metrics[column.tag]:.4f}" if column.tag in result.metrics else "" for column in columns]
        if result.status != "finished":
            cells[0] = result.status
        rows.append([*arguments, *cells, result.job.folder.name])
    return rows


def _mean_and_spread(results: Sequence[JobResult], keys: Sequence[str], columns: Sequence[Column]) -> list[list[str]]:
    """Average each column over the jobs; blank unless every job has the metric."""
    blank = [""] * (len(keys) - 1)
    mean, spread = ["mean", *blank], ["± s.d.", *blank]
    for column in columns:
        values = np.array([result.metrics.get(column.tag, math.nan) for result in results])
        complete = len(values) > 1 and not np.isnan(values).any()
        mean.append(f"{values.mean():.4f}" if complete else "")
        spread.append(f"{values.std(ddof=1):.4f}" if complete else "")
    return [[*mean, ""], [*spread, ""]] if keys else []


def _table_of_groups(
    results: Sequence[JobResult], settings: Sequence[str], axes: Sequence[str], columns: Sequence[Column]
) -> tuple[Job | None, list[list[str]]]:
    """Tabulate one row per group of jobs with the same settings, best mean of the first column first.

    A group without a seed or fold that another group has finished is listed last: its mean covers others.

    Returns:
        The first job of the best group, if that is complete; and the rows below a head.
    """
    groups: defaultdict[tuple[str, ...], dict[tuple[str, ...], JobResult]] = defaultdict(dict)
    finished = set()
    for result in results:
        place = tuple(result.job.arguments.get(key, "") for key in axes)
        groups[tuple(result.job.arguments.get(key, "") for key in settings)][place] = result
        if result.status == "finished":
            finished.add(place)
    rows = []
    for values, members in groups.items():
        done = [result for result in members.values() if result.status == "finished"]
        count = str(len(done)) if len(done) == len(finished) else f"{len(done)} of {len(finished)}"
        found = [[value for result in done for value in result.values(column)] for column in columns]
        cells = [*map(short_number, values), count, *map(_with_interval, found)]
        rows.append(((len(done) < len(finished), columns[0].rank(found[0])), next(iter(members.values())).job, cells))
    rows.sort(key=lambda row: row[0])
    (lacks_jobs, _), best, _ = rows[0]
    head = [*settings, "runs", *(f"{column.label} ± 95 %" for column in columns)]
    return (None if lacks_jobs else best), [head, *(cells for *_, cells in rows)]


def _with_interval(values: Sequence[float]) -> str:
    """Format a mean with the half-width of its 95 % confidence interval, by Student's t; blank without values."""
    if not values or np.isnan(values).any():
        return ""
    if len(values) == 1:
        return f"{values[0]:.4f}"
    from scipy import stats  # 0.5 s, which only groups need

    half_width = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{np.mean(values):.4f} ± {half_width:.4f}"


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


def _put(file: BinaryIO, *, text: str) -> None:
    file.write(text.encode())


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
