"""Splits by random rows, of the whole table or of each user."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import format_count
from ratinglab.options import at_least, valid_seed
from ratinglab.splits.split import (
    TEST,
    TRAIN,
    VALIDATION,
    FractionSplitOptions,
    hold_out_first_rows,
    number_rows,
)

if TYPE_CHECKING:
    from ratinglab.ratings.table import RatingTable


@dataclass
class RandomSplitOptions(FractionSplitOptions):
    """Uniformly random rows for validation and test."""

    name: ClassVar[str] = "random"
    supports_on_disk: ClassVar[bool] = True

    seed: int = field(metadata=valid_seed())
    """Seed of the split, independent of the training `seed`."""

    def assign(self, table: RatingTable) -> NDArray[np.int8]:
        order = number_rows(len(table.ratings))
        np.random.default_rng(self.seed).shuffle(order)
        num_test, num_validation = round(self.test * len(order)), round(self.validation * len(order))
        part = np.full(len(order), TRAIN, dtype=np.int8)
        part[order[: num_test + num_validation]] = VALIDATION
        part[order[:num_test]] = TEST
        return part


@dataclass
class PerUserSplitOptions(RandomSplitOptions):
    """Random rows of each user for validation and test. The number of rows is rounded for each user."""

    name: ClassVar[str] = "per_user"
    supports_on_disk: ClassVar[bool] = False

    validation: float = field(metadata=at_least(0, below=1))
    """Fraction of each user's rows held out for validation. 0 turns off validation and early stopping."""
    test: float = field(metadata=at_least(0, below=1))
    """Fraction of each user's rows held out for test. 0 turns off the test."""

    def assign(self, table: RatingTable) -> NDArray[np.int8]:
        """Return the part of each row. Each user keeps at least one training row."""
        user = table.ratings.user
        count = np.bincount(user)
        num_test = np.minimum(np.floor(self.test * count + 0.5), count - 1)
        num_validation = np.minimum(np.floor(self.validation * count + 0.5), count - 1 - num_test)
        order = np.random.default_rng(self.seed).permutation(len(user))
        return hold_out_first_rows(user, order, num_test=num_test, num_validation=num_validation)

    def empty_part_reason(self, table: RatingTable) -> str:
        most = np.bincount(table.ratings.user).max()
        return f": the number of rows is rounded per user, and no user has more than {format_count(most, 'rating')}"
