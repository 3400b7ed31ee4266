"""Callback that stops a fit after the epoch in which the process received a signal."""

from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch import distributed

from ratinglab.fitting.callbacks.checkpoints import BestAndLast
from ratinglab.process.interrupts import StoppedError, StopRequest


class StopOnSignal(Checkpoint):
    """Callback that ends a fit after the epoch in which Ctrl-C, SIGTERM or SIGHUP arrived. It first writes last.ckpt.

    A signal to any process ends the fit in all processes.

    Lightning runs Checkpoint callbacks last, in their own order, and this one must follow BestAndLast.
    Trainer.should_stop is not enough: Lightning ignores it until min_epochs, and a resumed fit would mistake it for
    early stopping.
    """

    def __init__(self, run_folder: Path) -> None:
        """Name `run_folder` in messages, as the run to resume."""
        super().__init__()
        self._request = StopRequest(run_folder)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch for signals from now on: Lightning sets its own handler of SIGTERM just before."""
        self._request.watch(is_silent=not trainer.is_global_zero)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise StoppedError if a signal has arrived."""
        number = self._find_signal(trainer)
        if number is not None:
            checkpoints = trainer.checkpoint_callback
            assert isinstance(checkpoints, BestAndLast)
            checkpoints.write_last(trainer)
            done = trainer.current_epoch + 1
            raise StoppedError(number, f"after {done} of {trainer.max_epochs} epochs")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise StoppedError if a signal has arrived since the last epoch. A later signal raises it immediately."""
        self._request.close()
        number = self._find_signal(trainer)
        if number is not None:
            raise StoppedError(number, "after the last epoch")

    def _find_signal(self, trainer: Trainer) -> int | None:
        """Return the number of a signal that any process has received, or None without a signal."""
        if trainer.world_size == 1:
            return self._request.signal_number
        number = torch.tensor(self._request.signal_number or 0, device=trainer.strategy.root_device)
        distributed.all_reduce(number, op=distributed.ReduceOp.MAX)
        return int(number) or None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Go back to raising StoppedError immediately on a signal."""
        self._request.close()
