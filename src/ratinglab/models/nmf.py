"""Non-negative matrix factorization."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ratinglab.models.equation import Equation, TrainingData, normal_embedding
from ratinglab.models.equation_options import FactorOptions
from ratinglab.models.factors import Factors, SideFactors
from ratinglab.options import at_least


@dataclass
class NMFOptions(FactorOptions):
    """Options of non-negative matrix factorization."""

    name: ClassVar[str] = "nmf"

    init_std: float = field(metadata=at_least(0))
    """Standard deviation of the embeddings' initial values, in ⁴√stars."""

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "NMF":
        return NMF(self, training, generator=generator)


class NMF(Equation):
    """Non-negative matrix factorization: r̂_ui = p_u · q_i with p_u = a_u² and q_i = c_i², entry by entry.

    Minimizes (r − r̂)² + λ (‖p_u‖² + ‖q_i‖²) per rating, over a and c. The first predictions lie around the mean rating:
    the entries of a and c start at ⁴√(mean / embedding_dim) plus Normal(0, init_std²).

    Source: Luo, Zhou, Xia, Zhu, "An Efficient Non-Negative Matrix-Factorization-Based Approach to Collaborative
    Filtering for Recommender Systems", IEEE TII, 2014, for the model; the squares let any gradient method fit it.
    """

    def __init__(self, options: NMFOptions, training: TrainingData, *, generator: torch.Generator) -> None:
        super().__init__()
        self.regularization = options.regularization
        start = (training.rating_mean / options.embedding_dim) ** 0.25
        dim, std = options.embedding_dim, options.init_std
        self.user_embedding = normal_embedding(training.num_users, dim, mean=start, std=std, generator=generator)
        self.item_embedding = normal_embedding(training.num_items, dim, mean=start, std=std, generator=generator)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return (self.user_embedding(user).square() * self.item_embedding(item).square()).sum(dim=-1)

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        squares = self.user_embedding(user).pow(4).sum() + self.item_embedding(item).pow(4).sum()
        return self.regularization * squares / len(user)

    def factors(self) -> Factors:
        """Return the values of p and q."""
        user, item = self.user_embedding.weight.square(), self.item_embedding.weight.square()
        return Factors(SideFactors(user), SideFactors(item), mean=0.0)
