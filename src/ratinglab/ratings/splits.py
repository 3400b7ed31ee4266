"""Splits: choice of the rows held out for validation and test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from fnmatch import fnmatch
from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean
from ratinglab.options import at_least, from_zero_below, seed_rule

if TYPE_CHECKING:
    from ratinglab.ratings.table import RatingTable

VERSION = 1
"""Raise it with any change to the rows that a split holds out."""
TRAIN, VALIDATION, TEST = 0, 1, 2
"""Codes of the parts."""
MOVIELENS_100K_DIGEST = "48abd2e46d4c0e51c4bf76e6b2bdc260"
"""Digest of MovieLens 100K in its published order, in which each u-fold is a contiguous fifth."""


@dataclass(frozen=True)
class Split:
    """Assignment of a table's rows to parts.

    Attributes:
        part: (N,) int8: TRAIN, VALIDATION or TEST.
        identity: hash of data, policy and seed, then the fold; the folds of a cross-validation share the hash.
        notes: remarks, one line each.
    """

    part: NDArray[np.int8]
    identity: str
    notes: tuple[str, ...] = ()

    def count(self, part: int) -> int:
        """Number of rows of a part."""
        return int(np.count_nonzero(self.part == part))

    def refitted(self) -> Split:
        """Move the validation rows to the training part; keep the test rows."""
        return Split(part=np.where(self.part == VALIDATION, TRAIN, self.part).astype(np.int8), identity=self.identity)


@dataclass
class SplitOptions(ABC):
    """Base class for splits. To write your own, assign the parts in `apply` and return `checked(…)`."""

    name: ClassVar[str]
    by_time: ClassVar[bool] = False
    """Whether the split depends on the times of the ratings."""
    by_file: ClassVar[bool] = False
    """Whether the split depends on the files that the rows come from."""

    refit: bool
    """Whether to fit a second time, on training and validation rows, for the best number of epochs found in
    validation."""

    @abstractmethod
    def apply(self, table: RatingTable) -> Split:
        """Split the table's rows.

        Raises:
            UserError: the table lacks data that the split needs, or a part is empty.
        """

    def checked(self, table: RatingTable, part: NDArray[np.int8], notes: tuple[str, ...] = ()) -> Split:
        """Make the split from its parts, (N,) int8 of TRAIN, VALIDATION and TEST, and add its identity.

        Raises:
            UserError: the parts are no such array, or no row is left to train on.
        """
        shape = (len(table.ratings),)
        if part.dtype != np.int8 or part.shape != shape or not np.isin(part, (TRAIN, VALIDATION, TEST)).all():
            found = f"{part.shape} {part.dtype} with {np.unique(part)[:4]}"
            raise UserError(
                f"split={self.name}: the parts must be {shape} int8 of {TRAIN}, {VALIDATION} and {TEST}, got {found}"
            )
        if not (part == TRAIN).any():
            raise UserError(f"split={self.name} leaves no row of {table.name} to train on")
        return Split(part=part, identity=self._identity(table), notes=notes)

    def _identity(self, table: RatingTable) -> str:
        policy = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("fold", "refit")}
        # add the borders of the files, which the digest leaves out; sort keys, so that field order does not matter
        borders = [source.stop for source in table.sources] if self.by_file else []
        content = (VERSION, table.digest, self.name, sorted(policy.items()), borders)
        hashed = blake2b(repr(content).encode(), digest_size=6)
        if self.by_time:
            hashed.update(np.ascontiguousarray(table.timestamp).data)
        fold = getattr(self, "fold", None)
        return hashed.hexdigest() if fold is None else f"{hashed.hexdigest()}/{fold}"


@dataclass
class FractionSplit(SplitOptions):
    """Holds out fractions of the rows for validation and test."""

    validation: float = field(metadata=from_zero_below(1))
    """Fraction of the rows held out for validation (per_user: of each user's); 0: no validation, so no early
    stopping."""
    test: float = field(metadata=from_zero_below(1))
    """Fraction of the rows held out for test (per_user: of each user's); 0: no test."""

    def check_together(self) -> None:
        """Raise UserError if fields conflict."""
        if self.validation + self.test >= 1:
            raise UserError(
                "split.validation + split.test must be below 1, "
                f"got {self.validation} + {self.test} = {self.validation + self.test:g}"
            )


@dataclass
class RandomValidationSplit(SplitOptions):
    """Holds out random rows for validation, among those that are not test."""

    seed: int = field(metadata=seed_rule())
    """Seed of the split, independent of the training `seed`."""
    validation: float = field(metadata=from_zero_below(1))
    """Fraction of the rows outside test held out for validation; 0: no validation, so no early stopping."""

    def _split_rest(self, table: RatingTable, part: NDArray[np.int8]) -> Split:
        """Complete the split: move random training rows to validation.

        Raises:
            UserError: the validation part would be empty although requested, or no row is left to train on.
        """
        train = np.flatnonzero(part == TRAIN)
        np.random.default_rng(self.seed).shuffle(train)
        part[train[: _part_size(self.validation, of=len(train), key="split.validation")]] = VALIDATION
        return self.checked(table, part)


@dataclass
class RandomSplit(FractionSplit):
    """Uniformly random rows for validation and test."""

    name: ClassVar[str] = "random"

    seed: int = field(metadata=seed_rule())
    """Seed of the split, independent of the training `seed`."""

    def apply(self, table: RatingTable) -> Split:
        """Split the table's rows."""
        order = np.random.default_rng(self.seed).permutation(len(table.ratings))
        num_test = _part_size(self.test, of=len(order), key="split.test")
        num_validation = _part_size(self.validation, of=len(order), key="split.validation")
        part = np.full(len(order), TRAIN, dtype=np.int8)
        part[order[:num_test]] = TEST
        part[order[num_test : num_test + num_validation]] = VALIDATION
        return self.checked(table, part)


@dataclass
class PerUserSplit(FractionSplit):
    """Random rows of each user for validation and test, rounded per user."""

    name: ClassVar[str] = "per_user"

    seed: int = field(metadata=seed_rule())
    """Seed of the split, independent of the training `seed`."""

    def apply(self, table: RatingTable) -> Split:
        """Split the table's rows; each user keeps at least one training row."""
        user = table.ratings.user
        order = np.random.default_rng(self.seed).permutation(len(user))
        rank = _rank_within_user(user, order)
        count = np.bincount(user)
        num_test = np.minimum(_rounded(self.test * count), count - 1)
        num_validation = np.minimum(_rounded(self.validation * count), count - 1 - num_test)
        part = _by_rank(rank, num_test=num_test[user], num_validation=num_validation[user])
        _check_not_empty(self, table, part, test=self.test, validation=self.validation)
        return self.checked(table, part)


@dataclass
class LeaveLastSplit(SplitOptions):
    """The last ratings of each user, by time, for test, and those before them for validation."""

    name: ClassVar[str] = "leave_last"
    by_time: ClassVar[bool] = True

    validation: int = field(metadata=at_least(0))
    """Number of each user's ratings, before the test ones, for validation; 0: no validation, so no early stopping."""
    test: int = field(metadata=at_least(1))
    """Number of each user's last ratings for test. Among ratings at the same time, the later one in the file counts as
    last."""

    def apply(self, table: RatingTable) -> Split:
        """Split the table's rows; all rows of a user with too few of them are training rows.

        Raises:
            UserError: the table has no times, or no user has enough rows.
        """
        user, time = table.ratings.user, table.times(asked_by=f"split={self.name}")
        latest_first = np.argsort(time, kind="stable")[::-1]
        rank = _rank_within_user(user, latest_first)
        count = np.bincount(user)
        has_enough = count > self.test + self.validation
        part = _by_rank(
            rank,
            num_test=np.where(has_enough, self.test, 0)[user],
            num_validation=np.where(has_enough, self.validation, 0)[user],
        )
        _check_not_empty(self, table, part, test=self.test, validation=self.validation)
        too_few = int((~has_enough).sum())
        notes = (f"{too_few:,} users have no more than {self.test + self.validation} ratings and are only trained on",)
        return self.checked(table, part, notes if too_few > 0 else ())


@dataclass
class TemporalSplit(FractionSplit):
    """One cut in time for all users: later rows are test, and the last of the earlier rows are validation.

    Rows at the same time stay together, on the later side of a cut.
    """

    name: ClassVar[str] = "temporal"
    by_time: ClassVar[bool] = True

    def apply(self, table: RatingTable) -> Split:
        """Split the table's rows so that all training rows precede all validation rows, and these all test rows.

        Raises:
            UserError: the table has no times, or a part is empty.
        """
        time = table.times(asked_by=f"split={self.name}")
        num_test = _part_size(self.test, of=len(time), key="split.test")
        num_validation = _part_size(self.validation, of=len(time), key="split.validation")
        ordered = np.sort(time)
        part = np.full(len(time), TRAIN, dtype=np.int8)
        if num_validation > 0:
            part[time >= ordered[len(time) - num_test - num_validation]] = VALIDATION
        if num_test > 0:
            part[time >= ordered[len(time) - num_test]] = TEST
        _check_not_empty(self, table, part, test=self.test, validation=self.validation)
        return self.checked(table, part)


@dataclass
class RowsSplit(RandomValidationSplit):
    """A range of rows, in file order, for test; random other rows for validation."""

    name: ClassVar[str] = "rows"

    test_start: int = field(metadata=at_least(0))
    """First test row, counted from 0."""
    test_stop: int = field(metadata=at_least(1))
    """Row after the last test row, counted from 0."""

    def check_together(self) -> None:
        """Raise UserError if fields conflict."""
        if self.test_stop <= self.test_start:
            raise UserError(
                f"split.test_stop must be above split.test_start, got {self.test_stop} and {self.test_start}"
            )

    def apply(self, table: RatingTable) -> Split:
        """Split the table's rows.

        Raises:
            UserError: the range extends past the last row, or leaves nothing to train on.
        """
        num_rows = len(table.ratings)
        if self.test_stop > num_rows:
            raise UserError(
                f"split.test_stop must be at most {num_rows}, the rows of {table.name}, got {self.test_stop}"
            )
        part = np.full(num_rows, TRAIN, dtype=np.int8)
        part[self.test_start : self.test_stop] = TEST
        return self._split_rest(table, part)


@dataclass
class KFoldSplit(RandomValidationSplit):
    """Shuffles the rows and cuts them into folds, one of them for test: `-m split.fold=1,2,3,4,5` cross-validates."""

    name: ClassVar[str] = "kfold"

    folds: int = field(metadata=at_least(2))
    """Number of folds. If the rows do not divide evenly, the first folds have one more."""
    fold: int = field(metadata=at_least(1))
    """Fold held out for test, counted from 1. Sweep over all folds with -m split.fold=1,2,…"""

    def check_together(self) -> None:
        """Raise UserError if fields conflict."""
        if self.fold > self.folds:
            raise UserError(f"split.fold must be at most split.folds, got {self.fold} and {self.folds}")

    def apply(self, table: RatingTable) -> Split:
        """Split the table's rows.

        Raises:
            UserError: there are more folds than rows.
        """
        num_rows = len(table.ratings)
        if self.folds > num_rows:
            raise UserError(f"split.folds must be at most {num_rows}, the rows of {table.name}, got {self.folds}")
        part = np.full(num_rows, TRAIN, dtype=np.int8)
        part[np.array_split(self._order(num_rows), self.folds)[self.fold - 1]] = TEST
        return self._split_rest(table, part)

    def _order(self, num_rows: int) -> NDArray[np.intp]:
        return np.random.default_rng(self.seed).permutation(num_rows)


@dataclass
class SurpriseKFoldSplit(KFoldSplit):
    """Same folds as Surprise's KFold(n_splits=folds, random_state=seed) on the rows in table order."""

    name: ClassVar[str] = "surprise_kfold"

    def _order(self, num_rows: int) -> NDArray[np.intp]:
        order = np.arange(num_rows)
        np.random.RandomState(self.seed).shuffle(order)
        return order


@dataclass
class MovieLensUSplit(RandomValidationSplit):
    """The published five folds of MovieLens 100K, u1 … u5: each a contiguous fifth of its rows."""

    name: ClassVar[str] = "movielens_u"

    fold: int = field(metadata=at_least(1))
    """Fold held out for test: 1 for u1 … 5 for u5. Sweep over all with -m split.fold=1,2,3,4,5"""

    def check_together(self) -> None:
        """Raise UserError if fields conflict."""
        if self.fold > 5:
            raise UserError(f"split.fold must be from 1 to 5, got {self.fold}")

    def apply(self, table: RatingTable) -> Split:
        """Split the table's rows.

        Raises:
            UserError: the table is not MovieLens 100K, whole and in its published order.
        """
        if table.digest != MOVIELENS_100K_DIGEST:
            raise UserError(
                f"split=movielens_u needs all rows of MovieLens 100K in their published order: {table.name} is not that"
            )
        part = np.full(len(table.ratings), TRAIN, dtype=np.int8)
        part[(self.fold - 1) * 20_000 : self.fold * 20_000] = TEST
        return self._split_rest(table, part)


@dataclass
class FilesSplit(RandomValidationSplit):
    """Holds out whole files for test, among those matched by data.path, such as `u1.*`."""

    name: ClassVar[str] = "files"
    by_file: ClassVar[bool] = True

    test_files: str
    """Test files: a name, or a pattern such as *.test. The other files are for training."""
    validation_files: str | None
    """Validation files: a name or a pattern; null: random rows of the training files."""

    def apply(self, table: RatingTable) -> Split:
        """Split the table's rows.

        Raises:
            UserError: no file matches, every file matches, a file is both test and validation, or rows of several files
                were merged, which would leak test rows into training.
        """
        if table.merged_across_files > 0:
            raise UserError(
                "split=files needs each pair of user and item in a single file: data.duplicates has merged "
                f"{table.merged_across_files:,} pairs with rows in several files"
            )
        part = np.full(len(table.ratings), TRAIN, dtype=np.int8)
        is_test = self._matches(table, self.test_files, key="split.test_files")
        part[is_test] = TEST
        if is_test.all():
            raise UserError(f"split.test_files={self.test_files} is every file of data.path: none is left to train on")
        if self.validation_files is None:
            return self._split_rest(table, part)
        is_validation = self._matches(table, self.validation_files, key="split.validation_files")
        if (is_test & is_validation).any():
            raise UserError(
                f"split.validation_files={self.validation_files} has a file of split.test_files={self.test_files}"
            )
        part[is_validation] = VALIDATION
        return self.checked(table, part)

    def _matches(self, table: RatingTable, pattern: str, *, key: str) -> NDArray[np.bool_]:
        """Whether each row comes from a matching file: (N,) bool."""
        row, found = 0, np.zeros(len(table.ratings), dtype=np.bool_)
        for source in table.sources:
            found[row : source.stop] = _is_named(source.name, pattern)
            row = source.stop
        if not found.any():
            names = [source.name.rpartition("/")[2] for source in table.sources]
            shown = ", ".join(names[:10])
            raise UserError(
                f"{key}: no file of data.path is {pattern}; there are {shown}{did_you_mean(pattern, names)}"
            )
        return found


def _is_named(name: str, pattern: str) -> bool:
    """Whether a file name equals or matches the pattern, with or without its folder."""
    return f"/{name}".endswith(f"/{pattern}") or fnmatch(name, pattern) or fnmatch(name, f"*/{pattern}")


def _part_size(fraction: float, *, of: int, key: str) -> int:
    size = round(fraction * of)
    if fraction > 0 and size == 0:
        raise UserError(f"{key}={fraction} of {of} rows selects no row: give a larger fraction, or 0")
    return size


def _check_not_empty(
    split: SplitOptions, table: RatingTable, part: NDArray[np.int8], *, test: float, validation: float
) -> None:
    """Raise UserError if a requested part has no row."""
    for key, wanted, code in (("test", test, TEST), ("validation", validation, VALIDATION)):
        if wanted > 0 and not (part == code).any():
            raise UserError(f"split={split.name} with split.{key}={wanted} leaves no row of {table.name} for {key}")


def _rounded(count: NDArray[np.floating]) -> NDArray[np.int64]:
    return np.floor(count + 0.5).astype(np.int64)


def _rank_within_user(user: NDArray[np.int32], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of each row within its user, from 0, in the given order: (N,) int64."""
    by_user = order[np.argsort(user[order], kind="stable")]
    count = np.bincount(user)
    start = np.cumsum(count) - count
    rank = np.empty(len(user), dtype=np.int64)
    rank[by_user] = np.arange(len(user)) - start[user[by_user]]
    return rank


def _by_rank(
    rank: NDArray[np.int64], *, num_test: NDArray[np.int64], num_validation: NDArray[np.int64]
) -> NDArray[np.int8]:
    """Part of each row: a user's first ranks are test, the next validation: (N,) int8."""
    part = np.full(len(rank), TRAIN, dtype=np.int8)
    part[rank < num_test + num_validation] = VALIDATION
    part[rank < num_test] = TEST
    return part
