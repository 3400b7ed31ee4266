"""Base classes of the options of fits. Imports torch only when a fit is built, as the command line reads this first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from ratinglab.errors import UserError
from ratinglab.models.equation_options import RATING_FORMS, EquationForm, EquationOptions
from ratinglab.options import above, as_yaml
from ratinglab.targets import named_subclasses

if TYPE_CHECKING:
    from ratinglab.evaluation.list_options import OrderOptions
    from ratinglab.evaluation.metric_kinds import MetricAtK
    from ratinglab.evaluation.metrics import Metric
    from ratinglab.fitting.fit import Fit
    from ratinglab.fitting.schedules import Schedule
    from ratinglab.fitting.trainer_options import TrainerOptions
    from ratinglab.models.predictor import Predictor


class FitSetup(NamedTuple):
    """Settings of a fit besides its own options.

    Attributes:
        schedule: learning-rate schedule.
        trainer: options of the Trainer.
        monitor: validation metric that decides which epoch is the best.
        order: order of the lists of a ranking metric.
        seed: seed of the order of the training rows and of all draws.
    """

    schedule: Schedule
    trainer: TrainerOptions
    monitor: Metric | MetricAtK
    order: OrderOptions
    seed: int


@dataclass
class FitOptions(ABC):
    """Options of a fit, and its requirements on the equation and the Trainer."""

    name: ClassVar[str]
    """Name in records and tables, as in optimizer=NAME."""
    forms: ClassVar[tuple[EquationForm, ...]] = RATING_FORMS
    """Forms of equations that the fit supports."""
    train_tag: ClassVar[str | None] = "train/mse"
    """Tag of the training metric of each epoch, or None if there is no such metric."""
    takes_batches: ClassVar[bool] = True
    """Whether a step takes data.batch_size ratings. If not, an epoch takes all training rows at once."""
    keeps_samples: ClassVar[bool] = False
    """Whether the fit keeps samples of the weights. If so, the last epoch is the best."""
    supports_processes: ClassVar[bool] = False
    """Whether several processes can share a batch."""
    runs_on_cpu_only: ClassVar[bool] = False
    """Whether the fit runs only on the CPU."""
    is_compiled: ClassVar[bool] = False
    """Whether numba compiles the whole sweep, not just a single step as in sparse_adam. If so, numba's threads must
    start before torch is imported; see `kernels.compiled.start_threads`."""
    update_frequency: ClassVar[str] = "one step per epoch"
    """How often a fit without batches updates the weights, as shown in the header."""
    supports_on_disk: ClassVar[bool] = False
    """Whether the fit reads its rows in an order that suits memory-mapped files (data.on_disk)."""
    ignored_options: ClassVar[tuple[str, ...]] = ()
    """Names of the equation's options that this fit ignores."""
    needs_regularization: ClassVar[bool] = False
    """Whether model.regularization must be above 0. At 0, rows with few ratings have no unique solution."""
    is_single_epoch: ClassVar[bool] = False
    """Whether the first epoch computes the final weights."""

    @property
    def initial_lr(self) -> float | None:
        """Initial learning rate, or None if the fit has no learning rate."""
        return None

    @property
    def trainer_values(self) -> dict[str, object]:
        """Trainer options that must have these values, by key."""
        values = dict[str, object]()
        if not self.takes_batches:
            values |= {"limit_train_batches": 1, "accumulate_grad_batches": 1, "gradient_clip_val": None}
        if self.is_single_epoch:
            values |= {"check_val_every_n_epoch": 1, "min_epochs": 0}
        return values

    def notes(self, *, max_epochs: int, sample_bytes: int) -> Iterator[str]:
        """Yield notes and warnings for the header, given the number of epochs and the bytes of a sample."""
        yield from ()

    def check(self, *, model: EquationOptions, trainer: TrainerOptions) -> None:
        """Raise UserError if these options conflict with the equation's or the Trainer's."""
        needs = model.needs()
        for key, names in (("user_features", needs.user_features), ("item_features", needs.item_features)):
            # features add terms to the rows of embeddings
            if names and model.form is EquationForm.embeddings and EquationForm.terms not in self.forms:
                raise UserError(f"model.{key} must be [] with optimizer={self.name}, got {as_yaml(list(names))}")
        if self.needs_regularization and getattr(model, "regularization", None) == 0:
            raise UserError(f"model.regularization must be above 0 with optimizer={self.name}, got 0.0")

    @abstractmethod
    def build(self, predictor: Predictor, setup: FitSetup) -> Fit:
        """Make the LightningModule that fits `predictor.model`.

        Raises:
            UserError: the fit does not support the equation.
        """


@dataclass
class LearningRateOptions(FitOptions):
    """Options of fits with a learning rate."""

    lr: float = field(metadata=above(0))
    """Learning rate of the first epoch, which the schedule then changes. Try halving it if train/mse oscillates."""

    @property
    def initial_lr(self) -> float | None:
        return self.lr


def named_fits() -> list[type[FitOptions]]:
    """List the named options classes of fits: the built-in ones, and the user's that are imported."""
    modules = "ratinglab.fitting.gradient_options", "ratinglab.fitting.whole_epoch_options"
    return named_subclasses(FitOptions, *modules)
