"""Interest: whether a user would rate an item at all, estimated from implicit feedback."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ratinglab.models.implicit_mf import ImplicitObjective, solve_implicit_rows
from ratinglab.models.rated_pairs import RatedPairs

if TYPE_CHECKING:
    from ratinglab.kernels.rows import Entries

FACTORIZATIONS = [
    (32, ImplicitObjective(unrated_weight=0.3, regularization=0.01, frequency_exponent=1.0)),
    (128, ImplicitObjective(unrated_weight=0.2, regularization=6.0, frequency_exponent=0.0)),
]
"""Number of factors and objective of each factorization, found by NDCG@10 on validation rows of MovieLens 100K,
latest-small and FilmTrust. Lists ordered by their sum beat lists ordered by either one."""
DIMS = [dim for dim, _ in FACTORIZATIONS]
ALS_ITERATIONS, CG_STEPS, FINAL_CG_STEPS = 12, 3, 40
"""Number of iterations, of conjugate gradient steps per side in each, and of steps for the users at the end."""
INITIAL_STD = 0.1
"""Standard deviation of the initial factors, times √D."""


class Interest(NamedTuple):
    """Estimates s_ui of whether a user would rate an item, to compare items for the same user.

    s_ui is the sum of x_u · y_i over two factorizations of who rated what. Each is about 1 for rated pairs and 0 for
    most other pairs. `ImplicitMF` has the objective and its sources.

    Attributes:
        user: (U, D) float32, x of all factorizations side by side.
        item: (I, D) float32, y.
        share: (I,) float32, share of the users who rated the item: the estimate for users without ratings.
    """

    user: Tensor
    item: Tensor
    share: Tensor

    def estimate(self, user: Tensor) -> Tensor:
        """Estimate the interest of users in all items, at least 0: (B,) int → (B, I) float32.

        Users from U on, and UNKNOWN, have no ratings.
        """
        is_known = (user >= 0) & (user < len(self.user))
        interest = self.user[torch.where(is_known, user, 0)] @ self.item.T
        interest[~is_known] = self.share
        return interest.clamp_(min=0)

    def take_items(self, item: Tensor) -> "Interest":
        """Select items: (C,) int."""
        return self._replace(item=self.item[item], share=self.share[item])

    def with_items(self, pairs: RatedPairs, count: int) -> "Interest":
        """Append `count` items, whose rows are solved for from their raters. In the pairs, they are numbered from 0."""
        share = torch.from_numpy(np.bincount(pairs.item, minlength=count) / len(self.user)).float()
        items = torch.cat([self.item, _solve_factors(pairs.transpose(), count, self.user)])
        return Interest(self.user, items, torch.cat([self.share, share]))

    def with_users(self, pairs: RatedPairs, count: int) -> "Interest":
        """Replace the users by `count` new ones, whose rows are solved for from the items that they rated."""
        return self._replace(user=_solve_factors(pairs, count, self.item))


def fit_interest(pairs: RatedPairs, *, num_users: int, num_items: int) -> Interest:
    """Fit by alternating least squares: each iteration improves all items, then all users.

    Finally, the users' rows are solved for nearly to convergence, so a folded-in user gets the same row as a trained
    user with the same ratings.
    """
    from ratinglab.kernels.sorted_ratings import sort_ratings  # numba is slow to import

    ones, dim = np.ones(len(pairs.user), dtype=np.float32), max(DIMS)
    by_user = sort_ratings(pairs.user, pairs.item, ones, num_rows=num_users, dim=dim)
    by_item = sort_ratings(pairs.item, pairs.user, ones, num_rows=num_items, dim=dim)
    generator = torch.Generator().manual_seed(0)
    initial = [torch.randn(num_users, dim, generator=generator) * (INITIAL_STD / dim**0.5) for dim in DIMS]
    # a bar on a terminal if it takes long, such as a minute for 15 million ratings
    with tqdm(
        total=len(FACTORIZATIONS) * ALS_ITERATIONS, desc="interest, once per run", delay=2, disable=None, leave=False
    ) as bar:
        fitted = [
            _fit_factorization(by_user, by_item, user, objective, after_iteration=bar.update)
            for user, (_, objective) in zip(initial, FACTORIZATIONS, strict=True)
        ]
    user, item = (torch.cat(tables, dim=1) for tables in zip(*fitted, strict=True))
    return Interest(user, item, torch.from_numpy(by_item.counts / num_users))


def _fit_factorization(
    by_user: "Entries",
    by_item: "Entries",
    user: Tensor,
    objective: ImplicitObjective,
    *,
    after_iteration: Callable[[], object],
) -> tuple[Tensor, Tensor]:
    """Fit one factorization from the users' initial rows, which it updates in place: (U, D), (I, D) float32."""
    item = torch.zeros(len(by_item.counts), user.shape[1])
    for _ in range(ALS_ITERATIONS):
        objective.improve(by_item, item.numpy(), user.numpy(), steps=CG_STEPS)
        objective.improve(by_user, user.numpy(), item.numpy(), steps=CG_STEPS)
        after_iteration()
    objective.improve(by_user, user.numpy(), item.numpy(), steps=FINAL_CG_STEPS)
    return user, item


def _solve_factors(pairs: RatedPairs, num_rows: int, other: Tensor) -> Tensor:
    """Solve for the rows of a side in each factorization, given the other side's: (M, D) float32 → (R, D) float32."""
    tables = zip(other.split(DIMS, dim=1), FACTORIZATIONS, strict=True)
    rows = [solve_implicit_rows(pairs, num_rows, table, objective) for table, (_, objective) in tables]
    return torch.cat(rows, dim=1)
