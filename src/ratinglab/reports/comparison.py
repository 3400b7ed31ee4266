"""Tables that compare runs, one per protocol or split, averaged over seeds and folds."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ratinglab.errors import UserError
from ratinglab.evaluation.metrics import METRICS, MetricKind
from ratinglab.files import RUN_RECORD, VALIDATION_FIT, user_path
from ratinglab.options import as_yaml
from ratinglab.reports.protocols import COMPARABLE, verdict
from ratinglab.reports.sweep_table import sweep_table
from ratinglab.reports.text_table import aligned, markdown
from ratinglab.runs.record import RunRecord, read_metrics, read_record
from ratinglab.runs.sweep_folder import SWEEP_RECORD, read_jobs


class FinishedRun(NamedTuple):
    """A run's folder, its record and its metrics."""

    folder: Path
    record: RunRecord
    metrics: dict[str, float]


class Row(NamedTuple):
    """Runs that differ only in seed and fold.

    Attributes:
        name: model and fit, with the settings in which the table's rows differ.
        runs: the runs.
    """

    name: str
    runs: list[FinishedRun]

    def mean(self, tag: str) -> float:
        """Average a metric over the runs; NaN if a run lacks it."""
        return float(np.mean([run.metrics.get(tag, np.nan) for run in self.runs]))

    def by_seed(self) -> dict[int, list[FinishedRun]]:
        """Group the runs by seed."""
        found = defaultdict(list)
        for run in self.runs:
            found[run.record.provenance["seed"]].append(run)
        return found

    def errors(self, tag: str) -> list[float]:
        """Average a metric over the folds of each seed."""
        return [float(np.mean([run.metrics[tag] for run in runs])) for runs in self.by_seed().values()]


def compare(folders: Sequence[str]) -> Iterator[str]:
    """Tabulate all finished runs in these folders.

    A protocol's table lists its runs and published figures, lowest test RMSE first. Other runs are grouped by split,
    lowest validation RMSE first. Runs that differ only in seed and fold share a row: a mean, and the spread over seeds.
    The table of a sweep comes first, and its files are written again.

    Args:
        folders: runs, or folders with runs in them, at any depth.

    Raises:
        UserError: a folder is missing, or there is no finished run in any of them.
    """
    runs, unfinished, unreadable = _find(folders)
    for folder in (user_path(name, key="folder") for name in folders):
        if (folder / SWEEP_RECORD).is_file():
            table = sweep_table(read_jobs(folder))
            if os.access(folder, os.W_OK):
                table.write(folder)
            yield from (*table.lines, "")
    if not runs:
        raise UserError(f"there is no finished run in {', '.join(folders)}")
    tables: defaultdict[tuple[str, str], list[FinishedRun]] = defaultdict(list)
    for run in runs:
        title = _title(run)
        family = run.record.provenance["split"].partition("/")[0]
        tables[title, "" if title else f"{run.record.provenance['data']}, split {family}"].append(run)
    for number, ((title, split), members) in enumerate(sorted(tables.items())):
        if number > 0:
            yield ""
        rows = _rows(members)
        yield from _protocol_table(title, rows) if title else _split_table(split, rows)
    if unfinished:
        yield f"note: {unfinished} unfinished {'runs are' if unfinished > 1 else 'run is'} left out"
    yield from (f"note: left out: {fault}" for fault in unreadable)


def models_table(folders: Sequence[str]) -> Iterator[str]:
    """Tabulate all finished runs under protocols in Markdown: one row per model and fit, one column per protocol.

    A cell is the mean test RMSE over folds and seeds. It is empty unless every run is comparable and every seed has all
    folds. Seconds and parameters are means over the runs of the row's first column with a figure. For the folders and
    errors see `compare`.
    """
    runs = [run for run in _find(folders)[0] if _title(run)]
    if not runs:
        raise UserError(f"there is no finished run under a protocol in {', '.join(folders)}")
    titles = sorted({_title(run) for run in runs})
    lines = []
    for row in _rows(runs, across_splits=True):
        parts = [Row(row.name, [run for run in row.runs if _title(run) == title]) for title in titles]
        comparable = [part if part.runs and _verdict(part) == COMPARABLE else None for part in parts]
        errors = [float(np.mean(part.errors("test/rmse"))) if part else np.inf for part in comparable]
        figures = [f"{error:.4f}" if part else "" for part, error in zip(comparable, errors, strict=True)]
        lines.append((errors, [row.name, *figures, *_size_cells(next(filter(None, comparable), row))]))
    head = ["", *(title.partition(":")[0] for title in titles), "fit s", "parameters"]
    yield from markdown([head, *(cells for _, cells in sorted(lines, key=lambda line: line[0]))])


def _title(run: FinishedRun) -> str:
    """Return the title of a run's protocol; "" if the run has none, or no test rows to compare."""
    return str(run.record.protocol["title"]) if run.record.protocol and "test/rmse" in run.metrics else ""


def _verdict(row: Row) -> str:
    """Say whether a row of runs under one protocol is comparable with its figures, or why not."""
    protocols = [run.record.protocol for run in row.runs if run.record.protocol]
    needed = protocols[0]["folds"]
    if needed > 1:
        for seed, runs in row.by_seed().items():
            folds = {run.record.fold for run in runs}
            if folds != set(range(1, needed + 1)):
                return f"not comparable: seed {seed} has {len(folds)} of {needed} folds"
    return verdict(protocols)


def _find(folders: Sequence[str]) -> tuple[list[FinishedRun], int, list[str]]:
    """Find the finished runs, each once, count the unfinished ones, and say why others cannot be read."""
    found: dict[Path, None] = {}
    for name in folders:
        folder = user_path(name, key="folder")
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}")
        found |= dict.fromkeys(path.parent.resolve() for path in sorted(folder.rglob(RUN_RECORD)))
    finished, unfinished, faults = [], 0, []
    for folder in found:
        if folder.name == VALIDATION_FIT and (folder.parent / ".hydra").is_dir():
            continue  # the first fit of a refit run
        if not (folder / "metrics.json").exists():
            unfinished += 1
            continue
        try:
            record = read_record(folder)
            if missing := {"seed", "split", "data"} - set(record.provenance):
                raise UserError(f"{folder / RUN_RECORD} is damaged: its provenance has no {min(missing)}")
            finished.append(FinishedRun(folder, record, read_metrics(folder)))
        except UserError as error:
            faults.append(str(error))
    return finished, unfinished, faults


def _settings(run: FinishedRun, *, across_splits: bool) -> dict[str, Any]:
    record = run.record
    settings: dict[str, Any] = {
        **{f"model.{key}": value for key, value in record.model_options.items()},
        **record.fit,
        "max_epochs": record.max_epochs,
        "refit": record.refit_epochs is not None,
        "monitor": record.monitor,
        "equation": record.model_target,
    }
    if not across_splits:
        settings["split"] = record.provenance["split"].partition("/")[0]
    if not record.fit:  # an older record without the settings that group runs
        settings["folder"] = run.folder.name
    return {key: as_yaml(value) if isinstance(value, list | dict) else value for key, value in settings.items()}


def _rows(runs: Sequence[FinishedRun], *, across_splits: bool = False) -> list[Row]:
    """Group runs of the same settings into rows, named by the settings in which the rows differ.

    If two runs under a protocol have the same settings, seed and fold, the one in the later folder counts. Runs of
    different splits get separate rows, unless `across_splits` joins them.
    """
    groups: defaultdict[tuple[Any, ...], list[FinishedRun]] = defaultdict(list)
    newest = {}
    for run in runs:
        settings = tuple(sorted(_settings(run, across_splits=across_splits).items(), key=str))
        newest[run.record.model, settings, run.record.provenance["seed"], run.record.fold, _title(run)] = run
    for (model, settings, *_), run in newest.items():
        groups[model, settings].append(run)
    rows = []
    for (model, settings), members in groups.items():
        fit = members[0].record.fit.get("optimizer", "an unknown fit")
        alike = [dict(other) for name, other in groups if name == model and dict(other).get("optimizer") == fit]
        differing = [
            f"{key.rpartition('.')[2]}={value}"
            for key, value in settings
            if any(other.get(key) != value for other in alike)
        ]
        rows.append(Row(" ".join([f"{model} by {fit}", *differing]), members))
    return rows


def _protocol_table(title: str, rows: Sequence[Row]) -> Iterator[str]:
    protocol = rows[0].runs[0].record.protocol
    assert protocol is not None
    lines = [
        (each["rmse"], [each["system"], f"{each['rmse']:.4f}", "", "", "", f"{each['kind']}: {each['source']}"])
        for each in protocol["figures"]
    ]
    for row in rows:
        errors = row.errors("test/rmse")
        lines.append((float(np.mean(errors)), _cells(row, errors, _verdict(row))))
    yield title
    yield from _table("RMSE", [cells for _, cells in sorted(lines, key=lambda line: line[0])])


def _split_table(title: str, rows: Sequence[Row]) -> Iterator[str]:
    """Tabulate rows on one split, best monitored metric first; RMSE if they monitor MSE or different metrics."""
    kinds: dict[str, MetricKind] = {run.record.monitor: run.record.monitored() for row in rows for run in row.runs}
    is_mse = "val/mse" in kinds or len(kinds) > 1
    metric = METRICS["rmse"] if is_mse else next(iter(kinds.values()))
    tag = f"val/{metric.name}"
    has_validation = any(not np.isnan(row.mean(tag)) for row in rows)
    sign = -1 if metric.higher_is_better else 1
    ranked = sorted(rows, key=lambda row: (np.isnan(row.mean(tag)), sign * row.mean(tag)))
    shown = tag if has_validation else f"test/{metric.name}"
    yield f"{title}: {'validation' if has_validation else 'test'} {metric.label}"
    cells = [_cells(row, row.errors(shown) if shown in row.runs[0].metrics else [], "") for row in ranked]
    yield from _table(metric.label, cells)


def _table(label: str, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    header = ["", label, "± seeds", "fit s", "parameters", ""]
    return aligned([header, *rows], right=range(1, len(header) - 1))


def _cells(row: Row, errors: Sequence[float], remark: str) -> list[str]:
    spread = f"{np.std(errors, ddof=1):.4f}" if len(errors) > 1 else ""
    mean = f"{np.mean(errors):.4f}" if errors else "none"
    return [row.name, mean, spread, *_size_cells(row), remark]


def _size_cells(row: Row) -> list[str]:
    """Format the seconds of the fit and the number of parameters."""
    return [f"{row.mean('fit/seconds'):.1f}", f"{row.mean('fit/parameters'):,.0f}"]
