"""What every equation provides."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class Factors(NamedTuple):
    """The weights of r̂_ui = μ + b_u + b_i + p_u · q_i with the penalty λ (‖p_u‖² + ‖q_i‖² + b_u² + b_i²).

    Attributes:
        user: (num_users, D) float32.
        item: (num_items, D) float32.
        biases: (num_users, 1) and (num_items, 1) float32; None twice where there are none.
        mean: μ, in rating units.
        regularization: λ per rating.
    """

    user: Tensor
    item: Tensor
    biases: tuple[Tensor, Tensor] | tuple[None, None]
    mean: float
    regularization: float


class Interactions(NamedTuple):
    """Who has rated what in the training part, and on which day.

    Attributes:
        user: (N,) int32.
        item: (N,) int32.
        day: (N,) int32, since 1970; None where the equation takes no days.
    """

    user: Tensor
    item: Tensor
    day: Tensor | None


class ItemFeatures(NamedTuple):
    """Pairs of an item and a feature that it has, such as a genre.

    Attributes:
        item: (E,) int32, of items with training rows.
        feature: (E,) int32, from 0.
        num_features: different features.
    """

    item: Tensor
    feature: Tensor
    num_features: int


class Equation(nn.Module, ABC):
    """A model over the users and items with training rows, as indices from 0.

    An equation is built from the Options of its file, then num_users, num_items, rating_mean (of the training
    ratings) and generator (for its first weights), all by keyword; where its constructor has arguments of these names,
    interactions and item_features too.

    Where takes_day is true, forward and penalty have a third argument: day (B,) int32, since 1970, or None for what
    is known last: as timesvdpp has it, of each user the last day with training rows, of each item the last bin.
    """

    takes_day: bool = False

    @abstractmethod
    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → rating: (B,) float32, not clipped."""

    @abstractmethod
    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → penalty, a mean over these ratings: () float32."""

    def user_rows(self, user: Tensor, day: Tensor | None) -> Tensor:
        """The row of weights that speaks for a user on a day: (B,); here the user's own, on all days."""
        return user

    def factors(self) -> Factors | None:
        """The numbers of this one form, for what is made for it; None: the equation is of another.

        Those of mf and biased_mf are the weights themselves, and change with them.
        """
        return None
