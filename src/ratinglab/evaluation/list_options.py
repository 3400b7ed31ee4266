"""Options of recommendation lists."""

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from ratinglab.options import at_least, finite


class OrderBy(Enum):
    """Value that orders the items of a list, highest first."""

    expected_gain = "expected_gain"
    prediction = "prediction"
    lower_bound = "lower_bound"


class UnknownUsers(Enum):
    """How to treat users without training ratings in recommendation lists."""

    error = "error"
    baseline = "baseline"


@dataclass
class OrderOptions:
    """Options of the order of recommendation lists."""

    key_prefix: ClassVar[str] = "ranking."
    """Beginning of the options' keys in messages."""

    by: OrderBy
    """Value that orders a list. prediction is the predicted rating. expected_gain is the user's interest in the item,
    estimated from implicit feedback (who rated what), times the probability of a rating of at least `threshold`.
    lower_bound, for optimizer=gibbs and folded-in users, is the prediction minus its standard deviation."""
    threshold: float | None = field(metadata=finite())
    """Lowest rating that counts as liked, in rating units. null means 4 on a scale of 1 to 5, and the equivalent on
    other scales."""


@dataclass
class RankingOptions(OrderOptions):
    """Options for measuring recommendation lists. A held-out rating of at least `threshold` makes an item relevant."""

    k: int | None = field(metadata=at_least(1))
    """Number of items per list. With null, measures only the lists that the monitored metric, such as val/ndcg@10, or
    the protocol needs."""
