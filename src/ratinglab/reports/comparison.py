"""Comparison of any runs, by `report FOLDER…`: a table per protocol or split, in the terminal only.

`sweep_report` compares the jobs of one sweep.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations
from operator import itemgetter
from typing import Any

import numpy as np

from ratinglab.errors import UserError
from ratinglab.evaluation.metric_kinds import MetricKind, parse_metric_at_k
from ratinglab.options import as_yaml, short_number
from ratinglab.process.program import shown_path
from ratinglab.reports.groups import (
    DIFFERENT_TABLES,
    Group,
    compare_with_best,
    comparison_conditions,
    describe_conditions,
    explain_columns,
    format_metrics,
    list_columns,
    rank_groups,
)
from ratinglab.reports.protocols import (
    USES,
    USES_NOTE,
    compared_tag,
    describe_comparability,
    join_departures,
    metric_of,
)
from ratinglab.reports.statistics import HALF_WIDTH_HEADER, half_width_of, mean_of, values_of
from ratinglab.reports.table_layout import align, drop_empty_columns, format_markdown, format_metric
from ratinglab.runs.finished_runs import FinishedRun, find_runs


def tabulate_comparisons(folders: Sequence[str], *, only_protocols: bool) -> Iterator[str]:
    """Tabulate all finished runs in these folders.

    The table of a protocol lists its runs and references, best test metric first. The other runs have a table per
    split, best validation metric first; `only_protocols` leaves them out. Runs that differ only in seed and fold share
    a row, which has their mean and its 95% confidence interval.

    Raises:
        UserError: there is no finished run in the folders.
    """
    runs, unfinished, unreadable = find_runs(folders)
    if not runs:
        reason = f" (left out: {'; '.join(unreadable)})" if unreadable else ""
        raise UserError(f"there is no finished run in {', '.join(folders)}{reason}")
    under_protocol: defaultdict[str, list[FinishedRun]] = defaultdict(list)
    by_conditions: defaultdict[tuple[tuple[str, str], ...], list[FinishedRun]] = defaultdict(list)
    for run in runs:
        if title := _title(run):
            under_protocol[title].append(run)
        elif not only_protocols:
            by_conditions[tuple(comparison_conditions(run.record).items())].append(run)
    all_conditions = [dict(items) for items in by_conditions]
    num_tables = len(under_protocol)
    for items, members in sorted(by_conditions.items()):
        tables = _divide_by_split(_group_runs(members, across_splits=True))
        num_tables += len(tables)
        for seeds, groups in tables:
            title = describe_conditions(dict(items), among=all_conditions)
            yield from (*_split_table(title if len(tables) == 1 else f"{title}, {seeds}", groups), "")
    for title, members in sorted(under_protocol.items()):
        yield from (*_protocol_table(title, _group_runs(members)), "")
    if num_tables > 1:
        yield DIFFERENT_TABLES
    if unfinished:
        yield f"note: {unfinished} unfinished {'runs are' if unfinished > 1 else 'run is'} left out"
    yield from (f"note: left out: {fault}" for fault in unreadable)


def tabulate_models(folders: Sequence[str]) -> Iterator[str]:
    """Tabulate the finished runs under protocols in Markdown: one row per model and fit, one column per protocol.

    A cell holds the protocol's metric, averaged over folds and seeds. It is empty unless every run is comparable and
    every seed has all folds. The column `uses besides the ratings` lists side information: compare models that use the
    same information. Seconds and parameters are means over the runs of the row's first filled column.

    Raises:
        UserError: there is no finished run under a protocol in the folders.
    """
    runs = [run for run in find_runs(folders)[0] if _title(run)]
    if not runs:
        raise UserError(f"there is no finished run under a protocol in {', '.join(folders)}")
    metrics = {protocol["title"]: metric_of(protocol) for protocol in _protocols(runs)}
    titles = sorted(metrics)
    lines = []
    for group in _group_runs(runs, across_splits=True):
        by_protocol = [[run for run in group.runs if _title(run) == title] for title in titles]
        comparable = [members if members and not _obstacle(members) else [] for members in by_protocol]
        means = [mean_of(members, compared_tag(members[0].record)) if members else None for members in comparable]
        figures = ["" if mean is None else f"{mean:.4f}" for mean in means]
        sizes = _size_cells(next(filter(None, comparable), group.runs))
        signs = [-1 if metrics[title].higher_is_better else 1 for title in titles]
        order = [np.inf if mean is None else sign * mean for sign, mean in zip(signs, means, strict=True)]
        uses = ", ".join(_protocols(group.runs)[0]["uses"])
        lines.append((order, [_name(group), uses, *figures, *sizes]))
    columns = [f"{title.partition(':')[0]}, {metrics[title].label}" for title in titles]
    header = ["", USES, *columns, "fit s", "parameters"]
    yield from format_markdown([header, *(cells for _, cells in sorted(lines, key=lambda line: line[0]))])


def _title(run: FinishedRun) -> str:
    """Return the title of a run's protocol, or "" without a protocol or its test metric."""
    return str(run.record.protocol["title"]) if run.record.protocol and compared_tag(run.record) in run.metrics else ""


def _protocols(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    return [run.record.protocol for run in runs if run.record.protocol is not None]


def _obstacle(runs: Sequence[FinishedRun]) -> str:
    """Describe why runs under a protocol are not comparable. Returns "" if they are."""
    protocols = _protocols(runs)
    count = protocols[0]["folds"]
    return (_missing_folds(runs, set(range(1, count + 1))) if count > 1 else "") or join_departures(protocols)


def _settings(run: FinishedRun, *, across_splits: bool) -> dict[str, Any]:
    """Return the settings that runs must share to be averaged. They must also share the model."""
    record = run.record
    settings: dict[str, Any] = {
        **{f"model.{key}": value for key, value in record.model_options.items()},
        **record.fit,
        "max_epochs": record.max_epochs,
        "refit": record.refit_epochs is not None,
        **record.monitor_settings(),
        "equation": record.model_target,
    }
    if parse_metric_at_k(compared_tag(record).removeprefix("test/")) is not None:
        settings["ranking.by"] = record.ranking["by"]
    if not across_splits:
        settings["split"] = record.provenance["split"].partition("/")[0]
    return {key: as_yaml(value) if isinstance(value, list | dict) else value for key, value in settings.items()}


def _group_runs(runs: Sequence[FinishedRun], *, across_splits: bool = False) -> list[Group]:
    """Group runs by model and settings. A group shows only settings that vary between groups of its model and fit.

    The runs may come from anywhere, so all recorded settings count. If runs have the same settings, seed, fold and
    protocol, the last one counts. Runs on different splits get separate groups, unless `across_splits` joins them.
    """
    by_settings: defaultdict[tuple[str, tuple[Any, ...]], dict[tuple[Any, ...], FinishedRun]] = defaultdict(dict)
    for run in runs:
        settings = tuple(sorted(_settings(run, across_splits=across_splits).items(), key=itemgetter(0)))
        provenance = run.record.provenance
        replicate = provenance["seed"], provenance["split"], run.record.fold, _title(run)
        by_settings[run.record.model, settings][replicate] = run
    groups = []
    for (model, settings), members in by_settings.items():
        fit = dict(settings)["optimizer"]
        alike = [dict(other) for name, other in by_settings if name == model and dict(other)["optimizer"] == fit]
        differing = {key: as_yaml(value) for key, value in settings if any(other.get(key) != value for other in alike)}
        groups.append(Group(differing, list(members.values())))
    return groups


def _name(group: Group) -> str:
    """Name a group by its model and fit, and by its settings."""
    record = group.runs[0].record
    settings = [f"{key.rpartition('.')[2]}={short_number(value)}" for key, value in group.settings.items()]
    return " ".join([f"{record.model} by {record.fit['optimizer']}", *settings])


def _split_id(run: FinishedRun) -> str:
    """Return the identity of a run's split, which its folds share."""
    return str(run.record.provenance["split"].partition("/")[0])


def _divide_by_split(groups: Sequence[Group]) -> list[tuple[str, list[Group]]]:
    """Divide groups into tables whose runs hold out the same ratings, and return the split seeds of each table as text.

    Groups that share only some of their splits are also in a table of these, with their runs on these.
    """
    split_sets = dict.fromkeys(frozenset(map(_split_id, group.runs)) for group in groups)
    shared = dict.fromkeys(one & other for one, other in combinations(split_sets, 2) if one & other)
    tables = []
    for splits in split_sets | shared:
        chosen = [group._replace(runs=[run for run in group.runs if _split_id(run) in splits]) for group in groups]
        members = [group for group in chosen if splits.issubset(map(_split_id, group.runs))]
        seeds = sorted({str(run.record.split.get("split.seed")) for run in members[0].runs})
        tables.append((f"split.seed={','.join(seeds)}", members))
    return tables


def _protocol_table(title: str, groups: Sequence[Group]) -> Iterator[str]:
    """Tabulate groups and the references of their protocol, best test metric first."""
    runs = groups[0].runs
    protocol = _protocols(runs)[0]
    metric, tag = metric_of(protocol), compared_tag(runs[0].record)
    lines = []
    for reference in protocol["figures"]:
        uses, source = ", ".join(reference["uses"]), f"{reference['kind']}: {reference['source']}"
        lines.append((reference["value"], [reference["system"], f"{reference['value']:.4f}", "", "", "", uses, source]))
    for group in groups:
        protocols, obstacle = _protocols(group.runs), _obstacle(group.runs)
        note = f"not comparable: {obstacle}" if obstacle else describe_comparability(protocols)
        cells = [*_metric_cells(group.runs, tag), *_size_cells(group.runs), ", ".join(protocols[0]["uses"]), note]
        lines.append((mean_of(group.runs, tag), [_name(group), *cells]))
    yield title
    lines.sort(key=lambda line: line[0], reverse=metric.higher_is_better)
    header = ["", metric.label, HALF_WIDTH_HEADER, "fit s", "parameters", USES, ""]
    table = drop_empty_columns([header, *(cells for _, cells in lines)])
    yield from align(table, right=[index for index, name in enumerate(table[0]) if name not in ("", USES)])
    yield from explain_columns(groups, tag)
    yield USES_NOTE


def _split_table(title: str, groups: Sequence[Group]) -> Iterator[str]:
    """Tabulate groups on one split, best monitored validation metric first, or test metric without validation rows."""
    runs = [run for group in groups for run in group.runs]
    monitor = runs[0].record.monitored_metric()
    columns = list_columns(monitor, runs, quantifier=any)
    if len(columns) > 1 and not any(values_of(group.runs, columns[0].name) for group in groups):
        columns = columns[1:]
    num_folds = runs[0].record.split.get("split.folds")
    # most splits have no folds, and one of the user's own may not record their number
    folds: set[int | None] = {run.record.fold for run in runs} if num_folds is None else {*range(1, num_folds + 1)}
    groups = [group._replace(num_missing=_count_missing(group.runs, folds)) for group in groups]
    groups = compare_with_best(rank_groups(groups, columns[0]), columns[0])
    is_single = all(len(group.runs) == 1 for group in groups)
    first, *others = (column.label if is_single else f"{column.label} {HALF_WIDTH_HEADER}" for column in columns)
    header = ["", "runs", first, f"behind {HALF_WIDTH_HEADER}", *others, "fit s", "parameters"]
    table = [[*header, "", "run" if is_single else "best run"]]
    for group in groups:
        first, *others = format_metrics(group.runs, columns)
        behind = "" if group.behind is None else group.behind.text
        notes = [_missing_folds(group.runs, folds), "ended early" if group.is_pruned else ""]
        best = min(group.runs, key=partial(_cost, columns[0])).folder
        cells = [_name(group), str(len(group.runs)), first or "none", behind, *others, *_size_cells(group.runs)]
        table.append([*cells, "; ".join(filter(None, notes)), str(shown_path(best))])
    yield title
    table = drop_empty_columns(table)
    yield from align(table, right=[index for index, name in enumerate(table[0]) if name in ("fit s", "parameters")])
    yield from explain_columns(groups, columns[0].name)


def _cost(metric: MetricKind, run: FinishedRun) -> float:
    """Return a run's metric, named by its tag, such that lower is better; infinity if the run has no such metric."""
    value = run.metrics.get(metric.name, math.nan)
    return math.inf if math.isnan(value) else -value if metric.higher_is_better else value


def _folds_by_seed(runs: Sequence[FinishedRun]) -> dict[tuple[int, int | None], set[int | None]]:
    """Return the folds of the runs, by their seed and the seed of their split, if it has one."""
    folds = defaultdict(set)
    for run in runs:
        folds[run.record.provenance["seed"], run.record.split.get("split.seed")].add(run.record.fold)
    return folds


def _count_missing(runs: Sequence[FinishedRun], folds: set[int | None]) -> int:
    return sum(len(folds - finished) for finished in _folds_by_seed(runs).values())


def _missing_folds(runs: Sequence[FinishedRun], folds: set[int | None]) -> str:
    """Describe the missing folds, naming a seed unless all seeds miss the same folds. Returns "" if none is missing."""
    by_seed = _folds_by_seed(runs)
    are_equal = len(set(map(frozenset, by_seed.values()))) == 1
    for (seed, _), finished in by_seed.items():
        if not finished >= folds:
            return f"{'' if are_equal else f'seed {seed} has '}{len(finished)} of {len(folds)} folds"
    return ""


def _metric_cells(runs: Sequence[FinishedRun], tag: str) -> list[str]:
    """Format the mean of a metric, and half the width of its 95% interval."""
    return [format_metric(mean_of(runs, tag)) or "none", format_metric(half_width_of(runs, tag))]


def _size_cells(runs: Sequence[FinishedRun]) -> list[str]:
    """Format the mean seconds of the fit and number of parameters."""
    return [f"{mean_of(runs, 'fit/seconds'):.1f}", f"{mean_of(runs, 'fit/parameters'):,.0f}"]
