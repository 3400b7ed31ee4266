"""Item-based nearest neighbors from implicit feedback."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from ratinglab.models.equation import TrainingData
from ratinglab.models.item_weights import ItemWeights, ItemWeightsOptions
from ratinglab.options import at_least, within

TINY = np.finfo(np.float32).tiny
"""Smallest normal float32, which replaces a denominator of 0."""
ITEM_PAIRS_AT_ONCE = 1 << 24
"""Pairs of items compared at once: 64 MiB for their similarities, twice as much for their keys."""


@dataclass
class ItemKNNOptions(ItemWeightsOptions):
    """Options of item-based nearest neighbors."""

    name: ClassVar[str] = "item_knn"
    recipe: ClassVar[str] = "item_knn"

    num_neighbors: int = field(metadata=within(1, 65_536))
    """Number of neighbors of each item."""
    shrinkage: float = field(metadata=at_least(0))
    """Number of users added to the denominator of a similarity, so pairs of items with few raters in common count
    less."""

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "ItemKNN":
        return ItemKNN(self, training)


class ItemKNN(ItemWeights):
    """s_ui = Σ_{j ∈ N(u)} w_ji, with N(u) the items that the user has rated at least min_stars.

    w_ji is the similarity of i and j if j is one of the K items most similar to i, else 0:

        sim(i, j) = n_ij / (√(n_i n_j) + shrinkage)

    with n_i the number of users who rated i, and n_ij the number who rated both. Ties go to the items with more raters.

    Source: Deshpande, Karypis, "Item-Based Top-N Recommendation Algorithms", ACM TOIS 2004, without their
    normalization; Bell, Koren, "Improved Neighborhood-Based Collaborative Filtering", KDD Cup 2007, for the shrinkage.
    """

    neighbor: Tensor

    def __init__(self, options: ItemKNNOptions, training: TrainingData) -> None:
        super().__init__(options, training)
        self.shrinkage = options.shrinkage
        count = min(options.num_neighbors, training.num_items)
        self.register_buffer("neighbor", torch.zeros(training.num_items, count, dtype=torch.int32))
        self.similarity = nn.Parameter(torch.zeros(training.num_items, count), requires_grad=False)

    def solve(self) -> None:
        """Find the neighbors of all items, a block of items at a time."""
        raters = self._rated.sum(axis=0)
        most_popular_last = torch.from_numpy(np.argsort(-raters, kind="stable")[::-1].copy())
        rank = torch.empty(self.num_items, dtype=torch.int64)
        rank[most_popular_last] = torch.arange(self.num_items)
        size, count = max(1, ITEM_PAIRS_AT_ONCE // self.num_items), self.neighbor.shape[1]
        for start in range(0, self.num_items, size):
            item = np.arange(start, min(start + size, self.num_items))
            norms = np.sqrt(np.outer(raters[item], raters)) + np.float32(self.shrinkage)
            similarity = self.co_ratings(start, start + len(item)) / np.maximum(norms, TINY)  # 0 without raters
            similarity[np.arange(len(item)), item] = 0  # an item is not its own neighbor
            value = torch.from_numpy(similarity)
            # distinct integer keys: the bits of a non-negative float sort like the float itself
            key = (value.view(torch.int32).long() << 32) | rank
            neighbor = most_popular_last[key.topk(count).values & 0xFFFFFFFF]
            self.neighbor[start : start + len(item)] = neighbor
            self.similarity[start : start + len(item)] = value.gather(1, neighbor)

    def weighted_sums(self, rated: csr_array) -> Tensor:
        start = np.arange(self.num_items + 1) * self.neighbor.shape[1]
        values = self.similarity.numpy().ravel(), self.neighbor.numpy().ravel(), start
        weights = csr_array(values, shape=(self.num_items, self.num_items))
        return torch.from_numpy((rated @ weights.T.tocsr()).toarray())
