"""Options of the built-in fits whose steps are whole epochs: sweeps over all rows, and solutions in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pkgutil import resolve_name
from typing import TYPE_CHECKING, ClassVar

from ratinglab.errors import UserError, require
from ratinglab.fitting.fit_options import FitOptions, FitSetup, LearningRateOptions
from ratinglab.models.equation_options import EquationForm, EquationOptions
from ratinglab.options import at_least, within

if TYPE_CHECKING:
    from ratinglab.fitting.fit import Fit
    from ratinglab.fitting.trainer_options import TrainerOptions
    from ratinglab.models.predictor import Predictor

WARN_ABOVE_BYTES = 1 << 30
"""Size of all samples above which the header warns."""


@dataclass
class WholeEpochOptions(FitOptions):
    """Options of the built-in fits whose steps are whole epochs."""

    takes_batches: ClassVar[bool] = False
    runs_on_cpu_only: ClassVar[bool] = True
    is_compiled: ClassVar[bool] = True
    update_frequency: ClassVar[str] = "one sweep per epoch"
    fit_class: ClassVar[str]
    """The fit, as `module:Class` in ratinglab.fitting. `build` imports the module, since it may import a compiler."""

    def build(self, predictor: Predictor, setup: FitSetup) -> Fit:
        fit: Fit = resolve_name(f"ratinglab.fitting.{self.fit_class}")(predictor, setup, self)
        return fit


@dataclass
class BlockSGDOptions(WholeEpochOptions, LearningRateOptions):
    """Stochastic gradient descent, one step per rating, in compiled loops on several cores (Zhuang et al. 2013).

    A step is −lr times the gradient of (r − r̂)² + penalty. Papers often drop the factor 2, so a learning rate of 0.01
    in a paper is 0.005 here. The fit ignores data.batch_size.
    """

    name: ClassVar[str] = "block_sgd"
    forms: ClassVar[tuple[EquationForm, ...]] = (EquationForm.embeddings,)
    update_frequency: ClassVar[str] = "one step per rating"
    supports_on_disk: ClassVar[bool] = True
    fit_class: ClassVar[str] = "block_sgd:BlockSGDFit"

    slices: int | None = field(metadata=within(1, 1024))
    """Number of slices into which the users and the items are each divided. It is also the maximum number of threads.
    With null, it is 8, or 16 for 8 million ratings or more."""


class Noise(Enum):
    """Choice of the ratings that share a noise variance around their predictions."""

    own = "own"
    """Each user and each item has its own factor, and a rating's variance is the product of the two."""
    one = "one"
    """All ratings have the same variance."""


@dataclass
class GibbsOptions(WholeEpochOptions):
    """Gibbs sampling: Bayesian matrix factorization, one sweep per epoch (Salakhutdinov and Mnih 2008).

    There is no learning rate and no regularization to tune. Predictions are means over the kept samples, and have a
    standard deviation. The fit stops by min_gain, not by early stopping, and ignores data.batch_size and
    model.regularization.
    """

    name: ClassVar[str] = "gibbs"
    forms: ClassVar[tuple[EquationForm, ...]] = (EquationForm.embeddings, EquationForm.terms)
    keeps_samples: ClassVar[bool] = True
    ignored_options: ClassVar[tuple[str, ...]] = ("regularization",)
    fit_class: ClassVar[str] = "gibbs.gibbs_fit:GibbsFit"

    burn_in: int = field(metadata=at_least(0))
    """Number of epochs before the first kept sample. Must be below trainer.max_epochs."""
    noise: Noise
    """Noise variance of the ratings: own (each user and each item has its own) or one (the same for all)."""
    thin: int = field(metadata=at_least(1))
    """Number of epochs from one kept sample to the next, until max_samples is reached."""
    max_samples: int | None = field(metadata=at_least(2))
    """Maximum number of samples. Beyond it, every other sample is dropped, and thin doubles. A sample takes the same
    memory as the model, and three times that while a checkpoint is written. With null, the limit is the number that
    fits in 400 MB, but at least 16 and at most 1000."""
    min_gain: float = field(metadata=at_least(0, below=1))
    """The fit ends once more samples would lower the MSE by at most this fraction of train/mse. It also ends once it
    has the maximum number of samples, thin has grown 16-fold, and the samples are nearly independent. With 0, it runs
    all of trainer.max_epochs."""

    def notes(self, *, max_epochs: int, sample_bytes: int) -> Iterator[str]:
        """Yield a warning if the samples would take much memory."""
        if self.max_samples is None:
            return
        num_samples = min(-(-(max_epochs - self.burn_in) // self.thin), self.max_samples)
        if num_samples * sample_bytes > WARN_ABOVE_BYTES:
            yield (
                f"warning: {num_samples} samples take {num_samples * sample_bytes / 1e9:.1f} GB, and three times as "
                "much while a checkpoint is written; a smaller optimizer.max_samples keeps fewer"
            )

    def check(self, *, model: EquationOptions, trainer: TrainerOptions) -> None:
        """Raise UserError if no sample would be kept, or the fit does not support the model."""
        super().check(model=model, trainer=trainer)
        if self.burn_in >= trainer.max_epochs:
            raise UserError(
                f"optimizer.burn_in must be below trainer.max_epochs, got {self.burn_in} and {trainer.max_epochs}"
            )


@dataclass
class ALSOptions(WholeEpochOptions):
    """Alternating least squares, one sweep per epoch (Zhou et al. 2008): solves for each weight row in closed form.

    The fit has no learning rate: model.regularization is the main value to tune. It ignores data.batch_size.
    """

    name: ClassVar[str] = "als"
    forms: ClassVar[tuple[EquationForm, ...]] = (EquationForm.embeddings, EquationForm.terms)
    supports_on_disk: ClassVar[bool] = True
    needs_regularization: ClassVar[bool] = True
    fit_class: ClassVar[str] = "als:ALSFit"

    damping: float = field(metadata=at_least(0))
    """Weight that pulls each row towards its value before the sweep, added to λ times its number of ratings. It slows
    rows with few ratings, which overfit first. With 0, the fit is plain alternating least squares."""


@dataclass
class ImplicitALSOptions(WholeEpochOptions):
    """Alternating least squares for implicit feedback, one sweep per epoch (Hu, Koren and Volinsky 2008).

    The fit has no learning rate: model.unrated_weight and model.regularization are the values to tune. It ignores
    data.batch_size.
    """

    name: ClassVar[str] = "implicit_als"
    forms: ClassVar[tuple[EquationForm, ...]] = (EquationForm.score_product,)
    train_tag: ClassVar[str | None] = "train/loss"
    needs_regularization: ClassVar[bool] = True
    fit_class: ClassVar[str] = "implicit_als:ImplicitALSFit"

    cg_steps: int = field(metadata=at_least(1))
    """Number of steps of conjugate gradients towards each row's solution, from its last value."""


@dataclass
class ClosedFormOptions(WholeEpochOptions):
    """The exact solution, in one epoch. The fit ignores data.batch_size, trainer.max_epochs and seed."""

    name: ClassVar[str] = "closed_form"
    forms: ClassVar[tuple[EquationForm, ...]] = (EquationForm.score_sum,)
    train_tag: ClassVar[str | None] = None
    is_compiled: ClassVar[bool] = False
    is_single_epoch: ClassVar[bool] = True
    update_frequency: ClassVar[str] = "closed form"
    fit_class: ClassVar[str] = "closed_form:ClosedFormFit"


@dataclass
class SparkALSOptions(WholeEpochOptions):
    """Alternating least squares by Spark's MLlib, on a cluster or in threads of this machine, in one epoch.

    trainer.max_epochs is the number of iterations; early stopping has no effect on them. Supports mf, and biased_mf
    with the biases of the bias baseline. Ignores data.batch_size and model.init_std.
    """

    name: ClassVar[str] = "spark_als"
    forms: ClassVar[tuple[EquationForm, ...]] = (EquationForm.embeddings,)
    is_compiled: ClassVar[bool] = False
    is_single_epoch: ClassVar[bool] = True
    update_frequency: ClassVar[str] = "all iterations"
    ignored_options: ClassVar[tuple[str, ...]] = ("init_std",)
    supports_on_disk: ClassVar[bool] = True
    needs_regularization: ClassVar[bool] = True
    fit_class: ClassVar[str] = "spark_als:SparkALSFit"

    master: str
    """Spark's master. On this machine, local[2] uses two threads, and local[*] all cores. A cluster's master is
    spark://HOST:7077, yarn or k8s://https://HOST:443."""
    blocks: int = field(metadata=within(1, 100_000))
    """Number of blocks of users, and of items, that are solved in parallel. Set it to at least the number of cores. The
    initial factors depend on it."""
    folder: str | None
    """Folder that holds the training rows and factors during the fit. All nodes must see it under the same path. With
    null, it is the run's own folder."""
    conf: dict[str, str] | None
    """Settings of Spark, such as {spark.executor.memory: 8g, spark.executor.instances: 10}. The run records them,
    so passwords belong in spark-defaults.conf. With a local master, spark.driver.memory limits all of Spark's memory.
    With null, Spark reads spark-defaults.conf, if it exists."""

    def check_together(self) -> None:
        """Raise UserError for a name that is not a Spark setting."""
        for name in self.conf or {}:
            if name == "spark.master":
                raise UserError("optimizer.conf must not hold spark.master; set optimizer.master")
            if not name.startswith("spark."):
                raise UserError(f"optimizer.conf must hold names such as spark.driver.memory, got {name}")

    def notes(self, *, max_epochs: int, sample_bytes: int) -> Iterator[str]:
        """Yield a note that the iterations are not epochs."""
        yield (
            f"note: MLlib runs its {max_epochs} iterations (trainer.max_epochs) in one epoch, without early stopping"
        )

    def check(self, *, model: EquationOptions, trainer: TrainerOptions) -> None:
        """Raise UserError if pyspark is missing, or the fit does not support the model."""
        require("pyspark", extra="spark", needed_by="optimizer=spark_als")
        super().check(model=model, trainer=trainer)
