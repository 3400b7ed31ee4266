"""Protocols: data and split that are fixed, and results of other systems."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ratinglab.errors import UserError
from ratinglab.evaluation.metric_kinds import parse_metric_at_k
from ratinglab.evaluation.ranking import PER_USER_LABELS
from ratinglab.options import at_least, finite
from ratinglab.ratings.side_information import Information

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


@dataclass
class Protocol(ProtocolOptions):
    """Data and split that make runs comparable, and results of other systems."""

    title: str
    """Title of the table: the data, the split and the metric."""
    metric: str
    """Test metric of the results: rmse, mse or mae, or a ranking metric at any k, such as ndcg@10, which runs then
    measure."""
    folds: int = field(metadata=at_least(1))
    """Number of folds that the results average over, one run each: split.fold=1, 2, …; 1: the results are from a
    single run."""
    data_digest: str | None
    """Digest of the ratings in order, as in run.json. Runs on other data are not comparable. null: not known."""
    num_ratings: int | None = field(metadata=at_least(1))
    """Number of ratings, if their digest is not known. null: not known."""
    side_digests: dict[str, str]
    """Digests of the times and features that runs may use, by name, as in run.json; inspect_data.py prints them."""
    pins: dict[str, Any]
    """Keys of a run, with the values that make it comparable."""
    references: list[ReferenceResult]
    """Results of other systems: system, value of the metric, kind (published or measured), what it uses besides the
    ratings (times, user_features, item_features; implicit feedback is not listed), source."""

    def check_together(self) -> None:
        """Raise UserError for an unknown metric."""
        if self.metric not in RATING_METRICS and parse_metric_at_k(self.metric) is None:
            names = ", ".join([*RATING_METRICS, *(f"{name}@K" for name in PER_USER_LABELS)])
            raise UserError(f"protocol.metric must be one of {names}, got {self.metric}")


@dataclass
class NoProtocol(ProtocolOptions):
    """No protocol: compare the run only with the baselines."""
