"""The report of a sweep: lines for the terminal, and files for the sweep's folder."""

import csv
import io
import math
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from scipy import stats

from ratinglab.files import write_whole
from ratinglab.reports.figure_files import write_figures
from ratinglab.reports.finished_runs import FOLD, describe
from ratinglab.reports.importance import explained_share
from ratinglab.reports.paired_tests import PairedDifference, paired_difference
from ratinglab.reports.protocols import table_of_folds
from ratinglab.reports.sweep_results import (
    Comparison,
    Group,
    JobResult,
    comparisons,
    differing,
    read_results,
)
from ratinglab.reports.text_table import aligned, latex, markdown
from ratinglab.runs.record import read_metrics, read_record
from ratinglab.runs.sweep_folder import SAVED, Job, config_dir_of, short_number

MAX_SHOWN, NUM_BEST = 8, 5
"""The terminal shows all rows up to the first number, else as many of the best as the second."""
MIN_JOBS = 8
"""Smallest number of finished jobs in which to look for the keys that mattered."""
Rows = list[list[str]]


class SweepReport(NamedTuple):
    """Lines for the terminal, the contents of files for the sweep's folder, by name, and what they are about."""

    lines: list[str]
    files: dict[str, bytes]
    comparisons: list[Comparison]

    def write(self, folder: Path) -> None:
        """Write the files, and the figures."""
        for name, content in self.files.items():
            write_whole(folder / name, partial(_put, content=content))
        write_figures(folder, self.comparisons)


def sweep_report(jobs: Sequence[Job]) -> SweepReport:
    """Report the jobs with the arguments in which they differ, best monitored validation metric first.

    Jobs that differ only in AXES share a row: their number, and each metric's mean with its 95 % confidence interval.
    If all jobs do, the table has a row for each and ends with their mean and spread. Jobs on other data or splits get
    a table of their own. The lines are the best rows, the keys that mattered, the reasons of failed jobs, and the
    command that trains the best configuration. The files are:

    results.csv: a row per job in the order of the jobs: arguments, status, reason, all metrics.
    results.md, results.tex: all rows of the tables in Markdown and LaTeX, with the best in bold.
    groups.csv: each configuration's number of runs, and mean, s.d. and interval of each metric, if seeds or folds vary.
    comparisons.csv: each configuration beside the best one, by a paired test.
    best.yaml: the configuration of the best run, or of the first in the best group.
    """
    results = read_results(jobs)
    parts = comparisons(results)
    lines, tests, files = list[str](), list[list[str]](), {"results.csv": _csv(results)}
    texts: dict[str, list[str]] = {"results.md": [], "results.tex": []}
    for number, part in enumerate(parts):
        differences = _differences(part)
        table = _table(part, differences)
        bold = None if part.best is None else 1
        for name, form in (("results.md", markdown), ("results.tex", latex)):
            texts[name] += [*([""] if number > 0 else []), *form(table, bold=bold)]
        if len(parts) > 1:
            lines += [*([""] if number > 0 else []), describe(part.basis, [each.basis for each in parts])]
        lines += [*_best_rows(table, is_ranked=bold is not None), *_remarks(part, differences)]
        lines += _best_lines(part)
        tests += _test_rows(part, differences)
    if len(parts) > 1:
        lines.append("note: runs on other data, splits or metrics are not compared with one another")
    elif (best := parts[0].best) is not None:
        files["best.yaml"] = (best.finished[0].job.folder / SAVED / "config.yaml").read_bytes()
    if any(part.axes for part in parts):
        files["groups.csv"] = _groups_csv(parts)
    if tests:
        head = "metric best other difference low high p test".split()
        files["comparisons.csv"] = _as_csv([head, *tests])
    for name, text in texts.items():
        files[name] = "".join(f"{line}\n" for line in text).encode()
    return SweepReport(lines, files, parts)


def _differences(part: Comparison) -> dict[int, PairedDifference]:
    """Test the complete groups against the best one, by their place."""
    if part.best is None:
        return {}
    tag = part.columns[0].tag
    found = {
        place: paired_difference(part.best.runs, group.runs, tag=tag)
        for place, group in enumerate(part.groups)
        if place > 0 and group.num_missing == 0 and group.values(tag)
    }
    return {place: difference for place, difference in found.items() if difference is not None}


def _table(part: Comparison, differences: dict[int, PairedDifference]) -> Rows:
    """Tabulate a comparison below a head: a row per group, or a row per job if all jobs are in one group."""
    if not part.groups[0].settings:
        keys = differing([result.job for result in part.results])
        rows = [_job_cells(result, part) for result in part.results]
        head = [*keys, *(column.label for column in part.columns), "job"]
        return [head, *rows, *_mean_and_spread(part, keys)]
    is_grouped = bool(part.axes)
    interval = " ± 95 %" if is_grouped else ""
    first, *others = (f"{column.label}{interval}" for column in part.columns)
    behind = ["behind ± 95 %"] if differences else []
    head = [*part.groups[0].settings, *(["runs"] if is_grouped else []), first, *behind, *others]
    rows = [head if is_grouped else [*head, "job"]]
    for place, group in enumerate(part.groups):
        first, *others = _metric_cells(group, part)
        cells = [*map(short_number, group.settings.values()), *([_count(group)] if is_grouped else []), first]
        if differences:
            cells.append(differences[place].text if place in differences else "")
        rows.append([*cells, *others, *([] if is_grouped else [group.results[0].number])])
    return rows


def _metric_cells(group: Group, part: Comparison) -> list[str]:
    """Format each metric's mean, with its interval if there are several runs; the status without metrics."""
    cells = [_with_interval(group.values(column.tag)) for column in part.columns]
    statuses = {result.status for result in group.results}
    if not cells[0] and not group.finished:
        cells[0] = "failed" if "failed" in statuses else "stopped"
    elif statuses == {"pruned"}:
        cells[0] += " pruned"
    return cells


def _count(group: Group) -> str:
    """Format the number of finished jobs, and of how many if some are missing."""
    done = len(group.finished)
    return str(done) if group.num_missing == 0 else f"{done} of {done + group.num_missing}"


def _job_cells(result: JobResult, part: Comparison) -> list[str]:
    """Format one job's arguments and metrics; a job that has not finished shows its status."""
    keys = differing([each.job for each in part.results])
    arguments = [short_number(result.job.arguments.get(key, "")) for key in keys]
    cells = [f"{result.metrics[column.tag]:.4f}" if column.tag in result.metrics else "" for column in part.columns]
    if result.status != "finished":
        cells[0] = f"{cells[0]} {result.status}".strip()
    return [*arguments, *cells, result.number]


def _mean_and_spread(part: Comparison, keys: Sequence[str]) -> Rows:
    """Average each column over the jobs; blank unless every job has the metric."""
    if not keys:
        return []
    blank = [""] * (len(keys) - 1)
    mean, spread = ["mean", *blank], ["± s.d.", *blank]
    for column in part.columns:
        values = np.array([result.metrics.get(column.tag, math.nan) for result in part.results])
        complete = len(values) > 1 and not np.isnan(values).any()
        mean.append(f"{values.mean():.4f}" if complete else "")
        spread.append(f"{values.std(ddof=1):.4f}" if complete else "")
    return [[*mean, ""], [*spread, ""]]


def _with_interval(values: Sequence[float]) -> str:
    """Format a mean with the half-width of its 95 % confidence interval; blank without values."""
    if not values:
        return ""
    return f"{np.mean(values):.4f}" if len(values) == 1 else f"{np.mean(values):.4f} ± {_half_width(values):.4f}"


def _half_width(values: Sequence[float]) -> float:
    """Compute half the width of the mean's 95 % confidence interval, by Student's t."""
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def _best_rows(table: Rows, *, is_ranked: bool) -> Iterator[str]:
    """Align the table for the terminal: the best rows of a long one."""
    hidden = len(table) - 1 - NUM_BEST if is_ranked and len(table) - 1 > MAX_SHOWN else 0
    yield from aligned(table[: len(table) - hidden])
    if hidden:
        yield f"{hidden} more rows are in results.md"


def _remarks(part: Comparison, differences: dict[int, PairedDifference]) -> Iterator[str]:
    """Say how the differences were tested, which keys mattered, and which jobs failed."""
    folds = {result.record.fold for result in part.results if result.record is not None}
    total = part.basis.get("split.folds")
    if FOLD in part.axes and total is not None and len(folds) < int(total):
        yield f"note: {len(folds)} of the {total} folds of the split are here"
    for test in dict.fromkeys(difference.test for difference in differences.values()):
        yield f"behind     difference from the best and its 95 % interval, by {test}"
    runs = [result for result in part.results if part.columns[0].tag in result.metrics]
    keys = list(part.groups[0].settings)
    if len(keys) > 1 and len(runs) >= MIN_JOBS:
        metric = np.array([result.metrics[part.columns[0].tag] for result in runs])
        shares = {key: explained_share([run.job.arguments.get(key, "") for run in runs], metric) for key in keys}
        listed = ", ".join(f"{key} {share:.0%}" for key, share in sorted(shares.items(), key=lambda each: -each[1]))
        yield f"mattered   {listed} (variance in the rank by {part.columns[0].label} that each key explains alone)"
    pruned = sum(result.status == "pruned" for result in part.results)
    if pruned:
        yield f"pruned     {pruned} of {len(part.results)} jobs were worse than the median, and ended early"
    for result in part.results:
        if result.job.failure is not None:
            yield f"failed     {result.job.folder.name}: {result.job.failure}"
    if differing([result.job for result in part.results]) == [FOLD]:
        yield from _beside_figures([result.job.folder for result in part.results])


def _best_lines(part: Comparison) -> Iterator[str]:
    """Return the commands that evaluate the best configuration on the test rows, and that train it."""
    if part.best is None:
        return
    job, script = part.best.finished[0].job, Path(sys.argv[0])
    arguments = {key: value for key, value in job.arguments.items() if key not in part.axes}
    if not any(column.tag == "test/mse" for column in part.columns):
        arguments["test"] = "true"
        report, folder = script.with_name("report.py"), os.path.relpath(job.folder.parent)
        yield f"test       python {shlex.join([str(report), '--test', folder])}"
    config_dir = config_dir_of(job.folder)
    typed = [f"{key}={value}" for key, value in arguments.items()]
    typed = typed if config_dir is None else ["--config-dir", config_dir, *typed]
    yield f"best       python {shlex.join([str(script.with_name('train.py')), *typed])}"


def _test_rows(part: Comparison, differences: dict[int, PairedDifference]) -> Rows:
    """List the paired tests of a comparison, for comparisons.csv."""
    texts = [" ".join(f"{key}={value}" for key, value in group.settings.items()) for group in part.groups]
    return [
        [part.columns[0].tag, texts[0], texts[place], *map(str, (each.mean, each.low, each.high, each.p)), each.test]
        for place, each in differences.items()
    ]


def _groups_csv(parts: Sequence[Comparison]) -> bytes:
    """Format one row per configuration and metric: over its seeds, or over its folds after averaging their seeds."""
    keys = list(dict.fromkeys(key for part in parts for key in part.groups[0].settings))
    rows = [[*keys, "runs", "missing", "metric", "mean", "sd", "low", "high"]]
    for group, column in ((group, column) for part in parts for group in part.groups for column in part.columns):
        values = group.values(column.tag)
        mean = np.mean(values) if values else math.nan
        width, spread = (_half_width(values), np.std(values, ddof=1)) if len(values) > 1 else (math.nan, math.nan)
        numbers = ["" if np.isnan(each) else str(each) for each in (mean, spread, mean - width, mean + width)]
        settings = [group.settings.get(key, "") for key in keys]
        rows.append([*settings, str(len(group.finished)), str(group.num_missing), column.tag, *numbers])
    return _as_csv(rows)


def _csv(results: Sequence[JobResult]) -> bytes:
    """Format one row per job; a metric that a job lacks is blank."""
    keys = differing([result.job for result in results])
    tags = list(dict.fromkeys(tag for result in results for tag in result.metrics))
    rows = [["run", "status", "reason", *keys, *tags]]
    for result in results:
        job, metrics = result.job, result.metrics
        arguments = [job.arguments.get(key, "") for key in keys]
        values = [str(metrics.get(tag, "")) for tag in tags]
        rows.append([job.folder.name, result.status, job.failure or job.pruned or "", *arguments, *values])
    return _as_csv(rows)


def _as_csv(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _put(file: BinaryIO, *, content: bytes) -> None:
    file.write(content)


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
