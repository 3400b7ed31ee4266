"""One rating for all."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ratinglab.models.equation import Equation


@dataclass
class Options:
    """The mean has no options."""


class Mean(Equation):
    """r̂_ui = m

    m starts at the mean of the training ratings, which is its best value: what every other equation must beat.

    Cold start: none is needed; the bias baseline speaks for users and items without training rows all the same.
    """

    def __init__(
        self, options: Options, *, num_users: int, num_items: int, rating_mean: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(rating_mean, dtype=torch.float32))

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → rating: (B,) float32."""
        return self.mean.expand(len(user))

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        """None: () float32."""
        return self.mean.new_zeros(())
