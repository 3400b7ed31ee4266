"""Splits: the choice of rows held out for validation and test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from fnmatch import fnmatch
from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean
from ratinglab.options import at_least, from_zero_below, seed_rule, within

if TYPE_CHECKING:
    from ratinglab.ratings.table import RatingTable

VERSION = 1
"""Increment when the rows that a split holds out change."""
TRAIN, VALIDATION, TEST, VALIDATION_HISTORY, TEST_HISTORY = range(5)
"""Codes of the parts. A history holds the fold-in ratings of held-out users."""
MOVIELENS_100K_DIGEST = "48abd2e46d4c0e51c4bf76e6b2bdc260"
"""Digest of MovieLens 100K in its published order, in which each u-fold is a contiguous fifth."""


@dataclass(frozen=True)
class Split:
    """Assignment of a table's rows to parts.

    Attributes:
        part: (N,) int8, code of the part of each row.
        identity: hash of data, policy and seed, then the fold; all folds of a cross-validation share the hash.
        notes: remarks, one line each.
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
    """Whether to fit again on training and validation rows, for the number of epochs that was best in validation."""

    @abstractmethod
    def assign(self, table: RatingTable) -> NDArray[np.integer]:
        """Assign each row to a part: (N,) of TRAIN, VALIDATION and TEST; with `holds_out_users`, of all codes.

        Raises:
            UserError: the table lacks data that the split needs.
        """

    def notes(self, table: RatingTable) -> tuple[str, ...]:
        """Return remarks on the split, one line each."""
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
        policy = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("fold", "refit")}
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

    validation: float = field(metadata=from_zero_below(1))
    """Fraction of the rows held out for validation (per_user: of each user's); 0: no validation, so no early
    stopping."""
    test: float = field(metadata=from_zero_below(1))
    """Fraction of the rows held out for test (per_user: of each user's); 0: no test."""

    def check_together(self) -> None:
        if self.validation + self.test >= 1:
            raise UserError(
                "split.validation + split.test must be below 1, "
                f"got {self.validation} + {self.test} = {self.validation + self.test:g}"
            )

    def why_empty(self, table: RatingTable) -> str:
        return f": it has {_ratings(len(table.ratings))}"


@dataclass
class RandomSplit(FractionSplit):
    """Uniformly random rows for validation and test."""

    name: ClassVar[str] = "random"
    takes_mapped_rows: ClassVar[bool] = True

    seed: int = field(metadata=seed_rule())
    """Seed of the split, independent of the training `seed`."""

    def assign(self, table: RatingTable) -> NDArray[np.int8]:
        order = _row_numbers(len(table.ratings))
        np.random.default_rng(self.seed).shuffle(order)
        num_test, num_validation = round(self.test * len(order)), round(self.validation * len(order))
        part = np.full(len(order), TRAIN, dtype=np.int8)
        part[order[: num_test + num_validation]] = VALIDATION
        part[order[:num_test]] = TEST
        return part


@dataclass
class PerUserSplit(RandomSplit):
    """Random rows of each user for validation and test, rounded per user."""

    name: ClassVar[str] = "per_user"
    takes_mapped_rows: ClassVar[bool] = False

    def assign(self, table: RatingTable) -> NDArray[np.int8]:
        """Assign each row to a part; each user keeps at least one training row."""
        user = table.ratings.user
        count = np.bincount(user)
        num_test = np.minimum(np.floor(self.test * count + 0.5), count - 1)
        num_validation = np.minimum(np.floor(self.validation * count + 0.5), count - 1 - num_test)
        order = np.random.default_rng(self.seed).permutation(len(user))
        return _first_of_each_user(user, order, num_test=num_test, num_validation=num_validation)

    def why_empty(self, table: RatingTable) -> str:
        most = np.bincount(table.ratings.user).max()
        return f": the number of rows is rounded per user, and no user has more than {_ratings(most)}"


@dataclass
class LeaveLastSplit(SplitOptions):
    """The last ratings of each user, by time, for test, and those before them for validation."""

    name: ClassVar[str] = "leave_last"
    by_time: ClassVar[bool] = True

    validation: int = field(metadata=at_least(0))
    """Number of each user's last ratings before the test ratings for validation; 0: no validation, so no early
    stopping."""
    test: int = field(metadata=at_least(1))
    """Number of each user's last ratings for test. Among ratings at the same time, the later one in the file counts as
    last."""

    def assign(self, table: RatingTable) -> NDArray[np.int8]:
        """Assign each row to a part; all rows of a user with too few of them are training rows."""
        latest_first = np.argsort(table.times(asked_by=f"split={self.name}"), kind="stable")[::-1]
        user, has_enough = table.ratings.user, ~self._has_too_few(table)
        return _first_of_each_user(
            user, latest_first, num_test=self.test * has_enough, num_validation=self.validation * has_enough
        )

    def notes(self, table: RatingTable) -> tuple[str, ...]:
        """Report users without held-out ratings, and users whose last ratings are tied in time."""
        notes = []
        count = np.count_nonzero(self._has_too_few(table))
        if count > 0:
            notes.append(f"users with at most {self.test + self.validation} ratings, all used for training: {count:,}")
        ties, num_users = self._num_ties(table), table.num_users - count
        if ties > num_users / 2:
            notes.append(
                "users whose first test rating and the rating before it have the same time, so that file order decides "
                f"which is held out: {ties:,} of {num_users:,}"
            )
        return tuple(notes)

    def why_empty(self, table: RatingTable) -> str:
        most = np.bincount(table.ratings.user).max()
        return f": no user has more than {_ratings(most)}, and at least one must stay for training"

    def _num_ties(self, table: RatingTable) -> int:
        """Count the users with a test row at the same time as the last row before the test rows."""
        time, user = table.times(asked_by=f"split={self.name}"), table.ratings.user
        by_user = np.lexsort((time, user))
        first_test = np.cumsum(np.bincount(user))[~self._has_too_few(table)] - self.test
        return int(np.count_nonzero(time[by_user[first_test]] == time[by_user[first_test - 1]]))

    def _has_too_few(self, table: RatingTable) -> NDArray[np.bool_]:
        return np.bincount(table.ratings.user) <= self.test + self.validation


@dataclass
class TemporalSplit(FractionSplit):
    """One cut in time for all users: later rows are test, and the last of the earlier rows are validation.

    Rows at the same time stay together on the later side of a cut, so that all training rows precede all validation
    rows, which precede all test rows.
    """

    name: ClassVar[str] = "temporal"
    by_time: ClassVar[bool] = True

    def assign(self, table: RatingTable) -> NDArray[np.integer]:
        time = table.times(asked_by=f"split={self.name}")
        num_test, num_validation = round(self.test * len(time)), round(self.validation * len(time))
        ordered = np.append(np.sort(time), np.iinfo(time.dtype).max)  # an empty part begins after all rows
        first_test, first_validation = ordered[[-1 - num_test, -1 - num_test - num_validation]]
        return np.select([time >= first_test, time >= first_validation], [TEST, VALIDATION], TRAIN)

    def why_empty(self, table: RatingTable) -> str:
        count = len(np.unique(table.times(asked_by=f"split={self.name}")))
        return f": rows with equal times stay together; distinct times: {count:,}"


@dataclass
class RandomValidationSplit(SplitOptions):
    """Base class for splits that choose random validation rows among the rows that are not test."""

    takes_mapped_rows: ClassVar[bool] = True

    seed: int = field(metadata=seed_rule())
    """Seed of the split, independent of the training `seed`."""
    validation: float = field(metadata=from_zero_below(1))
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
        train = _row_numbers(len(part))[part == TRAIN]
        np.random.default_rng(self.seed).shuffle(train)
        part[train[: round(self.validation * len(train))]] = VALIDATION
        return part

    def why_empty(self, table: RatingTable) -> str:
        return f": it has {_ratings(len(table.ratings))}"


@dataclass
class RowsSplit(RandomValidationSplit):
    """A range of rows, in file order, for test; random other rows for validation."""

    name: ClassVar[str] = "rows"

    test_start: int = field(metadata=at_least(0))
    """First test row, counted from 0."""
    test_stop: int = field(metadata=at_least(1))
    """Row after the last test row, counted from 0."""

    def check_together(self) -> None:
        if self.test_stop <= self.test_start:
            raise UserError(
                f"split.test_stop must be above split.test_start, got {self.test_stop} and {self.test_start}"
            )

    def test_rows(self, table: RatingTable) -> slice:
        num_rows = len(table.ratings)
        if self.test_stop > num_rows:
            raise UserError(
                f"split.test_stop must be at most {num_rows}, the rows of {table.name}, got {self.test_stop}"
            )
        return slice(self.test_start, self.test_stop)


@dataclass
class KFoldSplit(RandomValidationSplit):
    """Shuffled rows, cut into folds, one of them for test. `-m split.fold=1,2,3,4,5` cross-validates."""

    name: ClassVar[str] = "kfold"

    folds: int = field(metadata=at_least(2))
    """Number of folds. If the rows do not divide evenly, the first folds have one row more."""
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
class SurpriseKFoldSplit(KFoldSplit):
    """The folds of Surprise's KFold(n_splits=folds, random_state=seed) on the rows in table order."""

    name: ClassVar[str] = "surprise_kfold"

    def _order(self, num_rows: int) -> NDArray[np.intp]:
        return np.random.RandomState(self.seed).permutation(num_rows)


@dataclass
class MovieLensUSplit(RandomValidationSplit):
    """The published five folds of MovieLens 100K, u1 … u5: each a contiguous fifth of its rows."""

    name: ClassVar[str] = "movielens_u"
    folds: ClassVar[int] = 5

    fold: int = field(metadata=within(1, 5))
    """Fold held out for test: 1 for u1 … 5 for u5. Sweep over all with -m split.fold=1,2,3,4,5"""

    def test_rows(self, table: RatingTable) -> slice:
        if table.digest != MOVIELENS_100K_DIGEST:
            raise UserError(
                f"split=movielens_u needs all rows of MovieLens 100K in their published order, and {table.name} differs"
            )
        return slice((self.fold - 1) * 20_000, self.fold * 20_000)


@dataclass
class FilesSplit(RandomValidationSplit):
    """Whole files for test, among those matched by data.path, such as `u1.*`."""

    name: ClassVar[str] = "files"
    by_file: ClassVar[bool] = True

    test_files: str
    """Test files: a name, or a pattern such as *.test. The other files are for training."""
    validation_files: str | None
    """Validation files: a name or a pattern; null: random rows of the training files."""

    def assign(self, table: RatingTable) -> NDArray[np.integer]:
        if self.validation_files is None:
            return super().assign(table)
        is_test = self.test_rows(table)
        is_validation = self._matches(table, self.validation_files, key="split.validation_files")
        if (is_test & is_validation).any():
            raise UserError(
                f"split.validation_files={self.validation_files} and split.test_files={self.test_files} "
                "match the same file"
            )
        return np.select([is_test, is_validation], [TEST, VALIDATION], TRAIN)

    def test_rows(self, table: RatingTable) -> NDArray[np.bool_]:
        if table.merged_across_files > 0:  # test rows would leak into training
            raise UserError(
                "split=files needs each pair of user and item in a single file: data.duplicates has merged "
                f"{table.merged_across_files:,} pairs with rows in several files"
            )
        is_test = self._matches(table, self.test_files, key="split.test_files")
        if is_test.all():
            raise UserError(
                f"split.test_files={self.test_files} matches every file of data.path: none is left to train on"
            )
        return is_test

    def _matches(self, table: RatingTable, pattern: str, *, key: str) -> NDArray[np.bool_]:
        """Return whether each row comes from a matching file: (N,) bool."""
        num_rows = np.diff([source.stop for source in table.sources], prepend=0)
        found = np.repeat([_is_named(source.name, pattern) for source in table.sources], num_rows)
        if not found.any():
            names = [source.name.rpartition("/")[2] for source in table.sources]
            shown = ", ".join(names[:10])
            raise UserError(
                f"{key}: no file of data.path matches {pattern}: it has {shown}{did_you_mean(pattern, names)}"
            )
        return found


def _row_numbers(count: int) -> NDArray[np.int32] | NDArray[np.int64]:
    """Number rows from 0: (count,), int32 if the numbers fit."""
    return np.arange(count).astype(np.int64) if count >= 2**31 else np.arange(count, dtype=np.int32)


def _is_named(name: str, pattern: str) -> bool:
    """Return whether a file name equals or matches the pattern, with or without its folder."""
    return f"/{name}".endswith(f"/{pattern}") or fnmatch(name, pattern) or fnmatch(name, f"*/{pattern}")


def _ratings(number: int) -> str:
    return f"{number:,} rating{'s' if number != 1 else ''}"


def _first_of_each_user(
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
