"""TensorBoard events of one run."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ratinglab.errors import UserError
from ratinglab.fitting.loggers.guarded_logger import GuardedLogger, format_settings

if TYPE_CHECKING:
    from ratinglab.fitting.loggers.logger_options import TensorBoardOptions

FIRST_CARDS = {"train/mse": "MSE/train", "val/mse": "MSE/val"}
"""Second tags of the two curves to look at first. TensorBoard sorts its cards by tag, uppercase before lowercase."""


class EventLog(GuardedLogger):
    """Event file of a run: scalars, texts, charts, figures and the projector.

    Lightning's own logger closes the file when the fit ends, and a later event would open a second file. EventLog keeps
    it open until `close`, after the test errors are written.
    """

    def __init__(self, run_folder: Path, options: "TensorBoardOptions", *, first_epoch: int) -> None:
        """Log into `run_folder`. TensorBoard drops events of an earlier process from first_epoch on.

        Raises:
            UserError: the locale encodes the folder's name differently from TensorBoard, which takes UTF-8.
        """
        if os.fsencode(run_folder) != str(run_folder).encode(errors="replace"):
            raise UserError(f"logger: in this locale TensorBoard cannot write to {run_folder}: set PYTHONUTF8=1")
        self.options = options
        purge_step = first_epoch if first_epoch > 1 else None
        super().__init__(
            "TensorBoard's event file",
            lambda: SummaryWriter(str(run_folder), purge_step=purge_step),
            end=lambda writer, _: writer.close(),
        )

    def log_hyperparams(self, params: dict[str, Any]) -> None:  # type: ignore[override]
        """Do nothing: `log_results` logs hyperparameters with the results."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log scalars; the step is the number of finished epochs."""

        def write(writer: SummaryWriter) -> None:
            for tag, value in metrics.items():
                writer.add_scalar(tag, value, step)
                if tag in FIRST_CARDS:
                    writer.add_scalar(FIRST_CARDS[tag], value, step)

        self._try(write)

    def log_text(self, name: str, markdown: str) -> None:
        """Log a page of text."""
        self._try(lambda writer: writer.add_text(name, markdown))

    def log_charts(self, charts: dict[str, list[str]]) -> None:
        """Lay out charts of several scalars each, by title, in the custom scalars tab."""
        # TensorBoard treats tags as regular expressions; a bare val/mse also matches longer tags
        patterns = {title: ["Multiline", [f"^{re.escape(tag)}$" for tag in tags]] for title, tags in charts.items()}
        self._try(lambda writer: writer.add_custom_scalars({"charts": patterns}))

    def log_figure(self, name: str, figure: Figure, *, step: int) -> None:
        """Log a figure."""
        self._try(lambda writer: writer.add_figure(name, figure, global_step=step))

    def log_embeddings(
        self, name: str, embeddings: Tensor, *, columns: list[str], labels: list[list[str]], step: int
    ) -> None:
        """Log points for the projector: embeddings (N, D) float32, and N rows of labels, one per column name."""

        def write(writer: SummaryWriter) -> None:
            writer.add_embedding(embeddings, metadata=labels, metadata_header=columns, tag=name, global_step=step)

        self._try(write)

    def log_results(self, hyperparameters: dict[str, Any], metrics: dict[str, float], *, step: int) -> None:
        """Log the run's metrics, and its row of the hyperparameter table."""
        self.log_metrics(metrics, step)
        plain = format_settings(hyperparameters)

        def write(writer: SummaryWriter) -> None:  # add_hparams would write a separate file
            for summary in hparams(plain, metrics):
                writer._get_file_writer().add_summary(summary)

        self._try(write)

    def finalize(self, status: str) -> None:
        """Flush all events to the file."""
        self._try(lambda writer: writer.flush())


BAND_TAGS = {column: f"with_interval/{column}" for column in ("mean", "low", "high")}
"""Tags of a mean curve and of the limits of its band, by column."""


def write_band(folder: Path, band: pd.DataFrame, *, title: str) -> None:
    """Write a mean curve with a band as a separate run, with a chart in the custom scalars tab.

    `band` has the columns mean, low and high, indexed by step. Runs with the same title share a chart.
    """
    with SummaryWriter(str(folder)) as writer:
        for column, tag in BAND_TAGS.items():
            for step, value in zip(band.index.tolist(), band[column].tolist(), strict=True):
                writer.add_scalar(tag, value, step)
        writer.add_custom_scalars({"seeds and folds": {title: ["Margin", list(BAND_TAGS.values())]}})
