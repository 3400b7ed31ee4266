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
    """Its name, with its settings."""
    rmse: float = field(metadata=above(0))
    """Pooled RMSE on the test rows, in rating units; of several folds their mean."""
    kind: FigureKind
    """published: in a paper or on its authors' page; measured: by ratinglab's authors, with that system's own code."""
    source: str
    """Where it is published, or how it was measured."""


@dataclass
class Protocol:
    """What makes runs comparable, and the figures that they are set beside."""

    name: ClassVar[str] = "figures"

    title: str
    """What is measured on what."""
    folds: int = field(metadata=at_least(1))
    """Folds whose mean the figures are: split.fold=1, … one run each; 1: the figures are of one run."""
    data_digest: str
    """Of the ratings in their order, as run.json has it."""
    pins: dict[str, Any]
    """Values of the run's keys from which it may not depart."""
    figures: list[ProtocolFigure]
    """What others have reached."""


@dataclass
class NoProtocol:
    """No protocol: the run is set beside the baselines alone."""

    name: ClassVar[str] = "none"
