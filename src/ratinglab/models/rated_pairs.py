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

    def swapped(self) -> "RatedPairs":
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

    def ridge(self, size: Tensor, num_others: int) -> Tensor:
        """Compute λ (n + α M)^ν for rows with n of M possible pairs: (R,) → (R,) float32."""
        return self.regularization * (size + self.unrated_weight * num_others) ** self.frequency_exponent

    def improve(
        self, pairs: "Entries", rows: NDArray[np.float32], others: NDArray[np.float32], *, steps: int
    ) -> NDArray[np.float64]:
        """Improve the rows of a side in place, given the other side's, by steps of conjugate gradients.

        Returns Σ_rated (1 − v · y)² of each row before, (num_rows,) float64.
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
    pairs it is 0. Rows of similar size are solved together, the largest first, padded with rows of zeros. For the rows
    of items, swap the pairs.
    """
    of_rows = torch.from_numpy(pairs.item[np.argsort(pairs.user, kind="stable")])
    dim, size = other.shape[1], np.bincount(pairs.user, minlength=num_rows)
    start = np.cumsum(size) - size
    order = np.argsort(-size, kind="stable")[: np.count_nonzero(size)]
    padded = torch.cat([other, torch.zeros(1, dim)])
    shared, identity = objective.unrated_weight * other.T @ other, torch.eye(dim)
    rows = torch.zeros(len(size), dim)
    for row in _blocks(order, size, dim):
        place = np.arange(size[row[0]])
        is_pair = torch.from_numpy(place < size[row, None])
        entry = torch.from_numpy(np.minimum(start[row, None] + place, len(of_rows) - 1))
        known = padded[torch.where(is_pair, of_rows[entry], len(other))]
        ridge = objective.ridge(torch.from_numpy(size[row]), len(other))
        left = known.mT @ known + shared + ridge[:, None, None] * identity
        rows[row] = torch.cholesky_solve(known.sum(dim=1)[..., None], torch.linalg.cholesky(left))[..., 0]
    return rows


def _blocks(order: NDArray[np.intp], size: NDArray[np.int64], dim: int) -> Iterator[NDArray[np.intp]]:
    """Split rows, in descending order of size, into blocks of at most ENTRIES_PER_BLOCK entries or a single row.

    The smallest row of a block has at least half the size of the largest, so padding at most doubles the work. A row
    takes at least `dim` entries, for its matrix.
    """
    largest, first = size[order], 0
    while first < len(order):
        num_rows = max(1, ENTRIES_PER_BLOCK // max(int(largest[first]), dim))
        last = min(first + num_rows, int(np.searchsorted(-2 * largest, -largest[first], side="right")))
        yield order[first:last]
        first = last
