"""Textbook matrix factorization: the dot product of two embeddings, nothing else."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ratinglab.models.equation import TrainingData, normal_embedding
from ratinglab.models.equation_options import EquationForm, FactorOptions
from ratinglab.models.factor_equation import FactorEquation, Side


@dataclass
class MFOptions(FactorOptions):
    """Options of textbook matrix factorization."""

    name: ClassVar[str] = "mf"
    form: ClassVar[EquationForm] = EquationForm.embeddings

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "MF":
        return MF(self, training, generator=generator)


class MF(FactorEquation):
    """Textbook matrix factorization: r̂_ui = p_u · q_i.

    Minimizes (r − r̂)² + λ (‖p_u‖² + ‖q_i‖²) per rating. The first predictions lie around the mean rating: the entries
    of p_u and q_i start at √(|mean| / embedding_dim), with the mean's sign on the item's side, plus
    Normal(0, init_std²).

    Source: Koren, Bell, Volinsky, "Matrix Factorization Techniques for Recommender Systems", IEEE Computer, 2009,
    equations 1 and 2.
    """

    rating_mean = 0.0

    def __init__(self, options: MFOptions, training: TrainingData, *, generator: torch.Generator) -> None:
        super().__init__()
        self.regularization = options.regularization
        dim, std, mean = options.embedding_dim, options.init_std, training.rating_mean
        level = math.sqrt(abs(mean) / dim)
        self.user_embedding = normal_embedding(training.num_users, dim, mean=level, std=std, generator=generator)
        self.item_embedding = normal_embedding(
            training.num_items, dim, mean=math.copysign(level, mean), std=std, generator=generator
        )

    def forward(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> Tensor:
        # FactorEquation computes the same from both sides; written out, it reads like the textbook
        return (self.user_embedding(user) * self.item_embedding(item)).sum(dim=-1)

    def user_side(self) -> Side:
        return Side(self.user_embedding)

    def item_side(self) -> Side:
        return Side(self.item_embedding)
