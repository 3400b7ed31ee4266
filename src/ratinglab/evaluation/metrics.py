"""Metrics of predicted ratings, by name. Each pools all rows of a part; none averages over batches or users.

To add your own, define a Metric in any module and name it: `metrics=[mse,rmse,mae,my_metrics.within_half]`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ratinglab.batches import EVALUATION_BLOCK_ROWS
from ratinglab.errors import RunFailedError, UserError, did_you_mean
from ratinglab.evaluation.ranking import PER_USER_LABELS, OrderBy, OrderOptions, parse_metric_at_k
from ratinglab.targets import import_attribute

Kind = TypeVar("Kind", bound="MetricKind")


@dataclass(frozen=True)
class MetricKind:
    """Name in tags, as in test/NAME, label in tables, and direction of a metric."""

    name: str
    label: str
    higher_is_better: bool

    def is_better(self, value: float, than: float) -> bool:
        """Return whether one value is better than another."""
        return value > than if self.higher_is_better else value < than

    @property
    def worst(self) -> float:
        """The worst possible value."""
        return float("-inf") if self.higher_is_better else float("inf")


@dataclass(frozen=True)
class Metric(MetricKind):
    """A metric of predicted ratings.

    Attributes:
        compute: predicted (N,) float32 and rating (N,) float32, N ≥ 1, on the CPU → the metric of these rows; NaN if
            it is undefined for them.
    """

    compute: Callable[[Tensor, Tensor], float]

    def __call__(self, predicted: Tensor, rating: Tensor) -> float:
        """Compute the metric: predicted (N,) float32 and rating (N,) float32, on any device."""
        value = self.compute(predicted.cpu(), rating.cpu())
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise RunFailedError(f"metrics: {self.name} must return a number, got {type(value).__name__}") from error


@dataclass(frozen=True)
class MonitoredRankingMetric(MetricKind):
    """A metric of recommendation lists, such as ndcg@10.

    Attributes:
        measure: its name in evaluation.ranking, such as ndcg.
        k: number of items per list.
        by: order of the lists.
        threshold: lowest rating that counts as liked, in rating units; None: 4 stars.
    """

    measure: str
    k: int
    by: OrderBy
    threshold: float | None


def pooled_mean(error: Tensor, function: Callable[[Tensor], Tensor]) -> float:
    """Compute Σ function(error) / N in float64, the same for any number of threads: error (N,) float32."""
    sums = [function(block.double()).sum() for block in error.split(EVALUATION_BLOCK_ROWS)]
    return float(torch.stack(sums).sum()) / len(error)


def _mse(predicted: Tensor, rating: Tensor) -> float:
    return pooled_mean(predicted - rating, torch.square)


def _rmse(predicted: Tensor, rating: Tensor) -> float:
    return float(_mse(predicted, rating) ** 0.5)


def _mae(predicted: Tensor, rating: Tensor) -> float:
    return pooled_mean(predicted - rating, torch.abs)


MSE = Metric("mse", label="MSE", higher_is_better=False, compute=_mse)
"""Σ (r̂ − r)² / n, in squared rating units. Every fit minimizes it and every run reports it."""
RMSE = Metric("rmse", label="RMSE", higher_is_better=False, compute=_rmse)
"""√MSE, in rating units."""
MAE = Metric("mae", label="MAE", higher_is_better=False, compute=_mae)
"""Σ |r̂ − r| / n, in rating units."""
METRICS = {metric.name: metric for metric in (MSE, RMSE, MAE)}
"""Built-in metrics."""


def find_metrics(names: Iterable[str]) -> list[Metric]:
    """Find metrics by name. A name with a dot is MODULE.NAME of a user's Metric.

    Raises:
        UserError: a metric is unknown or listed twice, or MSE is missing.
    """
    names = list(names)
    metrics = [METRICS[name] if name in METRICS else _import_metric(name) for name in names]
    tags = [metric.name for metric in metrics]
    for tag in tags:
        if tags.count(tag) > 1:
            raise UserError(f"metrics: {tag} is listed twice")
        if not re.fullmatch(r"\w+", tag):
            raise UserError(f"metrics: the name of a metric must be one word, got {tag!r}")
    if MSE not in metrics:
        raise UserError(f"metrics must contain the built-in mse, got [{','.join(names)}]")
    return metrics


def _import_metric(name: str) -> Metric:
    if not name.rpartition(".")[0]:
        known = ", ".join(METRICS)
        raise UserError(
            f"metrics: unknown metric {name}: choose from {known}, or MODULE.NAME of your own"
            f"{did_you_mean(name, METRICS)}"
        )
    metric = import_attribute(name, key="metrics", kind=Metric)
    if not isinstance(metric, Metric):
        raise UserError(f"metrics: {name} must be a Metric, got {type(metric).__name__}")
    return metric


def find_monitored_metric(
    monitor: str, metrics: Iterable[Kind], *, order: OrderOptions
) -> Kind | MonitoredRankingMetric:
    """Find the metric named by `monitor`, such as val/mse or val/ndcg@10.

    Args:
        monitor: tag of a validation metric.
        metrics: metrics of predicted ratings.
        order: order of the lists of a ranking metric.

    Raises:
        UserError: `monitor` does not name a metric of the validation rows.
    """
    tags = {f"val/{metric.name}": metric for metric in metrics}
    if monitor in tags:
        return tags[monitor]
    part, _, name = monitor.partition("/")
    if part == "val" and (ranking := parse_metric_at_k(name)) is not None:
        return MonitoredRankingMetric(
            name, ranking.label, higher_is_better=True, **ranking._asdict(), by=order.by, threshold=order.threshold
        )
    measure, _, k = name.partition("@")
    if part == "val" and measure in PER_USER_LABELS and k:
        raise UserError(f"monitor: the k after @ must be an integer of at least 1, got {monitor}")
    listed = ", ".join([*tags, *(f"val/{name}@K" for name in PER_USER_LABELS)])
    near = [*tags, *(f"val/{name}@{k if re.fullmatch('[1-9][0-9]*', k) else 10}" for name in PER_USER_LABELS)]
    raise UserError(f"monitor must be one of {listed}, got {monitor}{did_you_mean(monitor, near)}")
