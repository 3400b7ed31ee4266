"""Metrics of predicted ratings by name, each over all rows of a part: never a mean of batch means or of users.

One of your own is a Metric in any module: `metrics=[mse,rmse,mae,my_metrics.within_half]` names it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ratinglab.batches import BLOCK_SIZE
from ratinglab.errors import UserError, did_you_mean
from ratinglab.targets import import_named

Kind = TypeVar("Kind", bound="MetricKind")


@dataclass(frozen=True)
class MetricKind:
    """Name and direction of a metric.

    Attributes:
        name: in tags, as in test/NAME.
        label: in tables.
        higher_is_better: its direction.
    """

    name: str
    label: str
    higher_is_better: bool

    def is_better(self, value: float, than: float) -> bool:
        """Whether a value is better than another."""
        return value > than if self.higher_is_better else value < than

    @property
    def worst(self) -> float:
        """The value that every other one is better than."""
        return float("-inf") if self.higher_is_better else float("inf")


@dataclass(frozen=True)
class Metric(MetricKind):
    """A metric of predicted ratings.

    Attributes:
        compute: predicted (N,) float32 and rating (N,) float32, N ≥ 1, on the CPU, → the metric of these rows; NaN
            where it is undefined for them.
    """

    compute: Callable[[Tensor, Tensor], float]

    def __call__(self, predicted: Tensor, rating: Tensor) -> float:
        """The metric as a plain number: predicted (N,) float32 and rating (N,) float32, on any device."""
        return float(self.compute(predicted.cpu(), rating.cpu()))


def pooled_mean(error: Tensor, function: Callable[[Tensor], Tensor]) -> float:
    """Σ function(error) / N in float64: error (N,) float32. The last digit is the same at any number of threads."""
    sums = [function(block.double()).sum() for block in error.split(BLOCK_SIZE)]
    return float(torch.stack(sums).sum()) / len(error)


def _mse(predicted: Tensor, rating: Tensor) -> float:
    return pooled_mean(predicted - rating, torch.square)


def _rmse(predicted: Tensor, rating: Tensor) -> float:
    return float(_mse(predicted, rating) ** 0.5)


def _mae(predicted: Tensor, rating: Tensor) -> float:
    return pooled_mean(predicted - rating, torch.abs)


MSE = Metric("mse", label="MSE", higher_is_better=False, compute=_mse)
"""Σ (r̂ − r)² / n, in squared rating units: the metric that every fit minimizes and every run has."""
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        MSE,
        Metric("rmse", label="RMSE", higher_is_better=False, compute=_rmse),
        Metric("mae", label="MAE", higher_is_better=False, compute=_mae),
    )
}
"""The metrics at hand: RMSE is √MSE, MAE is Σ |r̂ − r| / n, both in rating units."""


def find_metrics(names: Iterable[str]) -> list[Metric]:
    """The metrics of these names; a name with a dot is MODULE.NAME of a Metric elsewhere.

    Raises:
        UserError: there is no such metric, or it is named twice, or MSE is missing.
    """
    found = [METRICS[name] if name in METRICS else _imported(name) for name in names]
    tags = [metric.name for metric in found]
    for tag in tags:
        if tags.count(tag) > 1:
            raise UserError(f"metrics: {tag} is there twice")
    if MSE.name not in tags:
        raise UserError(f"metrics must contain mse, got [{','.join(tags)}]")
    return found


def _imported(name: str) -> Metric:
    module, _, attribute = name.rpartition(".")
    if not module:
        known = ", ".join(METRICS)
        raise UserError(
            f"metrics: there is no metric {name}; there are {known}, and MODULE.NAME of your own"
            f"{did_you_mean(name, METRICS)}"
        )
    found = import_named(module, key="metrics")
    if not hasattr(found, attribute):
        names = [key for key, value in vars(found).items() if isinstance(value, Metric)]
        raise UserError(f"metrics: {module} has no {attribute}{did_you_mean(attribute, names)}")
    metric = getattr(found, attribute)
    if not isinstance(metric, Metric):
        raise UserError(f"metrics: {name} must be a Metric, got {type(metric).__name__}")
    return metric


def monitored(monitor: str, metrics: Iterable[Kind]) -> Kind:
    """The metric that `monitor`, such as val/mse, names.

    Raises:
        UserError: it is no metric of the validation rows.
    """
    tags = {f"val/{metric.name}": metric for metric in metrics}
    if monitor not in tags:
        raise UserError(f"monitor must be one of {', '.join(tags)}, got {monitor}{did_you_mean(monitor, tags)}")
    return tags[monitor]
