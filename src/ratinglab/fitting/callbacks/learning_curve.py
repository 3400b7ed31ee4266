"""The learning curve of a fit: its train and validation metrics by epoch."""

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from ratinglab.files import write_atomically


def was_validated(trainer: Trainer) -> bool:
    """Return whether the epoch that has just ended was validated."""
    return (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0


class LearningCurve(Callback):
    """Writer of epochs.csv, one row per epoch: the epoch's number and its metrics.

    A metric that was not computed in an epoch is blank. Checkpoints hold the curve, so a resumed run has all epochs.
    """

    def __init__(self, path: Path, *, tags: Iterable[str]) -> None:
        """Start an empty curve of the metrics with these tags, to be written to `path`."""
        super().__init__()
        self._path = path
        self._columns: dict[str, list[float]] = {tag: [] for tag in ("epoch", *tags)}

    def state_dict(self) -> dict[str, Any]:
        return {"columns": self._columns}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._columns = state_dict["columns"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for tag, values in self._columns.items():
            if tag == "epoch":
                values.append(trainer.current_epoch + 1)
            elif tag.startswith("val/") and not was_validated(trainer):
                values.append(math.nan)
            else:
                values.append(float(trainer.callback_metrics[tag]))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file, even if a resumed fit has no epoch left to train."""
        if not trainer.is_global_zero:
            return
        text = io.StringIO()  # pandas takes a tenth of a second for its first file
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self._columns)
        for row in zip(*self._columns.values(), strict=True):
            writer.writerow("" if math.isnan(value) else value for value in row)
        write_atomically(self._path, lambda file: file.write(text.getvalue().encode()))
