"""Non-negative matrix factorization."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ratinglab.errors import UserError
from ratinglab.models.declarations import EquationOptions
from ratinglab.models.equation import Equation, Factors
from ratinglab.options import at_least, within


@dataclass
class NMFOptions(EquationOptions):
    """Options of non-negative matrix factorization."""

    name: ClassVar[str] = "nmf"

    embedding_dim: int = field(metadata=within(1, 65_536))
    """Number of latent factors. More factors fit more detail and need more regularization."""
    regularization: float = field(metadata=at_least(0))
    """λ per rating, in the objective. Raise it where val/mse rises while train/mse falls."""
    init_std: float = field(metadata=at_least(0))
    """Standard deviation of the embeddings' first values, in ⁴√(rating units)."""


class NMF(Equation):
    """r̂_ui = p_u · q_i with p_u = a_u², q_i = c_i², entry by entry, so that no factor is below 0

    Fitted on (r − r̂)² + λ (‖p_u‖² + ‖q_i‖²) per rating, over a and c. The first predictions lie around the mean rating:
    the entries of a and c start at ⁴√(mean / embedding_dim) plus Normal(0, init_std²).

    Cold start: none of its own; the bias baseline speaks for users and items without training rows.

    Source: Luo, Zhou, Xia, Zhu, "An Efficient Non-Negative Matrix-Factorization-Based Approach to Collaborative
    Filtering for Recommender Systems", IEEE TII, 2014, for the model; the squares make it one for any gradient method.
    """

    def __init__(
        self, options: NMFOptions, *, num_users: int, num_items: int, rating_mean: float, generator: torch.Generator
    ) -> None:
        """Raise UserError where the mean is not above 0: no product of these factors comes near."""
        super().__init__()
        if rating_mean <= 0:
            raise UserError(f"model=nmf predicts no rating below 0: the mean must be above 0, got {rating_mean:g}")
        self.regularization = options.regularization
        self.user_embedding = nn.Embedding(num_users, options.embedding_dim)
        self.item_embedding = nn.Embedding(num_items, options.embedding_dim)
        for embedding in (self.user_embedding, self.item_embedding):
            start = (rating_mean / options.embedding_dim) ** 0.25
            nn.init.normal_(embedding.weight, mean=start, std=options.init_std, generator=generator)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → rating: (B,) float32."""
        return (self.user_embedding(user).square() * self.item_embedding(item).square()).sum(dim=-1)

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → mean penalty of these ratings: () float32."""
        squares = self.user_embedding(user).pow(4).sum() + self.item_embedding(item).pow(4).sum()
        return self.regularization * squares / len(user)

    def factors(self) -> Factors:
        """p and q: values, not the weights themselves."""
        return Factors(
            user=self.user_embedding.weight.square(),
            item=self.item_embedding.weight.square(),
            biases=(None, None),
            mean=0.0,
            regularization=self.regularization,
        )
