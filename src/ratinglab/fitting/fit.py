"""Base class for fits: logging, checkpoint contents, divergence checks."""

import logging
import math
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, distributed
from torch.optim import Optimizer

from ratinglab.batches import Batch
from ratinglab.datamodule import RatingDataModule
from ratinglab.errors import RunFailedError
from ratinglab.evaluation.metrics import MSE
from ratinglab.fitting.callbacks.checkpoints import BestAndLast
from ratinglab.fitting.fit_options import FitOptions, FitSetup
from ratinglab.fitting.restoring import read_fit
from ratinglab.fitting.validation import Validation
from ratinglab.models.equation import ScoreEquation
from ratinglab.models.factor_equation import FactorEquation
from ratinglab.models.predictor import Predictor

log = logging.getLogger(__name__)


class Fit(LightningModule):
    """Base class for fits. The objective is (r − r̂)² + penalty, with r̂ the model's unclipped prediction.

    It logs these tags once per epoch, with the number of finished epochs as the step:

    - train/mse: over the epoch's rows, without penalty or clipping. Each fit documents which weights it uses.
    - val/mse: pooled over the validation rows, as the run predicts them (with fallback and clipping).
    - val/mse_above_bias_baseline: val/mse minus the bias baseline's. It is negative if the model is better.
    - val/NAME: the monitored metric, unless it is MSE.
    - train/lr: the learning rate of the epoch, if the fit has one.
    - weights/…: the root mean square of each parameter after the epoch.

    A model that predicts scores has no MSE. Its fit documents its training metric.

    Several processes train on shards of the same batches and predict shards of the validation rows. Errors are pooled
    over all processes, so all of them have the same values and the same weights.
    """

    predictor: Predictor
    """The model being fitted, with its fallback."""

    def __init__(self, predictor: Predictor, setup: FitSetup, options: FitOptions) -> None:
        """Prepare to fit `predictor.model` from its current weights."""
        super().__init__()
        self.automatic_optimization = False  # the fits' own loops over batches cost a fraction of Lightning's
        self.predictor = predictor
        self._predicts_ratings = not isinstance(predictor.model, ScoreEquation)
        self.monitor, self.seed = setup.monitor, setup.seed
        self._setup, self._options = setup, options
        self.train_mse = math.nan
        """MSE over the epoch's training rows, in squared stars; set by the epoch's last step."""
        self._scalars: dict[str, float] = {}
        """Scalars of the epoch by tag, which the loggers receive at its end."""
        self.run_id = ""
        """Id of the run, which its checkpoints also hold."""
        self.epochs_done = 0
        self.stops_early = False
        """Whether the fit stopped itself because further epochs would gain too little."""
        self.seconds = 0.0
        """Seconds of fitting in earlier processes of an interrupted fit."""
        self.step_seconds = 0.0
        """Seconds inside training steps so far."""
        self.rows_trained = 0
        """Number of rows in these steps. An epoch counts each row once, unless trainer.limit_train_batches skips it."""
        self.batch_rows: list[int] = []
        """Number of rows of each batch of the step, in all processes."""

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path) -> Self:  # type: ignore[override]
        """Load the fit of a run from its best.ckpt or last.ckpt, with its weights.

        The run's other files must be there, because the equation is built from them.

        Raises:
            UserError: the checkpoint is missing or damaged, or is not in the folder of a run.
            TypeError: the checkpoint belongs to a fit of another class.
        """
        fit = read_fit(Path(checkpoint_path))
        if not isinstance(fit, cls):
            raise TypeError(f"{checkpoint_path} is the checkpoint of a {type(fit).__name__}, not of a {cls.__name__}")
        return fit

    @property
    def data(self) -> RatingDataModule:
        """The Trainer's data module."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, RatingDataModule)
        return data

    def connect_services(self, run_folder: Path) -> None:
        """Connect to services that the fit needs, before the run's files are written.

        Raises:
            UserError: a service is not available.
        """

    def wants_one_thread(self, batch_size: int) -> bool:
        """Return whether torch should use one thread during this fit."""
        return False

    def setup(self, stage: str) -> None:
        self._fit_started = perf_counter()
        self.validation = Validation(self.predictor, self.data, self._setup)

    def on_train_start(self) -> None:
        checkpoints = self.trainer.checkpoint_callback
        is_new = self.epochs_done == 0
        if is_new and isinstance(checkpoints, BestAndLast) and checkpoints.monitor is not None:
            value = torch.tensor(self._initial_value(), dtype=torch.float32)  # rounded to float32, as later values are
            checkpoints.write_best(self.trainer, float(value), epoch=0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the number of finished epochs, the time and the rows.

        Lightning's own `epoch` is too low by 1 in a checkpoint that a callback writes at the end of an epoch.
        """
        early_stopping = self.trainer.early_stopping_callback
        has_stopped = early_stopping is not None and early_stopping.stopped_epoch > 0  # not by max_time
        checkpoint |= {
            "run": self.run_id,
            "epochs": self.epochs_done,
            "stopped": has_stopped or self.stops_early,
            "seconds": self.seconds + perf_counter() - self._fit_started,
            "step_seconds": self.step_seconds,
            "rows_trained": self.rows_trained,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the finished epochs, time and rows of an interrupted fit."""
        self.epochs_done, self.seconds = checkpoint["epochs"], checkpoint["seconds"]
        self.step_seconds, self.rows_trained = checkpoint["step_seconds"], checkpoint["rows_trained"]
        if checkpoint["stopped"] and self.epochs_done >= (self.trainer.min_epochs or 0):
            # else Lightning would train one more epoch before it checks for early stopping
            log.info("note: this run has stopped early; no epoch is left to train")
            self.trainer.should_stop = True

    def stop_early(self) -> None:
        """End the fit after this epoch. Resuming the run trains it no further."""
        self.stops_early = self.trainer.should_stop = True

    def configure_optimizers(self) -> Optimizer | None:
        """Return None, because the steps change the weights in place."""
        return None

    def on_train_epoch_start(self) -> None:
        # computed from the epoch number: a scheduler saved before its step would resume one step behind
        factor = self._setup.schedule.factor(self.current_epoch, self._setup.trainer.max_epochs)
        self.epoch_lr = None if self._options.initial_lr is None else factor * self._options.initial_lr
        self._is_reported = False

    def on_train_batch_start(self, batch: list[Batch], batch_idx: int) -> None:
        self._step_started = perf_counter()
        self.batch_rows = [len(shard.rating) for shard in batch]
        if self.trainer.world_size > 1:
            rows = torch.tensor(self.batch_rows, device=self.device)
            distributed.all_reduce(rows)
            self.batch_rows = rows.tolist()

    def on_train_batch_end(self, outputs: object, batch: list[Batch], batch_idx: int) -> None:
        # Checkpoints and limits of a caller's own Trainer depend on Lightning's global_step. Lightning counts only the
        # steps of optimizers that self.optimizers() wraps, and most fits have no optimizer.
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()
        # a caller's own Trainer may end the epoch before its last batch
        if self.trainer.is_last_batch or self.trainer.fit_loop.epoch_loop.done:
            self._report_epoch()  # validation and the callbacks at the end of the epoch need it
        self.step_seconds += perf_counter() - self._step_started
        self.rows_trained += sum(self.batch_rows)

    def _report_epoch(self) -> None:
        """Report the training metric and the learning rate of the epoch, after its last step."""
        self._is_reported = True
        self.report_training()
        if self.epoch_lr is not None:
            self._record("train/lr", self.epoch_lr)

    def report_training(self) -> None:
        """Report train/mse of the epoch."""
        self.report("train/mse", self.train_mse * self.predictor.stars.unit**2)

    def on_validation_epoch_start(self) -> None:
        self.validation.clear()

    def predict_block(self, batch: Batch, block_number: int) -> Tensor:
        """Compute the unclipped predictions for a block of validation rows, the same rows in every epoch."""
        return self.predictor.predict_unclipped(batch.user, batch.item, batch.day)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict this process's shard of a block of validation rows. Does nothing for ranking models."""
        if self._predicts_ratings:
            shard = batch.shard(self.global_rank, world_size=self.trainer.world_size)
            self.validation.add(self.predict_block(shard, batch_idx), shard.rating)

    def on_test_epoch_start(self) -> None:
        self.validation.clear()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict this process's shard of a block of test rows. Only a caller's own Trainer tests a fit."""
        if self._predicts_ratings:
            shard = batch.shard(self.global_rank, world_size=self.trainer.world_size)
            self.validation.add(self.predictor.predict_unclipped(shard.user, shard.item, shard.day), shard.rating)

    def on_test_epoch_end(self) -> None:
        if self._predicts_ratings:
            self.log("test/mse", self.validation.measure(MSE))

    @torch.no_grad()
    def _initial_value(self) -> float:
        """Compute the monitored metric on the validation rows, before the first epoch."""
        self.predictor.eval()
        for block, batch in enumerate(self.data.val_dataloader()):
            self.validation_step(batch, block)
        value = self.validation.measure_monitored()
        self.predictor.train()
        return value

    def on_validation_epoch_end(self) -> None:
        if self._predicts_ratings:
            mse = self.validation.measure(MSE)
            self.report("val/mse", mse)
            self._record("val/mse_above_bias_baseline", mse - self.validation.baseline_mse)
        if self.monitor is not MSE:
            self.report(f"val/{self.monitor.name}", self.validation.measure_monitored())

    def on_train_epoch_end(self) -> None:
        if not self._is_reported:  # a validation within the epoch made a caller's own Trainer stop
            self._report_epoch()
        self.epochs_done = self.current_epoch + 1  # before Lightning writes the checkpoints
        # train/mse may be computed before the last update, so the weights are checked separately
        for name, parameter in self.predictor.model.named_parameters():
            size = float(parameter.detach().square().mean().sqrt())
            self._record(f"weights/{name.removeprefix('equation.').removesuffix('.weight')}", size)
        for logger in self.loggers:
            logger.log_metrics(self._scalars, step=self.epochs_done)
        self._scalars = {}

    def report(self, tag: str, value: float) -> None:
        """Send a value to callbacks, progress bar and loggers.

        Raises:
            RunFailedError: the value is not finite.
        """
        self._record(tag, value)
        is_fitting = self.trainer.state.fn == TrainerFn.FITTING  # the loggers receive an epoch's values at its end
        self.log(tag, torch.tensor(value, dtype=torch.float32), prog_bar=True, logger=not is_fitting)

    def _record(self, tag: str, value: float) -> None:
        """Store a value for the loggers, which receive all values of an epoch at its end."""
        if not math.isfinite(value):
            remedy = ""
            if self._options.needs_regularization:
                remedy = "; a larger model.regularization may help"
            elif self.epoch_lr is not None:
                remedy = f" at lr {self.epoch_lr:g}; a smaller optimizer.lr may help"
            raise RunFailedError(f"{tag} is {value} in epoch {self.current_epoch + 1}{remedy}")
        self._scalars[tag] = value


class FactorFit(Fit):
    """Base class for fits of factor equations only."""

    @property
    def equation(self) -> FactorEquation:
        """The equation being fitted. If the model is a posterior, this is the equation of the current draw."""
        equation = self.predictor.equation
        assert isinstance(equation, FactorEquation), "the options refuse other equations"
        return equation
