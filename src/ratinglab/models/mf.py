"""The textbook matrix factorization: the dot product of two embeddings, nothing else."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ratinglab.models.declarations import EquationOptions
from ratinglab.models.equation import Equation, Factors
from ratinglab.options import at_least, within


@dataclass
class MFOptions(EquationOptions):
    """Options of the textbook matrix factorization."""

    name: ClassVar[str] = "mf"

    embedding_dim: int = field(metadata=within(1, 65_536))
    """Number of latent factors. More factors fit more detail and need more regularization."""
    regularization: float = field(metadata=at_least(0))
    """λ per rating, in the objective. Raise it where val/mse rises while train/mse falls."""
    init_std: float = field(metadata=at_least(0))
    """Standard deviation of the embeddings' first values, in √(rating units)."""


class MF(Equation):
    """r̂_ui = p_u · q_i

    Fitted on (r − r̂)² + λ (‖p_u‖² + ‖q_i‖²) per rating. The first predictions lie around the mean rating: the entries
    of p_u and q_i start at √(|mean| / embedding_dim), with the mean's sign on the item's side, plus
    Normal(0, init_std²).

    Cold start: none of its own; the bias baseline speaks for users and items without training rows.

    Source: Koren, Bell, Volinsky, "Matrix Factorization Techniques for Recommender Systems", IEEE Computer, 2009,
    equations 1 and 2.
    """

    def __init__(
        self,
        options: MFOptions,
        *,
        num_users: int,
        num_items: int,
        rating_mean: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.regularization = options.regularization
        self.user_embedding = nn.Embedding(num_users, options.embedding_dim)
        self.item_embedding = nn.Embedding(num_items, options.embedding_dim)
        level = math.sqrt(abs(rating_mean) / options.embedding_dim)
        for embedding, mean in (
            (self.user_embedding, level),
            (self.item_embedding, math.copysign(level, rating_mean)),
        ):
            nn.init.normal_(embedding.weight, mean=mean, std=options.init_std, generator=generator)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → rating: (B,) float32."""
        return (self.user_embedding(user) * self.item_embedding(item)).sum(dim=-1)

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → mean penalty of these ratings: () float32."""
        squares = self.user_embedding(user).square().sum() + self.item_embedding(item).square().sum()
        return self.regularization * squares / len(user)

    def factors(self) -> Factors:
        """The weights themselves, for fits that are made for this form."""
        return Factors(
            user=self.user_embedding.weight,
            item=self.item_embedding.weight,
            biases=(None, None),
            mean=0.0,
            regularization=self.regularization,
        )
