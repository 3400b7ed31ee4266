"""Splits by time: the last rows of each user, or all rows after one point in time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import format_count
from ratinglab.options import at_least
from ratinglab.splits.split import (
    TEST,
    TRAIN,
    VALIDATION,
    FractionSplitOptions,
    SplitOptions,
    hold_out_first_rows,
)

if TYPE_CHECKING:
    from ratinglab.ratings.table import RatingTable


@dataclass
class LeaveLastSplitOptions(SplitOptions):
    """The last ratings of each user, by timestamp, for test, and the ratings before them for validation."""

    name: ClassVar[str] = "leave_last"
    uses_times: ClassVar[bool] = True

    validation: int = field(metadata=at_least(0))
    """Number of ratings of each user for validation: the last ones before the test ratings. 0 turns off validation and
    early stopping."""
    test: int = field(metadata=at_least(1))
    """Number of each user's last ratings for test. If timestamps are equal, the rating that comes later in the file
    counts as the last."""

    def assign(self, table: RatingTable) -> NDArray[np.int8]:
        """Return the part of each row. All rows of a user with too few of them are training rows."""
        latest_first = np.argsort(table.times(needed_by=f"split={self.name}"), kind="stable")[::-1]
        user, has_enough = table.ratings.user, ~self._has_too_few(table)
        return hold_out_first_rows(
            user, latest_first, num_test=self.test * has_enough, num_validation=self.validation * has_enough
        )

    def notes(self, table: RatingTable) -> tuple[str, ...]:
        """Report users without held-out ratings, and users whose last ratings have equal timestamps."""
        notes = []
        count = int(np.count_nonzero(self._has_too_few(table)))
        if count > 0:
            few = format_count(self.test + self.validation, "rating")
            notes.append(f"all ratings of {format_count(count, 'user')} with at most {few} are used for training")
        ties, num_users = self._num_ties(table), table.num_users - count
        if ties > num_users / 2:
            notes.append(
                f"for {ties:,} of {num_users:,} users, the first test rating and the rating before it have equal "
                "timestamps, so their order in the file decides which one is held out"
            )
        return tuple(notes)

    def empty_part_reason(self, table: RatingTable) -> str:
        most = np.bincount(table.ratings.user).max()
        return f": no user has more than {format_count(most, 'rating')}, and at least one must stay for training"

    def _num_ties(self, table: RatingTable) -> int:
        """Count the users whose first test row has the same timestamp as the row before it."""
        time, user = table.times(needed_by=f"split={self.name}"), table.ratings.user
        by_user = np.lexsort((time, user))
        first_test = np.cumsum(np.bincount(user))[~self._has_too_few(table)] - self.test
        return int(np.count_nonzero(time[by_user[first_test]] == time[by_user[first_test - 1]]))

    def _has_too_few(self, table: RatingTable) -> NDArray[np.bool_]:
        return np.bincount(table.ratings.user) <= self.test + self.validation


@dataclass
class TemporalSplitOptions(FractionSplitOptions):
    """The latest rows of all users for test, and the latest of the remaining rows for validation.

    All training rows precede all validation rows, which precede all test rows. Rows with equal timestamps therefore
    stay together, in the later part.
    """

    name: ClassVar[str] = "temporal"
    uses_times: ClassVar[bool] = True

    def assign(self, table: RatingTable) -> NDArray[np.integer]:
        time = table.times(needed_by=f"split={self.name}")
        num_test, num_validation = round(self.test * len(time)), round(self.validation * len(time))
        ordered = np.append(np.sort(time), np.iinfo(time.dtype).max)  # an empty part begins after all rows
        first_test, first_validation = ordered[[-1 - num_test, -1 - num_test - num_validation]]
        return np.select([time >= first_test, time >= first_validation], [TEST, VALIDATION], TRAIN)

    def empty_part_reason(self, table: RatingTable) -> str:
        count = len(np.unique(table.times(needed_by=f"split={self.name}")))
        return f": rows with equal timestamps stay together, and the data have {format_count(count, 'timestamp')}"
