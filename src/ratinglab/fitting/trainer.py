"""Options of Lightning's Trainer, callbacks and loggers. Lightning is imported when they are built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ratinglab.errors import UserError
from ratinglab.options import above, above_zero_to, at_least

if TYPE_CHECKING:
    from pytorch_lightning import Callback, Trainer

    from ratinglab.evaluation.metrics import Metric
    from ratinglab.fitting.tensorboard import EventLog


class Accelerator(Enum):
    """Where tensors live while they are fitted."""

    cpu = "cpu"
    gpu = "gpu"
    mps = "mps"
    auto = "auto"


class Profiler(Enum):
    """Profilers of Lightning."""

    simple = "simple"
    advanced = "advanced"


@dataclass
class TrainerOptions:
    """The arguments of Lightning's Trainer that an experiment may choose, under Lightning's names.

    Loggers, callbacks, plugins and folders are ratinglab's to set. What would train on several devices, score a
    validation part in part, or replace the run by a trial of a few batches is left out.
    """

    max_epochs: int = field(metadata=at_least(1))
    """Largest number of epochs. Early stopping may end the fit before."""
    min_epochs: int = field(metadata=at_least(0))
    """Number of epochs before early stopping may end the fit."""
    accelerator: Accelerator
    """Device to fit on: cpu, gpu, mps or auto. Small tables fit fastest on the cpu."""
    devices: int = field(metadata=at_least(1))
    """Number of devices: 1. With more, each process would train on every row."""
    limit_train_batches: float = field(metadata=above_zero_to(1))
    """Fraction of each epoch's batches to train on, above 0 and at most 1. Lower it for a quick trial."""
    check_val_every_n_epoch: int = field(metadata=at_least(1))
    """Number of epochs between two validations. Raise it where validation takes long."""
    accumulate_grad_batches: int = field(metadata=at_least(1))
    """Number of batches whose gradients one step averages, for larger batches than memory holds."""
    gradient_clip_val: float | None = field(metadata=above(0))
    """Largest norm of the gradient; null: no clipping. Set it where the loss jumps."""
    deterministic: bool
    """Whether to refuse operations that do not repeat bit for bit. Only a GPU has such operations."""
    detect_anomaly: bool
    """Whether to find the operation that made a NaN. Slow: for debugging."""
    profiler: Profiler | None
    """Lightning profiler that prints where the time went: simple or advanced; null: none."""
    enable_progress_bar: bool
    """Whether to show progress: a bar on a terminal, or one line per epoch elsewhere."""
    enable_model_summary: bool
    """Whether to print Lightning's table of modules and parameters."""

    def check_together(self) -> None:
        """Raise UserError where the fields do not go together."""
        if self.devices > 1:
            raise UserError(f"trainer.devices must be 1, got {self.devices}: each process would train on every row")
        if self.min_epochs > self.max_epochs:
            raise UserError(
                f"trainer.min_epochs must be at most trainer.max_epochs, got {self.min_epochs} and {self.max_epochs}"
            )
        if self.check_val_every_n_epoch > self.max_epochs:
            raise UserError(
                "trainer.check_val_every_n_epoch must be at most trainer.max_epochs, "
                f"got {self.check_val_every_n_epoch} and {self.max_epochs}"
            )

    def build(self, *, run_folder: Path, logger: EventLog | None, callbacks: list[Callback]) -> Trainer:
        """Lightning's Trainer. What concerns single batches is the fit's, which goes through them itself.

        Args:
            run_folder: where Lightning would write what is not told a place.
            logger: where metrics go, if anywhere.
            callbacks: what acts between epochs.

        Raises:
            UserError: this machine has no such accelerator.
        """
        from lightning_fabric.utilities.exceptions import MisconfigurationException
        from pytorch_lightning import Trainer
        from pytorch_lightning.callbacks import ProgressBar

        from ratinglab.fitting.checkpoints import WholeCheckpointIO

        try:
            return Trainer(
                max_epochs=self.max_epochs,
                min_epochs=self.min_epochs,
                accelerator=self.accelerator.value,
                devices=self.devices,
                check_val_every_n_epoch=self.check_val_every_n_epoch,
                deterministic=self.deterministic,
                detect_anomaly=self.detect_anomaly,
                profiler=None if self.profiler is None else self.profiler.value,
                # else Lightning adds a bar of its own where there is none
                enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
                enable_model_summary=self.enable_model_summary,
                # a fit's own report of val/mse is complete after every epoch; a trial before the first adds nothing
                num_sanity_val_steps=0,
                log_every_n_steps=1,  # nothing is logged by step; a larger number makes Lightning warn of few steps
                default_root_dir=run_folder,
                logger=False if logger is None else logger,
                callbacks=callbacks,
                plugins=[WholeCheckpointIO()],
            )
        except MisconfigurationException as error:
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error


@dataclass
class EarlyStoppingOptions:
    """Stop when val/mse no longer gets better."""

    patience: int | None = field(metadata=at_least(1))
    """Number of validations in a row without a better val/mse that ends the fit; null: no early stopping."""
    min_delta: float = field(metadata=at_least(0))
    """Smallest fall of val/mse that counts as better, in squared rating units."""


@dataclass
class CheckpointOptions:
    """When to write what a run can go on from."""

    last_every_seconds: float = field(metadata=at_least(0))
    """Seconds between two writes of last.ckpt, at the end of an epoch; 0: every epoch. Resuming repeats the epochs
    since."""


@dataclass
class CallbackOptions:
    """What acts between epochs."""

    early_stopping: EarlyStoppingOptions
    """Stops the fit once val/mse no longer improves."""
    checkpoint: CheckpointOptions
    """Writes last.ckpt for resuming; best.ckpt follows every best epoch."""

    def build(self, *, checkpoint_folder: Path, monitor: Metric | None) -> list[Callback]:
        """The checkpoints and, with a monitored metric, early stopping.

        Args:
            checkpoint_folder: where checkpoints go.
            monitor: validation metric that decides which epoch is the best; None: the last one is.
        """
        from pytorch_lightning.callbacks import EarlyStopping

        from ratinglab.fitting.checkpoints import BestAndLast

        callbacks: list[Callback] = [
            BestAndLast(
                checkpoint_folder,
                monitor=monitor,
                last_every_seconds=self.checkpoint.last_every_seconds,
            )
        ]
        if monitor is not None and self.early_stopping.patience is not None:
            callbacks.append(
                EarlyStopping(
                    f"val/{monitor.name}",
                    mode="max" if monitor.higher_is_better else "min",
                    patience=self.early_stopping.patience,
                    min_delta=self.early_stopping.min_delta,
                    check_finite=False,  # a fit ends a diverged run with an error instead
                )
            )
        return callbacks


@dataclass
class LoggerOptions(ABC):
    """Options of a logger."""

    name: ClassVar[str]

    @abstractmethod
    def build(self, *, run_folder: Path, first_epoch: int) -> EventLog | None:
        """A logger that stays open until the run's test errors are known; None: nothing is logged.

        Args:
            run_folder: where the events go.
            first_epoch: number of the first epoch of this part of the run, from 1.
        """


@dataclass
class TensorBoardOptions(LoggerOptions):
    """Write TensorBoard events into the run's folder."""

    name: ClassVar[str] = "tensorboard"

    figures: bool
    """Whether to draw figures of the test errors at the end."""
    data_figures: bool
    """Whether to draw figures of the data. By default not in a sweep, where every run would show the same ones."""
    projector_items: int = field(metadata=at_least(0))
    """Number of most rated items whose embeddings the projector shows; 0: none, the default in a sweep. Each takes 12
    kB at embedding_dim 64."""

    def build(self, *, run_folder: Path, first_epoch: int) -> EventLog | None:
        """An event file in the run's folder."""
        from ratinglab.fitting.tensorboard import EventLog

        return EventLog(
            run_folder,
            first_epoch=first_epoch,
            has_figures=self.figures,
            has_data_figures=self.data_figures,
            projector_items=self.projector_items,
        )


@dataclass
class NoLoggerOptions(LoggerOptions):
    """Log nothing; metrics.json and train.log are written all the same."""

    name: ClassVar[str] = "none"

    def build(self, *, run_folder: Path, first_epoch: int) -> EventLog | None:
        """No logger."""
        return None
