"""TensorBoard events of one run."""

import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.plugins.custom_scalar import layout_pb2
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ratinglab.errors import UserError
from ratinglab.options import as_yaml

log = logging.getLogger(__name__)


class EventLog(TensorBoardLogger):
    """Lightning's TensorBoard logger, which stays open after the fit; a write error does not stop training.

    Lightning closes its logger when the fit ends, and a later event would open a second file. This one stays open
    until `close`, after the test errors are written. If events cannot be written, it warns once and logs nothing more.
    """

    def __init__(self, run_folder: Path, *, first_epoch: int) -> None:
        """Log into `run_folder`. TensorBoard drops events of an earlier process from first_epoch on.

        Raises:
            UserError: the locale encodes the folder's name differently from TensorBoard, which takes UTF-8.
        """
        if os.fsencode(run_folder) != str(run_folder).encode(errors="replace"):
            raise UserError(f"logger: in this locale TensorBoard cannot write to {run_folder}: set PYTHONUTF8=1")
        super().__init__(
            run_folder,
            name="",
            version="",
            default_hp_metric=False,
            purge_step=first_epoch if first_epoch > 1 else None,
        )
        self._failed = False

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        """Log scalars; the step is the number of finished epochs."""

        def write() -> None:  # Lightning's own turns a full disk into a ValueError
            for tag, value in metrics.items():
                self.experiment.add_scalar(tag, value, step)

        self._try(write)

    def log_text(self, name: str, markdown: str) -> None:
        """Log a page of text."""
        self._try(lambda: self.experiment.add_text(name, markdown))

    def log_charts(self, charts: dict[str, list[str]]) -> None:
        """Lay out charts of several scalars each, by title, in the custom scalars tab."""
        # TensorBoard treats tags as regular expressions; a bare val/mse also matches longer tags
        patterns = {title: ["Multiline", [f"^{re.escape(tag)}$" for tag in tags]] for title, tags in charts.items()}
        self._try(lambda: self.experiment.add_custom_scalars({"charts": patterns}))

    def log_figure(self, name: str, figure: Figure, *, step: int) -> None:
        """Log a figure."""
        self._try(lambda: self.experiment.add_figure(name, figure, global_step=step))

    def log_embeddings(self, name: str, embeddings: Tensor, *, columns: list[str], labels: list[list[str]]) -> None:
        """Log points for the projector: embeddings (N, D) float32, and N rows of labels, one per column name."""
        self._try(lambda: self.experiment.add_embedding(embeddings, metadata=labels, metadata_header=columns, tag=name))

    def log_results(self, hyperparameters: dict[str, Any], metrics: dict[str, float], *, step: int) -> None:
        """Log the run's row of the hyperparameter table. Lightning's would log each metric again, at step 0."""
        self.log_metrics(metrics, step)
        plain = {
            key: value if isinstance(value, int | float | str) else as_yaml(value)
            for key, value in hyperparameters.items()
        }

        def write() -> None:
            writer = self.experiment._get_file_writer()
            for summary in hparams(plain, metrics):
                writer.add_summary(summary)

        self._try(write)

    def finalize(self, status: str) -> None:
        """Flush all events to the file."""
        self._try(lambda: self.experiment.flush())

    def save(self) -> None:
        """Flush all events. Writes no hparams.yaml, which would be empty: run.json has the options."""
        self._try(lambda: self.experiment.flush())

    def close(self) -> None:
        """Write everything and close the file."""
        self._try(lambda: self.experiment.close())

    def _try(self, write: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            write()
        except OSError as error:
            self._failed = True
            log.warning(
                "warning: TensorBoard events cannot be written: %s; the run continues without them", error.strerror
            )


def write_bands(folder: Path, bands: Mapping[str, pd.DataFrame], *, title: str) -> None:
    """Write mean curves with a band as a run of their own, with one chart in the custom scalars tab.

    Args:
        folder: folder of the run; events that are there are replaced.
        bands: columns mean, low and high, indexed by step, by the name of the curve.
        title: title of the chart.
    """
    for path in folder.glob("events.out.tfevents.*"):
        path.unlink()
    margins = layout_pb2.MarginChartContent()
    with SummaryWriter(str(folder)) as writer:
        for name, band in bands.items():
            tags = {column: f"{name}/{column}" for column in ("mean", "low", "high")}
            for column, tag in tags.items():
                for step, value in zip(band.index.tolist(), band[column].tolist(), strict=True):
                    writer.add_scalar(tag, value, step)
            margins.series.add(value=tags["mean"], lower=tags["low"], upper=tags["high"])
        chart = layout_pb2.Chart(title=title, margin=margins)
        layout = layout_pb2.Layout(category=[layout_pb2.Category(title="seeds and folds", chart=[chart])])
        writer._get_file_writer().add_summary(_layout_summary(layout))


def _layout_summary(layout: layout_pb2.Layout) -> Summary:
    """Wrap a layout of the custom scalars tab. SummaryWriter's own method allows one curve per margin chart."""
    plugin = SummaryMetadata.PluginData(plugin_name="custom_scalars")
    content = TensorProto(dtype="DT_STRING", string_val=[layout.SerializeToString()])
    metadata = SummaryMetadata(plugin_data=plugin)
    return Summary(value=[Summary.Value(tag="custom_scalars__config__", tensor=content, metadata=metadata)])
