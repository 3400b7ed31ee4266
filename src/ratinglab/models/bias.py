"""The bias model: user and item biases, no interaction."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ratinglab.models.equation import Equation, TrainingData, zero_embedding
from ratinglab.models.equation_options import EquationOptions
from ratinglab.options import at_least


@dataclass
class BiasOptions(EquationOptions):
    """Options of the bias model."""

    name: ClassVar[str] = "bias"

    regularization: float = field(metadata=at_least(0))
    """λ per rating, in the objective. Raise it if val/mse rises while train/mse falls."""

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "Bias":
        return Bias(self, training)


class Bias(Equation):
    """Biases alone: r̂_ui = μ + b_u + b_i.

    μ is fixed at the mean of the training ratings. The biases start at the bias baseline's, which counts λ once per
    user and item. Minimizes (r − r̂)² + λ (b_u² + b_i²) per rating.

    Source: Koren, Bell, Volinsky, "Matrix Factorization Techniques for Recommender Systems", IEEE Computer, 2009,
    equation 3.
    """

    rating_mean: Tensor

    def __init__(self, options: BiasOptions, training: TrainingData) -> None:
        super().__init__()
        self.regularization = options.regularization
        self.register_buffer("rating_mean", torch.tensor(training.rating_mean, dtype=torch.float32))
        self.user_bias, self.item_bias = zero_embedding(training.num_users), zero_embedding(training.num_items)

    @torch.no_grad()
    def start_from_baseline(self, user_bias: Tensor, item_bias: Tensor) -> None:
        self.user_bias.weight.copy_(user_bias[:, None])
        self.item_bias.weight.copy_(item_bias[:, None])

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return self.rating_mean + self.user_bias(user)[:, 0] + self.item_bias(item)[:, 0]

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        squares = self.user_bias(user).square().sum() + self.item_bias(item).square().sum()
        return self.regularization * squares / len(user)
