"""Base class for equations, and the training data they are built from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ratinglab.batches import Batch
from ratinglab.models.design import Design


@dataclass(frozen=True)
class TrainingData:
    """Facts of the training part from which an equation is built.

    Attributes:
        num_users: users with training rows; their indices are 0 … num_users − 1.
        num_items: items with training rows.
        rating_mean: mean of the training ratings, in rating units.
        rows: the training rows; None unless the equation needs interactions.
        user_features: the design of each user feature that the equation needs, by column.
        item_features: the design of each item feature, by column.
    """

    num_users: int
    num_items: int
    rating_mean: float
    rows: Batch | None = None
    user_features: Mapping[str, Design] = field(default_factory=dict)
    item_features: Mapping[str, Design] = field(default_factory=dict)

    def interactions(self) -> Batch:
        """Return the training rows; the equation's options must declare that it needs them."""
        assert self.rows is not None, "the options must declare Needs(interactions=True)"
        return self.rows


class Factors(NamedTuple):
    """The terms of μ + b_u + b_i + x_u · y_i for every user and item, on the last known day, or for every row.

    Attributes:
        user: (num_users, D) float32, x.
        item: (num_items, D) float32, y.
        user_bias: (num_users, 1) float32; None for an equation without biases.
        item_bias: (num_items, 1) float32; None for an equation without biases.
        mean: μ, in rating units.
    """

    user: Tensor
    item: Tensor
    user_bias: Tensor | None
    item_bias: Tensor | None
    mean: float


class Equation(nn.Module, ABC):
    """A model over the users and items with training rows, as indices from 0.

    If its options need days, forward and penalty take a third argument: day (B,) int32, counted from 1970-01-01, or
    None for the last day that the equation knows.
    """

    takes_day: bool = False
    """Whether forward and penalty take days; build_equation sets it from the options."""

    @abstractmethod
    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → rating: (B,) float32, not clipped."""

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        """Average the penalty over these ratings: user (B,) int32, item (B,) int32 → () float32.

        It is 0 unless overridden; an equation that takes days must override it.
        """
        return torch.zeros((), device=user.device)

    def arguments(self, user: Tensor, item: Tensor, day: Tensor | None) -> tuple[Any, ...]:
        """List the arguments of forward and penalty, with the day if the equation takes one."""
        return (user, item, day) if self.takes_day else (user, item)

    def predict(self, user: Tensor, item: Tensor, day: Tensor | None) -> Tensor:
        """Call forward, with the day if the equation takes one: (B,) float32."""
        rating: Tensor = self(*self.arguments(user, item, day))
        return rating

    def factors(self) -> Factors | None:
        """Return the equation as one product of matrices; None if it has another form."""
        return None

    def factors_of_samples(self) -> Iterator[Factors]:
        """Yield the factors of each sample; of an equation without samples, its own; none if it has another form."""
        factors = self.factors()
        if factors is not None:
            yield factors

    def traceable(self) -> "Equation":
        """Return an equation that predicts the same and that torch.export can trace: this one, unless overridden."""
        return self

    def item_vectors(self) -> Tensor | None:
        """Return (num_items, D) float32 for TensorBoard's projector; None for an equation without factors."""
        factors = self.factors()
        return None if factors is None else factors.item.detach()


def normal_embedding(
    count: int, dim: int, *, std: float, generator: torch.Generator, mean: float = 0.0
) -> nn.Embedding:
    """Make a table of (count, dim) weights, drawn from Normal(mean, std²)."""
    embedding = nn.Embedding(count, dim)
    nn.init.normal_(embedding.weight, mean=mean, std=std, generator=generator)
    return embedding


def zero_embedding(count: int, dim: int = 1) -> nn.Embedding:
    """Make a table of (count, dim) weights that start at 0, such as biases."""
    embedding = nn.Embedding(count, dim)
    nn.init.zeros_(embedding.weight)
    return embedding
