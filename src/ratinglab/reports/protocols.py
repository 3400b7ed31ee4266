"""Evaluation protocols from the literature: fixed data and splits, and published figures to compare runs with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
    """Name of the system, with its settings."""
    rmse: float = field(metadata=above(0))
    """Pooled RMSE on the test rows, in rating units; with several folds, their mean."""
    kind: FigureKind
    """published: in a paper or on its authors' page; measured: by ratinglab's authors with the system's own code."""
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
    folds: int = field(metadata=at_least(1))
    """Number of folds that the figures average over, one run each: split.fold=1, 2, …; 1: the figures are from a
    single run."""
    data_digest: str
    """Digest of the ratings in order, as in run.json. Runs on other data are not comparable."""
    pins: dict[str, Any]
    """Keys of a run, with the values that make it comparable."""
    figures: list[ProtocolFigure]
    """Test errors of other systems: system, pooled RMSE, kind (published or measured), source."""


@dataclass
class NoProtocol(ProtocolOptions):
    """No protocol: compare the run only with the baselines."""

    name: ClassVar[str] = "none"


def table_of_run(protocol: dict[str, Any], *, name: str, rmse: float, fold: int | None) -> Iterator[str]:
    """Rank a run among its protocol's figures; `fold` is None for a split without folds."""
    yield from _among_figures(protocol, name=name, rmse=rmse, remark=verdict([protocol]))
    if protocol["folds"] > 1:
        yield (
            f"note: this run is only fold {fold}; the figures are means over {protocol['folds']}: "
            f"use -m split.fold={','.join(map(str, range(1, protocol['folds'] + 1)))}"
        )


def table_of_folds(protocols: Sequence[dict[str, Any]], *, name: str, rmses: Sequence[float]) -> Iterator[str]:
    """Rank the mean over a protocol's folds among its figures."""
    remark = f"mean of {len(rmses)} folds, s.d. {np.std(rmses, ddof=1):.4f}; {verdict(protocols)}"
    return _among_figures(protocols[0], name=name, rmse=float(np.mean(rmses)), remark=remark)


def verdict(protocols: Sequence[dict[str, Any]]) -> str:
    """Say whether runs are comparable with the figures, or why not."""
    departures = list(dict.fromkeys(departure for each in protocols for departure in each["departures"]))
    return f"not comparable: {'; '.join(departures)}" if departures else COMPARABLE


def _among_figures(protocol: dict[str, Any], *, name: str, rmse: float, remark: str) -> Iterator[str]:
    """List the protocol's figures and ours with a remark, lowest RMSE first."""
    found = [(each["kind"], each["system"], each["rmse"], each["source"]) for each in protocol["figures"]]
    found = sorted([*found, ("this run", name, rmse, remark)], key=lambda row: row[2])
    width = max(len(system) for _, system, *_ in found)
    yield f"protocol   {protocol['title']}"
    for kind, system, value, source in found:
        yield f"{kind:11}{system:{width}}  {value:.4f}  {source}"
