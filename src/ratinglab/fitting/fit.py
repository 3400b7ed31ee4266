"""Base class for fits: logging, checkpoint contents, divergence checks."""

import logging
import math
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from ratinglab.batches import Batch
from ratinglab.datamodule import RatingDataModule
from ratinglab.errors import RunFailedError
from ratinglab.evaluation.metrics import MSE, Metric, RankingMetric
from ratinglab.evaluation.ranking import OrderBy, liked_from
from ratinglab.fitting.checkpoints import BestAndLast
from ratinglab.fitting.restoring import read_fit_parts
from ratinglab.fitting.setup import FitSetup
from ratinglab.models.predictor import Predictor
from ratinglab.recommend.held_out_lists import HeldOutLists
from ratinglab.recommend.interest import Interest, RatedPairs, fit_interest
from ratinglab.recommend.orders import ExpectedGain, Order, levels_of

log = logging.getLogger(__name__)


class Fit(LightningModule):
    """Base class for fits of an equation on (r − r̂)² + penalty, with r̂ the model's unclipped prediction.

    It logs these tags once per epoch, with the number of finished epochs as the step:
    train/mse: over the epoch's rows, without penalty or clipping; each fit says at which weights;
    val/mse: pooled over the validation rows, as the run predicts them (with fallback and clipping);
    val/NAME: the monitored metric, unless it is MSE;
    val/mse_above_bias_baseline: val/mse minus that of the bias baseline; negative if the model is better;
    train/lr: the learning rate of the epoch, if the fit has one;
    weights/…: the root mean square of each parameter after the epoch.
    """

    predictor: Predictor
    """The model being fitted, with its fallback."""

    def __init__(self, predictor: Predictor, setup: FitSetup) -> None:
        """Fit `predictor.model`."""
        super().__init__()
        self.automatic_optimization = False  # the fits' own loops over batches cost a fraction of Lightning's
        self.predictor = predictor
        self.lr, self.monitor = setup.lr, setup.monitor
        self.validated: list[tuple[Tensor, Tensor]] = []
        """Predicted and true ratings of each block of validation rows in this epoch."""
        self.baseline_mse: float | None = None
        self._lists: HeldOutLists | None = None
        self._interest: Interest | None = None
        self.train_mse = math.nan
        """MSE over the epoch's training rows, in squared stars; set by the epoch's last step."""
        self._scalars: dict[str, float] = {}
        self.epochs_done = 0
        self.stops_early = False
        """Whether the fit stopped itself because further epochs would gain too little."""
        self.seconds = 0.0
        """Seconds of fitting before this process."""
        self.step_seconds = 0.0
        """Seconds inside training steps so far."""
        self.rows_trained = 0
        """Rows in these steps: each row once per epoch, unless trainer.limit_train_batches skips some."""

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path) -> Self:  # type: ignore[override]
        """Load the fit of a run from its best.ckpt or last.ckpt, with its weights.

        The other files of the run's folder must be there: the equation is built from them.

        Raises:
            UserError: the checkpoint is missing or damaged, or is not in the folder of a run.
            TypeError: the checkpoint is of another class of fits.
        """
        optimizer, predictor, setup = read_fit_parts(Path(checkpoint_path))
        fit = optimizer.build(predictor, setup)
        if not isinstance(fit, cls):
            raise TypeError(f"{checkpoint_path} is the checkpoint of a {type(fit).__name__}, not of a {cls.__name__}")
        return fit

    @property
    def data(self) -> RatingDataModule:
        """The Trainer's data module."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, RatingDataModule)
        return data

    def wants_one_thread(self, batch_size: int) -> bool:
        """Return whether torch should use one thread during this fit."""
        return False

    def on_fit_start(self) -> None:
        self._started = perf_counter()

    def on_train_start(self) -> None:
        checkpoints = self.trainer.checkpoint_callback
        is_new = self.epochs_done == 0
        if is_new and isinstance(checkpoints, BestAndLast) and checkpoints.monitor is not None:
            value = torch.tensor(self._initial_value(), dtype=torch.float32)  # rounded like those of the epochs
            checkpoints.write_initial(self.trainer, float(value))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add finished epochs, time and rows. Lightning's `epoch` counts finished epochs only between epochs."""
        checkpoint["epochs"] = self.epochs_done
        early_stopping = self.trainer.early_stopping_callback
        has_stopped = early_stopping is not None and early_stopping.stopped_epoch > 0  # not by the clock
        checkpoint["stopped"] = has_stopped or self.stops_early
        checkpoint["seconds"] = self.seconds + perf_counter() - self._started
        checkpoint |= {"step_seconds": self.step_seconds, "rows_trained": self.rows_trained}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the finished epochs, time and rows of an interrupted fit."""
        self.epochs_done, self.seconds = checkpoint["epochs"], checkpoint["seconds"]
        self.step_seconds, self.rows_trained = checkpoint["step_seconds"], checkpoint["rows_trained"]
        if checkpoint["stopped"] and self.epochs_done >= (self.trainer.min_epochs or 0):
            # else Lightning would train one more epoch before early stopping checks
            log.info("note: this run has stopped early; no epoch is left to train")
            self.trainer.should_stop = True

    def configure_optimizers(self) -> Optimizer | None:
        """Return None: the steps change the weights in place."""
        return None

    def on_train_epoch_start(self) -> None:
        # Set from the epoch number: a scheduler saved before its step would resume one step behind.
        self.epoch_lr = None if self.lr is None else self.lr(self.current_epoch)

    def on_train_batch_start(self, batch: list[Batch], batch_idx: int) -> None:
        self._step_started = perf_counter()

    def on_train_batch_end(self, outputs: object, batch: list[Batch], batch_idx: int) -> None:
        self.step_seconds += perf_counter() - self._step_started
        self.rows_trained += sum(len(each.rating) for each in batch)
        # Lightning's global_step, which the checkpoints and limits of a caller's own Trainer go by
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()
        if self.trainer.is_last_batch:
            # now: validation and the epoch-end callbacks read it
            self._check_finite(self.train_mse, "the training loss")
            self._report("train/mse", self.train_mse * self.predictor.stars.unit**2)
            if self.epoch_lr is not None:
                self._log("train/lr", self.epoch_lr)

    def on_validation_epoch_start(self) -> None:
        self.validated.clear()

    def predict_block(self, batch: Batch, block: int) -> Tensor:
        """Compute the unclipped predictions for a block of validation rows, the same rows in every epoch."""
        return self.predictor.predict_unclipped(batch.user, batch.item, batch.day)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict and clip a block of validation rows."""
        self.validated.append((self.predictor.clip(self.predict_block(batch, batch_idx)), batch.rating))

    @torch.no_grad()
    def _initial_value(self) -> float:
        """Compute the monitored metric on the validation rows, before the first epoch."""
        self.predictor.eval()
        blocks = [
            (self.predictor.clip(self.predict_block(batch, block)), batch.rating)
            for block, batch in enumerate(self.data.val_dataloader())
        ]
        value = self._monitored_value(*(torch.cat(column) for column in zip(*blocks, strict=True)))
        self.predictor.train()
        return value

    def _monitored_value(self, predicted: Tensor, rating: Tensor) -> float:
        """Compute the monitored metric of the validation rows, predicted (N,) and rating (N,), or of their lists."""
        if isinstance(self.monitor, Metric):
            return self.monitor(predicted, rating)
        if self._lists is None:
            train = self.data.train_ratings
            self._lists = HeldOutLists(
                self.data.validation_ratings,
                train=RatedPairs(train.user, train.item),
                num_users=self.data.num_users,
                num_items=self.data.num_items,
                threshold=liked_from(self.monitor.threshold, self.predictor.stars),
            )
        order = self._order(self.monitor, mse=MSE(predicted, rating))
        return self._lists.measure(self.predictor, k=self.monitor.k, order=order)[self.monitor.measure]

    def _order(self, monitor: RankingMetric, *, mse: float) -> Order | None:
        """Return the order of the lists, given the MSE of the validation rows in squared rating units."""
        if monitor.by is OrderBy.prediction:
            return None
        assert monitor.by is OrderBy.expected_gain, "a burn-in has no lower bounds"
        train, stars = self.data.train_ratings, self.predictor.stars
        if self._interest is None:
            pairs = RatedPairs(train.user, train.item)
            self._interest = fit_interest(pairs, num_users=self.data.num_users, num_items=self.data.num_items)
        return ExpectedGain.from_levels(
            self._interest,
            stars.to_rating(levels_of(train.rating)),
            threshold=liked_from(monitor.threshold, stars),
            mse=mse,
            stars=stars,
        )

    def on_validation_epoch_end(self) -> None:
        predicted, rating = (torch.cat(column) for column in zip(*self.validated, strict=True))
        mse = MSE(predicted, rating)
        self._check_finite(mse, "the validation error")
        self._report("val/mse", mse)
        if self.monitor is not MSE:
            value = self._monitored_value(predicted, rating)
            self._check_finite(value, f"val/{self.monitor.name}")
            self._report(f"val/{self.monitor.name}", value)
        if self.baseline_mse is None:  # compute once: the baseline does not change
            baseline = [self.predictor.baseline(user, item) for user, item, *_ in self.data.val_dataloader()]
            self.baseline_mse = MSE(self.predictor.clip(torch.cat(baseline)), rating)
        self._log("val/mse_above_bias_baseline", mse - self.baseline_mse)

    def on_train_epoch_end(self) -> None:
        self.epochs_done = self.current_epoch + 1  # before Lightning writes the checkpoints
        # train/mse may precede the last update, so only this checks the final weights
        for name, parameter in self.predictor.model.named_parameters():
            size = float(parameter.detach().square().mean().sqrt())
            self._check_finite(size, "a weight")
            self._log(f"weights/{name.removeprefix('equation.').removesuffix('.weight')}", size)
        for logger in self.loggers:
            logger.log_metrics(self._scalars, step=self.epochs_done)
        self._scalars = {}

    def _check_finite(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            raise RunFailedError(f"{what} is {value} in epoch {self.current_epoch + 1}{self.advice()}")

    def advice(self) -> str:
        """Suggest a remedy, to append to the message about a value that is not finite."""
        return "" if self.epoch_lr is None else f" at lr {self.epoch_lr:g}; a smaller optimizer.lr may help"

    def _report(self, tag: str, value: float) -> None:
        """Send a value to callbacks, progress bar and loggers."""
        self.log(tag, torch.tensor(value, dtype=torch.float32), prog_bar=True, logger=False)
        self._log(tag, value)

    def _log(self, tag: str, value: float) -> None:
        """Keep a scalar for the loggers, which get all those of an epoch at its end."""
        self._scalars[tag] = value
