"""One rating for all."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ratinglab.models.declarations import EquationOptions
from ratinglab.models.equation import Equation


@dataclass
class MeanOptions(EquationOptions):
    """The mean has no options."""

    name: ClassVar[str] = "mean"


class Mean(Equation):
    """r̂_ui = m

    m starts at the mean of the training ratings, which is its best value: what every other equation must beat.

    Cold start: none is needed; the bias baseline speaks for users and items without training rows all the same.
    """

    def __init__(
        self, options: MeanOptions, *, num_users: int, num_items: int, rating_mean: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(rating_mean, dtype=torch.float32))

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → rating: (B,) float32."""
        return self.mean.expand(len(user))

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        """None: () float32."""
        return self.mean.new_zeros(())
