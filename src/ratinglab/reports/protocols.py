"""Evaluation protocols from the literature: fixed data and splits, and published results to compare runs with."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ratinglab.evaluation.metric_kinds import MetricKind, parse_metric_at_k
from ratinglab.evaluation.metrics import METRICS
from ratinglab.reports.table_layout import align
from ratinglab.runs.record import RunRecord

USES = "uses besides the ratings"
"""Header of the column of the side information that a run or another system uses."""
USES_NOTE = f"note: implicit feedback is not listed under `{USES}`: it follows from the ratings"


def metric_of(protocol: Mapping[str, Any]) -> MetricKind:
    """Return the metric of a protocol's references."""
    name = protocol["metric"]
    return parse_metric_at_k(name) or METRICS[name]


def compared_tag(record: RunRecord) -> str:
    """Return the tag of the metric that a run's protocol compares, or "" without a protocol."""
    return "" if record.protocol is None else f"test/{record.protocol['metric']}"


def join_departures(protocols: Sequence[dict[str, Any]]) -> str:
    """List the departures of runs from their protocol, each once. Returns "" if there are none."""
    return "; ".join(dict.fromkeys(departure for protocol in protocols for departure in protocol["departures"]))


def describe_comparability(protocols: Sequence[dict[str, Any]]) -> str:
    """Describe the references that runs of one equation are comparable with, or why there are none.

    A run that uses timestamps or features is comparable only with systems that use them too.
    """
    if problems := join_departures(protocols):
        return f"not comparable: {problems}"
    uses = protocols[0]["uses"]
    if not uses:
        return "comparable"
    if any(set(uses) <= set(reference["uses"]) for reference in protocols[0]["figures"]):
        return f"comparable with systems that use {' and '.join(uses)} too"
    return f"not comparable: no system here uses {' and '.join(uses)}"


def tabulate_with_references(
    records: Sequence[RunRecord], value: float, *, half_width: float | None = None
) -> Iterator[str]:
    """Tabulate the test metric of a run among the references of its protocol, best first.

    Args:
        records: the record of the run, or the records of the runs of all folds.
        value: the test metric, or its mean over the folds.
        half_width: half the width of the mean's 95% confidence interval, or None for a single run.
    """
    protocols = [record.protocol for record in records if record.protocol is not None]
    record, protocol, note = records[0], protocols[0], describe_comparability(protocols)
    is_one_fold = half_width is None and protocol["folds"] > 1
    if half_width is not None:
        note = f"mean of {len(protocols)} folds, ± {half_width:.4f} (95%); {note}"
    elif is_one_fold:
        note = f"fold {record.fold} of {protocol['folds']}; {note}"
    metric = metric_of(protocol)
    own_result = {"kind": "this run", "system": f"{record.model} by {record.fit['optimizer']}", "value": value}
    results = [*protocol["figures"], own_result | {"uses": protocol["uses"], "source": note}]
    results.sort(key=lambda result: result["value"], reverse=metric.higher_is_better)
    rows = [
        [result["kind"], result["system"], f"{result['value']:.4f}", ", ".join(result["uses"]), result["source"]]
        for result in results
    ]
    yield f"protocol   {protocol['title']}"
    yield from align([["", "", metric.label, USES, ""], *rows], right=[2])
    yield USES_NOTE
    if is_one_fold:
        yield (
            f"note: this run is only fold {record.fold}; the results are means over {protocol['folds']}: "
            f"use -m split.fold={','.join(map(str, range(1, protocol['folds'] + 1)))}"
        )
