"""Base class for item-based equations, whose scores sum weights between an item and the items that a user rated."""

from abc import abstractmethod
from copy import copy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from ratinglab.batches import Batch
from ratinglab.models.equation import ScoreEquation, TrainingData
from ratinglab.models.equation_options import EquationForm, ScoreOptions
from ratinglab.models.rated_pairs import liked_rows
from ratinglab.ratings.side_information import Needs

SCORES_AT_ONCE = 1 << 24
"""Number of scores that `forward` holds at once: 64 MiB."""


@dataclass
class ItemWeightsOptions(ScoreOptions):
    """Options common to item-based equations."""

    form: ClassVar[EquationForm] = EquationForm.score_sum

    def needs(self) -> Needs:
        return Needs(interactions=True)


class ItemWeights(ScoreEquation):
    """s_ui = Σ_{j ∈ N(u)} w_ji, with N(u) the items that the user has rated: a score, not a rating.

    Only ratings of at least min_stars count, all equally. Until `solve` computes the weights, they are 0, so all scores
    are equal, and lists show the most popular items.
    """

    def __init__(self, options: ItemWeightsOptions, training: TrainingData) -> None:
        super().__init__()
        self.num_items, self.min_stars = training.num_items, options.min_stars
        self._rated = self._implicit_feedback(training.interactions(), num_users=training.num_users)

    def _implicit_feedback(self, rows: Batch, *, num_users: int) -> csr_array:
        """Make the matrix of implicit feedback: (num_users, num_items) float32, 1 for a pair that counts."""
        rows = liked_rows(rows, self.min_stars)
        ones = np.ones(len(rows.user), dtype=np.float32)
        return csr_array((ones, (rows.user.numpy(), rows.item.numpy())), shape=(num_users, self.num_items))

    @abstractmethod
    def solve(self) -> None:
        """Compute the weights from the training rows."""

    @abstractmethod
    def weighted_sums(self, rated: csr_array) -> Tensor:
        """Sum the weights of rated items: (B, num_items), 1 where row u has rated item j → (B, num_items) float32."""

    def co_ratings(self, start: int, stop: int) -> NDArray[np.float32]:
        """Count the users who rated each pair of items: (stop − start, num_items) float32, for items start … stop−1."""
        by_item = self._rated[:, start:stop].T.tocsr()
        return (by_item @ self._rated).toarray()

    @torch.inference_mode()
    def predict_table(self, user: Tensor, item: Tensor) -> Tensor:
        """Score all these items for each user: (B,) int32, (C,) int32 → (B, C) float32."""
        blocks = user.split(max(1, SCORES_AT_ONCE // self.num_items))
        return torch.cat([self.weighted_sums(self._rated[block.cpu().numpy()])[:, item] for block in blocks])

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        users, row = user.unique(return_inverse=True)
        score = torch.empty(len(user))
        size = max(1, SCORES_AT_ONCE // self.num_items)
        for first in range(0, len(users), size):
            is_in_block = (row >= first) & (row < first + size)
            table = self.weighted_sums(self._rated[users[first : first + size].cpu().numpy()])
            score[is_in_block] = table[row[is_in_block] - first, item[is_in_block].long()]
        return score

    def with_users(self, rows: Batch, *, num_users: int) -> "ItemWeights":
        other = copy(self)
        other._rated = self._implicit_feedback(rows, num_users=num_users)
        return other
