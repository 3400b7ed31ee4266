"""The report of a sweep, at its end or by `report SWEEP`: a table in the terminal, and files in the sweep's folder.

`comparison` has the tables of runs that are not jobs of one sweep.
"""

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ratinglab.errors import UserError
from ratinglab.evaluation.metric_kinds import MetricKind
from ratinglab.files import write_bytes
from ratinglab.options import short_number
from ratinglab.process.program import shell_command
from ratinglab.reports.figure_files import write_figures
from ratinglab.reports.groups import (
    DIFFERENT_TABLES,
    FOLD,
    ComparableJobs,
    Group,
    compare_with_best,
    describe_conditions,
    divide_jobs,
    explain_columns,
    find_differing_keys,
    format_metrics,
    group_jobs,
)
from ratinglab.reports.protocols import compared_tag, tabulate_with_references
from ratinglab.reports.statistics import (
    HALF_WIDTH_HEADER,
    compute_explained_share,
    half_width_of,
    mean_of,
    values_of,
)
from ratinglab.reports.table_layout import METRIC_DECIMALS, align, format_latex, format_markdown, format_metric
from ratinglab.runs.finished_runs import FinishedRun
from ratinglab.runs.hydra_files import read_config_dir
from ratinglab.runs.run_files import HYDRA_FOLDER
from ratinglab.runs.sweep_folder import SweepJob

HALF_DECIMAL = 0.5 * 10**-METRIC_DECIMALS
"""Smaller differences of a metric are invisible in its printed decimals."""
MAX_SHOWN, NUM_BEST = 8, 5
"""The terminal shows tables of up to MAX_SHOWN rows, and the NUM_BEST best rows of longer ones."""
MIN_GROUPS = 8
"""Smallest number of configurations in which to measure the importance of the keys."""
FILES = {"results.csv", "results.md", "results.tex", "groups.csv", "comparisons.csv", "best.yaml"}
"""All files that a report can have."""
Cells = list[list[str]]
"""A table: rows of cells, the first of which is the header."""


class SweepReport(NamedTuple):
    """Lines for the terminal, files for the sweep's folder by name, and the reported sets of jobs."""

    lines: list[str]
    files: dict[str, bytes]
    sets: list[ComparableJobs]

    def write(self, folder: Path) -> None:
        """Write the files and the figures, and remove files of an earlier report."""
        for name in FILES - self.files.keys():
            (folder / name).unlink(missing_ok=True)
        for name, content in self.files.items():
            write_bytes(folder / name, content)
        write_figures(folder, self.sets)


def report_sweep(started_jobs: Sequence[SweepJob]) -> SweepReport:
    """Report jobs by the arguments in which they differ, best monitored validation metric first.

    Jobs that differ only in their seed or fold share a row, which has their number, and the mean of each metric with
    its 95% confidence interval. If all jobs have the same settings, each gets its own row, followed by their mean and
    its interval. Jobs with different data or splits get separate tables. The lines are the best rows, the importance of
    the keys, the reasons of failed jobs, and the command that trains the best configuration. The files are:

    results.csv: one row per job, with its arguments, its status and reason, and all metrics.
    results.md, results.tex: all rows of the tables in Markdown and LaTeX, with the best in bold.
    groups.csv: one row per configuration and metric, with the number of runs, and the mean, its standard deviation and
        its interval. Written if seeds or folds vary.
    comparisons.csv: one row per configuration that a paired test compares with the best one. Pruned configurations are
        not compared.
    best.yaml: the configuration of the best run, or of the first run in the best group.

    Raises:
        UserError: there are no jobs.
    """
    if not started_jobs:
        raise UserError("no job of the sweep has started")
    sets = [jobs._replace(groups=compare_with_best(jobs.groups, jobs.columns[0])) for jobs in divide_jobs(started_jobs)]
    tables = [_table(jobs) for jobs in sets]
    lines: list[str] = []
    for jobs, table in zip(sets, tables, strict=True):
        if len(sets) > 1:
            title = describe_conditions(jobs.conditions, among=[other.conditions for other in sets])
            lines += [*([""] if lines else []), title]
        lines += [*_best_rows(table, is_ranked=jobs.best is not None), *_notes(jobs)]
        lines += _best_lines(jobs, is_only=len(sets) == 1)
    if len(sets) > 1:
        lines.append(DIFFERENT_TABLES)
    files = {"results.csv": _results_csv(started_jobs)}
    for name, form in (("results.md", format_markdown), ("results.tex", format_latex)):
        texts = [
            "\n".join(form(table, bold=None if jobs.best is None else 1))
            for jobs, table in zip(sets, tables, strict=True)
        ]
        files[name] = ("\n\n".join(texts) + "\n").encode()
    if len(sets) == 1 and sets[0].best is not None:
        files["best.yaml"] = (sets[0].best.runs[0].folder / HYDRA_FOLDER / "config.yaml").read_bytes()
    if any(jobs.replicates for jobs in sets):
        files["groups.csv"] = _groups_csv(sets)
    if any(group.behind for jobs in sets for group in jobs.groups):
        files["comparisons.csv"] = _comparisons_csv(sets)
    return SweepReport(lines, files, sets)


def _table(jobs: ComparableJobs) -> Cells:
    """Tabulate comparable jobs: a header, then one row per group, or one row per job if there is only one group."""
    groups, is_grouped = jobs.groups, bool(jobs.replicates)
    if not groups[0].settings:
        groups = group_jobs(jobs.members, settings=find_differing_keys(jobs.members), replicates=[])
        is_grouped = False
    is_tested = any(group.behind for group in groups)
    interval = f" {HALF_WIDTH_HEADER}" if is_grouped else ""
    first, *others = (f"{column.label}{interval}" for column in jobs.columns)
    behind = [f"behind {HALF_WIDTH_HEADER}"] if is_tested else []
    header = [*groups[0].settings, *(["runs"] if is_grouped else []), first, *behind, *others]
    table = [header if is_grouped else [*header, "job"]]
    for group in groups:
        count = len(group.runs)
        runs = str(count) if group.num_missing == 0 else f"{count} of {count + group.num_missing}"
        first, *others = _metric_cells(group, jobs.columns)
        behind = ["" if group.behind is None else group.behind.text] if is_tested else []
        cells = [*map(short_number, group.settings.values()), *([runs] if is_grouped else []), first, *behind, *others]
        table.append(cells if is_grouped else [*cells, group.jobs[0].number])
    return table if jobs.groups[0].settings else [*table, *_mean_and_interval(jobs)]


def _metric_cells(group: Group, columns: Sequence[MetricKind]) -> list[str]:
    """Format the mean of each metric with its interval, or the status of jobs that have no metrics."""
    cells = format_metrics(group.runs, columns)
    statuses = {job.status for job in group.jobs}
    if not cells[0] and not group.runs:
        cells[0] = "failed" if "failed" in statuses else "stopped"
    elif statuses == {"pruned"}:
        cells[0] += " pruned"
    return cells


def _mean_and_interval(jobs: ComparableJobs) -> Cells:
    """Format the rows with each column's mean and its 95% interval, which are blank unless every job has finished."""
    keys = find_differing_keys(jobs.members)
    if not keys:
        return []
    runs = jobs.groups[0].runs if all(job.run is not None for job in jobs.members) else []
    blank = [""] * (len(keys) - 1)
    return [
        [name, *blank, *(format_metric(average(runs, column.name)) for column in jobs.columns), ""]
        for name, average in (("mean", mean_of), (HALF_WIDTH_HEADER, half_width_of))
    ]


def _best_rows(table: Cells, *, is_ranked: bool) -> Iterator[str]:
    """Align the table for the terminal. If a ranked table is long, only its best rows are shown."""
    hidden = len(table) - 1 - NUM_BEST if is_ranked and len(table) - 1 > MAX_SHOWN else 0
    yield from align(table[: len(table) - hidden])
    if hidden:
        yield f"{hidden} more rows are in results.md"


def _notes(jobs: ComparableJobs) -> Iterator[str]:
    """Explain intervals and tests, rank the keys by importance, and list pruned and failed jobs."""
    folds = {job.record.fold for job in jobs.members if job.record is not None}
    total = jobs.conditions.get("split.folds")
    if FOLD in jobs.replicates and total is not None and len(folds) < int(total):
        yield f"note: only {len(folds)} of the split's {total} folds were run"
    yield from explain_columns(jobs.groups, jobs.columns[0].name)
    yield from _importance(jobs)
    yield from _describe_keys(jobs)
    pruned = sum(job.status == "pruned" for job in jobs.members)
    if pruned:
        yield f"pruned     {pruned} of {len(jobs.members)} jobs ended early: they were worse than the median"
    for job in jobs.members:
        if job.failure is not None:
            yield f"failed     {job.folder.name}: {job.failure}"
    if find_differing_keys(jobs.members) == [FOLD]:
        yield from _compare_with_protocol(jobs.groups[0].runs)


def _importance(jobs: ComparableJobs) -> Iterator[str]:
    """Rank the swept keys by the share of the metric's variance that each explains. Yields nothing with few groups."""
    column, groups = jobs.columns[0], _complete_groups(jobs)
    keys = list(jobs.groups[0].settings)
    if len(keys) < 2 or len(groups) < MIN_GROUPS:
        return
    metric = np.array([mean_of(group.runs, column.name) for group in groups])
    shares = {key: compute_explained_share([group.settings[key] for group in groups], metric) for key in keys}
    shares_text = ", ".join(f"{key} {shares[key]:.0%}" for key in sorted(keys, key=lambda key: -shares[key]))
    yield f"importance {shares_text} (share of the variance in {column.label} ranks that each key explains alone)"


def _describe_keys(jobs: ComparableJobs) -> Iterator[str]:
    """Name the swept keys without effect, and the keys whose best value lies at an end of the tried values."""
    column, groups = jobs.columns[0], _complete_groups(jobs)
    for key in jobs.groups[0].settings:
        if len(groups) == len(jobs.groups) and _has_no_effect(key, groups, column):
            yield f"note: {key} has no effect here: it changes {column.label} by less than {HALF_DECIMAL:.5f}"
        elif jobs.best is not None and (end := _end_of(key, jobs.best, groups)):
            value = short_number(jobs.best.settings[key])
            yield f"note: the best {key}, {value}, is the {end} that was tried; the optimum may lie beyond it"


def _has_no_effect(key: str, groups: Sequence[Group], column: MetricKind) -> bool:
    """Return whether the key changes the metric by less than its printed decimals, all other keys being equal."""
    means: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
    for group in groups:
        other_values = tuple(value for other, value in group.settings.items() if other != key)
        means[other_values].append(mean_of(group.runs, column.name))
    ranges = [max(alike) - min(alike) for alike in means.values() if len(alike) > 1]
    return len(ranges) > 0 and max(ranges) < HALF_DECIMAL


def _end_of(key: str, best: Group, groups: Sequence[Group]) -> str | None:
    """Say whether the best value of a numeric key is the lowest or the highest of at least three.

    Returns None if it is neither, or if it is a lowest value of 0, the lower bound of most keys.
    """
    try:
        tried = {float(group.settings[key]) for group in groups}
    except ValueError:  # names, such as models
        return None
    ends = {min(tried): "lowest", max(tried): "highest"}
    if min(tried) == 0:
        del ends[0]
    return ends.get(float(best.settings[key])) if len(tried) > 2 else None


def _complete_groups(jobs: ComparableJobs) -> list[Group]:
    """List the groups that have all seeds and folds, and the monitored metric in every run."""
    return [group for group in jobs.groups if group.num_missing == 0 and values_of(group.runs, jobs.columns[0].name)]


def _best_lines(jobs: ComparableJobs, *, is_only: bool) -> Iterator[str]:
    """Format the test errors of the best configuration if no column has them, and the command that trains it."""
    if jobs.best is None:
        return
    job = next(job for job in jobs.best.jobs if job.run is not None)
    arguments = {key: value for key, value in job.arguments.items() if key not in jobs.replicates}
    if not any(column.name.startswith("test/") for column in jobs.columns):
        arguments["test"] = "true"
        if is_only:
            yield from _test_lines(jobs.best)
    config_dir = read_config_dir(job.folder)
    folder_flag = [] if config_dir is None else ["--config-dir", config_dir]
    overrides = [f"{key}={value}" for key, value in arguments.items()]
    yield f"best       {shell_command('train', *folder_flag, *overrides)}"


def _test_lines(best: Group) -> list[str]:
    """Format the test errors that `report --test` has measured for the best configuration, or that command."""
    record = best.runs[0].record
    # the monitored metric may be one of lists, which `metric_kinds` leaves out
    kinds = dict.fromkeys([*record.metric_kinds(), record.monitored_metric()])
    means = {kind.label: mean_of(best.runs, f"test/{kind.name}") for kind in kinds}
    count = "" if len(best.runs) == 1 else f", mean of {len(best.runs)} runs"
    lines = [f"test       {label} {mean:.4f}{count}" for label, mean in means.items() if not math.isnan(mean)]
    return lines or [f"test       {shell_command('report', '--test', os.path.relpath(best.runs[0].folder.parent))}"]


def _comparisons_csv(sets: Sequence[ComparableJobs]) -> bytes:
    """Format one row per paired test."""
    rows = []
    for jobs in sets:
        names = [" ".join(f"{key}={value}" for key, value in group.settings.items()) for group in jobs.groups]
        testable = [name for name, group in zip(names, jobs.groups, strict=True) if group.is_testable]
        for name, group in zip(names, jobs.groups, strict=True):
            if group.behind is not None:
                compared = {"metric": jobs.columns[0].name, "best": testable[0], "other": name}
                rows.append(compared | dict(zip(("behind", "low", "high", "p", "test"), group.behind, strict=True)))
    return _as_csv(rows)


def _groups_csv(sets: Sequence[ComparableJobs]) -> bytes:
    """Format one row per configuration and metric."""
    rows = []
    keys = list(dict.fromkeys(key for jobs in sets for key in jobs.groups[0].settings))
    for group, column in ((group, column) for jobs in sets for group in jobs.groups for column in jobs.columns):
        values, mean = values_of(group.runs, column.name), mean_of(group.runs, column.name)
        width, spread = half_width_of(group.runs, column.name), np.std(values, ddof=1) if len(values) > 1 else math.nan
        settings = {key: group.settings.get(key) for key in keys}
        counts = {"runs": len(group.runs), "missing": group.num_missing, "metric": column.name}
        rows.append(settings | counts | {"mean": mean, "sd": spread, "low": mean - width, "high": mean + width})
    return _as_csv(rows)


def _results_csv(jobs: Sequence[SweepJob]) -> bytes:
    """Format one row per job."""
    rows = []
    keys = find_differing_keys(jobs)
    for job in jobs:
        outcome = {"run": job.folder.name, "status": job.status, "reason": job.failure or job.pruned}
        rows.append(outcome | {key: job.arguments.get(key) for key in keys} | job.metrics)
    return _as_csv(rows)


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Format rows with a header. Values that are NaN or missing are blank."""
    return pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n").encode()


def _compare_with_protocol(runs: Sequence[FinishedRun]) -> Iterator[str]:
    """Rank the mean over folds among the protocol's references, if the runs cover exactly its folds."""
    records = [run.record for run in runs]
    protocols = [record.protocol for record in records if record.protocol is not None]
    if not protocols or sorted(record.fold or 0 for record in records) != list(range(1, protocols[0]["folds"] + 1)):
        return
    tag = compared_tag(records[0])
    if values_of(runs, tag):
        yield ""
        yield from tabulate_with_references(records, mean_of(runs, tag), half_width=half_width_of(runs, tag))
