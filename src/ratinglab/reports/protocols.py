"""Evaluation protocols from the literature: fixed data and splits, and published figures to compare runs with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ratinglab.evaluation.ranking import list_metric
from ratinglab.reports.text_table import aligned

if TYPE_CHECKING:  # slow to import: the command line reads this file first
    from ratinglab.evaluation.metrics import MetricKind
    from ratinglab.runs.record import RunRecord

USES = "uses besides the ratings"
"""Head of the column of the side information that a run or another system uses."""
NOTE = f"note: implicit feedback is not listed under `{USES}`: it follows from the ratings"


def metric_of(protocol: Mapping[str, Any]) -> MetricKind:
    """Return the metric of a protocol's figures."""
    from ratinglab.evaluation.metrics import METRICS, MetricKind

    name, of_lists = protocol["metric"], list_metric(protocol["metric"])
    return METRICS[name] if of_lists is None else MetricKind(name, of_lists.label, higher_is_better=True)


def compared_tag(record: RunRecord) -> str:
    """Return the tag of the metric that a run's protocol compares; "" without a protocol."""
    return "" if record.protocol is None else f"test/{record.protocol['metric']}"


def departures(protocols: Sequence[dict[str, Any]]) -> str:
    """List the departures of runs from their protocol, each once; "" if there are none."""
    return "; ".join(dict.fromkeys(departure for protocol in protocols for departure in protocol["departures"]))


def verdict(protocols: Sequence[dict[str, Any]]) -> str:
    """Describe which figures runs of one equation are comparable with, or why none.

    A run that uses times or features is only comparable with systems that use them too.
    """
    if found := departures(protocols):
        return f"not comparable: {found}"
    uses = protocols[0]["uses"]
    if not uses:
        return "comparable"
    if any(set(uses) <= set(figure["uses"]) for figure in protocols[0]["figures"]):
        return f"comparable with systems that use {' and '.join(uses)} too"
    return f"not comparable: no system here uses {' and '.join(uses)}"


def table_among_figures(
    records: Sequence[RunRecord], value: float, *, half_width: float | None = None
) -> Iterator[str]:
    """Rank a run, or the mean over all folds with half its 95% interval, among the figures of the protocol."""
    protocols = [record.protocol for record in records if record.protocol is not None]
    record, protocol, note = records[0], protocols[0], verdict(protocols)
    if half_width is not None:
        note = f"mean of {len(protocols)} folds, ± {half_width:.4f} (95%); {note}"
    metric = metric_of(protocol)
    found = [
        (each["value"], each["kind"], each["system"], each["uses"], each["source"]) for each in protocol["figures"]
    ]
    found.append((value, "this run", f"{record.model} by {record.fit['optimizer']}", protocol["uses"], note))
    found.sort(key=lambda row: row[0], reverse=metric.higher_is_better)
    rows = [[kind, system, f"{figure:.4f}", ", ".join(uses), note] for figure, kind, system, uses, note in found]
    yield f"protocol   {protocol['title']}"
    yield from aligned([["", "", metric.label, USES, ""], *rows], right=[2])
    yield NOTE
    if half_width is None and protocol["folds"] > 1:
        yield (
            f"note: this run is only fold {record.fold}; the figures are means over {protocol['folds']}: "
            f"use -m split.fold={','.join(map(str, range(1, protocol['folds'] + 1)))}"
        )
