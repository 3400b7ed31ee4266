"""Minibatch gradient descent on an equation."""

import math
from collections.abc import Callable
from time import perf_counter

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ratinglab.datamodule import Batch
from ratinglab.errors import TrainingDivergedError
from ratinglab.fitting.optimizers import SGD, Adam, AdamW
from ratinglab.metrics import ErrorSums
from ratinglab.models.predictor import Predictor


class GradientFit(LightningModule):
    """Minimizes (r − r̂)² + penalty, both means over the batch, where r̂ is the model's own, not clipped.

    Logs once an epoch, to callbacks and to the logger, whose step is the number of epochs done:
    train/mse: pooled over the epoch, each batch before its update, without penalty, not clipped;
    val/mse: pooled over the validation rows, as the run predicts (fallback, clipping);
    train/lr: the learning rate of the epoch.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        optimizer: Adam | AdamW | SGD,
        lr_factor: Callable[[int], float],
    ) -> None:
        """Fit `predictor.model`; `lr_factor` gives the factor on the learning rate at an epoch, from 0."""
        super().__init__()
        self.predictor = predictor
        self.optimizer_options = optimizer
        self.lr_factor = lr_factor
        self.train_errors = ErrorSums()
        self.validation_errors = ErrorSums()
        self.step_seconds = 0.0
        """Seconds inside training steps so far."""
        self.rows_trained = 0
        """Rows in these steps: each row once an epoch, unless trainer.limit_train_batches leaves some out."""

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LambdaLR]]:
        """The optimizer over the model's parameters; the schedule steps once an epoch."""
        optimizer = self.optimizer_options.build(self.predictor.model.parameters())
        return [optimizer], [LambdaLR(optimizer, self.lr_factor)]

    def on_train_epoch_start(self) -> None:
        self.train_errors = ErrorSums()
        self.epoch_lr: float = self.trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self._step_started = perf_counter()

    def training_step(self, batch: Batch) -> Tensor:
        """The objective of a batch: () float32."""
        user, item, rating = batch
        model = self.predictor.model
        predicted = model(user, item)
        self.train_errors.update(predicted=predicted.detach(), rating=rating)
        return (predicted - rating).square().mean() + model.penalty(user, item)

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        self.step_seconds += perf_counter() - self._step_started
        self.rows_trained += len(batch[2])
        if self.trainer.is_last_batch:
            # here, so that validation and all callbacks at the epoch's end find it
            self._report_epoch()

    def on_validation_epoch_start(self) -> None:
        self.validation_errors = ErrorSums()

    def validation_step(self, batch: Batch) -> None:
        """Add a block of validation rows to the errors."""
        user, item, rating = batch
        self.validation_errors.update(predicted=self.predictor(user, item), rating=rating)

    def on_validation_epoch_end(self) -> None:
        self._report("val/mse", self.validation_errors.compute().mse)

    def _report_epoch(self) -> None:
        mse = self.train_errors.compute().mse
        if not math.isfinite(mse):
            raise TrainingDivergedError(
                f"the training loss is {mse} in epoch {self.current_epoch + 1} at lr {self.epoch_lr:g}; "
                "a smaller optimizer.lr may help"
            )
        self._report("train/mse", mse)
        self._report("train/lr", self.epoch_lr, prog_bar=False)

    def _report(self, tag: str, value: float, *, prog_bar: bool = True) -> None:
        self.log(tag, torch.tensor(value, dtype=torch.float32), prog_bar=prog_bar, logger=False)
        if self.logger is not None:
            self.logger.log_metrics({tag: value}, step=self.current_epoch + 1)
