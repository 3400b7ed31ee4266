"""Matrix factorization with dropout on the users' embeddings."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ratinglab.models import Equation, EquationOptions, TrainingData, at_least, normal_embedding


@dataclass
class DropoutMFOptions(EquationOptions):
    """Options of matrix factorization with dropout."""

    name: ClassVar[str] = "dropout_mf"

    embedding_dim: int
    """Number of latent factors."""
    dropout: float = field(metadata=at_least(0, below=1))
    """Chance that an entry of a user's embedding is 0 in a step."""

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "DropoutMF":
        """Make the equation."""
        return DropoutMF(self, training, generator=generator)


class DropoutMF(Equation):
    """r̂_ui = μ + dropout(p_u) · q_i"""

    def __init__(self, options: DropoutMFOptions, training: TrainingData, *, generator: torch.Generator) -> None:
        super().__init__()
        self.mean = training.rating_mean
        self.user_embedding = normal_embedding(training.num_users, options.embedding_dim, std=0.3, generator=generator)
        self.item_embedding = normal_embedding(training.num_items, options.embedding_dim, std=0.3, generator=generator)
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return self.mean + (self.dropout(self.user_embedding(user)) * self.item_embedding(item)).sum(dim=-1)

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        return torch.zeros(())
