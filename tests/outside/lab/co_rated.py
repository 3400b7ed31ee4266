"""A model for lists: items that many users have rated together."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from ratinglab.models import ItemWeights, ItemWeightsOptions, TrainingData


@dataclass
class CoRatedOptions(ItemWeightsOptions):
    """Options of co-rated items."""

    name: ClassVar[str] = "co_rated"

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "CoRated":
        """Make the equation."""
        return CoRated(self, training)


class CoRated(ItemWeights):
    """s_ui = Σ_{j ∈ N(u)} n_ij, with n_ij the number of users who rated both items."""

    def __init__(self, options: CoRatedOptions, training: TrainingData) -> None:
        super().__init__(options, training)
        self.weight = nn.Parameter(torch.zeros(training.num_items, training.num_items), requires_grad=False)

    def solve(self) -> None:
        """Count the users."""
        self.weight.copy_(torch.from_numpy(self.co_ratings(0, self.num_items)))

    def weighted_sums(self, rated: csr_array) -> Tensor:
        """Sum rows of the counts: (B, num_items) → (B, num_items) float32."""
        return torch.from_numpy(rated @ self.weight.numpy())
