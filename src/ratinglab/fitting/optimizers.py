"""How an equation is fitted. torch is imported when an optimizer is built: the command line reads the options first.

Each class says whether it takes batches of data.batch_size, or else all training rows at once; whether it has a
learning rate; and whether it keeps samples, of which the last epoch has the most, or one best set of weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from ratinglab.options import above, at_least, from_zero_below, within

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer


@dataclass
class FitOptions:
    """Base class for the ways to fit an equation; conf/optimizer/*.yaml name the subclasses by `_target_`."""

    name: ClassVar[str]
    takes_batches: ClassVar[bool]
    """Whether a step takes data.batch_size ratings; else an epoch takes all training rows at once."""
    has_lr: ClassVar[bool]
    """Whether there is a learning rate, which a schedule may change."""
    is_sampler: ClassVar[bool]
    """Whether the fit keeps samples, of which the last epoch has the most."""


@dataclass
class Adam(FitOptions):
    """Adam (Kingma and Ba 2015): steps scaled by running moments of the gradient."""

    name: ClassVar[str] = "adam"
    takes_batches: ClassVar[bool] = True
    has_lr: ClassVar[bool] = True
    is_sampler: ClassVar[bool] = False

    lr: float = field(metadata=above(0))
    """Learning rate of the first epoch; the schedule changes it. Halve it where train/mse is unsteady."""
    weight_decay: float = field(metadata=at_least(0))
    """Adam's own weight decay, added to the gradient of every weight at every step. For λ per rating set
    model.regularization."""
    beta1: float = field(metadata=from_zero_below(1))
    """Decay of the gradient's running mean, from 0 to below 1. The default rarely needs a change."""
    beta2: float = field(metadata=from_zero_below(1))
    """Decay of the squared gradient's running mean, from 0 to below 1. The default rarely needs a change."""

    def build(self, parameters: Iterator[Parameter]) -> Optimizer:
        """The optimizer over these parameters."""
        from torch import optim

        betas = (self.beta1, self.beta2)
        return optim.Adam(parameters, lr=self.lr, betas=betas, weight_decay=self.weight_decay, fused=True)


@dataclass
class AdamW(FitOptions):
    """AdamW (Loshchilov and Hutter 2019): Adam, with weight decay apart from the moments."""

    name: ClassVar[str] = "adamw"
    takes_batches: ClassVar[bool] = True
    has_lr: ClassVar[bool] = True
    is_sampler: ClassVar[bool] = False

    lr: float = field(metadata=above(0))
    """Learning rate of the first epoch; the schedule changes it. Halve it where train/mse is unsteady."""
    weight_decay: float = field(metadata=at_least(0))
    """Every weight loses the fraction lr · weight_decay at every step. For λ per rating set model.regularization."""
    beta1: float = field(metadata=from_zero_below(1))
    """Decay of the gradient's running mean, from 0 to below 1. The default rarely needs a change."""
    beta2: float = field(metadata=from_zero_below(1))
    """Decay of the squared gradient's running mean, from 0 to below 1. The default rarely needs a change."""

    def build(self, parameters: Iterator[Parameter]) -> Optimizer:
        """The optimizer over these parameters."""
        from torch import optim

        betas = (self.beta1, self.beta2)
        return optim.AdamW(parameters, lr=self.lr, betas=betas, weight_decay=self.weight_decay, fused=True)


@dataclass
class SparseAdam(FitOptions):
    """Adam on the rows of the batch alone: another mathematics, for tables of which a batch touches a small part.

    The moments of all other rows stay as they are, where Adam lets them decay, and with them moves these rows too.
    """

    name: ClassVar[str] = "sparse_adam"
    takes_batches: ClassVar[bool] = True
    has_lr: ClassVar[bool] = True
    is_sampler: ClassVar[bool] = False

    lr: float = field(metadata=above(0))
    """Learning rate of the first epoch; the schedule changes it. Halve it where train/mse is unsteady."""
    beta1: float = field(metadata=from_zero_below(1))
    """Decay of the gradient's running mean, from 0 to below 1. The default rarely needs a change."""
    beta2: float = field(metadata=from_zero_below(1))
    """Decay of the squared gradient's running mean, from 0 to below 1. The default rarely needs a change."""

    def build(self, parameters: Iterator[Parameter]) -> Optimizer:
        """The optimizer over these parameters, whose gradients must be sparse."""
        from ratinglab.fitting.sparse_adam import SparseRowAdam  # which imports a compiler

        return SparseRowAdam(parameters, lr=self.lr, betas=(self.beta1, self.beta2), eps=1e-8)


@dataclass
class SGD(FitOptions):
    """Minibatch stochastic gradient descent. The loss is a mean over the batch: lr grows with data.batch_size."""

    name: ClassVar[str] = "sgd"
    takes_batches: ClassVar[bool] = True
    has_lr: ClassVar[bool] = True
    is_sampler: ClassVar[bool] = False

    lr: float = field(metadata=above(0))
    """Learning rate of the first epoch; the schedule changes it. Halve it where train/mse is unsteady."""
    weight_decay: float = field(metadata=at_least(0))
    """Weight decay, added to the gradient of every weight at every step. For λ per rating set model.regularization."""
    momentum: float = field(metadata=from_zero_below(1))
    """Fraction of the last step that the next one repeats, from 0 to below 1."""

    def build(self, parameters: Iterator[Parameter]) -> Optimizer:
        """The optimizer over these parameters."""
        from torch import optim

        return optim.SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True)


@dataclass
class BlockSGD(FitOptions):
    """Stochastic gradient descent, a step a rating, in compiled loops on all cores (Zhuang et al. 2013).

    A step is −lr times the gradient of (r − r̂)² + λ · penalty: elsewhere often written without the factor 2, so that
    their learning rate of 0.01 is 0.005 here. data.batch_size is not read.
    """

    name: ClassVar[str] = "block_sgd"
    takes_batches: ClassVar[bool] = False
    has_lr: ClassVar[bool] = True
    is_sampler: ClassVar[bool] = False

    lr: float = field(metadata=above(0))
    """Learning rate of the first epoch; the schedule changes it. Halve it where train/mse is unsteady."""
    slices: int | None = field(metadata=within(1, 1024))
    """Number of slices of users and of items, which is also the largest number of threads. null: 8, or 16 from 8
    million ratings."""
    adaptive: bool
    """Whether each user and item has its own rate: lr / √(1 + Σ g² / embedding_dim), g its gradients so far (Chin et
    al. 2015). It wants a larger lr."""


class Noise(Enum):
    """Whose noise is estimated: how far ratings lie from their predictions."""

    own = "own"
    one = "one"


@dataclass
class Gibbs(FitOptions):
    """Gibbs sampling: Bayesian matrix factorization, a sweep an epoch (Salakhutdinov and Mnih 2008).

    No learning rate and no regularization to tune. Predictions are means over the samples that are kept, and come with
    a standard deviation. data.batch_size, model.regularization and early stopping have nothing to act on.
    """

    name: ClassVar[str] = "gibbs"
    takes_batches: ClassVar[bool] = False
    has_lr: ClassVar[bool] = False
    is_sampler: ClassVar[bool] = True

    burn_in: int = field(metadata=at_least(0))
    """Number of epochs before the first kept sample. Must be below trainer.max_epochs."""
    noise: Noise
    """Noise of the ratings. own: each user and item has its own; one: a single noise for all."""
    thin: int = field(metadata=at_least(1))
    """Number of epochs between two kept samples. Raise it to save memory: each sample takes as much as the model, three
    times while a checkpoint is written."""


@dataclass
class ALS(FitOptions):
    """Alternating least squares, a sweep an epoch (Zhou et al. 2008): each row of weights in closed form.

    No learning rate: model.regularization alone is to be tuned. data.batch_size is not read.
    """

    name: ClassVar[str] = "als"
    takes_batches: ClassVar[bool] = False
    has_lr: ClassVar[bool] = False
    is_sampler: ClassVar[bool] = False
