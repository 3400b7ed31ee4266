"""Evaluation protocols from the literature: fixed data and splits, and published figures to compare runs with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from ratinglab.errors import UserError
from ratinglab.evaluation.ranking import PER_USER_LABELS, list_metric
from ratinglab.options import at_least, finite
from ratinglab.ratings.side_information import Information
from ratinglab.reports.text_table import aligned

if TYPE_CHECKING:  # slow to import: the command line reads this file first
    from ratinglab.evaluation.metrics import MetricKind
    from ratinglab.runs.record import RunRecord

OF_RATINGS = ("mse", "rmse", "mae")
"""Metrics of predicted ratings that figures may have."""
USES = "uses besides the ratings"
"""Head of the column of the side information that a run or another system uses."""
NOTE = f"note: implicit feedback is not listed under `{USES}`: it follows from the ratings"


class FigureKind(Enum):
    """Origin of a figure."""

    published = "published"
    measured = "measured"


@dataclass
class ProtocolFigure:
    """Test metric of another system."""

    system: str
    """Name of the system, with its settings."""
    value: float = field(metadata=finite())
    """The protocol's metric on the test rows; with several folds, their mean."""
    kind: FigureKind
    """published: in a paper or on its authors' page; measured: by ratinglab's authors with the system's own code."""
    uses: list[Information]
    """Information besides the ratings and implicit feedback: times, user_features, item_features, or none."""
    source: str
    """Publication, or description of the measurement."""


@dataclass
class ProtocolOptions:
    """Options of a protocol."""

    name: ClassVar[str]


@dataclass
class Protocol(ProtocolOptions):
    """Data and split that make runs comparable, and figures of other systems."""

    name: ClassVar[str] = "figures"

    title: str
    """Title of the table: the data, the split and the metric."""
    metric: str
    """Test metric of the figures: rmse, mse or mae, or a ranking metric at any k, such as ndcg@10, which runs then
    measure."""
    folds: int = field(metadata=at_least(1))
    """Number of folds that the figures average over, one run each: split.fold=1, 2, …; 1: the figures are from a
    single run."""
    data_digest: str | None
    """Digest of the ratings in order, as in run.json. Runs on other data are not comparable. null: not known."""
    num_ratings: int | None = field(metadata=at_least(1))
    """Number of ratings, if their digest is not known. null: not known."""
    side_digests: dict[str, str]
    """Digests of the times and features that runs may use, by name, as in run.json; inspect_data.py prints them."""
    pins: dict[str, Any]
    """Keys of a run, with the values that make it comparable."""
    figures: list[ProtocolFigure]
    """Other systems: system, value of the metric, kind (published or measured), what it uses besides the ratings
    (times, user_features, item_features; implicit feedback is not listed), source."""

    def check_together(self) -> None:
        """Raise UserError for an unknown metric."""
        if self.metric not in OF_RATINGS and list_metric(self.metric) is None:
            names = ", ".join([*OF_RATINGS, *(f"{name}@K" for name in PER_USER_LABELS)])
            raise UserError(f"protocol.metric must be one of {names}, got {self.metric}")


@dataclass
class NoProtocol(ProtocolOptions):
    """No protocol: compare the run only with the baselines."""

    name: ClassVar[str] = "none"


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
