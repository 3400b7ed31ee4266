"""Implicit feedback: pairs of users and rated items, and the closed-form solution for rows of factors."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.batches import Batch
from ratinglab.stars import is_liked

if TYPE_CHECKING:
    from ratinglab.kernels.rows import Entries

ENTRIES_PER_BLOCK = 1 << 18
"""Number of rated pairs whose factors are held at once: 1 MiB per factor."""


class RatedPairs(NamedTuple):
    """Who rated what: user (N,) int32, and item (N,) int32."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]

    def transpose(self) -> "RatedPairs":
        """Exchange users and items."""
        return RatedPairs(self.item, self.user)


def liked_rows(rows: Batch, min_stars: float | None) -> Batch:
    """Select the rows whose rating, in stars, is at least min_stars; None: all rows."""
    return rows if min_stars is None else rows.take(torch.from_numpy(is_liked(rows.rating.numpy(), min_stars)))


class ImplicitObjective(NamedTuple):
    """Weights of the terms of the iALS objective: see ImplicitMF.

    Attributes:
        unrated_weight: α.
        regularization: λ.
        frequency_exponent: ν.
    """

    unrated_weight: float
    regularization: float
    frequency_exponent: float

    def ridge(self, num_pairs: Tensor, num_others: int) -> Tensor:
        """Compute λ (n + α M)^ν for rows with n of M possible pairs: (R,) → (R,) float32."""
        return self.regularization * (num_pairs + self.unrated_weight * num_others) ** self.frequency_exponent

    def improve(
        self, pairs: "Entries", rows: NDArray[np.float32], others: NDArray[np.float32], *, steps: int
    ) -> NDArray[np.float64]:
        """Improve the rows of a side in place, given the other side's, by steps of conjugate gradients.

        Returns Σ_rated (1 − v · y)² of each row before the steps, (num_rows,) float64.
        """
        from ratinglab.kernels.implicit_rows import improve_rows  # numba is slow to import
        from ratinglab.kernels.rows import gram

        shared = (self.unrated_weight * gram(others, others)).astype(np.float32)
        ridge = self.ridge(torch.from_numpy(pairs.counts), len(others)).numpy()
        errors: NDArray[np.float64] = improve_rows(pairs, others, shared, ridge, steps, rows)
        return errors


@torch.inference_mode()
def solve_rows(pairs: RatedPairs, num_rows: int, other: Tensor, objective: ImplicitObjective) -> Tensor:
    """Solve for the rows of all users, 0 to num_rows − 1, given the items: (M, D) float32 → (R, D) float32.

    The row v of a user with n pairs minimizes Σ_rated (1 − v · y)² + α Σ_all (v · y)² + λ (n + α M)^ν ‖v‖²; without
    pairs it is 0. Rows with similar numbers of pairs are solved together, those with the most pairs first, padded with
    rows of zeros. For the rows of items, transpose the pairs.
    """
    items_by_row = torch.from_numpy(pairs.item[np.argsort(pairs.user, kind="stable")])
    dim, num_pairs = other.shape[1], np.bincount(pairs.user, minlength=num_rows)
    start = np.cumsum(num_pairs) - num_pairs
    order = np.argsort(-num_pairs, kind="stable")[: np.count_nonzero(num_pairs)]
    padded = torch.cat([other, torch.zeros(1, dim)])
    shared, identity = objective.unrated_weight * other.T @ other, torch.eye(dim)
    rows = torch.zeros(len(num_pairs), dim)
    for row in _split_by_num_pairs(order, num_pairs, dim):
        column = np.arange(num_pairs[row[0]])
        is_pair = torch.from_numpy(column < num_pairs[row, None])
        entry = torch.from_numpy(np.minimum(start[row, None] + column, len(items_by_row) - 1))
        rated = padded[torch.where(is_pair, items_by_row[entry], len(other))]
        ridge = objective.ridge(torch.from_numpy(num_pairs[row]), len(other))
        matrix = rated.mT @ rated + shared + ridge[:, None, None] * identity
        rows[row] = torch.cholesky_solve(rated.sum(dim=1)[..., None], torch.linalg.cholesky(matrix))[..., 0]
    return rows


def _split_by_num_pairs(order: NDArray[np.intp], num_pairs: NDArray[np.int64], dim: int) -> Iterator[NDArray[np.intp]]:
    """Split rows, those with the most pairs first, into blocks of at most ENTRIES_PER_BLOCK entries or a single row.

    The smallest row of a block has at least half as many pairs as the largest, so padding at most doubles the work. A
    row takes at least `dim` entries, for its matrix.
    """
    descending, first = num_pairs[order], 0
    while first < len(order):
        num_rows = max(1, ENTRIES_PER_BLOCK // max(int(descending[first]), dim))
        last = min(first + num_rows, int(np.searchsorted(-2 * descending, -descending[first], side="right")))
        yield order[first:last]
        first = last
