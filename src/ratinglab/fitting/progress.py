"""What is seen while a fit runs."""

import logging
import sys
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

log = logging.getLogger(__name__)


class ProgressBar(TQDMProgressBar):
    """Lightning's bar, with the epoch's number and train and val MSE; on stderr, which leaves stdout to results."""

    def init_train_tqdm(self) -> Tqdm:
        """The bar of an epoch."""
        return Tqdm(
            disable=self.is_disabled,
            dynamic_ncols=True,
            file=sys.stderr,
            smoothing=0,
            bar_format=self.BAR_FORMAT,
        )

    def init_validation_tqdm(self) -> Tqdm:
        """No bar of its own for validation, which takes milliseconds."""
        return Tqdm(disable=True)

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Name the epoch, from 1."""
        super().on_train_epoch_start(trainer)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def get_metrics(self, trainer: Trainer, model: LightningModule) -> dict[str, int | str | float | dict[str, float]]:
        """train/mse and val/mse, without Lightning's v_num, which is empty here."""
        metrics = super().get_metrics(trainer, model)
        metrics.pop("v_num", None)
        return metrics


class EpochLines(Callback):
    """A line an epoch, where a bar would fill a log file with control characters."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's errors."""
        validated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        tags = [tag for tag in ("train/mse", "val/mse") if tag in trainer.callback_metrics]
        measured = tags if validated else tags[:1]
        text = "   ".join(f"{tag} {float(trainer.callback_metrics[tag]):.4f}" for tag in measured)
        log.info("epoch %d/%s   %s", trainer.current_epoch + 1, trainer.max_epochs, text)


def progress_callbacks(*, enabled: bool) -> list[Callback]:
    """The bar on a terminal, lines elsewhere, nothing where it is not wanted."""
    if not enabled:
        return []
    return [ProgressBar() if sys.stderr.isatty() else EpochLines()]
