"""What an experiment is made of. Imports nothing slow: the command line reads it first."""

from dataclasses import dataclass, field
from typing import Any

from ratinglab.errors import UserError
from ratinglab.experiment.protocol_options import NoProtocol, Protocol
from ratinglab.fitting.optimizers import ALS, SGD, Adam, AdamW, BlockSGD, Gibbs, SparseAdam
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
    SurpriseKFoldSplit,
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
            SurpriseKFoldSplit,
            MovieLensUSplit,
            FilesSplit,
        )
    },
    "optimizer": {optimizer.name: optimizer for optimizer in (Adam, AdamW, SGD, SparseAdam, BlockSGD, ALS, Gibbs)},
    "schedule": {
        "constant": ConstantSchedule,
        "exponential": ExponentialSchedule,
        "cosine": CosineSchedule,
    },
    "trainer": {"trainer": TrainerOptions},
    "callbacks": {"callbacks": CallbackOptions},
    "logger": {"tensorboard": TensorBoardOptions, "none": NoLoggerOptions},
    "protocol": {"none": NoProtocol, "figures": Protocol},
}
"""The classes of each config group, by the name of their schema; those of `model` are the files in models/."""

FITS_ONLY = {
    "block_sgd": ("mf", "biased_mf"),
    "als": ("mf", "biased_mf"),
    "gibbs": ("mf", "biased_mf", "svdpp", "timesvdpp"),
}
"""The models of an optimizer that does not fit all of them."""
WHOLE_EPOCHS = {"limit_train_batches": 1, "accumulate_grad_batches": 1, "gradient_clip_val": None}
TAKES_ONLY: dict[str, dict[str, int | None]] = {
    "block_sgd": WHOLE_EPOCHS,
    "als": WHOLE_EPOCHS,
    "gibbs": WHOLE_EPOCHS,
    "sparse_adam": {"gradient_clip_val": None},
}
"""What trainer's keys must be with an optimizer that cannot do with all values; all of these are of the cpu alone."""


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
    protocol: Any
    """Whose figures the test error is set beside."""
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
        name, model = self.optimizer.name, model_name(self.model)
        if name in FITS_ONLY and model not in FITS_ONLY[name]:
            *first, last = FITS_ONLY[name]
            raise UserError(f"optimizer={name} fits {', '.join(first)} and {last}, got model={model}")
        if not self.optimizer.has_lr and self.schedule.name != "constant":
            raise UserError(
                f"schedule must be constant with optimizer={name}, which has no learning rate; got {self.schedule.name}"
            )
        if name == "gibbs" and model == "timesvdpp" and self.model.item_bins > 1:
            raise UserError(
                "model.item_bins must be 1 with optimizer=gibbs, which draws no biases of bins; "
                f"got {self.model.item_bins}"
            )
        if name == "als" and self.model.regularization == 0:
            raise UserError("model.regularization must be above 0 with optimizer=als, got 0.0")
        if self.optimizer.is_sampler and self.optimizer.burn_in >= self.trainer.max_epochs:
            raise UserError(
                "optimizer.burn_in must be below trainer.max_epochs, "
                f"got {self.optimizer.burn_in} and {self.trainer.max_epochs}"
            )
        for key, needed in TAKES_ONLY.get(name, {}).items():
            value = getattr(self.trainer, key)
            if value != needed:
                shown = "null" if needed is None else needed
                raise UserError(f"trainer.{key} must be {shown} with optimizer={name}, got {value}")
        if name in TAKES_ONLY and self.trainer.accelerator not in (Accelerator.cpu, Accelerator.auto):
            raise UserError(
                f"trainer.accelerator must be cpu with optimizer={name}, got {self.trainer.accelerator.name}"
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
    timestamp: str | None
    """Column of the times, for a run whose model takes days; null: each user's last day in training."""


@dataclass
class RecommendOptions:
    """Recommend items to a user."""

    run: str
    """Folder of the run."""
    user: str | None
    """The user's own id; null: all users."""
    output: str | None
    """File to write into, with a header and one recommendation a row; null: the screen, for one user."""
    k: int = field(metadata=at_least(1))
    """Items wanted."""

    def check_together(self) -> None:
        """Raise UserError where the fields do not go together."""
        if self.user is not None and not self.user.strip():
            raise UserError("user must not be blank")
        if self.user is None and self.output is None:
            raise UserError("output must be a file for the recommendations to all users, or user one of them; got null")


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
