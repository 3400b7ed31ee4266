"""Options of Lightning's Trainer and callbacks. Imports Lightning only when they are built."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from ratinglab.errors import UserError
from ratinglab.options import above, at_least

if TYPE_CHECKING:
    from pytorch_lightning import Callback, Trainer
    from pytorch_lightning.loggers import Logger

    from ratinglab.evaluation.metric_kinds import MetricKind

_ALL_ROWS = "validation and test use all their rows, so that errors can be compared; split.validation holds out fewer"
NOT_IN_TRAINER = {
    "precision": "all fits compute in float32",
    "fast_dev_run": "for a quick trial, use trainer=debug",
    "limit_val_batches": _ALL_ROWS,
    "limit_test_batches": _ALL_ROWS,
    "overfit_batches": "to train on fewer rows, set trainer.limit_train_batches",
    "max_steps": "fits count epochs; set trainer.max_epochs",
    "min_steps": "fits count epochs; set trainer.min_epochs",
    "val_check_interval": "fits validate between epochs; set trainer.check_val_every_n_epoch",
    "gradient_clip_algorithm": "gradients are clipped by their norm; set trainer.gradient_clip_val",
    "sync_batchnorm": "no equation uses batch normalization",
    "logger": "choose logger=tensorboard, csv, mlflow, wandb or none",
    "callbacks": "set keys of callbacks, such as callbacks.early_stopping.patience",
    "enable_checkpointing": "a run predicts from its checkpoint",
    "default_root_dir": "set hydra.run.dir",
}
"""Unsupported arguments of Lightning's Trainer, each with the reason or the alternative."""


class Accelerator(Enum):
    """Device that holds the tensors during the fit."""

    cpu = "cpu"
    gpu = "gpu"
    mps = "mps"
    auto = "auto"


class Strategy(Enum):
    """Lightning's strategies."""

    auto = "auto"
    ddp = "ddp"


class Profiler(Enum):
    """Lightning's profilers."""

    simple = "simple"
    advanced = "advanced"


@dataclass
class TrainerOptions:
    """Arguments of Lightning's Trainer that a run can set, under Lightning's names.

    ratinglab sets loggers, callbacks, plugins and folders itself. NOT_IN_TRAINER lists unsupported arguments.
    """

    max_epochs: int = field(metadata=at_least(1))
    """Maximum number of epochs. Early stopping may end the fit sooner."""
    min_epochs: int = field(metadata=at_least(0))
    """Minimum number of epochs before early stopping may end the fit."""
    max_time: str | None
    """Time limit of the fit as DD:HH:MM:SS. With null, there is no limit. The fit ends after the epoch in which it
    reaches the limit. A resumed fit counts the time already used."""
    accelerator: Accelerator
    """Device to fit on: cpu, gpu, mps or auto. Small tables fit fastest on the cpu."""
    devices: int = field(metadata=at_least(1))
    """Number of devices per machine, with one process each. They share every batch of data.batch_size ratings, so the
    result does not depend on their number, except for rounding. More than 1 needs adam, adamw, sgd or sparse_adam."""
    num_nodes: int = field(metadata=at_least(1))
    """Number of machines. More than 1 needs torchrun or Slurm to start the processes."""
    strategy: Strategy
    """Lightning's strategy: ddp (distributed data parallel), or auto, which is ddp if there are several devices."""
    limit_train_batches: float = field(metadata=above(0, at_most=1))
    """Fraction of each epoch's batches to train on, above 0 and at most 1. Lower it for a quick trial."""
    check_val_every_n_epoch: int = field(metadata=at_least(1))
    """Number of epochs between validations. Raise it if validation is slow."""
    accumulate_grad_batches: int = field(metadata=at_least(1))
    """Number of batches whose gradients each step averages. Raise it if one large batch would not fit into memory."""
    gradient_clip_val: float | None = field(metadata=above(0))
    """Maximum norm of the gradient. With null, gradients are not clipped. Set it if the loss spikes."""
    deterministic: bool
    """Whether to raise an error if an operation is not bit-for-bit reproducible. Only GPUs have such operations."""
    profiler: Profiler | None
    """Lightning's profiler, simple or advanced, which times operations. With null, nothing is profiled."""
    enable_progress_bar: bool
    """Whether to show progress: a bar on a terminal, about 50 lines elsewhere."""
    enable_model_summary: bool
    """Whether to print Lightning's table of modules and parameters."""

    @property
    def num_processes(self) -> int:
        """Number of processes of a fit."""
        return self.devices * self.num_nodes

    def check_together(self) -> None:
        """Raise UserError if fields conflict."""
        if self.max_time is not None and not re.fullmatch(r"(?!0+(:00){3})\d+(:\d\d){3}", self.max_time):
            raise UserError(f"trainer.max_time must be DD:HH:MM:SS above 0, as in 00:01:30:00, got {self.max_time}")
        for key in ("min_epochs", "check_val_every_n_epoch"):
            value = getattr(self, key)
            if value > self.max_epochs:
                raise UserError(f"trainer.{key} must be at most trainer.max_epochs, got {value} and {self.max_epochs}")

    def build(self, *, run_folder: Path, loggers: Sequence[Logger] = (), callbacks: Sequence[Callback] = ()) -> Trainer:
        """Make Lightning's Trainer. Per-batch options go to the fit, which loops over batches itself.

        Raises:
            UserError: this machine has no such accelerator.
        """
        from lightning_fabric.utilities.exceptions import MisconfigurationException
        from pytorch_lightning import Trainer
        from pytorch_lightning.callbacks import ProgressBar, Timer

        from ratinglab.fitting.callbacks.checkpoints import AtomicCheckpointIO
        from ratinglab.fitting.ranks import PooledStrategy, cluster_environment

        # Trainer(max_time=…) would stop within an epoch. Without a limit, the timer still counts the time, since a
        # resumed run may have a limit.
        callbacks = [*callbacks, Timer(self.max_time, interval="epoch")]
        is_pooled = self.strategy is Strategy.ddp or self.num_processes > 1
        try:
            return Trainer(
                max_epochs=self.max_epochs,
                min_epochs=self.min_epochs,
                accelerator=self.accelerator.value,
                devices=self.devices,
                num_nodes=self.num_nodes,
                strategy=PooledStrategy() if is_pooled else "auto",
                check_val_every_n_epoch=self.check_val_every_n_epoch,
                deterministic=self.deterministic,
                profiler=None if self.profiler is None else self.profiler.value,
                # else Lightning would add its own bar
                enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
                enable_model_summary=self.enable_model_summary,
                # Lightning would validate before the first epoch
                num_sanity_val_steps=0,
                log_every_n_steps=1,  # fits log per epoch; with a larger value Lightning warns of few steps
                default_root_dir=run_folder,
                logger=list(loggers) or False,
                callbacks=callbacks,
                plugins=[AtomicCheckpointIO(), cluster_environment(self.num_processes)],
            )
        except MisconfigurationException as error:
            key = f"trainer.accelerator={self.accelerator.value} with trainer.devices={self.devices}"
            raise UserError(f"{key}: {' '.join(str(error).split())}") from error


@dataclass
class EarlyStoppingOptions:
    """Early stopping, once the monitored metric no longer improves."""

    patience: int | None = field(metadata=at_least(1))
    """The fit ends after this many consecutive validations without an improvement of the monitored metric. With null,
    it does not stop early."""
    min_delta: float = field(metadata=at_least(0))
    """Smallest change of the monitored metric that counts as an improvement, in the metric's own units."""


@dataclass
class CheckpointOptions:
    """When to write the checkpoint for resuming."""

    last_every_seconds: float = field(metadata=at_least(0))
    """Minimum number of seconds between two writes of last.ckpt, which is written at the end of an epoch. With 0, it is
    written after every epoch. Resuming repeats the epochs since the last write."""


@dataclass
class PruningOptions:
    """Early stopping of unpromising jobs of a sweep, by the rule of Optuna's MedianPruner."""

    enabled: bool
    """Whether to end a job whose best value of the monitored metric so far is worse than the median of the finished
    jobs at the same epoch. On by default in Optuna searches. It has no effect with split.refit=true."""
    n_startup_trials: int = field(metadata=at_least(0))
    """Number of other jobs that must have finished and reached an epoch before a job can be pruned at that epoch."""
    n_warmup_steps: int = field(metadata=at_least(0))
    """Number of epochs at the start of each job during which it is not pruned."""


@dataclass
class CallbackOptions:
    """Early stopping, checkpoints, and pruning of a search's jobs."""

    early_stopping: EarlyStoppingOptions
    """Stops the fit once the monitored metric (monitor=…) no longer improves."""
    checkpoint: CheckpointOptions
    """Writes last.ckpt for resuming, and best.ckpt after every best epoch."""
    pruning: PruningOptions
    """Stops unpromising jobs of a sweep early."""

    def build(self, *, run_folder: Path, monitor: MetricKind | None) -> list[Callback]:
        """Make the checkpoint callback and early stopping. Without a monitored metric the last epoch is the best."""
        from pytorch_lightning.callbacks import EarlyStopping

        from ratinglab.fitting.callbacks.checkpoints import BestAndLast

        last_every_seconds = self.checkpoint.last_every_seconds
        checkpoints = BestAndLast(run_folder, monitor=monitor, last_every_seconds=last_every_seconds)
        if monitor is None or self.early_stopping.patience is None:
            return [checkpoints]
        early_stopping = EarlyStopping(
            f"val/{monitor.name}",
            mode="max" if monitor.higher_is_better else "min",
            patience=self.early_stopping.patience,
            min_delta=self.early_stopping.min_delta,
            check_finite=False,  # a fit ends a diverged run with an error instead
        )
        return [checkpoints, early_stopping]
