"""What a sweep prints at its end: its runs, the best first, or the mean over folds."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from ratinglab.runs import read_metrics

FOLD = "split.fold"
"""What runs of one family differ in, and nothing else."""


class Job(NamedTuple):
    """One run of a sweep: its folder, and the arguments that it was started with."""

    folder: Path
    arguments: list[str]


def sweep_table(jobs: Sequence[Job]) -> Iterator[str]:
    """A row a run, the lowest val/mse first, with the arguments in which the runs differ.

    Where they differ in split.fold alone they are a cross-validation: their errors have a mean and a spread.
    A run that did not end has no errors.
    """
    varied = [argument for argument in jobs[0].arguments if any(argument not in job.arguments for job in jobs)]
    keys = [argument.split("=", 1)[0] for argument in varied]
    rows = [(_errors(job), _values(job, keys), job.folder.name) for job in jobs]
    if keys == [FOLD]:
        keys_shown, rows_shown = ["fold"], rows
    else:
        keys_shown, rows_shown = keys, sorted(rows, key=lambda row: row[0][0])
    widths = [max(len(key), *(len(values[n]) for _, values, _ in rows)) for n, key in enumerate(keys_shown)]
    names = ("val MSE", "test MSE", "test RMSE")
    head = "  ".join(key.ljust(width) for key, width in zip(keys_shown, widths, strict=True))
    yield "  ".join([head, *(f"{name:>9}" for name in names), "run"])
    for errors, values, name in rows_shown:
        cells = "  ".join(value.ljust(width) for value, width in zip(values, widths, strict=True))
        yield "  ".join([cells, *(f"{error:9.4f}" for error in errors), name])
    if keys == [FOLD]:
        yield from _over_folds([errors for errors, _, _ in rows], width=len(head))


def _over_folds(errors: list[tuple[float, ...]], *, width: int) -> Iterator[str]:
    columns = list(zip(*errors, strict=True))
    for name, of in (("mean", fmean), ("± s.d.", stdev)):
        yield "  ".join([name.ljust(width), *(f"{of(column):9.4f}" for column in columns)])


def _values(job: Job, keys: list[str]) -> list[str]:
    given = dict(argument.split("=", 1) for argument in job.arguments)
    return [given[key] for key in keys]


def _errors(job: Job) -> tuple[float, float, float]:
    """val/mse, test/mse and test/rmse: infinite for a run that did not end, nan where there were no such rows."""
    if not (job.folder / "metrics.json").exists():
        return (float("inf"),) * 3
    metrics = read_metrics(job.folder)
    return tuple(metrics.get(tag, float("nan")) for tag in ("val/mse", "test/mse", "test/rmse"))  # type: ignore[return-value]
