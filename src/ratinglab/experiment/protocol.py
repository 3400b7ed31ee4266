"""A run beside the figures of its protocol, and whether it may stand there."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from enum import Enum
from typing import Any

import numpy as np

from ratinglab.experiment.options import TrainOptions
from ratinglab.experiment.protocol_options import Protocol
from ratinglab.ratings.splits import VALIDATION, Split

COMPARABLE = "comparable"


def protocol_record(options: TrainOptions, *, data_digest: str, split: Split) -> dict[str, Any] | None:
    """What run.json keeps of a protocol: its title, folds and figures, and what the run departs in.

    Args:
        options: of the run.
        data_digest: of its ratings.
        split: its rows; validation rows that are not trained on in the end are a departure.

    Returns:
        Plain numbers and text; None where the run is under no protocol.
    """
    protocol = options.protocol
    if not isinstance(protocol, Protocol):
        return None
    departures = [
        f"{key} is {found}, the protocol has {value}"
        for key, value in protocol.pins.items()
        if (found := _value(options, key)) != value
    ]
    if data_digest != protocol.data_digest:
        departures.append("other ratings than the protocol's, or in another order")
    held_out = split.count(VALIDATION)
    if held_out > 0 and not options.split.refit:
        departures.append(f"{held_out:,} rows were held out for validation and not trained on")
    figures = [asdict(figure) | {"kind": figure.kind.value} for figure in protocol.figures]
    return {"title": protocol.title, "folds": protocol.folds, "figures": figures, "departures": departures}


def _beside_figures(protocol: dict[str, Any], *, name: str, rmse: float, remark: str) -> Iterator[str]:
    """The protocol's figures and ours, with what is to be said of it, the lowest RMSE first."""
    found = [(each["kind"], each["system"], each["rmse"], each["source"]) for each in protocol["figures"]]
    found = sorted([*found, ("this run", name, rmse, remark)], key=lambda row: row[2])
    width = max(len(system) for _, system, *_ in found)
    yield f"protocol   {protocol['title']}"
    for kind, system, value, source in found:
        yield f"{kind:11}{system:{width}}  {value:.4f}  {source}"


def of_run(protocol: dict[str, Any], *, name: str, rmse: float, fold: int | None) -> Iterator[str]:
    """The table of one run.

    Args:
        protocol: as protocol_record gives it.
        name: what the run is called.
        rmse: its test error.
        fold: its fold; None where its split has none.
    """
    yield from _beside_figures(protocol, name=name, rmse=rmse, remark=verdict([protocol]))
    if protocol["folds"] > 1:
        yield (
            f"note: this run is fold {fold} alone; the figures are means over {protocol['folds']}: "
            f"-m split.fold={','.join(map(str, range(1, protocol['folds'] + 1)))}"
        )


def of_folds(protocols: Sequence[dict[str, Any]], *, name: str, rmses: Sequence[float]) -> Iterator[str]:
    """The table of the mean over a protocol's folds."""
    spread = float(np.std(rmses, ddof=1))
    remark = f"mean of {len(rmses)} folds, s.d. {spread:.4f}; {verdict(protocols)}"
    return _beside_figures(protocols[0], name=name, rmse=float(np.mean(rmses)), remark=remark)


def verdict(protocols: Sequence[dict[str, Any]]) -> str:
    """Whether runs may stand beside the figures, and if not, why."""
    departures = list(dict.fromkeys(departure for each in protocols for departure in each["departures"]))
    return f"not comparable: {'; '.join(departures)}" if departures else COMPARABLE


def _value(options: TrainOptions, key: str) -> Any:
    """A key's value, plain; a text where the groups that were chosen have no such key."""
    found: Any = options
    for name in key.split("."):
        found = getattr(found, name, "not there")
    return found.name if isinstance(found, Enum) else found
