"""Options of each command. Imports nothing slow: the command line reads it first."""

from dataclasses import dataclass, field

from ratinglab.errors import UserError
from ratinglab.fitting.optimizers import FitOptions
from ratinglab.fitting.schedules import Schedule
from ratinglab.fitting.trainer import Accelerator, CallbackOptions, LoggerOptions, TrainerOptions
from ratinglab.models.declarations import EquationOptions, names_of
from ratinglab.options import at_least, seed_rule
from ratinglab.ratings.sources import DataOptions, check_encoding, separator_text
from ratinglab.ratings.splits import SplitOptions
from ratinglab.reports.protocols import ProtocolOptions


@dataclass
class TrainOptions:
    """Options of a training: one object per group, and what belongs to no group."""

    data: DataOptions
    """Source of the ratings."""
    split: SplitOptions
    """Rows held out for validation and test."""
    model: EquationOptions
    """Equation that predicts."""
    optimizer: FitOptions
    """Fit of the equation."""
    schedule: Schedule
    """Learning rate over epochs."""
    trainer: TrainerOptions
    """Lightning's Trainer."""
    callbacks: CallbackOptions
    """Early stopping and checkpoints."""
    logger: LoggerOptions
    """Logger of the metrics, besides metrics.json."""
    protocol: ProtocolOptions
    """Published figures that the test error is compared with."""
    seed: int = field(metadata=seed_rule())
    """Seed of the first weights, the order of the training rows and all draws. split.seed is separate."""
    metrics: list[str]
    """Metrics of every part, by name: mse, rmse, mae, and MODULE.NAME of your own. They must contain mse."""
    monitor: str
    """Validation metric that decides the best epoch, early stopping and the order of a sweep, such as val/mse."""
    resume: str | None
    """Folder of a run to resume under its own configuration; null: a new run."""
    reproduces: str | None
    """Folder of the run that this one repeats. Only reproduce.py sets it."""
    clip_predictions: bool
    """Whether predictions are clipped to the rating scale: the data's, or that of data.scale."""

    def check_together(self) -> None:
        """Raise UserError where the groups do not go together."""
        fit = self.optimizer
        self._check_form()
        if fit.initial_lr is None and self.schedule.name != "constant":
            raise UserError(
                f"schedule must be constant with optimizer={fit.name}, which has no learning rate; "
                f"got {self.schedule.name}"
            )
        fit.check(model=self.model, trainer=self.trainer)
        for key, needed in fit.trainer_values.items():
            value = getattr(self.trainer, key)
            if value != needed:
                shown = "null" if needed is None else needed
                raise UserError(f"trainer.{key} must be {shown} with optimizer={fit.name}, got {value}")
        if fit.on_cpu_only and self.trainer.accelerator not in (Accelerator.cpu, Accelerator.auto):
            raise UserError(
                f"trainer.accelerator must be cpu with optimizer={fit.name}, got {self.trainer.accelerator.name}"
            )

    def _check_form(self) -> None:
        fit, form = self.optimizer, self.model.form()
        if form in fit.forms:
            return
        names = names_of(fit.forms)
        listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        but = f", which has {form.value} under these options" if self.model.name in names else ""
        raise UserError(f"optimizer={fit.name} fits {listed}, got model={self.model.name}{but}")


@dataclass
class EvaluateOptions:
    """Recompute the metrics of a run."""

    run: str
    """Folder of the run."""


@dataclass
class InspectOptions:
    """Show what a table of ratings is like."""

    data: DataOptions
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
