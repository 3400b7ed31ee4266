"""The parts of a table's rows, and the base classes of splits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.options import at_least, valid_seed

if TYPE_CHECKING:
    from ratinglab.ratings.table import RatingTable

VERSION = 1
"""Increment when the rows that a split holds out change."""
TRAIN, VALIDATION, TEST, VALIDATION_HISTORY, TEST_HISTORY = range(5)
"""Codes of the parts. A history holds the fold-in ratings of held-out users."""


@dataclass(frozen=True)
class Split:
    """Assignment of a table's rows to parts.

    Attributes:
        part: (N,) int8, code of the part of each row.
        identity: hash of data, policy and seed, then the fold; all folds of a cross-validation share the hash.
        notes: one line each, on special cases such as users with few ratings.
    """

    part: NDArray[np.int8]
    identity: str
    notes: tuple[str, ...] = ()

    def count(self, part: int) -> int:
        """Count the rows of a part."""
        return int(np.count_nonzero(self.part == part))

    def refitted(self) -> Split:
        """Move the validation rows, and their users' histories, to the training part; keep the test rows."""
        is_moved = np.isin(self.part, (VALIDATION, VALIDATION_HISTORY))
        return Split(part=np.where(is_moved, TRAIN, self.part).astype(np.int8), identity=self.identity)


@dataclass
class SplitOptions(ABC):
    """Base class for splits. To write your own, return the part of each row in `assign`.

    If a field `validation` or `test` is not 0, that part must have rows. A field `fold` chooses a fold of a
    cross-validation, counted from 1.
    """

    name: ClassVar[str]
    by_time: ClassVar[bool] = False
    """Whether the split depends on the times of the ratings."""
    by_file: ClassVar[bool] = False
    """Whether the split depends on the files that the rows come from."""
    takes_mapped_rows: ClassVar[bool] = False
    """Whether the split takes rows in mapped files, since it needs at most about 8 bytes of memory per row."""
    holds_out_users: ClassVar[bool] = False
    """Whether users with held-out rows have a history instead of training rows."""

    refit: bool
    """Whether to refit on training and validation rows, for the number of epochs that was best in validation."""

    @abstractmethod
    def assign(self, table: RatingTable) -> NDArray[np.integer]:
        """Assign each row to a part: (N,) of TRAIN, VALIDATION and TEST; with `holds_out_users`, of all codes.

        Raises:
            UserError: the table lacks data that the split needs.
        """

    def notes(self, table: RatingTable) -> tuple[str, ...]:
        """Return notes on the split, one line each."""
        return ()

    def why_empty(self, table: RatingTable) -> str:
        """Explain why a part is empty, to complete the message `split=… leaves no row …`; "" by default."""
        return ""

    def apply(self, table: RatingTable) -> Split:
        """Split the table's rows.

        Raises:
            UserError: the table lacks data that the split needs, `assign` is wrong, or a part is empty.
        """
        part, num_rows = self.assign(table), len(table.ratings)
        last = TEST_HISTORY if self.holds_out_users else TEST
        if part.shape != (num_rows,) or part.min() < TRAIN or part.max() > last:
            codes = f"{', '.join(map(str, range(last)))} and {last}"
            raise UserError(
                f"split={self.name}: the parts must be ({num_rows},) of {codes}, "
                f"got {part.shape} with {np.unique(part)[:6]}"
            )
        for key, code in (("test", TEST), ("validation", VALIDATION)):
            wanted = getattr(self, key, 0)
            if wanted and not (part == code).any():
                place = f"split={self.name} with split.{key}={wanted}"
                raise UserError(f"{place} leaves no row of {table.name} for {key}{self.why_empty(table)}")
        if not (part == TRAIN).any():
            raise UserError(f"split={self.name} leaves no row of {table.name} to train on{self.why_empty(table)}")
        return Split(part=part.astype(np.int8, copy=False), identity=self._identity(table), notes=self.notes(table))

    def _identity(self, table: RatingTable) -> str:
        names = [option.name for option in fields(self) if option.name not in ("fold", "refit")]
        policy = {name: getattr(self, name) for name in names}
        # the digest leaves out the borders of files; sorting makes the order of fields irrelevant
        borders = [source.stop for source in table.sources] if self.by_file else []
        content = (VERSION, table.digest, self.name, sorted(policy.items()), borders)
        hashed = blake2b(repr(content).encode(), digest_size=6)
        if self.by_time:
            hashed.update(np.ascontiguousarray(table.timestamp).data)
        fold = getattr(self, "fold", None)
        return hashed.hexdigest() if fold is None else f"{hashed.hexdigest()}/{fold}"


@dataclass
class FractionSplit(SplitOptions):
    """Fractions of the rows held out for validation and test."""

    validation: float = field(metadata=at_least(0, below=1))
    """Fraction of the rows held out for validation (per_user: of each user's); 0: no validation, so no early
    stopping."""
    test: float = field(metadata=at_least(0, below=1))
    """Fraction of the rows held out for test (per_user: of each user's); 0: no test."""

    def check_together(self) -> None:
        if self.validation + self.test >= 1:
            raise UserError(
                "split.validation + split.test must be below 1, "
                f"got {self.validation} + {self.test} = {self.validation + self.test:g}"
            )

    def why_empty(self, table: RatingTable) -> str:
        return f": it has {count_text(len(table.ratings))}"


@dataclass
class RandomValidationSplit(SplitOptions):
    """Base class for splits that choose random validation rows among the rows that are not test."""

    takes_mapped_rows: ClassVar[bool] = True

    seed: int = field(metadata=valid_seed())
    """Seed of the split, independent of the training `seed`."""
    validation: float = field(metadata=at_least(0, below=1))
    """Fraction of the rows outside test held out for validation; 0: no validation, so no early stopping."""

    @abstractmethod
    def test_rows(self, table: RatingTable) -> slice | NDArray[np.intp] | NDArray[np.bool_]:
        """Choose the test rows: a range, indices, or a mask (N,).

        Raises:
            UserError: the table lacks data that the split needs.
        """

    def assign(self, table: RatingTable) -> NDArray[np.integer]:
        part = np.full(len(table.ratings), TRAIN, dtype=np.int8)
        part[self.test_rows(table)] = TEST
        train = row_numbers(len(part))[part == TRAIN]
        np.random.default_rng(self.seed).shuffle(train)
        part[train[: round(self.validation * len(train))]] = VALIDATION
        return part

    def why_empty(self, table: RatingTable) -> str:
        return f": it has {count_text(len(table.ratings))}"


def row_numbers(count: int) -> NDArray[np.int32] | NDArray[np.int64]:
    """Number rows from 0: (count,), int32 if the numbers fit."""
    return np.arange(count).astype(np.int64) if count >= 2**31 else np.arange(count, dtype=np.int32)


def count_text(number: int) -> str:
    return f"{number:,} rating{'s' if number != 1 else ''}"


def first_of_each_user(
    user: NDArray[np.int32],
    order: NDArray[np.intp],
    *,
    num_test: NDArray[np.number],
    num_validation: NDArray[np.number],
) -> NDArray[np.int8]:
    """Hold out each user's first num_test rows in the order for test, and the next num_validation for validation.

    user: (N,), order: (N,) rows, num_test and num_validation: (num_users,) → (N,) parts
    """
    by_user = order[np.argsort(user[order], kind="stable")]
    count = np.bincount(user)
    rank = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
    is_test, is_held_out = (rank < np.repeat(number, count) for number in (num_test, num_test + num_validation))
    part = np.empty(len(user), dtype=np.int8)
    part[by_user] = np.select([is_test, is_held_out], [TEST, VALIDATION], TRAIN)
    return part
