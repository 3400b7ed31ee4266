"""TensorBoard events of one run."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard.summary import hparams

from ratinglab.options import as_yaml

log = logging.getLogger(__name__)


class EventLog(TensorBoardLogger):
    """Lightning's TensorBoard logger in the run's own folder. It stays open beyond the fit and never ends one.

    Lightning closes its logger when the fit ends, and an event after that opens a second file. Here `close` closes it,
    once the test errors are written. Where events cannot be written, it warns once and logs nothing more.
    """

    def __init__(
        self,
        run_folder: Path,
        *,
        first_epoch: int,
        has_figures: bool = False,
        has_data_figures: bool = False,
        projector_items: int = 0,
    ) -> None:
        """Log into `run_folder`.

        Args:
            run_folder: where the events go.
            first_epoch: number of the first epoch of this part of the run; events there of this epoch or later, from
                an interrupted part, become void.
            has_figures: whether figures of the test errors are wanted.
            has_data_figures: whether figures of the data are wanted.
            projector_items: most rated items whose embeddings the projector shows.
        """
        super().__init__(
            run_folder,
            name="",
            version="",
            default_hp_metric=False,
            purge_step=first_epoch if first_epoch > 1 else None,
        )
        self.has_figures, self.has_data_figures = has_figures, has_data_figures
        self.projector_items = projector_items
        self._failed = False

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        """Log scalars; the step is the number of epochs done."""

        def write() -> None:  # not Lightning's, which makes a ValueError of a full disk
            for tag, value in metrics.items():
                self.experiment.add_scalar(tag, value, step)

        self._try(write)

    def log_text(self, name: str, markdown: str) -> None:
        """Log a page of text."""
        self._try(lambda: self.experiment.add_text(name, markdown))

    def log_charts(self, charts: dict[str, list[str]]) -> None:
        """Lay out charts of several scalars each, by title, for the tab of custom scalars."""
        # TensorBoard takes each tag as a pattern, and val/mse alone for any tag that holds it
        patterns = {title: ["Multiline", [f"^{re.escape(tag)}$" for tag in tags]] for title, tags in charts.items()}
        layout = {"charts": patterns}
        self._try(lambda: self.experiment.add_custom_scalars(layout))

    def log_figure(self, name: str, figure: Figure, *, step: int) -> None:
        """Log a picture."""
        self._try(lambda: self.experiment.add_figure(name, figure, global_step=step))

    def log_embeddings(self, name: str, embeddings: Tensor, *, columns: list[str], labels: list[list[str]]) -> None:
        """Log points for the projector: embeddings (N, D) float32, and N rows of labels under the columns' names."""
        self._try(lambda: self.experiment.add_embedding(embeddings, metadata=labels, metadata_header=columns, tag=name))

    def log_results(self, hyperparameters: dict[str, Any], metrics: dict[str, float], *, step: int) -> None:
        """Log the run's row in the table of hyperparameters, with the metrics that it shows.

        The row is written here, into the same file, and not by Lightning's log_hyperparams, which logs each metric a
        second time at step 0.
        """
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
        """Write what is logged so far."""
        self._try(lambda: self.experiment.flush())

    def save(self) -> None:
        """Write what is logged so far; no hparams.yaml, which would be empty: run.json has the options."""
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
            log.warning("warning: TensorBoard events cannot be written: %s; the run goes on without", error.strerror)
