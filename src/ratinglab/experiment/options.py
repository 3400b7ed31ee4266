"""The options of each command. Imports nothing slow: the command line reads them first."""

from dataclasses import dataclass, field

from ratinglab.errors import UserError
from ratinglab.experiment.protocol_options import ProtocolOptions
from ratinglab.fitting.optimizers import FitOptions
from ratinglab.fitting.schedules import Schedule
from ratinglab.fitting.trainer import Accelerator, CallbackOptions, LoggerOptions, TrainerOptions
from ratinglab.models.declarations import EquationOptions
from ratinglab.options import at_least, seed_rule
from ratinglab.ratings.sources import DataOptions, check_encoding, separator_text
from ratinglab.ratings.splits import SplitOptions

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
    """A whole experiment. Each group's YAML names a subclass of the group's base class by `_target_`."""

    data: DataOptions
    """Ratings to train on."""
    split: SplitOptions
    """Rows held out for validation and test."""
    model: EquationOptions
    """Equation that predicts a rating."""
    optimizer: FitOptions
    """Method that fits the equation."""
    schedule: Schedule
    """Learning rate from epoch to epoch."""
    trainer: TrainerOptions
    """Lightning's Trainer: epochs, device, speed."""
    callbacks: CallbackOptions
    """Early stopping and checkpoints."""
    logger: LoggerOptions
    """Metrics besides metrics.json."""
    protocol: ProtocolOptions
    """Data, split and published figures, fixed so that runs can be compared."""
    seed: int = field(metadata=seed_rule())
    """Seed of the first weights and of the order of the training rows."""
    resume: str | None
    """Folder of a run to resume, under the options it was started with; null: start a new run."""
    reproduces: str | None
    """Folder of the run that this one repeats; set by reproduce.py."""
    clip_predictions: bool
    """Whether to clip predictions to the rating scale."""

    def check_together(self) -> None:
        """Raise UserError where the groups do not go together."""
        name, model = self.optimizer.name, self.model.name
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
    """Describe a table of ratings."""

    data: DataOptions
    """Ratings to describe."""
    figure: str | None
    """File for a figure of the data: .png, .pdf or .svg; null: none."""


@dataclass
class PairColumns:
    """Columns of a file of pairs, by name."""

    user: str
    """Column of the user ids."""
    item: str
    """Column of the item ids."""
    timestamp: str | None
    """Column of the times, for a model that uses days; null: each user's last day in training."""


@dataclass
class RecommendOptions:
    """Recommend items to a user."""

    run: str
    """Folder of the run."""
    user: str | None
    """User id, as in the data; null: all users."""
    output: str | None
    """File to write, with a header and one recommendation per row; null: the screen, for one user."""
    k: int = field(metadata=at_least(1))
    """Number of items to recommend per user."""

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
    """File with a header and one pair of user and item per row."""
    output: str
    """File to write: the rows of the input, with a column `prediction` added."""
    separator: str
    """Separator of the columns in both files: comma, tab, semicolon, pipe, double_colon, spaces, or the text itself."""
    encoding: str
    """Encoding of both files: utf-8, latin-1, utf-16 or another of Python's names."""
    columns: PairColumns
    """Columns of the input."""

    def check_together(self) -> None:
        """Raise UserError for a separator or an encoding that there is not."""
        separator_text(self.separator, key="separator")
        check_encoding(self.encoding, key="encoding")
