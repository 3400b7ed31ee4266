"""Metrics of predicted ratings, by name. They pool all rows of a part instead of averaging over batches or users.

To add your own, define a Metric in any module and name it: `metrics=[mse,rmse,mae,my_metrics.within_half]`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.batches import EVALUATION_BLOCK_ROWS
from ratinglab.errors import RunFailedError, UserError, did_you_mean
from ratinglab.evaluation.metric_kinds import MetricKind
from ratinglab.options import as_yaml
from ratinglab.ratings.table import Ratings
from ratinglab.targets import import_attribute, name_line_of_fault


class Predictions(NamedTuple):
    """Rows with the predictions of the model and of the bias baseline: (N,) each."""

    rows: Ratings
    predicted: NDArray[np.float32]
    baseline: NDArray[np.float32]

    def take(self, mask: NDArray[np.bool_]) -> "Predictions":
        """Select rows: mask (N,)."""
        return Predictions(self.rows.take(mask), predicted=self.predicted[mask], baseline=self.baseline[mask])


@dataclass(frozen=True)
class Metric(MetricKind):
    """A metric of predicted ratings.

    Attributes:
        compute: computes the metric of rows, or NaN if it is undefined for them, from predicted (N,) float32 and rating
            (N,) float32 on the CPU, N ≥ 1.
    """

    compute: Callable[[Tensor, Tensor], float]

    def __call__(self, predicted: Tensor, rating: Tensor) -> float:
        """Compute the metric: predicted (N,) float32 and rating (N,) float32, on any device."""
        value = self.compute(predicted.cpu(), rating.cpu())
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise RunFailedError(f"metrics: {self.name} must return a number, got {type(value).__name__}") from error


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
"""Σ (r̂ − r)² / n, in squared rating units. Fits of rating models minimize it plus a penalty, and their
runs report it."""
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


def check_metrics(names: Iterable[str], rating: Tensor) -> None:
    """Try metrics on some ratings, (N,) float32, because a fault would otherwise show only after the fit.

    Raises:
        UserError: the user's metric has a fault, or returns no number.
    """
    for metric in find_metrics(names):
        with name_line_of_fault(metric.compute, place=f"metrics: {metric.name}"):
            try:
                metric(rating.flip(0), rating)
            except RunFailedError as error:
                raise UserError(str(error)) from error


def _import_metric(name: str) -> Metric:
    if not name.rpartition(".")[0]:
        known = ", ".join(METRICS)
        raise UserError(
            f"metrics: unknown metric {as_yaml(name)}: choose from {known}, or MODULE.NAME of your own"
            f"{did_you_mean(name, METRICS)}"
        )
    metric = import_attribute(name, key="metrics", kind=Metric)
    if not isinstance(metric, Metric):
        raise UserError(f"metrics: {name} must be a Metric, got {type(metric).__name__}")
    return metric
