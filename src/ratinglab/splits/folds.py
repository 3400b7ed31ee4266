"""Splits into folds, with one fold held out for test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.options import at_least, within
from ratinglab.splits.split import RandomValidationSplitOptions

if TYPE_CHECKING:
    from ratinglab.ratings.table import RatingTable


@dataclass
class KFoldSplitOptions(RandomValidationSplitOptions):
    """Folds of shuffled rows. One fold is held out for test; `-m split.fold=1,2,3,4,5` cross-validates."""

    name: ClassVar[str] = "kfold"

    folds: int = field(metadata=at_least(2))
    """Number of folds. If the rows do not divide evenly, the first folds have one more row."""
    fold: int = field(metadata=at_least(1))
    """Fold held out for test, counted from 1. Sweep over all folds with -m split.fold=1,2,…"""

    def check_together(self) -> None:
        if self.fold > self.folds:
            raise UserError(f"split.fold must be at most split.folds, got {self.fold} and {self.folds}")

    def test_rows(self, table: RatingTable) -> NDArray[np.intp]:
        num_rows = len(table.ratings)
        if self.folds > num_rows:
            raise UserError(f"split.folds must be at most {num_rows}, the rows of {table.name}, got {self.folds}")
        return np.array_split(self._order(num_rows), self.folds)[self.fold - 1]

    def _order(self, num_rows: int) -> NDArray[np.intp]:
        return np.random.default_rng(self.seed).permutation(num_rows)


@dataclass
class SurpriseKFoldSplitOptions(KFoldSplitOptions):
    """The folds that Surprise's KFold(n_splits=folds, random_state=seed) makes of the rows in their order."""

    name: ClassVar[str] = "surprise_kfold"

    def _order(self, num_rows: int) -> NDArray[np.intp]:
        return np.random.RandomState(self.seed).permutation(num_rows)


@dataclass
class MovieLensUSplitOptions(RandomValidationSplitOptions):
    """The published five folds of MovieLens 100K, u1 … u5: each a contiguous fifth of its rows."""

    name: ClassVar[str] = "movielens_u"
    folds: ClassVar[int] = 5
    data_digest: ClassVar[str] = "48abd2e46d4c0e51c4bf76e6b2bdc260"
    """Digest of MovieLens 100K in its published order."""

    fold: int = field(metadata=within(1, 5))
    """Number of the fold held out for test, from 1 for u1 to 5 for u5. Sweep over all folds with
    -m split.fold=1,2,3,4,5"""

    def test_rows(self, table: RatingTable) -> slice:
        if table.digest != self.data_digest:
            raise UserError(
                f"split=movielens_u needs all rows of MovieLens 100K in their published order, and {table.name} differs"
            )
        return slice((self.fold - 1) * 20_000, self.fold * 20_000)
