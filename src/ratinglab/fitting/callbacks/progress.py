"""Progress of a fit: a bar in a terminal, lines of the log elsewhere."""

import logging
import sys
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from ratinglab.fitting.callbacks.learning_curve import was_validated

log = logging.getLogger(__name__)

MAX_LINES = 50
"""Approximate maximum number of lines that EpochLines logs."""


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the epoch number, the training error, val/mse and the monitored metric.

    Writes to stderr, since stdout is for results.
    """

    def init_train_tqdm(self) -> Tqdm:
        return Tqdm(
            disable=self.is_disabled,
            dynamic_ncols=True,
            file=sys.stderr,
            smoothing=0,
            bar_format=self.BAR_FORMAT,
        )

    def init_validation_tqdm(self) -> Tqdm:
        """Disable the validation bar: validation takes milliseconds."""
        return Tqdm(disable=True)

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        super().on_train_epoch_start(trainer)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")


class EpochLines(Callback):
    """Callback that logs about MAX_LINES lines of metrics when there is no terminal.

    Always includes the first and the last epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_first, self._pending_line = True, ""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        prefixes = ("train/", "val/") if was_validated(trainer) else ("train/",)
        tags = [tag for prefix in prefixes for tag in trainer.callback_metrics if tag.startswith(prefix)]
        text = "   ".join(f"{tag} {float(trainer.callback_metrics[tag]):.4f}" for tag in tags)
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 1
        self._pending_line = f"epoch {epoch}/{epochs}   {text}".rstrip()
        if self._is_first or epoch % -(-epochs // MAX_LINES) == 0:
            self._log()
        self._is_first = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._log()

    def _log(self) -> None:
        if self._pending_line:
            log.info("%s", self._pending_line)
        self._pending_line = ""


def progress_callbacks(*, enabled: bool) -> list[Callback]:
    """Make a bar on a terminal or in a notebook, lines elsewhere, or nothing if disabled."""
    if not enabled:
        return []
    is_interactive = sys.stderr.isatty() or "ipykernel" in sys.modules
    return [ProgressBar() if is_interactive else EpochLines()]
