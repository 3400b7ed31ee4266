"""Factors and biases of users and items, by side and by sample of the weights."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from ratinglab.models.design import Design
from ratinglab.sides import SideName


class SideFactors(NamedTuple):
    """The factors and biases of all users or of all items, all terms summed, in one sample of the weights.

    Attributes:
        factors: (num_rows, D) float32, a row per user or item, or per user and day.
        bias: (num_rows, 1) float32, or None for an equation without biases.
        noise_precision: (num_owners,) float32, one per user or item. A rating varies around its prediction with the
            variance 1 / (user's noise precision · item's). None if unknown, as for an equation without samples.
    """

    factors: Tensor
    bias: Tensor | None = None
    noise_precision: Tensor | None = None

    def take(self, row: Tensor) -> "SideFactors":
        """Select rows: (B,) → (B, D) and (B, 1). Keeps the noise precisions, which belong to users or items."""
        return self._replace(factors=self.factors[row], bias=None if self.bias is None else self.bias[row])

    def as_matrix(self) -> Tensor:
        """Return the factors, preceded by the bias if there is one: (num_rows, D) float32."""
        return self.factors if self.bias is None else torch.cat([self.bias, self.factors], dim=1)

    def append(self, new: "SideFactors") -> "SideFactors":
        """Return these rows, followed by the rows of new users or items."""
        pairs = zip(self, new, strict=True)
        return SideFactors._make(None if a is None or b is None else torch.cat([a, b]) for a, b in pairs)


class Factors(NamedTuple):
    """The factors and biases of μ + b_u + b_i + x_u · y_i, in one sample of the weights.

    Attributes:
        user: x and b_u of all users: all rows in a sample and for tracing, else the rows of the last day.
        item: y and b_i of all items.
        mean: μ, in stars.
        term_weights: in a sample, the weights of the terms that new rows also have, by name: (num_columns, D) float32,
            the bias first if there are biases. The rows include these terms.
    """

    user: SideFactors
    item: SideFactors
    mean: float
    term_weights: Mapping[str, Tensor] = MappingProxyType({})

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


class NewRowTerm(NamedTuple):
    """A term that new rows of a side also have, because its columns follow from their ratings or features.

    Attributes:
        feature: name of the feature whose values are the columns. None if they are the rated items or the raters.
        design: F, over all rows.
        weights: w in each sample, (num_columns, D) float32 each, the bias first if there are biases.
    """

    feature: str | None
    design: Design
    weights: list[Tensor]


class SideSamples(NamedTuple):
    """One side of an equation for fold-in: its rows in every sample of the weights, and their terms.

    Attributes:
        samples: the rows in each sample, one per user or item, on its last day.
        mean: μ, in stars.
        new_row_terms: the terms that new rows also have. The rows include them.
    """

    samples: list[SideFactors]
    mean: float
    new_row_terms: tuple[NewRowTerm, ...] = ()

    def repeat_samples(self, times: int) -> "SideSamples":
        """Repeat each sample, without copying it."""
        return self._replace(samples=[sample for sample in self.samples for _ in range(times)])

    def append(self, new: "SideSamples") -> "SideSamples":
        """Return these rows followed by new ones. Both have the same number of samples."""
        pairs = zip(self.samples, new.samples, strict=True)
        return self._replace(samples=[sample.append(added) for sample, added in pairs])

    @property
    def has_biases(self) -> bool:
        """Whether the equation has biases."""
        return self.samples[0].bias is not None

    @property
    def num_owners(self) -> int:
        """Number of users or items."""
        return len(self.samples[0].factors)

    def noise_precisions(self) -> list[Tensor]:
        """List the noise precisions of each sample: (num_owners,) float32. All samples must have them."""
        precisions = [sample.noise_precision for sample in self.samples if sample.noise_precision is not None]
        assert len(precisions) == len(self.samples), "the caller sets the noise precisions"
        return precisions

    def stack_rows(self, index: Tensor) -> Tensor:
        """Select users or items: (B,) int64 → (S, B, D) float64, the bias first if there are biases.

        S is the number of samples.
        """
        return torch.stack([sample.take(index).as_matrix() for sample in self.samples]).double()
