"""Protocols of the literature: what is fixed so that runs can be compared, and published figures beside a run's."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, ClassVar

import numpy as np

from ratinglab.options import above, at_least

COMPARABLE = "comparable"


class FigureKind(Enum):
    """Origin of a figure."""

    published = "published"
    measured = "measured"


@dataclass
class ProtocolFigure:
    """Test error of another system."""

    system: str
    """System, with its settings."""
    rmse: float = field(metadata=above(0))
    """Pooled RMSE on the test rows, in rating units; of several folds their mean."""
    kind: FigureKind
    """published: in a paper or on its authors' page; measured: by ratinglab's authors, with that system's own code."""
    source: str
    """Publication, or how it was measured."""


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
    folds: int = field(metadata=at_least(1))
    """Number of folds whose mean the figures are: one run each, split.fold=1, 2, …; 1: the figures are of a single
    run."""
    data_digest: str
    """Digest of the ratings in their order, as in run.json. Runs on other data are not comparable."""
    pins: dict[str, Any]
    """Keys of a run, and the values they must have for a comparison."""
    figures: list[ProtocolFigure]
    """Test errors of other systems: system, pooled RMSE, kind (published or measured), source."""


@dataclass
class NoProtocol(ProtocolOptions):
    """No protocol: the run is compared with the baselines alone."""

    name: ClassVar[str] = "none"


def record_of(protocol: Protocol, *, departures: Sequence[str]) -> dict[str, Any]:
    """Contents of run.json on a protocol, as plain numbers and text: its title, folds and figures, and departures."""
    figures = [asdict(figure) | {"kind": figure.kind.value} for figure in protocol.figures]
    return {"title": protocol.title, "folds": protocol.folds, "figures": figures, "departures": list(departures)}


def table_of_run(protocol: dict[str, Any], *, name: str, rmse: float, fold: int | None) -> Iterator[str]:
    """A run among its protocol's figures.

    Args:
        protocol: as record_of returns it.
        name: of the run.
        rmse: its test error.
        fold: its fold; None where its split has none.
    """
    yield from _among_figures(protocol, name=name, rmse=rmse, remark=verdict([protocol]))
    if protocol["folds"] > 1:
        yield (
            f"note: this run is fold {fold} alone; the figures are means over {protocol['folds']}: "
            f"-m split.fold={','.join(map(str, range(1, protocol['folds'] + 1)))}"
        )


def table_of_folds(protocols: Sequence[dict[str, Any]], *, name: str, rmses: Sequence[float]) -> Iterator[str]:
    """The mean over a protocol's folds among its figures."""
    spread = float(np.std(rmses, ddof=1))
    remark = f"mean of {len(rmses)} folds, s.d. {spread:.4f}; {verdict(protocols)}"
    return _among_figures(protocols[0], name=name, rmse=float(np.mean(rmses)), remark=remark)


def verdict(protocols: Sequence[dict[str, Any]]) -> str:
    """Whether runs are comparable with the figures, and if not, why."""
    departures = list(dict.fromkeys(departure for each in protocols for departure in each["departures"]))
    return f"not comparable: {'; '.join(departures)}" if departures else COMPARABLE


def _among_figures(protocol: dict[str, Any], *, name: str, rmse: float, remark: str) -> Iterator[str]:
    """The protocol's figures and ours with a remark, the lowest RMSE first."""
    found = [(each["kind"], each["system"], each["rmse"], each["source"]) for each in protocol["figures"]]
    found = sorted([*found, ("this run", name, rmse, remark)], key=lambda row: row[2])
    width = max(len(system) for _, system, *_ in found)
    yield f"protocol   {protocol['title']}"
    for kind, system, value, source in found:
        yield f"{kind:11}{system:{width}}  {value:.4f}  {source}"
