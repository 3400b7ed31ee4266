"""Protocols: fixed data and a fixed split, with the results of other systems."""

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
    """Origin of a result: published, or measured by ratinglab's authors."""

    published = "published"
    measured = "measured"


@dataclass
class ReferenceResult:
    """Test result of another system."""

    system: str
    """Name of the system, with its settings."""
    value: float = field(metadata=finite())
    """The protocol's metric on the test rows, or its mean over several folds."""
    kind: ResultOrigin
    """published, in a paper or on its authors' page, or measured, by ratinglab's authors with the system's own code."""
    uses: list[Information]
    """Information used besides ratings and implicit feedback: times (the timestamps), user_features, item_features."""
    source: str
    """The publication, or a description of the measurement."""


@dataclass
class ProtocolOptions:
    """Options of the group `protocol`. This base class means that there is no protocol."""


@dataclass
class Protocol(ProtocolOptions):
    """Data and a split that make runs comparable, and the results of other systems."""

    title: str
    """Title of the table: the data, the split and the metric."""
    metric: str
    """Test metric of the results: rmse, mse or mae, or a ranking metric at any k, such as ndcg@10. Runs under the
    protocol measure it."""
    folds: int = field(metadata=at_least(1))
    """Number of folds, split.fold=1, 2, …, over which the results are averaged. With 1, results are from one run."""
    data_digest: str | None
    """Digest of the ratings in order, as in run.json. Runs on other data are not comparable. null if unknown."""
    num_ratings: int | None = field(metadata=at_least(1))
    """Number of ratings if their digest is unknown, else null."""
    side_digests: dict[str, str]
    """Digests of the timestamps and features that runs may use, by name. inspect_data.py prints them."""
    pins: dict[str, Any]
    """Keys and the values that they must have in a run that is comparable."""
    references: list[ReferenceResult]
    """Results of other systems. Each has the system, the value of the metric, its kind (published or measured), what
    the system uses besides the ratings (times, user_features, item_features; implicit feedback is not listed), and the
    source."""

    def check_together(self) -> None:
        """Raise UserError for an unknown metric."""
        if self.metric not in RATING_METRICS and parse_metric_at_k(self.metric) is None:
            names = ", ".join([*RATING_METRICS, *(f"{name}@K" for name in PER_USER_LABELS)])
            raise UserError(f"protocol.metric must be one of {names}, got {self.metric}")
