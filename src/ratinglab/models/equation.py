"""Base class for equations, and the training data they are built from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ratinglab.batches import Batch
from ratinglab.formats.text_options import SideName
from ratinglab.models.design import Design


@dataclass(frozen=True)
class TrainingData:
    """Facts of the training part from which an equation is built.

    Attributes:
        num_users: users with training rows; their indices are 0 … num_users − 1.
        num_items: items with training rows.
        rating_mean: mean of the training ratings, in stars.
        rows: the training rows, with ratings in stars; None unless the equation needs interactions.
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


def other_side(name: SideName) -> SideName:
    """Return the side that this one is not."""
    return "item" if name == "user" else "user"


class SideFactors(NamedTuple):
    """The factors and biases of all users or of all items, all terms summed, in one sample of the weights.

    Attributes:
        factors: (num_rows, D) float32, a row per user or item, or per user and day.
        bias: (num_rows, 1) float32; None for an equation without biases.
        precision: (num_owners,) float32. The product of the precisions of a user and an item is 1 / variance of a
            rating around its prediction. None if unknown, as for an equation without samples.
    """

    factors: Tensor
    bias: Tensor | None = None
    precision: Tensor | None = None

    def take(self, row: Tensor) -> "SideFactors":
        """Select rows: (B,) → (B, D) and (B, 1). Keeps the precisions, which belong to users or items."""
        return self._replace(factors=self.factors[row], bias=None if self.bias is None else self.bias[row])

    def joined(self) -> Tensor:
        """Join the bias, if there is one, and the factors of each row: (num_rows, D) float32."""
        return self.factors if self.bias is None else torch.cat([self.bias, self.factors], dim=1)

    def extended(self, new: "SideFactors") -> "SideFactors":
        """Append the rows of new users or items."""
        pairs = zip(self, new, strict=True)
        return SideFactors._make(None if a is None or b is None else torch.cat([a, b]) for a, b in pairs)


class Factors(NamedTuple):
    """The factors and biases of μ + b_u + b_i + x_u · y_i, in one sample of the weights.

    Attributes:
        user: x and b_u of all users: on each one's last day or, for tracing and in a sample, of all their rows.
        item: y and b_i of all items.
        mean: μ, in stars.
        terms: in a sample, the weights of the terms that a new row has too, by name: (num_columns, D) float32, the bias
            first if there are biases. The rows include these terms.
    """

    user: SideFactors
    item: SideFactors
    mean: float
    terms: Mapping[str, Tensor] = MappingProxyType({})

    def side(self, name: SideName) -> SideFactors:
        """Return the side of this name."""
        return self.user if name == "user" else self.item


class ColumnSource(Enum):
    """Where the columns of a new row in a term's design come from."""

    own = "own"
    """Columns that belong to one row, such as a user's drift; a new row has none."""
    rated = "rated"
    """The items that a user has rated, or the users who have rated an item."""
    feature = "feature"
    """The values of a feature."""


class RowTerm(NamedTuple):
    """A term of a side's rows whose columns are known for new rows too.

    Attributes:
        source: rated, or feature.
        feature: name of the feature; "" for rated.
        design: F, over all rows.
        weights: w in each sample, (num_columns, D) float32 each, the bias first if there are biases.
    """

    source: ColumnSource
    feature: str
    design: Design
    weights: list[Tensor]


class SideRows(NamedTuple):
    """One side of an equation for fold-in: its rows in one or more samples of the weights, and their terms.

    Attributes:
        samples: the rows in each sample.
        mean: μ, in stars.
        last_row: (num_owners,) int64, the row of each user or item on its last day; None: one row each.
        terms: the terms that a new row has too; they are included in the rows.
    """

    samples: list[SideFactors]
    mean: float
    last_row: Tensor | None = None
    terms: tuple[RowTerm, ...] = ()

    def on_last_day(self) -> "SideRows":
        """Keep one row per user or item, on its last day."""
        if self.last_row is None:
            return self
        return self._replace(samples=[sample.take(self.last_row) for sample in self.samples], last_row=None)

    def repeated(self, times: int) -> "SideRows":
        """Repeat each sample, without copying it."""
        return self._replace(samples=[sample for sample in self.samples for _ in range(times)])

    def extended(self, new: "SideRows") -> "SideRows":
        """Append new rows, in as many samples. Both sides have one row per user or item."""
        pairs = zip(self.samples, new.samples, strict=True)
        return self._replace(samples=[sample.extended(added) for sample, added in pairs])

    @property
    def has_biases(self) -> bool:
        """Whether the equation has biases."""
        return self.samples[0].bias is not None

    @property
    def num_owners(self) -> int:
        """Number of users or items."""
        return len(self.samples[0].factors if self.last_row is None else self.last_row)

    def precisions(self) -> list[Tensor]:
        """List the precisions of each sample: (num_owners,) float32. All samples must have them."""
        known = [sample.precision for sample in self.samples if sample.precision is not None]
        assert len(known) == len(self.samples), "the caller sets the precisions"
        return known

    def take(self, index: Tensor) -> Tensor:
        """Select users or items on their last day: (B,) int64 → (S, B, D) float64, the bias first if there are biases.

        S is the number of samples.
        """
        row = index if self.last_row is None else self.last_row[index]
        return torch.stack([sample.take(row).joined() for sample in self.samples]).double()


class Equation(nn.Module, ABC):
    """A model over the users and items with training rows, as indices from 0. Its ratings are in stars: see Stars.

    Cold start: pairs with another user or item get the bias baseline's prediction, from the Predictor.

    If its options need days, forward and penalty take a third argument: day (B,) int32, counted from 1970-01-01, or
    None for the last day that the equation knows.
    """

    takes_day: bool = False
    """Whether forward and penalty take days; build_equation sets it from the options."""
    predicts_scores: ClassVar[bool] = False
    """Whether forward returns scores, not ratings: see ScoreEquation."""
    score_table: Callable[[Tensor], Tensor] | None = None
    """Method that predicts all items for each user, (B,) int → (B, num_items) float32, faster than forward does; None:
    the equation has none."""

    @property
    def num_samples(self) -> int:
        """Number of samples of the weights; 0 for an equation that has only its own weights."""
        return 0

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample in memory and in a checkpoint; 0 for an equation without samples."""
        return 0

    @abstractmethod
    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → rating: (B,) float32, not clipped."""

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        """Average the penalty over these ratings: user (B,) int32, item (B,) int32 → () float32.

        0 by default; an equation that takes days must override it.
        """
        return torch.zeros((), device=user.device)

    def arguments(self, user: Tensor, item: Tensor, day: Tensor | None) -> tuple[Any, ...]:
        """List the arguments of forward and penalty, with the day if the equation takes one."""
        return (user, item, day) if self.takes_day else (user, item)

    def predict(self, user: Tensor, item: Tensor, day: Tensor | None) -> Tensor:
        """Call forward, with the day if the equation takes one: (B,) float32."""
        rating: Tensor = self(*self.arguments(user, item, day))
        return rating

    def start_from_baseline(self, user_bias: Tensor, item_bias: Tensor) -> None:
        """Set the initial biases to the bias baseline's. Does nothing unless overridden.

        user_bias (num_users,) and item_bias (num_items,) are the baseline's biases, float32, in stars; its mean is the
        mean of the training ratings.
        """

    def factors(self) -> Factors | None:
        """Return the equation as one product of matrices; None if it has another form."""
        return None

    @torch.no_grad()
    def side_rows(self, name: SideName) -> SideRows | None:
        """Return the rows of the side `name` for fold-in; None for an equation without factors."""
        factors = self.factors()
        return None if factors is None else SideRows([factors.side(name)], factors.mean)

    def predict_items(self, user: int, items: Tensor) -> Tensor:
        """Predict one user's ratings of these items on the last day: (C,) int32 → (C,) float32."""
        return self.predict(torch.full_like(items, user), items, None)

    def factors_of_samples(self) -> Iterator[Factors]:
        """Yield the factors of each sample; without samples, the equation's own; nothing if it has another form."""
        factors = self.factors()
        if factors is not None:
            yield factors

    def traceable(self) -> "Equation":
        """Return an equation with the same predictions that torch.export can trace: this one, unless overridden."""
        return self


class ScoreEquation(Equation):
    """Base class for ranking models: forward returns scores, which order the items of one user and are not ratings.

    Cold start: for a user without training rows, an item's score is its share of raters; an item without training rows
    scores 0. The options derive from ScoreOptions.
    """

    predicts_scores = True

    @abstractmethod
    def with_users(self, rows: Batch, *, num_users: int) -> "ScoreEquation":
        """Return the equation with other users, 0 to num_users − 1, given their ratings in stars."""


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
