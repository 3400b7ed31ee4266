"""What a user tends to give and an item tends to get, and nothing of who likes what."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ratinglab.models.declarations import EquationOptions
from ratinglab.models.equation import Equation
from ratinglab.options import at_least


@dataclass
class BiasOptions(EquationOptions):
    """Options of the biases."""

    name: ClassVar[str] = "bias"

    regularization: float = field(metadata=at_least(0))
    """λ per rating, in the objective. Raise it where val/mse rises while train/mse falls."""


class Bias(Equation):
    """r̂_ui = μ + b_u + b_i

    μ is the mean of the training ratings and stays; the biases start at 0. Fitted on (r − r̂)² + λ (b_u² + b_i²) per
    rating, where the bias baseline, which every run is set beside, has one λ for each user and item.

    Cold start: none of its own; the bias baseline speaks for users and items without training rows.

    Source: Koren, Bell, Volinsky, "Matrix Factorization Techniques for Recommender Systems", IEEE Computer, 2009,
    equation 3.
    """

    rating_mean: Tensor

    def __init__(
        self, options: BiasOptions, *, num_users: int, num_items: int, rating_mean: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.regularization = options.regularization
        self.register_buffer("rating_mean", torch.tensor(rating_mean, dtype=torch.float32))
        self.user_bias, self.item_bias = nn.Embedding(num_users, 1), nn.Embedding(num_items, 1)
        for bias in (self.user_bias, self.item_bias):
            nn.init.zeros_(bias.weight)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → rating: (B,) float32."""
        return self.rating_mean + self.user_bias(user)[:, 0] + self.item_bias(item)[:, 0]

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → mean penalty of these ratings: () float32."""
        squares = self.user_bias(user).square().sum() + self.item_bias(item).square().sum()
        return self.regularization * squares / len(user)
