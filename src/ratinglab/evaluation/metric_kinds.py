"""Names, labels and directions of metrics, and the monitored metric by name. Imports nothing slow."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from ratinglab.errors import UserError, did_you_mean
from ratinglab.evaluation.ranking import PER_USER_LABELS
from ratinglab.options import as_yaml

Kind = TypeVar("Kind", bound="MetricKind")


@dataclass(frozen=True)
class MetricKind:
    """A metric's name in tags, as in test/NAME, its label in tables, and its direction."""

    name: str
    label: str
    higher_is_better: bool

    def is_better(self, value: float, than: float) -> bool:
        """Return whether one value is better than another."""
        return value > than if self.higher_is_better else value < than

    def of_part(self, part: str) -> "MetricKind":
        """Return the metric on the rows of a part, named by its tag, such as val/mse."""
        return MetricKind(f"{part}/{self.name}", f"{part} {self.label}", self.higher_is_better)

    @property
    def worst(self) -> float:
        """The worst possible value."""
        return float("-inf") if self.higher_is_better else float("inf")


@dataclass(frozen=True)
class MetricAtK(MetricKind):
    """A metric of recommendation lists, such as ndcg@10.

    Attributes:
        base_name: the name without @k, such as ndcg, as in evaluation.ranking.
        k: number of items per list.
    """

    base_name: str
    k: int


def parse_metric_at_k(name: str) -> MetricAtK | None:
    """Parse the name of a ranking metric, such as ndcg@10. Returns None for any other text."""
    match = re.fullmatch(rf"({'|'.join(PER_USER_LABELS)})@([1-9][0-9]*)", name)
    if match is None:
        return None
    base_name, k = match.groups()
    return MetricAtK(name, f"{PER_USER_LABELS[base_name]}@{k}", higher_is_better=True, base_name=base_name, k=int(k))


def find_monitored_metric(monitor: str, metrics: Iterable[Kind]) -> Kind | MetricAtK:
    """Find the metric named by `monitor`, such as val/mse or val/ndcg@10. `metrics` are the metrics of ratings.

    Raises:
        UserError: `monitor` does not name a metric of the validation rows.
    """
    tags = {f"val/{metric.name}": metric for metric in metrics}
    if monitor in tags:
        return tags[monitor]
    part, _, name = monitor.partition("/")
    if part == "val" and (ranking := parse_metric_at_k(name)) is not None:
        return ranking
    base_name, _, k = name.partition("@")
    if part == "val" and base_name in PER_USER_LABELS and k:
        raise UserError(f"monitor: the k after @ must be an integer of at least 1, got {monitor}")
    listed = ", ".join([*tags, *(f"val/{name}@K" for name in PER_USER_LABELS)])
    near = [*tags, *(f"val/{name}@{k if re.fullmatch('[1-9][0-9]*', k) else 10}" for name in PER_USER_LABELS)]
    raise UserError(f"monitor must be one of {listed}, got {as_yaml(monitor)}{did_you_mean(monitor, near)}")
