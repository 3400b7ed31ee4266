"""Options of the loggers. Imports Lightning and the loggers' packages only when they are built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ratinglab.errors import require
from ratinglab.options import at_least

if TYPE_CHECKING:
    from ratinglab.fitting.loggers.guarded_logger import GuardedLogger


@dataclass
class LoggerOptions(ABC):
    """Options of a logger; `name` is the choice in conf/logger."""

    name: ClassVar[str]

    @abstractmethod
    def build(self, *, run_folder: Path, first_epoch: int) -> GuardedLogger:
        """Make a logger for the epochs from first_epoch on, counted from 1. It writes nothing before it is first used.

        A resumed run continues the files, or the MLflow or W&B run, that it began.
        """


@dataclass
class TensorBoardOptions(LoggerOptions):
    """TensorBoard events in the run's folder."""

    name: ClassVar[str] = "tensorboard"

    figures: bool
    """Whether to draw figures of the errors at the end. Off by default in a sweep."""
    data_figures: bool
    """Whether to draw figures of the data. Off by default in a sweep, where every run would show the same ones."""
    projector_items: int = field(metadata=at_least(0))
    """Number of items, the most rated ones, whose embeddings the projector shows. In a sweep it is 0 by default. Each
    item takes 1.3 kB at embedding_dim 64."""

    def build(self, *, run_folder: Path, first_epoch: int) -> GuardedLogger:
        from ratinglab.fitting.loggers.tensorboard import EventLog

        return EventLog(run_folder, self, first_epoch=first_epoch)


@dataclass
class CSVOptions(LoggerOptions):
    """A table with one row per epoch, metrics.csv in the run's folder."""

    name: ClassVar[str] = "csv"

    def build(self, *, run_folder: Path, first_epoch: int) -> GuardedLogger:
        from ratinglab.fitting.loggers.epoch_table import EpochTable
        from ratinglab.fitting.loggers.guarded_logger import GuardedLogger

        return GuardedLogger("metrics.csv", lambda: EpochTable(run_folder, first_epoch=first_epoch))


@dataclass
class MLflowOptions(LoggerOptions):
    """An MLflow run."""

    name: ClassVar[str] = "mlflow"

    tracking_uri: str
    """Where MLflow keeps its runs: in a database file, sqlite:///FILE, or on a server, http://HOST:5000."""
    experiment_name: str
    """MLflow experiment that the run belongs to."""

    def check_together(self) -> None:
        """Raise UserError if the package is missing."""
        require("mlflow", extra="mlflow", needed_by="logger=mlflow")

    def build(self, *, run_folder: Path, first_epoch: int) -> GuardedLogger:
        from ratinglab.fitting.loggers.guarded_logger import GuardedLogger
        from ratinglab.fitting.loggers.trackers import start_mlflow

        uri, experiment = self.tracking_uri, self.experiment_name
        return GuardedLogger(
            "MLflow",
            lambda: start_mlflow(run_folder, tracking_uri=uri, experiment_name=experiment),
            end=lambda logger, status: logger.finalize(status),
        )


class WandbMode(Enum):
    """Modes of W&B."""

    offline = "offline"
    online = "online"


@dataclass
class WandbOptions(LoggerOptions):
    """A run of Weights & Biases (W&B), written to the run's folder."""

    name: ClassVar[str] = "wandb"

    project: str
    """W&B project that the run belongs to."""
    mode: WandbMode
    """With offline, W&B writes files that `wandb sync FOLDER` uploads. With online, it uploads during the fit, after
    `wandb login`."""

    def check_together(self) -> None:
        """Raise UserError if the package is missing."""
        require("wandb", extra="wandb", needed_by="logger=wandb")

    def build(self, *, run_folder: Path, first_epoch: int) -> GuardedLogger:
        from ratinglab.fitting.loggers.guarded_logger import GuardedLogger
        from ratinglab.fitting.loggers.trackers import start_wandb

        project, is_offline = self.project, self.mode is WandbMode.offline
        return GuardedLogger(
            "W&B",
            lambda: start_wandb(run_folder, project=project, is_offline=is_offline),
            # otherwise, the next run of a sweep would log to this W&B run
            end=lambda logger, status: logger.experiment.finish(exit_code=int(status != "success")),
        )
