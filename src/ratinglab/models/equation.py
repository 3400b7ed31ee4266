"""What every equation provides."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Equation(nn.Module, ABC):
    """A model over the users and items with training rows, as indices from 0.

    An equation is built from the Options of its file, then num_users, num_items, rating_mean (of the training
    ratings) and generator (for its first weights), all by keyword.
    """

    @abstractmethod
    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → rating: (B,) float32, not clipped."""

    @abstractmethod
    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → penalty, a mean over these ratings: () float32."""
