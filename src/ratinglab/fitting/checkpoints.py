"""best.ckpt and last.ckpt, of which a good one is never lost."""

import logging
from io import BytesIO
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from ratinglab.files import write_whole

log = logging.getLogger(__name__)


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's file format, written whole or not at all.

    Lightning's own writes to another folder first and does not sync: a kill or a full disk can cost the previous file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it cannot be written; the old file is as it was.
        """
        # By way of memory: torch turns the OSError of a file that it writes itself into a RuntimeError.
        content = BytesIO()
        torch.save(checkpoint, content)
        write_whole(Path(path), lambda file: file.write(content.getbuffer()))


class BestAndLast(Checkpoint):
    """Keeps best.ckpt, the lowest val/mse so far, and last.ckpt, the state from which a run goes on.

    best.ckpt is written at every epoch that is the best. last.ckpt is written when `last_every_seconds` have gone by,
    at the epoch's end, and at the end of the fit. Where no validation tells which epoch is the best, it is the last,
    and both are written together.

    A checkpoint that cannot be written is a warning, and the previous one stays: a full disk ends no training.
    `failed` then tells at the end of the fit which of the two is not the one that it should be.
    """

    def __init__(self, folder: Path, *, has_best: bool, last_every_seconds: float) -> None:
        super().__init__()
        self.folder = folder
        self.has_best = has_best
        self.last_every_seconds = last_every_seconds
        self.best_mse = float("inf")
        self.failed: dict[str, str] = {}
        """Why a file is not up to date, by its name."""
        self._last_written = monotonic()

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on must know."""
        return {"best_mse": self.best_mse}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what an earlier part of the run has found."""
        self.best_mse = state_dict["best_mse"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the folder.

        Raises:
            OSError: it cannot be made.
        """
        self.folder.mkdir(exist_ok=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what is due. Lightning runs this after all other callbacks, whose state is then that of the epoch."""
        validated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        if self.has_best and validated:
            mse = float(trainer.callback_metrics["val/mse"])
            if mse < self.best_mse:
                self.best_mse = mse
                self._write(trainer, "best.ckpt")
        if monotonic() - self._last_written >= self.last_every_seconds:
            self._write_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last epoch's state."""
        self._write_last(trainer)

    def _write_last(self, trainer: Trainer) -> None:
        self._write(trainer, "last.ckpt")
        if not self.has_best:
            self._write(trainer, "best.ckpt")
        self._last_written = monotonic()

    def _write(self, trainer: Trainer, name: str) -> None:
        try:
            trainer.save_checkpoint(self.folder / name)
            self.failed.pop(name, None)
        except OSError as error:
            if name not in self.failed:  # once, not at every epoch of a night
                log.warning(
                    "warning: %s cannot be written: %s; the run goes on, and tries again",
                    self.folder / name,
                    error.strerror,
                )
            self.failed[name] = f"{self.folder / name} cannot be written: {error.strerror or error}"
