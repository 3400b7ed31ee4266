"""Protocols: data and split that are fixed, results of other systems, and the departures of a run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from ratinglab.errors import UserError
from ratinglab.evaluation.metric_kinds import parse_metric_at_k
from ratinglab.evaluation.ranking import PER_USER_LABELS
from ratinglab.options import at_least, finite
from ratinglab.ratings.side_information import Information
from ratinglab.splits.split import VALIDATION, Split

RATING_METRICS = ("mse", "rmse", "mae")
"""Metrics of predicted ratings that a protocol may have."""


class ResultOrigin(Enum):
    """Whether a result was published, or measured by ratinglab's authors."""

    published = "published"
    measured = "measured"


@dataclass
class ReferenceResult:
    """Test result of another system."""

    system: str
    """Name of the system, with its settings."""
    value: float = field(metadata=finite())
    """The protocol's metric on the test rows; with several folds, their mean."""
    kind: ResultOrigin
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
    """Data and split that make runs comparable, and results of other systems."""

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
    figures: list[ReferenceResult]
    """Other systems: system, value of the metric, kind (published or measured), what it uses besides the ratings
    (times, user_features, item_features; implicit feedback is not listed), source."""

    def check_together(self) -> None:
        """Raise UserError for an unknown metric."""
        if self.metric not in RATING_METRICS and parse_metric_at_k(self.metric) is None:
            names = ", ".join([*RATING_METRICS, *(f"{name}@K" for name in PER_USER_LABELS)])
            raise UserError(f"protocol.metric must be one of {names}, got {self.metric}")

    def departures(
        self, options: Any, *, data_digest: str, side_digests: Mapping[str, str], split: Split
    ) -> Iterator[str]:
        """Describe each departure of a run from the protocol.

        Departures include validation rows that the final fit does not train on, unless the protocol itself holds them
        out, and times and features that are used although the protocol does not pin them. `options` are the run's
        TrainOptions. `side_digests` are those of the times and features that the equation and the split use; see
        RatingTable.side_digests.
        """
        for key, pinned in self.pins.items():
            if (value := _plain_value(options, key)) != pinned:
                yield f"{key} is {value}, but the protocol requires {pinned}"
        if self.num_ratings not in (None, len(split.part)):
            yield f"there are {len(split.part):,} ratings, but the protocol has {self.num_ratings:,}"
        if self.data_digest not in (None, data_digest):
            yield "the ratings or their order differ from the protocol's"
        for name, digest in side_digests.items():
            kind, _, column = name.partition(".")
            label = f"the {kind.replace('_features', ' feature')} {column}".rstrip()
            if name not in self.side_digests:
                yield f"the protocol does not pin {label}"
            elif digest != self.side_digests[name]:
                yield f"{label} {'differs' if column else 'differ'} from the protocol's"
        held_out = 0 if self.pins.get("split.validation") else split.count(VALIDATION)
        if held_out > 0 and not options.split.refit:
            yield f"{held_out:,} rows were held out for validation and not trained on"


@dataclass
class NoProtocol(ProtocolOptions):
    """No protocol: compare the run only with the baselines."""

    name: ClassVar[str] = "none"


def _plain_value(options: Any, key: str) -> Any:
    """Look up the plain value of a key such as split.seed; "not set" if the chosen groups lack the key."""
    value = options
    for name in key.split("."):
        value = getattr(value, name, "not set")
    return value.name if isinstance(value, Enum) else value
