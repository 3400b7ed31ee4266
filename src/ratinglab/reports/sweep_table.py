"""What a sweep prints at its end: its runs, the best first, or the mean over folds."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ratinglab.reports.protocols import table_of_folds
from ratinglab.runs.record import read_metrics, read_record

FOLD = "split.fold"
"""What runs of one family differ in, and nothing else."""
ERRORS = {"val MSE": "val/mse", "test MSE": "test/mse", "test RMSE": "test/rmse"}


class Job(NamedTuple):
    """One run of a sweep: its folder, and the arguments that it was started with."""

    folder: Path
    arguments: list[str]


def sweep_table(jobs: Sequence[Job]) -> Iterator[str]:
    """A row a run, the lowest val/mse first, with the arguments in which the runs differ.

    Where they differ in split.fold alone they are a cross-validation: their errors have a mean and a spread.
    A run that did not end has infinite errors.
    """
    given = [dict(argument.split("=", 1) for argument in job.arguments) for job in jobs]
    keys = [key for key in given[0] if any(one[key] != given[0][key] for one in given)]
    errors = [_errors(job) for job in jobs]
    shown = [name for name in ERRORS if not all(math.isnan(one[name]) for one in errors)]
    rows = [
        [*(one[key] for key in keys), *(f"{error[name]:.4f}" for name in shown), job.folder.name]
        for one, error, job in zip(given, errors, jobs, strict=True)
    ]
    if keys == [FOLD]:
        columns = [np.array([error[name] for error in errors]) for name in shown]
        rows.append(["mean", *(f"{column.mean():.4f}" for column in columns), ""])
        rows.append(["± s.d.", *(f"{column.std(ddof=1):.4f}" for column in columns), ""])
    else:
        rows = [rows[n] for n in sorted(range(len(jobs)), key=lambda n: errors[n][shown[0]] if shown else n)]
    yield from _aligned([[*keys, *shown, "run"], *rows])
    if keys == [FOLD]:
        yield from _beside_figures(jobs)


def _beside_figures(jobs: Sequence[Job]) -> Iterator[str]:
    """The mean over the folds of a protocol, where they are all of its folds."""
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


def _errors(job: Job) -> dict[str, float]:
    """By the name of the column; nan where there were no such rows."""
    if not (job.folder / "metrics.json").exists():
        return dict.fromkeys(ERRORS, math.inf)
    metrics = read_metrics(job.folder)
    return {name: metrics.get(tag, math.nan) for name, tag in ERRORS.items()}


def _aligned(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
