"""A protocol of the literature: what it asks of a run, and what others have reached under it."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from ratinglab.options import above, at_least


class FigureKind(Enum):
    """Where a figure comes from."""

    published = "published"
    measured = "measured"


@dataclass
class ProtocolFigure:
    """A test error of another system."""

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
    """Base class for protocols; conf/protocol/*.yaml name the subclasses by `_target_`."""

    name: ClassVar[str]


@dataclass
class Protocol(ProtocolOptions):
    """Settings that make runs comparable, and the figures of other systems under them."""

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
    """No protocol: the run is set beside the baselines alone."""

    name: ClassVar[str] = "none"
