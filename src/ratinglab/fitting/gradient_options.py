"""Options of minibatch gradient descent by torch optimizers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ratinglab.fitting.fit_options import FitSetup, LearningRateOptions
from ratinglab.models.equation_options import EquationForm
from ratinglab.options import at_least

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer

    from ratinglab.fitting.fit import Fit
    from ratinglab.models.predictor import Predictor


@dataclass
class GradientOptions(LearningRateOptions):
    """Options of minibatch gradient descent, for any equation that predicts ratings."""

    supports_processes: ClassVar[bool] = True

    @abstractmethod
    def make_optimizer(self, parameters: Iterator[Parameter]) -> Optimizer:
        """Make the optimizer over these parameters. The fit passes a closure that returns the loss to its step."""

    def build(self, predictor: Predictor, setup: FitSetup) -> Fit:
        from ratinglab.fitting.gradient import GradientFit

        return GradientFit(predictor, setup, self)


@dataclass
class MomentOptions(GradientOptions):
    """Options of Adam and its variants, which scale steps by running moments of the gradient."""

    beta1: float = field(metadata=at_least(0, below=1))
    """Decay of the gradient's running mean, from 0 to below 1. The default rarely needs changing."""
    beta2: float = field(metadata=at_least(0, below=1))
    """Decay of the squared gradient's running mean, from 0 to below 1. The default rarely needs changing."""


@dataclass
class AdamOptions(MomentOptions):
    """Adam (Kingma and Ba 2015): steps scaled by running moments of the gradient."""

    name: ClassVar[str] = "adam"

    weight_decay: float = field(metadata=at_least(0))
    """Adam's own weight decay, added to the gradient of every weight at every step. For λ per rating, set
    model.regularization."""

    def make_optimizer(self, parameters: Iterator[Parameter]) -> Optimizer:
        from torch.optim import Adam

        return Adam(parameters, lr=self.lr, betas=(self.beta1, self.beta2), weight_decay=self.weight_decay, fused=True)


@dataclass
class AdamWOptions(MomentOptions):
    """AdamW (Loshchilov and Hutter 2019): Adam with decoupled weight decay."""

    name: ClassVar[str] = "adamw"

    weight_decay: float = field(metadata=at_least(0))
    """Each step shrinks every weight by the fraction lr · weight_decay. For λ per rating, set model.regularization."""

    def make_optimizer(self, parameters: Iterator[Parameter]) -> Optimizer:
        from torch.optim import AdamW

        return AdamW(parameters, lr=self.lr, betas=(self.beta1, self.beta2), weight_decay=self.weight_decay, fused=True)


@dataclass
class SparseAdamOptions(MomentOptions):
    """Adam that updates only a batch's rows, for tables much larger than a batch. Not equivalent to Adam.

    All other rows keep their weights and moments, whereas Adam would decay their moments and also move them. The
    equation must read its weights by row lookup only, so terms and features are not supported.
    """

    name: ClassVar[str] = "sparse_adam"
    forms: ClassVar[tuple[EquationForm, ...]] = (EquationForm.embeddings, EquationForm.function)
    runs_on_cpu_only: ClassVar[bool] = True

    @property
    def trainer_values(self) -> dict[str, object]:
        return {"gradient_clip_val": None}

    def make_optimizer(self, parameters: Iterator[Parameter]) -> Optimizer:
        from ratinglab.fitting.sparse_adam import SparseRowAdam

        return SparseRowAdam(parameters, lr=self.lr, betas=(self.beta1, self.beta2), eps=1e-8)

    def build(self, predictor: Predictor, setup: FitSetup) -> Fit:
        from ratinglab.fitting.sparse_adam import make_sparse  # imports a compiler

        make_sparse(predictor.model)
        return super().build(predictor, setup)


@dataclass
class SGDOptions(GradientOptions):
    """Minibatch stochastic gradient descent. The loss is a mean over the batch, so raise lr with data.batch_size."""

    name: ClassVar[str] = "sgd"

    weight_decay: float = field(metadata=at_least(0))
    """Multiple of every weight that each step adds to its gradient. For λ per rating, set model.regularization."""
    momentum: float = field(metadata=at_least(0, below=1))
    """Fraction of the last step that the next one repeats, from 0 to below 1."""

    def make_optimizer(self, parameters: Iterator[Parameter]) -> Optimizer:
        from torch.optim import SGD

        return SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True)
