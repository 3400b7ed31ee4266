"""Matrix factorization with biases."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ratinglab.models.declarations import EquationOptions
from ratinglab.models.equation import Equation, Factors
from ratinglab.options import at_least, within


@dataclass
class BiasedMFOptions(EquationOptions):
    """Options of matrix factorization with biases."""

    name: ClassVar[str] = "biased_mf"

    embedding_dim: int = field(metadata=within(1, 65_536))
    """Number of latent factors. More factors fit more detail and need more regularization."""
    regularization: float = field(metadata=at_least(0))
    """λ per rating, in the objective. Raise it where val/mse rises while train/mse falls."""
    init_std: float = field(metadata=at_least(0))
    """Standard deviation of the embeddings' first values, in √(rating units)."""


class BiasedMF(Equation):
    """r̂_ui = μ + b_u + b_i + p_u · q_i

    μ is the mean of the training ratings and stays; the biases start at 0, the embeddings at Normal(0, init_std²).
    Fitted on (r − r̂)² + λ (‖p_u‖² + ‖q_i‖² + b_u² + b_i²) per rating.

    Cold start: none of its own; the bias baseline speaks for users and items without training rows.

    Source: Koren, Bell, Volinsky, "Matrix Factorization Techniques for Recommender Systems", IEEE Computer, 2009,
    equations 4 and 5.
    """

    rating_mean: Tensor

    def __init__(
        self,
        options: BiasedMFOptions,
        *,
        num_users: int,
        num_items: int,
        rating_mean: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.regularization = options.regularization
        self.register_buffer("rating_mean", torch.tensor(rating_mean, dtype=torch.float32))
        self.user_bias = nn.Embedding(num_users, 1)
        self.item_bias = nn.Embedding(num_items, 1)
        self.user_embedding = nn.Embedding(num_users, options.embedding_dim)
        self.item_embedding = nn.Embedding(num_items, options.embedding_dim)
        for bias in (self.user_bias, self.item_bias):
            nn.init.zeros_(bias.weight)
        for embedding in (self.user_embedding, self.item_embedding):
            nn.init.normal_(embedding.weight, mean=0.0, std=options.init_std, generator=generator)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → rating: (B,) float32."""
        bias = self.rating_mean + self.user_bias(user)[:, 0] + self.item_bias(item)[:, 0]
        return bias + (self.user_embedding(user) * self.item_embedding(item)).sum(dim=-1)

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → mean penalty of these ratings: () float32."""
        squares = (
            self.user_embedding(user).square().sum()
            + self.item_embedding(item).square().sum()
            + self.user_bias(user).square().sum()
            + self.item_bias(item).square().sum()
        )
        return self.regularization * squares / len(user)

    def factors(self) -> Factors:
        """The weights themselves, for fits that are made for this form."""
        return Factors(
            user=self.user_embedding.weight,
            item=self.item_embedding.weight,
            biases=(self.user_bias.weight, self.item_bias.weight),
            mean=float(self.rating_mean),
            regularization=self.regularization,
        )
