"""Base class for equations, and the training data they are built from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ratinglab.batches import Batch
from ratinglab.models.design import Design
from ratinglab.models.factors import Factors, NewRowTerm, SideSamples
from ratinglab.sides import SideName

PAIRS_PREDICTED_AT_ONCE = 1 << 18
"""Number of pairs of a table that `forward` predicts at once; each can take a few KB."""


@dataclass(frozen=True)
class TrainingData:
    """Facts about the training data from which an equation is built.

    Attributes:
        num_users: users with training rows; their indices are 0 … num_users − 1.
        num_items: items with training rows.
        rating_mean: mean of the training ratings, in stars.
        rows: the training rows, with ratings in stars. None if the equation needs no interactions.
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


class Equation(nn.Module, ABC):
    """Base class for equations, which predict ratings in stars (see Stars) from indices of users and items.

    Users and items with training rows have the indices from 0 on. For a pair with any other user or item, the Predictor
    takes the bias baseline's prediction.

    If its options need days, forward and penalty take a third argument: day (B,) int32, counted from 1970-01-01, or
    None for the last day that the equation knows.
    """

    takes_day: bool = False
    """Whether forward and penalty take days; build_equation sets it from the options."""

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample in memory and in a checkpoint, or 0 for an equation without samples."""
        return 0

    @abstractmethod
    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → rating: (B,) float32, not clipped."""

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        """Average the penalty over these ratings: user (B,) int32, item (B,) int32 → () float32.

        0 by default. An equation that takes days must override it.
        """
        return torch.zeros((), device=user.device)

    def forward_arguments(self, user: Tensor, item: Tensor, day: Tensor | None) -> tuple[Any, ...]:
        """List the arguments of forward and penalty, with the day if the equation takes one."""
        return (user, item, day) if self.takes_day else (user, item)

    def predict(self, user: Tensor, item: Tensor, day: Tensor | None) -> Tensor:
        """Call forward, with the day if the equation takes one: (B,) float32."""
        rating: Tensor = self(*self.forward_arguments(user, item, day))
        return rating

    def start_from_baseline(self, user_bias: Tensor, item_bias: Tensor) -> None:
        """Set the initial biases to the bias baseline's. Does nothing unless overridden.

        user_bias (num_users,) and item_bias (num_items,) are the baseline's biases, float32, in stars; its mean is the
        mean of the training ratings.
        """

    def factors(self) -> Factors | None:
        """Return the equation as one product of matrices, or None if it has another form."""
        return None

    def factors_of_samples(self) -> Iterator[Factors]:
        """Yield the factors of each sample or, without samples, the equation's own. Yields nothing if it has none."""
        factors = self.factors()
        if factors is not None:
            yield factors

    def new_row_terms(self, name: SideName, weights: Sequence[Mapping[str, Tensor]]) -> tuple[NewRowTerm, ...]:
        """List the terms that new rows of a side also have, given each sample's weights of terms. None by default."""
        return ()

    @torch.no_grad()
    def side_samples(self, name: SideName) -> SideSamples | None:
        """Return the rows of the side `name` for fold-in, or None for an equation without factors."""
        # not the samples themselves, whose other side may be a copy
        kept = [(sample.side(name), sample.mean, sample.term_weights) for sample in self.factors_of_samples()]
        if not kept:
            return None
        sides, means, weights = zip(*kept, strict=True)
        return SideSamples(list(sides), means[0], self.new_row_terms(name, weights))

    def predict_table(self, user: Tensor, item: Tensor) -> Tensor:
        """Predict each user's ratings of all these items on the last day: (B,) int32, (C,) int32 → (B, C) float32.

        Predicts pair by pair unless overridden.
        """
        blocks = user.split(max(1, PAIRS_PREDICTED_AT_ONCE // max(1, len(item))))
        pairs = ((block.repeat_interleave(len(item)), item.repeat(len(block))) for block in blocks)
        return torch.cat([self.predict(*pair, None) for pair in pairs]).view(len(user), len(item))

    def traceable(self) -> "Equation":
        """Return an equation that torch.export can trace and that predicts the same: by default, this one."""
        return self


class ScoreEquation(Equation):
    """Base class for ranking models: forward returns scores, which order the items of one user and are not ratings.

    The Predictor handles users and items without training rows. The options derive from ScoreOptions.
    """

    @abstractmethod
    def with_users(self, rows: Batch, *, num_users: int) -> "ScoreEquation":
        """Return a copy for other users, 0 to num_users − 1, given their ratings in stars. It shares the items."""


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
