"""The mean: one rating for every user and item."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ratinglab.models.equation import Equation, TrainingData
from ratinglab.models.equation_options import EquationOptions


@dataclass
class MeanOptions(EquationOptions):
    """Options of the mean: none."""

    name: ClassVar[str] = "mean"

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "Mean":
        return Mean(rating_mean=training.rating_mean)


class Mean(Equation):
    """One rating for all pairs: r̂_ui = m.

    m starts at its best value, the mean of the training ratings. Every other equation must beat it.
    """

    def __init__(self, *, rating_mean: float) -> None:
        super().__init__()
        self.mean = nn.Embedding(1, 1)  # an Embedding, because sparse_adam requires one
        nn.init.constant_(self.mean.weight, rating_mean)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return self.mean(torch.zeros_like(user))[:, 0]
