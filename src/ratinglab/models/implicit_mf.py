"""Implicit-feedback matrix factorization."""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ratinglab.batches import Batch
from ratinglab.models.equation import ScoreEquation, TrainingData, normal_embedding
from ratinglab.models.equation_options import EquationForm, ScoreOptions
from ratinglab.models.factor_equation import FactorEquation, Side
from ratinglab.models.rated_pairs import RatedPairs, liked_rows
from ratinglab.options import above, at_least, within

if TYPE_CHECKING:
    from ratinglab.kernels.rows import Entries

ENTRIES_PER_BLOCK = 1 << 18
"""Number of rated pairs whose factors are held at once: 1 MiB per factor."""


@dataclass
class ImplicitMFOptions(ScoreOptions):
    """Options of implicit-feedback matrix factorization."""

    name: ClassVar[str] = "implicit_mf"
    recipe: ClassVar[str] = "ials"
    form: ClassVar[EquationForm] = EquationForm.score_product

    embedding_dim: int = field(metadata=within(1, 65_536))
    """Number of latent factors. More factors fit more detail and need more regularization."""
    regularization: float = field(metadata=at_least(0))
    """λ, in the objective. Raise it for sparse data."""
    frequency_exponent: float = field(metadata=within(0, 1))
    """ν: λ grows with the number of a user's or item's pairs to the power ν. With 0, λ is the same for all."""
    init_std: float = field(metadata=above(0))
    """Standard deviation of the initial factors, times √embedding_dim."""
    unrated_weight: float = field(metadata=at_least(0))
    """α, the weight of an unrated pair; rated pairs have weight 1."""

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "ImplicitMF":
        return ImplicitMF(self, training, generator=generator)


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


class ImplicitMF(FactorEquation, ScoreEquation):
    """s_ui = x_u · y_i, a score that is about 1 for rated pairs and 0 for most other pairs.

    x and y minimize Σ_rated (1 − s_ui)² + α Σ_all s_ui² + λ Σ_u (n_u + α I)^ν ‖x_u‖² + λ Σ_i (n_i + α U)^ν ‖y_i‖²,
    with n the number of rated pairs of a user or item, U users and I items. Only ratings of at least min_stars count,
    all equally.

    Sources: Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008; Rendle, Krichene,
    Zhang, Koren, "Revisiting the Performance of iALS on Item Recommendation Benchmarks", RecSys 2022, for the form of
    the objective.
    """

    rating_mean = 0.0

    def __init__(self, options: ImplicitMFOptions, training: TrainingData, *, generator: torch.Generator) -> None:
        super().__init__()
        self.min_stars = options.min_stars
        self.regularization = options.regularization
        self.objective = ImplicitObjective(options.unrated_weight, options.regularization, options.frequency_exponent)
        dim = options.embedding_dim
        std = options.init_std / dim**0.5
        self.user_embedding = normal_embedding(training.num_users, dim, std=std, generator=generator)
        self.item_embedding = normal_embedding(training.num_items, dim, std=std, generator=generator)

    def with_users(self, rows: Batch, *, num_users: int) -> "ImplicitMF":
        rows = liked_rows(rows, self.min_stars)
        pairs = RatedPairs(rows.user.int().numpy(), rows.item.int().numpy())
        user = solve_implicit_rows(pairs, num_users, self.item_embedding.weight, self.objective)
        other = copy(self)
        other._modules = {**self._modules, "user_embedding": nn.Embedding.from_pretrained(user)}
        return other

    def user_side(self) -> Side:
        return Side(self.user_embedding)

    def item_side(self) -> Side:
        return Side(self.item_embedding)


@torch.inference_mode()
def solve_implicit_rows(pairs: RatedPairs, num_rows: int, other: Tensor, objective: ImplicitObjective) -> Tensor:
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
