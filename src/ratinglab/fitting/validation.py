"""Metrics of a fit on the validation rows."""

from functools import cached_property

import torch
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from ratinglab.datamodule import RatingDataModule
from ratinglab.evaluation.metrics import MSE, Metric
from ratinglab.fitting.fit_options import FitSetup
from ratinglab.models.predictor import Predictor
from ratinglab.recommend.held_out_lists import MonitoredLists


class Validation:
    """Predictions of the validation rows in one epoch, and metrics of them, pooled over all processes."""

    def __init__(self, predictor: Predictor, data: RatingDataModule, setup: FitSetup) -> None:
        self._predictor, self._data, self._setup = predictor, data, setup
        self._lists: MonitoredLists | None = None
        self.clear()

    def clear(self) -> None:
        """Forget all predictions, before an epoch."""
        self._blocks: list[tuple[Tensor, Tensor]] = []

    def add(self, predicted: Tensor, rating: Tensor) -> None:
        """Add this process's rows of a block: predictions, not yet clipped, and ratings, (B,) float32 each."""
        self._blocks.append((self._predictor.clip(predicted), rating))

    def measure(self, metric: Metric) -> float:
        """Compute a metric of the predictions, in all processes."""
        predicted, rating = (torch.cat(column) for column in zip(*self._blocks, strict=True))
        trainer = self._data.trainer
        if trainer is not None and trainer.world_size > 1:
            predicted, rating = (torch.cat(gather_all_tensors(column)) for column in (predicted, rating))
        return metric(predicted, rating)

    def measure_monitored(self) -> float:
        """Compute the monitored metric of the predictions, or of the lists of the predictor's current weights."""
        monitor = self._setup.monitor
        if isinstance(monitor, Metric):
            return self.measure(monitor)
        if self._lists is None:
            self._lists = MonitoredLists(monitor, self._data, order=self._setup.order)
        return self._lists.measure(self._predictor, mse=self.measure(MSE) if self._blocks else None)

    @cached_property
    def baseline_mse(self) -> float:
        """MSE of the bias baseline on the validation rows."""
        blocks = list(self._data.val_dataloader())
        predicted = torch.cat([self._predictor.baseline(user, item) for user, item, *_ in blocks])
        return MSE(self._predictor.clip(predicted), torch.cat([block.rating for block in blocks]))
