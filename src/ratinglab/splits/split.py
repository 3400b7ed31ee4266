"""The part of each row of a table, and the base classes for options of splits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError, format_count
from ratinglab.options import at_least, valid_seed
from ratinglab.targets import name_line_of_fault

if TYPE_CHECKING:
    from ratinglab.ratings.table import RatingTable

VERSION = 1
"""Version in the identity of splits. Increment it with any change to the rows that a split holds out."""
TRAIN, VALIDATION, TEST, VALIDATION_HISTORY, TEST_HISTORY = range(5)
"""Codes of the parts. A history holds the fold-in ratings of held-out users."""
PART_NAMES = ("train", "val", "test", "val_history", "test_history")
"""Name of each part by its code."""


@dataclass(frozen=True)
class Split:
    """Assignment of a table's rows to parts.

    Attributes:
        part: (N,) int8, code of the part of each row.
        identity: hash of the data and the options, followed by the fold, if the split has folds. All folds of a
            cross-validation share the hash.
        notes: one line per special case, such as users with few ratings.
    """

    part: NDArray[np.int8]
    identity: str
    notes: tuple[str, ...] = ()

    def count(self, part: int) -> int:
        """Count the rows of a part."""
        return int(np.count_nonzero(self.part == part))

    def for_refit(self) -> Split:
        """Return the split for the refit: validation rows, and the histories of their users, become training rows."""
        is_moved = np.isin(self.part, (VALIDATION, VALIDATION_HISTORY))
        return Split(part=np.where(is_moved, TRAIN, self.part).astype(np.int8), identity=self.identity)


@dataclass
class SplitOptions(ABC):
    """Base class for options of splits. A subclass returns the part of each row in `assign`.

    If a field `validation` or `test` is not 0, that part must have rows. A field `fold` chooses the fold of a
    cross-validation, counted from 1.
    """

    name: ClassVar[str]
    uses_times: ClassVar[bool] = False
    """Whether the split depends on the timestamps of the ratings."""
    uses_files: ClassVar[bool] = False
    """Whether the split depends on the files that the rows come from."""
    supports_on_disk: ClassVar[bool] = False
    """Whether data.on_disk=true is allowed: the split must need at most about 8 bytes of memory per row."""
    holds_out_users: ClassVar[bool] = False
    """Whether users with held-out rows have a history instead of training rows."""

    refit: bool
    """Whether to refit on training and validation rows, for the number of epochs with the best validation metric."""

    @property
    def chosen_fold(self) -> int | None:
        """The fold that the field `fold` chooses, or None for a split without folds."""
        return getattr(self, "fold", None)

    @abstractmethod
    def assign(self, table: RatingTable) -> NDArray[np.integer]:
        """Return the part of each row, (N,): TRAIN, VALIDATION or TEST; with `holds_out_users`, any of the five codes.

        Raises:
            UserError: the table does not have the data that the split needs.
        """

    def notes(self, table: RatingTable) -> tuple[str, ...]:
        """Return notes on the split, one line each."""
        return ()

    def empty_part_reason(self, table: RatingTable) -> str:
        """Explain why a part is empty, to complete the message `split=… leaves no row of TABLE …`."""
        return f": it has {format_count(len(table.ratings), 'rating')}"

    def apply(self, table: RatingTable) -> Split:
        """Split the table's rows.

        Raises:
            UserError: the table does not have the data that the split needs, `assign` is wrong, or a part is empty.
        """
        num_rows = len(table.ratings)
        with name_line_of_fault(type(self), place=f"split={self.name}"):
            part = self.assign(table)
        if not isinstance(part, np.ndarray) or part.dtype.kind not in "iu":
            kind = part.dtype if isinstance(part, np.ndarray) else type(part).__name__
            raise UserError(f"split={self.name}: assign must return an array of integers, got {kind}")
        last = TEST_HISTORY if self.holds_out_users else TEST
        if part.shape != (num_rows,) or part.min() < TRAIN or part.max() > last:
            codes = f"{', '.join(map(str, range(last)))} or {last}"
            raise UserError(
                f"split={self.name}: assign must return {num_rows} part codes, each {codes}; got shape {part.shape} "
                f"and values {np.unique(part)[:6]}"
            )
        for key, code in (("test", TEST), ("validation", VALIDATION)):
            size = getattr(self, key, 0)
            if size and not (part == code).any():
                place = f"split={self.name} with split.{key}={size}"
                raise UserError(f"{place} leaves no row of {table.name} for {key}{self.empty_part_reason(table)}")
        if not (part == TRAIN).any():
            raise UserError(
                f"split={self.name} leaves no row of {table.name} to train on{self.empty_part_reason(table)}"
            )
        return Split(part=part.astype(np.int8, copy=False), identity=self._identity(table), notes=self.notes(table))

    def _identity(self, table: RatingTable) -> str:
        """Compute the identity of the split; see `Split`. The hash leaves out the options `fold` and `refit`."""
        options = {name: value for name, value in asdict(self).items() if name not in ("fold", "refit")}
        # the digest leaves out the borders of files, and sorting makes the order of fields irrelevant
        borders = [source.stop for source in table.sources] if self.uses_files else []
        content = (VERSION, table.digest, self.name, sorted(options.items()), borders)
        hashed = blake2b(repr(content).encode(), digest_size=6)
        if self.uses_times:
            hashed.update(np.ascontiguousarray(table.timestamp).data)
        return hashed.hexdigest() if self.chosen_fold is None else f"{hashed.hexdigest()}/{self.chosen_fold}"


@dataclass
class FractionSplitOptions(SplitOptions):
    """Base class for splits that hold out fractions of the rows for validation and test."""

    validation: float = field(metadata=at_least(0, below=1))
    """Fraction of the rows held out for validation. 0 turns off validation and early stopping."""
    test: float = field(metadata=at_least(0, below=1))
    """Fraction of the rows held out for test. 0 turns off the test."""

    def check_together(self) -> None:
        if self.validation + self.test >= 1:
            raise UserError(
                "split.validation + split.test must be below 1, "
                f"got {self.validation} + {self.test} = {self.validation + self.test:g}"
            )


@dataclass
class RandomValidationSplitOptions(SplitOptions):
    """Base class for splits that choose their validation rows at random among the rows outside test."""

    supports_on_disk: ClassVar[bool] = True

    seed: int = field(metadata=valid_seed())
    """Seed of the split, independent of the training `seed`."""
    validation: float = field(metadata=at_least(0, below=1))
    """Fraction of the rows outside test that is held out for validation. 0 turns off validation and early stopping."""

    @abstractmethod
    def test_rows(self, table: RatingTable) -> slice | NDArray[np.intp] | NDArray[np.bool_]:
        """Choose the test rows: a range, positions, or a mask (N,).

        Raises:
            UserError: the table does not have the data that the split needs.
        """

    def assign(self, table: RatingTable) -> NDArray[np.integer]:
        part = np.full(len(table.ratings), TRAIN, dtype=np.int8)
        part[self.test_rows(table)] = TEST
        train = number_rows(len(part))[part == TRAIN]
        np.random.default_rng(self.seed).shuffle(train)
        part[train[: round(self.validation * len(train))]] = VALIDATION
        return part


def number_rows(count: int) -> NDArray[np.int32] | NDArray[np.int64]:
    """Number rows from 0: (count,) int32, or int64 if the numbers do not fit."""
    return np.arange(count).astype(np.int64) if count >= 2**31 else np.arange(count, dtype=np.int32)


def hold_out_first_rows(
    user: NDArray[np.int32],
    order: NDArray[np.intp],
    *,
    num_test: NDArray[np.number],
    num_validation: NDArray[np.number],
) -> NDArray[np.int8]:
    """Hold out each user's first rows in an order for test, and the user's next rows for validation.

    Args:
        user: (N,) user of each row.
        order: (N,) all rows, in the order in which they are held out.
        num_test, num_validation: (num_users,) numbers of each user's rows to hold out.

    Returns:
        (N,) part of each row.
    """
    by_user = order[np.argsort(user[order], kind="stable")]
    count = np.bincount(user)
    rank = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
    is_test, is_held_out = (rank < np.repeat(number, count) for number in (num_test, num_test + num_validation))
    part = np.empty(len(user), dtype=np.int8)
    part[by_user] = np.select([is_test, is_held_out], [TEST, VALIDATION], TRAIN)
    return part
