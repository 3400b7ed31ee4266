"""What an experiment is made of. Imports nothing slow: the command line reads it first."""

from dataclasses import dataclass, field
from typing import Any

from ratinglab.errors import UserError
from ratinglab.fitting.optimizers import SGD, Adam, AdamW, BlockSGD
from ratinglab.fitting.schedules import ConstantSchedule, CosineSchedule, ExponentialSchedule
from ratinglab.fitting.trainer import Accelerator, CallbackOptions, NoLoggerOptions, TensorBoardOptions, TrainerOptions
from ratinglab.models.discovery import model_name
from ratinglab.options import at_least, seed_rule
from ratinglab.ratings.sources import MOVIELENS_OPTIONS, CsvOptions, DemoOptions, check_encoding, separator_text
from ratinglab.ratings.splits import (
    FilesSplit,
    KFoldSplit,
    LeaveLastSplit,
    MovieLensUSplit,
    PerUserSplit,
    RandomSplit,
    RowsSplit,
    TemporalSplit,
)

GROUPS: dict[str, dict[str, type]] = {
    "data": {"demo": DemoOptions, "csv": CsvOptions, **MOVIELENS_OPTIONS},
    "split": {
        split.name: split
        for split in (
            RandomSplit,
            PerUserSplit,
            LeaveLastSplit,
            TemporalSplit,
            RowsSplit,
            KFoldSplit,
            MovieLensUSplit,
            FilesSplit,
        )
    },
    "optimizer": {"adam": Adam, "adamw": AdamW, "sgd": SGD, "block_sgd": BlockSGD},
    "schedule": {
        "constant": ConstantSchedule,
        "exponential": ExponentialSchedule,
        "cosine": CosineSchedule,
    },
    "trainer": {"trainer": TrainerOptions},
    "callbacks": {"callbacks": CallbackOptions},
    "logger": {"tensorboard": TensorBoardOptions, "none": NoLoggerOptions},
}
"""The classes of each config group, by the name of their schema; those of `model` are the files in models/."""

FITS_ONLY = {"block_sgd": ("mf", "biased_mf")}
"""The models of an optimizer that does not fit all of them."""


@dataclass
class TrainOptions:
    """A whole experiment; each group is an object of one of its classes in GROUPS."""

    data: Any
    """Where the ratings come from."""
    split: Any
    """What is held out for validation and test."""
    model: Any
    """What is predicted: an equation's Options."""
    optimizer: Any
    """How the equation is fitted."""
    schedule: Any
    """How the learning rate moves from epoch to epoch."""
    trainer: Any
    """Lightning's Trainer."""
    callbacks: Any
    """What acts between epochs."""
    logger: Any
    """Where metrics go besides metrics.json."""
    seed: int = field(metadata=seed_rule())
    """Of the first weights and the order of the training rows."""
    resume: str | None
    """Folder of a run to go on with, under its own configuration; null: a new run."""
    reproduces: str | None
    """Folder of the run that this one is to repeat; set by reproduce.py."""
    clip_predictions: bool
    """Whether predictions are clipped to the scale: the lowest and the highest rating, of the data or as set."""

    def check_together(self) -> None:
        """Raise UserError where the groups do not go together."""
        models = FITS_ONLY.get(self.optimizer.name)
        if models is None:
            return
        if model_name(self.model) not in models:
            raise UserError(
                f"optimizer={self.optimizer.name} fits {' and '.join(models)}, got model={model_name(self.model)}"
            )
        trainer = self.trainer
        for key, value, allowed in (
            ("limit_train_batches", trainer.limit_train_batches, 1),
            ("accumulate_grad_batches", trainer.accumulate_grad_batches, 1),
            ("gradient_clip_val", trainer.gradient_clip_val, None),
        ):
            if value != allowed:
                shown = "null" if allowed is None else allowed
                raise UserError(
                    f"trainer.{key} must be {shown} with optimizer={self.optimizer.name}, which has no batches, "
                    f"got {value}"
                )
        if trainer.accelerator not in (Accelerator.cpu, Accelerator.auto):
            raise UserError(
                f"trainer.accelerator must be cpu with optimizer={self.optimizer.name}, got {trainer.accelerator.name}"
            )


@dataclass
class EvaluateOptions:
    """Recompute the metrics of a run."""

    run: str
    """Folder of the run."""


@dataclass
class InspectOptions:
    """Show what a table of ratings is like."""

    data: Any
    """Where the ratings come from."""
    figure: str | None
    """File to draw into: .png, .pdf or .svg; null: none."""


@dataclass
class PairColumns:
    """Columns of a file of pairs, by name."""

    user: str
    """Column of the user ids."""
    item: str
    """Column of the item ids."""


@dataclass
class RecommendOptions:
    """Recommend items to a user."""

    run: str
    """Folder of the run."""
    user: str
    """The user's own id."""
    k: int = field(metadata=at_least(1))
    """Items wanted."""


@dataclass
class PredictOptions:
    """Predict the ratings of the pairs in a file."""

    run: str
    """Folder of the run."""
    input: str
    """File with a header and one pair of a user and an item a row."""
    output: str
    """File to write: the rows of the input, with a column `prediction` more."""
    separator: str
    """What stands between two columns, in both files: as data.separator."""
    encoding: str
    """How the characters of both files are encoded."""
    columns: PairColumns
    """Which columns of the input hold the ids."""

    def check_together(self) -> None:
        """Raise UserError for a separator or an encoding that there is not."""
        separator_text(self.separator, key="separator")
        check_encoding(self.encoding, key="encoding")
