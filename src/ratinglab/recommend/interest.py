"""Interest: whether a user would rate an item at all, estimated from who rated what."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DIM, SWEEPS = 32, 8
"""Number of factors, and of sweeps over both sides."""
UNRATED_WEIGHT, REGULARIZATION = 0.3, 0.01
"""α and λ, found by NDCG@10 on validation rows of MovieLens 100K and latest-small."""
INITIAL_STD = 0.1
"""Standard deviation of the initial factors, times √DIM."""
ENTRIES = 1 << 18
"""Number of rated pairs whose factors are held at once: 32 MiB."""


class RatedPairs(NamedTuple):
    """Who rated what: user (N,) int32, and item (N,) int32."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]

    def swapped(self) -> "RatedPairs":
        """Exchange users and items."""
        return RatedPairs(self.item, self.user)


class Interest(NamedTuple):
    """Estimates s_ui = x_u · y_i of whether a user would rate an item: about 1 for rated pairs, 0 for most others.

    x and y minimize Σ_rated (1 − s_ui)² + α Σ_all s_ui² + λ Σ_u (n_u + α I) |x_u|² + λ Σ_i (n_i + α U) |y_i|², with n
    the number of ratings of a user or item, U users and I items.

    Sources: Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008; Rendle, Krichene,
    Zhang, Koren, "Revisiting the Performance of iALS on Item Recommendation Benchmarks", RecSys 2022, for the form of
    the objective.

    Attributes:
        user: (U, D) float32, x.
        item: (I, D) float32, y.
        share: (I,) float32, share of the users who rated the item: the estimate for users without ratings.
    """

    user: Tensor
    item: Tensor
    share: Tensor

    def check(self, *, num_users: int, num_items: int) -> None:
        """Raise ValueError unless the tables are finite, and those of so many users and items."""
        user, item, share = self
        shapes = (num_users, *user.shape[1:]), (num_items, *user.shape[1:]), (num_items,)
        if user.ndim != 2 or (user.shape, item.shape, share.shape) != shapes:
            raise ValueError("the tables have other shapes")
        if not all(table.dtype == torch.float32 and bool(table.isfinite().all()) for table in self):
            raise ValueError("the tables have other values")

    def estimate(self, user: Tensor, item: Tensor) -> Tensor:
        """Estimate the interest of users in items, at least 0: (B,) int, (C,) int → (B, C) float32.

        Users from U on, and UNKNOWN, have no ratings.
        """
        is_known = (user >= 0) & (user < len(self.user))
        found = self.user[torch.where(is_known, user, 0)] @ self.item[item].T
        found[~is_known] = self.share[item]
        return found.clamp_(min=0)

    def with_items(self, pairs: RatedPairs, count: int) -> "Interest":
        """Append `count` items, solved for from who rated them; in the pairs, the first of them is item 0."""
        groups = _Groups.from_pairs(pairs.swapped(), count)
        share = torch.from_numpy(groups.size / len(self.user)).float()
        items = torch.cat([self.item, _solve(groups, self.user)])
        return Interest(self.user, items, torch.cat([self.share, share]))

    def with_users(self, pairs: RatedPairs, count: int) -> "Interest":
        """Replace the users by `count` others, solved for from what they rated."""
        return self._replace(user=_solve(_Groups.from_pairs(pairs, count), self.item))


def fit_interest(pairs: RatedPairs, *, num_users: int, num_items: int) -> Interest:
    """Fit by alternating least squares: each sweep solves for all items, then all users, in closed form."""
    generator = torch.Generator().manual_seed(0)
    user, item = torch.randn(num_users, DIM, generator=generator) * (INITIAL_STD / DIM**0.5), torch.empty(0, DIM)
    by_user, by_item = _Groups.from_pairs(pairs, num_users), _Groups.from_pairs(pairs.swapped(), num_items)
    for _ in range(SWEEPS):
        item = _solve(by_item, user)
        user = _solve(by_user, item)  # last: a user folded in gets the row of a trained one with the same ratings
    return Interest(user, item, torch.from_numpy(by_item.size / num_users).float())


class _Groups(NamedTuple):
    """Rated pairs, grouped by row: what each row has rated, or who has rated it.

    Attributes:
        other: (N,) int32, the other side of the pairs, row by row.
        size: (R,) int64, number of pairs of each row.
    """

    other: Tensor
    size: NDArray[np.int64]

    @classmethod
    def from_pairs(cls, pairs: RatedPairs, count: int) -> "_Groups":
        """Group pairs by user, from 0 to `count` − 1."""
        other = torch.from_numpy(pairs.item[np.argsort(pairs.user, kind="stable")])
        return cls(other, np.bincount(pairs.user, minlength=count))


@torch.inference_mode()
def _solve(groups: _Groups, other: Tensor) -> Tensor:
    """Solve for all rows, given those of the other side: (R, D) float32, 0 without pairs.

    Rows of similar size are solved together, the largest first, padded with rows of zeros.
    """
    dim, size = other.shape[1], groups.size
    start = np.cumsum(size) - size
    order = np.argsort(-size, kind="stable")[: np.count_nonzero(size)]
    padded = torch.cat([other, torch.zeros(1, dim)])
    shared, identity = UNRATED_WEIGHT * other.T @ other, torch.eye(dim)
    rows = torch.zeros(len(size), dim)
    for row in _blocks(order, size, dim):
        place = np.arange(size[row[0]])
        is_pair = torch.from_numpy(place < size[row, None])
        entry = torch.from_numpy(np.minimum(start[row, None] + place, len(groups.other) - 1))
        known = padded[torch.where(is_pair, groups.other[entry], len(other))]
        ridge = REGULARIZATION * (torch.from_numpy(size[row]) + UNRATED_WEIGHT * len(other))
        left = known.mT @ known + shared + ridge[:, None, None] * identity
        rows[row] = torch.cholesky_solve(known.sum(dim=1)[..., None], torch.linalg.cholesky(left))[..., 0]
    return rows


def _blocks(order: NDArray[np.intp], size: NDArray[np.int64], dim: int) -> Iterator[NDArray[np.intp]]:
    """Split rows, in descending order of size, into blocks that hold ENTRIES factors' rows or a single row.

    The smallest of a block has at least half the size of the largest, so padding at most doubles the work. A row takes
    at least `dim` entries, those of its matrix.
    """
    largest, first = size[order], 0
    while first < len(order):
        num_rows = max(1, ENTRIES // max(int(largest[first]), dim))
        last = min(first + num_rows, int(np.searchsorted(-2 * largest, -largest[first], side="right")))
        yield order[first:last]
        first = last
