"""What is held out for validation and test."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.options import at_least, from_zero_below, seed_rule

if TYPE_CHECKING:
    from ratinglab.ratings.table import RatingTable


@dataclass(frozen=True)
class Split:
    """Which rows of a table belong to which part: (n,) int64 each, disjoint, together all rows."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    def digest(self) -> str:
        """A hash of the parts, in the order of their rows."""
        hashed = blake2b(digest_size=16)
        for part in (self.train, self.validation, self.test):
            hashed.update(part.data)
            hashed.update(b"\0")
        return hashed.hexdigest()


@dataclass
class RandomSplit:
    """Uniformly random rows for validation and test."""

    name: ClassVar[str] = "random"

    seed: int = field(metadata=seed_rule())
    """Seed of the split alone: the seed of the training does not move it."""
    validation: float = field(metadata=from_zero_below(1))
    """Fraction of all rows; 0: no validation, and so no early stopping."""
    test: float = field(metadata=from_zero_below(1))
    """Fraction of all rows; 0: no test."""

    def check_together(self) -> None:
        """Raise UserError where the fields do not go together."""
        if self.validation + self.test >= 1:
            raise UserError(
                "split.validation + split.test must be below 1, "
                f"got {self.validation} + {self.test} = {self.validation + self.test:g}"
            )

    def apply(self, table: RatingTable) -> Split:
        """Split the table's rows."""
        order = np.random.default_rng(self.seed).permutation(len(table.ratings))
        num_test = _part_size(self.test, of=len(order), key="split.test")
        num_validation = _part_size(self.validation, of=len(order), key="split.validation")
        test, validation, train = np.split(order, [num_test, num_test + num_validation])
        return _checked(train=train, validation=validation, test=test)


@dataclass
class RowsSplit:
    """A range of rows, in the order of the file, for test; random rows of the others for validation."""

    name: ClassVar[str] = "rows"

    test_start: int = field(metadata=at_least(0))
    """First test row, counted from 0 at the first rating."""
    test_stop: int = field(metadata=at_least(1))
    """The row after the last test row."""
    seed: int = field(metadata=seed_rule())
    """Seed of the validation rows."""
    validation: float = field(metadata=from_zero_below(1))
    """Fraction of the rows that are not test; 0: no validation, and so no early stopping."""

    def check_together(self) -> None:
        """Raise UserError where the fields do not go together."""
        if self.test_stop <= self.test_start:
            raise UserError(
                f"split.test_stop must be above split.test_start, got {self.test_stop} and {self.test_start}"
            )

    def apply(self, table: RatingTable) -> Split:
        """Split the table's rows.

        Raises:
            UserError: the range goes beyond the last row, or leaves nothing to train on.
        """
        num_rows = len(table.ratings)
        if self.test_stop > num_rows:
            raise UserError(
                f"split.test_stop must be at most {num_rows}, the rows of {table.name}, got {self.test_stop}"
            )
        rows = np.arange(num_rows)
        rest = np.concatenate([rows[: self.test_start], rows[self.test_stop :]])
        np.random.default_rng(self.seed).shuffle(rest)
        num_validation = _part_size(self.validation, of=len(rest), key="split.validation")
        validation, train = np.split(rest, [num_validation])
        return _checked(train=train, validation=validation, test=rows[self.test_start : self.test_stop])


def _part_size(fraction: float, *, of: int, key: str) -> int:
    size = round(fraction * of)
    if fraction > 0 and size == 0:
        raise UserError(f"{key}={fraction} of {of} rows is no row: give a larger fraction, or 0")
    return size


def _checked(*, train: NDArray[np.int64], validation: NDArray[np.int64], test: NDArray[np.int64]) -> Split:
    if len(train) == 0:
        raise UserError("the split leaves no row to train on")
    return Split(train=np.sort(train), validation=np.sort(validation), test=np.sort(test))
