"""The table at the end of a sweep: its runs, best first, or the mean over folds."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ratinglab.evaluation.metrics import MSE, MetricKind
from ratinglab.files import RUN_RECORD
from ratinglab.reports.protocols import table_of_folds
from ratinglab.reports.text_table import aligned
from ratinglab.runs.record import read_metrics, read_record

FOLD = "split.fold"
"""The only key in which the runs of a cross-validation differ."""
TEST_COLUMNS = {"test MSE": "test/mse", "test RMSE": "test/rmse"}


def sweep_table(swept: Mapping[Path, Sequence[str]]) -> Iterator[str]:
    """Tabulate the runs with the arguments in which they differ, best monitored metric first.

    If they differ only in split.fold, the table is a cross-validation and ends with a mean and a spread. A failed run
    has the worst value in every column.

    Args:
        swept: the command-line arguments of each run, by its folder.
    """
    given = [dict(argument.split("=", 1) for argument in arguments) for arguments in swept.values()]
    keys = [key for key in given[0] if any(one[key] != given[0][key] for one in given)]
    monitor = _monitored(swept)
    columns = {f"val {monitor.label}": f"val/{monitor.name}", **TEST_COLUMNS}
    values = [_values(folder, columns, monitor) for folder in swept]
    shown = [name for name in columns if not all(math.isnan(one[name]) for one in values)]
    rows = [
        [*(one[key] for key in keys), *(f"{value[name]:.4f}" for name in shown), folder.name]
        for one, value, folder in zip(given, values, swept, strict=True)
    ]
    if keys == [FOLD]:
        arrays = [np.array([value[name] for value in values]) for name in shown]
        rows.append(["mean", *(f"{array.mean():.4f}" for array in arrays), ""])
        rows.append(["± s.d.", *(f"{array.std(ddof=1):.4f}" for array in arrays), ""])
    elif shown:
        sign = -1 if monitor.higher_is_better and shown[0] not in TEST_COLUMNS else 1
        rows = [rows[n] for n in sorted(range(len(rows)), key=lambda n: sign * values[n][shown[0]])]
    yield from aligned([[*keys, *shown, "run"], *rows])
    if keys == [FOLD]:
        yield from _beside_figures(swept)


def _monitored(folders: Iterable[Path]) -> MetricKind:
    """Find the metric that the runs monitor; MSE if they monitor different ones or none has a record."""
    records = [read_record(folder) for folder in folders if (folder / RUN_RECORD).exists()]
    metrics = {record.monitored() for record in records}
    return metrics.pop() if len(metrics) == 1 else MSE


def _beside_figures(folders: Iterable[Path]) -> Iterator[str]:
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


def _values(folder: Path, columns: Mapping[str, str], monitor: MetricKind) -> dict[str, float]:
    """Read a run's values by column name; NaN if it had no such rows, the worst value if it failed."""
    if not (folder / "metrics.json").exists():
        return {name: monitor.worst if name not in TEST_COLUMNS else math.inf for name in columns}
    metrics = read_metrics(folder)
    return {name: metrics.get(tag, math.nan) for name, tag in columns.items()}
