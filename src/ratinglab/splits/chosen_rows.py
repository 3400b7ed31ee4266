"""Splits whose test rows the user chooses: a range of rows, or whole files."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean, format_count
from ratinglab.options import at_least
from ratinglab.splits.split import TEST, TRAIN, VALIDATION, RandomValidationSplitOptions

if TYPE_CHECKING:
    from ratinglab.ratings.table import RatingTable


@dataclass
class RowsSplitOptions(RandomValidationSplitOptions):
    """A range of rows, in file order, for test; random other rows for validation."""

    name: ClassVar[str] = "rows"

    test_start: int = field(metadata=at_least(0))
    """First test row, counted from 0."""
    test_stop: int = field(metadata=at_least(1))
    """First row after the test rows, counted from 0."""

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
class FilesSplitOptions(RandomValidationSplitOptions):
    """Whole files for test, among those matched by data.path, such as `u1.*`."""

    name: ClassVar[str] = "files"
    uses_files: ClassVar[bool] = True

    test_files: str
    """Name of the test file, or a pattern such as *.test for several. The other files are for training."""
    validation_files: str | None
    """Name of the validation file, or a pattern for several. With null, random rows of the training files are held
    out."""

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
                f"{format_count(table.merged_across_files, 'pair')} with rows in several files"
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
        is_match = np.repeat([_matches_name(source.name, pattern) for source in table.sources], num_rows)
        if not is_match.any():
            names = [source.name.rpartition("/")[2] for source in table.sources]
            hint = did_you_mean(pattern, names)
            raise UserError(f"{key}: no file of data.path matches {pattern}: it has {', '.join(names[:10])}{hint}")
        return is_match


def _matches_name(name: str, pattern: str) -> bool:
    """Return whether a file name equals or matches the pattern, with or without its folder."""
    return f"/{name}".endswith(f"/{pattern}") or fnmatch(name, pattern) or fnmatch(name, f"*/{pattern}")
