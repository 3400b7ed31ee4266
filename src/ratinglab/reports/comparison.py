"""Tables that compare runs, one per protocol or split, averaged over seeds and folds."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ratinglab.errors import UserError
from ratinglab.evaluation.metrics import METRICS, MetricKind
from ratinglab.evaluation.ranking import list_metric
from ratinglab.files import user_path
from ratinglab.options import as_yaml, short_number
from ratinglab.reports.averages import HALF_WIDTH_HEADER, decimals, explain_intervals, half_width_of, mean_of, values_of
from ratinglab.reports.paired_tests import paired_difference
from ratinglab.reports.protocols import (
    NOTE,
    USES,
    compared_tag,
    departures,
    metric_of,
    verdict,
)
from ratinglab.reports.sweep_report import sweep_report
from ratinglab.reports.sweep_results import TableColumn, evaluate_test_rows, find_best
from ratinglab.reports.text_table import aligned, markdown
from ratinglab.runs.finished_runs import FinishedRun, comparison_conditions, describe_conditions, find_runs
from ratinglab.runs.sweep_folder import PRUNED, SWEEP_RECORD, read_jobs


class Row(NamedTuple):
    """Runs that differ only in seed and fold.

    Attributes:
        name: model and fit, with the settings in which the table's rows differ.
        runs: the runs.
    """

    name: str
    runs: list[FinishedRun]

    def by_seed(self) -> dict[tuple[int, int | None], list[FinishedRun]]:
        """Group the runs by their seed and the seed of their split, if it has one."""
        found = defaultdict(list)
        for run in self.runs:
            found[run.record.provenance["seed"], run.record.split.get("split.seed")].append(run)
        return found

    @property
    def is_pruned(self) -> bool:
        """Whether a run was pruned by its sweep."""
        return any((run.folder / PRUNED).is_file() for run in self.runs)

    def lacking(self, folds: set[int | None]) -> str:
        """Describe missing folds, of one seed unless all seeds have the same folds; "" if none is missing."""
        finished = [(seed, {run.record.fold for run in runs}) for (seed, _), runs in self.by_seed().items()]
        are_equal = all(own_folds == finished[0][1] for _, own_folds in finished)
        for seed, own_folds in finished:
            if not own_folds >= folds:
                return f"{'' if are_equal else f'seed {seed} has '}{len(own_folds)} of {len(folds)} folds"
        return ""


def compare(folders: Sequence[str], *, test: bool = False) -> Iterator[str]:
    """Tabulate all finished runs in these folders.

    A protocol's table lists its runs and published figures, best test metric first. Other runs are grouped by split,
    lowest validation RMSE first. Runs that differ only in seed and fold share a row: a mean with its 95% interval.
    The table of a sweep comes first, and its files are rewritten.

    With `test`, evaluates the best configuration of each sweep on its test rows.

    Raises:
        UserError: there is no finished run in the folders; or with `test`, no sweep.
    """
    sweeps = [path for path in (user_path(name, key="folder") for name in folders) if (path / SWEEP_RECORD).is_file()]
    if test and not sweeps:
        raise UserError(f"--test needs the folder of a sweep, got {', '.join(folders)}")
    for folder in sweeps:
        yield from _report_sweep(folder, test=test)
    runs, unfinished, unreadable = find_runs(folders)
    if not runs:
        reason = f" (left out: {'; '.join(unreadable)})" if unreadable else ""
        raise UserError(f"there is no finished run in {', '.join(folders)}{reason}")
    under_protocol: defaultdict[str, list[FinishedRun]] = defaultdict(list)
    others: defaultdict[tuple[tuple[str, str], ...], list[FinishedRun]] = defaultdict(list)
    for run in runs:
        if title := _title(run):
            under_protocol[title].append(run)
        elif len(sweeps) != 1 or len(folders) != 1:  # the table of a single sweep has its runs
            others[tuple(comparison_conditions(run.record).items())].append(run)
    all_conditions = [dict(items) for items in others]
    num_tables = len(under_protocol)
    for items, members in sorted(others.items()):
        tables = _by_splits(_rows(members, across_splits=True))
        num_tables += len(tables)
        for seeds, rows in tables:
            title = describe_conditions(dict(items), among=all_conditions)
            yield from (*_split_table(title if len(tables) == 1 else f"{title}, {seeds}", rows), "")
    for title, members in sorted(under_protocol.items()):
        yield from (*_protocol_table(title, _rows(members)), "")
    if num_tables > 1:
        yield "note: runs in different tables are not compared: their data, splits or monitored metrics differ"
    if unfinished:
        yield f"note: {unfinished} unfinished {'runs are' if unfinished > 1 else 'run is'} left out"
    yield from (f"note: left out: {fault}" for fault in unreadable)


def _report_sweep(folder: Path, *, test: bool) -> Iterator[str]:
    """Report a sweep and rewrite its files if the folder is writable; with `test`, first test its best runs."""
    errors = list[str]()
    if test:
        best = find_best(read_jobs(folder))
        if best is None:
            raise UserError(
                f"--test needs one best configuration; the sweep in {folder} has none, or its jobs use different data "
                "or splits"
            )
        errors = list(evaluate_test_rows(best.runs))
    report = sweep_report(read_jobs(folder))
    yield from (*report.lines, *errors, "")
    if os.access(folder, os.W_OK):
        report.write(folder)


def _by_splits(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Group rows by the ratings that their runs hold out, and describe the split seeds of each group."""
    divided: defaultdict[frozenset[str], list[Row]] = defaultdict(list)
    for row in rows:
        divided[frozenset(run.record.provenance["split"].partition("/")[0] for run in row.runs)].append(row)
    seeds = [sorted({str(run.record.split.get("split.seed")) for run in rows[0].runs}) for rows in divided.values()]
    return [(f"split.seed={','.join(text)}", rows) for text, rows in zip(seeds, divided.values(), strict=True)]


def models_table(folders: Sequence[str]) -> Iterator[str]:
    """Tabulate all finished runs under protocols in Markdown: one row per model and fit, one column per protocol.

    A cell is the protocol's metric, averaged over folds and seeds. It is empty unless every run is comparable and every
    seed has all folds. The column `uses besides the ratings` lists side information: compare models that use the same.
    Seconds and parameters are means over the runs of the row's first filled column. `folders` is as in `compare`.
    """
    runs = [run for run in find_runs(folders)[0] if _title(run)]
    if not runs:
        raise UserError(f"there is no finished run under a protocol in {', '.join(folders)}")
    titles = sorted({_title(run) for run in runs})
    metrics = {title: next(_metric(run) for run in runs if _title(run) == title) for title in titles}
    lines = []
    for row in _rows(runs, across_splits=True):
        parts = [Row(row.name, [run for run in row.runs if _title(run) == title]) for title in titles]
        comparable = [part if part.runs and not _obstacle(part) else None for part in parts]
        means = [mean_of(part.runs, compared_tag(part.runs[0].record)) if part else None for part in comparable]
        figures = ["" if mean is None else f"{mean:.4f}" for mean in means]
        sizes = _size_cells(next(filter(None, comparable), row))
        signs = [-1 if metric.higher_is_better else 1 for metric in metrics.values()]
        order = [np.inf if mean is None else sign * mean for sign, mean in zip(signs, means, strict=True)]
        lines.append((order, [row.name, ", ".join(_protocols(row)[0]["uses"]), *figures, *sizes]))
    columns = [f"{title.partition(':')[0]}, {metric.label}" for title, metric in metrics.items()]
    header = ["", USES, *columns, "fit s", "parameters"]
    yield from markdown([header, *(cells for _, cells in sorted(lines, key=lambda line: line[0]))])


def _title(run: FinishedRun) -> str:
    """Return the title of a run's protocol; "" without a protocol or its test metric."""
    return str(run.record.protocol["title"]) if run.record.protocol and compared_tag(run.record) in run.metrics else ""


def _metric(run: FinishedRun) -> MetricKind:
    """Return the metric of a run's protocol."""
    protocol = run.record.protocol
    assert protocol is not None, "the caller takes runs under protocols"
    return metric_of(protocol)


def _protocols(row: Row) -> list[dict[str, Any]]:
    """Return the protocol of each run of a row."""
    return [run.record.protocol for run in row.runs if run.record.protocol is not None]


def _obstacle(row: Row) -> str:
    """Describe why runs under a protocol are not comparable; "" if they are."""
    protocols = _protocols(row)
    needed = protocols[0]["folds"]
    return (row.lacking(set(range(1, needed + 1))) if needed > 1 else "") or departures(protocols)


def _settings(run: FinishedRun, *, across_splits: bool) -> dict[str, Any]:
    record = run.record
    settings: dict[str, Any] = {
        **{f"model.{key}": value for key, value in record.model_options.items()},
        **record.fit,
        "max_epochs": record.max_epochs,
        "refit": record.refit_epochs is not None,
        **record.monitor_settings(),
        "equation": record.model_target,
    }
    if list_metric(compared_tag(run.record).removeprefix("test/")) is not None and not record.predicts_scores:
        settings["ranking.by"] = record.ranking["by"]
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
        provenance = run.record.provenance
        place = provenance["seed"], provenance["split"], run.record.fold
        newest[run.record.model, settings, place, _title(run)] = run
    for (model, settings, *_), run in newest.items():
        groups[model, settings].append(run)
    rows = []
    for (model, settings), members in groups.items():
        fit = members[0].record.fit["optimizer"]
        alike = [dict(other) for name, other in groups if name == model and dict(other)["optimizer"] == fit]
        differing = [
            f"{key.rpartition('.')[2]}={short_number(str(value))}"
            for key, value in settings
            if any(other.get(key) != value for other in alike)
        ]
        rows.append(Row(" ".join([f"{model} by {fit}", *differing]), members))
    return rows


def _protocol_table(title: str, rows: Sequence[Row]) -> Iterator[str]:
    metric, tag = _metric(rows[0].runs[0]), compared_tag(rows[0].runs[0].record)
    figures = _protocols(rows[0])[0]["figures"]
    lines = []
    for figure in figures:
        uses, source = ", ".join(figure["uses"]), f"{figure['kind']}: {figure['source']}"
        lines.append((figure["value"], [figure["system"], f"{figure['value']:.4f}", "", "", "", uses, source]))
    for row in rows:
        protocols, obstacle = _protocols(row), _obstacle(row)
        *cells, note = _cells(row, tag, f"not comparable: {obstacle}" if obstacle else verdict(protocols))
        lines.append((mean_of(row.runs, tag), [*cells, ", ".join(protocols[0]["uses"]), note]))
    yield title
    lines.sort(key=lambda line: line[0], reverse=metric.higher_is_better)
    header = ["", metric.label, HALF_WIDTH_HEADER, "fit s", "parameters", USES, ""]
    yield from aligned([header, *(cells for _, cells in lines)], right=range(1, 5))
    yield from _interval_notes(rows, tag)
    yield NOTE


def _split_table(title: str, rows: Sequence[Row]) -> Iterator[str]:
    """Tabulate rows on one split, best monitored metric first; RMSE if they monitor MSE.

    Rows with missing folds come last because their means cover other ratings.
    """
    monitor: MetricKind = rows[0].runs[0].record.monitored_metric()
    metric = METRICS["rmse"] if monitor.name == "mse" else monitor
    has_validation = any(values_of(row.runs, f"val/{metric.name}") for row in rows)
    part = "val" if has_validation else "test"
    tag = f"{part}/{metric.name}"
    folds = _folds(rows)
    column = TableColumn(metric.label, tag, metric.higher_is_better)
    ranked = sorted(rows, key=lambda row: (row.lacking(folds) != "", column.rank(row.runs)))
    yield f"{title}: {'validation' if has_validation else 'test'} {metric.label}"
    num_seeds = max(len(row.by_seed()) for row in rows)
    behind, test_notes = _behind(ranked, folds, tag=f"{part}/{monitor.name}")
    tested = [f"{monitor.label} behind {HALF_WIDTH_HEADER}"] if test_notes else []
    table = [["", metric.label, HALF_WIDTH_HEADER, *tested, "fit s", "parameters", ""]]
    for row, difference in zip(ranked, behind, strict=True):
        seeds = len(row.by_seed())
        notes = [row.lacking(folds), f"{seeds} of {num_seeds} seeds" if seeds < num_seeds else ""]
        notes += ["ended early"] if row.is_pruned else []
        name, mean, half_width, *others = _cells(row, tag, "; ".join(filter(None, notes)))
        table.append([name, mean, half_width, *([difference] if test_notes else []), *others])
    yield from aligned(table, right=range(1, len(table[0]) - 1))
    yield from _interval_notes(rows, tag)
    yield from test_notes


def _folds(rows: Sequence[Row]) -> set[int | None]:
    """Return the folds of the split; if it does not record their number, all folds that occur."""
    count = rows[0].runs[0].record.split.get("split.folds")
    return {run.record.fold for row in rows for run in row.runs} if count is None else set(range(1, count + 1))


def _behind(ranked: Sequence[Row], folds: set[int | None], *, tag: str) -> tuple[list[str], list[str]]:
    """Test complete rows against the first one. Returns a cell per row, and notes that name the tests."""
    first, *others = ranked
    higher_is_better = first.runs[0].record.monitored_metric().higher_is_better
    differences = [
        None
        if any(compared.lacking(folds) or compared.is_pruned for compared in (first, row))
        else paired_difference(first.runs, row.runs, tag=tag, higher_is_better=higher_is_better)
        for row in others
    ]
    tests = dict.fromkeys(difference.test for difference in differences if difference is not None)
    return (
        ["", *("" if difference is None else difference.text for difference in differences)],
        [f"behind: difference from the first row and its 95% interval, by {test}" for test in tests],
    )


def _interval_notes(rows: Sequence[Row], tag: str) -> list[str]:
    return [f"{HALF_WIDTH_HEADER}: {text}" for text in explain_intervals([row.runs for row in rows], tag)]


def _cells(row: Row, tag: str, note: str) -> list[str]:
    mean, half_width = decimals(mean_of(row.runs, tag)), decimals(half_width_of(row.runs, tag))
    return [row.name, mean or "none", half_width, *_size_cells(row), note]


def _size_cells(row: Row) -> list[str]:
    """Format the seconds of the fit and the number of parameters."""
    return [f"{mean_of(row.runs, 'fit/seconds'):.1f}", f"{mean_of(row.runs, 'fit/parameters'):,.0f}"]
