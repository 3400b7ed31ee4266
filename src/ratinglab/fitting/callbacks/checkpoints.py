"""Checkpoints best.ckpt and last.ckpt. A failed write leaves the previous file intact."""

import logging
from io import BytesIO
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from ratinglab.evaluation.metric_kinds import MetricKind
from ratinglab.files import write_atomically
from ratinglab.fitting.callbacks.learning_curve import was_validated
from ratinglab.runs.digests import seal_archive
from ratinglab.runs.run_files import BEST, LAST

log = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Atomic writer of Lightning's file format.

    Lightning's own writer does not sync its temporary file, so a kill or a full disk can destroy the previous
    checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint. After an OSError, the old file is unchanged."""
        # serialize in memory: torch turns an OSError of its own file into a RuntimeError
        content = BytesIO()
        torch.save(checkpoint, content)
        seal_archive(content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), lambda file: file.write(content.getbuffer()))


class BestAndLast(Checkpoint):
    """Writer of best.ckpt, the best epoch by the monitored metric, and last.ckpt, from which a run resumes.

    With a monitored metric, the initial weights are the first candidate for best.ckpt, as epoch 0, so a fit never ends
    with a worse metric than it started with. Writes best.ckpt after every epoch that is the best so far. Writes
    last.ckpt at the end of the fit, and after an epoch if at least `last_every_seconds` have passed since the last
    write. Without a monitored metric, the last epoch counts as the best, and both are written together.

    If a checkpoint cannot be written, warns and keeps the previous one, so a full disk does not stop training.
    """

    def __init__(self, run_folder: Path, *, monitor: MetricKind | None, last_every_seconds: float) -> None:
        super().__init__()
        self.run_folder = run_folder
        self.monitor = monitor
        self.last_every_seconds = last_every_seconds
        self.best_value = None if monitor is None else monitor.worst
        self.failed: dict[str, str] = {}
        """Why the latest attempt to write a file failed, by name, BEST or LAST."""
        self.lost: dict[str, float] | None = None
        """Set if best.ckpt could not be written after the best epoch: that epoch and its monitored value."""
        self._last_written = monotonic()

    @property
    def faults(self) -> list[str]:
        """Reasons why the files do not hold the last and the best epoch; empty if they do."""
        lost = [] if self.lost is None else [f"the best epoch, {self.lost['epoch']}, could not be written to best.ckpt"]
        return [*self.failed.values(), *lost]

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far, and the best epoch if it could not be written, for resuming."""
        return {"best_value": self.best_value, "lost": self.lost}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value = state_dict["best_value"]
        self.lost = state_dict["lost"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files that are due. Lightning runs this after all callbacks but StopOnSignal."""
        if self.monitor is not None and self.best_value is not None and was_validated(trainer):
            value = float(trainer.callback_metrics[f"val/{self.monitor.name}"])
            if self.monitor.is_better(value, than=self.best_value):
                self.write_best(trainer, value, epoch=trainer.current_epoch + 1)
        is_due = monotonic() - self._last_written >= self.last_every_seconds
        if trainer.strategy.broadcast(is_due):  # all processes take part in a write
            self.write_last(trainer)

    def write_best(self, trainer: Trainer, value: float, *, epoch: int) -> None:
        """Write best.ckpt from an epoch whose monitored metric has this value. Epoch 0 has the initial weights.

        If that fails, store the epoch in `lost` if it is the best so far, and restore `best_value`.
        """
        assert self.monitor is not None
        last_value, lost = self.best_value, self.lost
        is_best = lost is None or not self.monitor.is_better(lost["value"], than=value)
        self.best_value = value  # before the write: a checkpoint holds its own value
        self.lost = None if is_best else lost
        if not self._write(trainer, BEST):
            self.best_value = last_value  # the file still holds the earlier epoch
            self.lost = {"epoch": epoch, "value": value} if is_best else lost

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.write_last(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the initial weights if there is no epoch to train."""
        if trainer.max_epochs == 0:
            self.write_last(trainer)

    def write_last(self, trainer: Trainer) -> None:
        """Write last.ckpt, after best.ckpt if the last epoch counts as the best.

        In the other order, a run killed between the two would have no epoch left after which to write best.ckpt.
        """
        if self.monitor is None:
            self._write(trainer, BEST)
        self._write(trainer, LAST)
        self._last_written = monotonic()

    def _write(self, trainer: Trainer, name: str) -> bool:
        """Write a file, and return whether it could be written. All processes call it, and rank 0 writes."""
        path = self.run_folder / name
        try:
            trainer.save_checkpoint(path)
            self.failed.pop(name, None)
        except OSError as error:
            trainer.strategy.barrier()  # the other processes wait at the end of Trainer.save_checkpoint
            message = f"{path} cannot be written: {error.strerror or error}"
            if name not in self.failed:  # warn once, not after every epoch
                log.warning("warning: %s; training continues and will retry at the next checkpoint", message)
            self.failed[name] = message
        return trainer.strategy.broadcast(name not in self.failed)
