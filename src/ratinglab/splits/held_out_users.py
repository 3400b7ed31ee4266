"""Split by users: held-out users have no training rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.options import at_least, valid_seed
from ratinglab.splits.split import TEST, TEST_HISTORY, TRAIN, VALIDATION, VALIDATION_HISTORY, SplitOptions

if TYPE_CHECKING:
    from ratinglab.ratings.table import RatingTable


@dataclass
class HeldOutUsersSplitOptions(SplitOptions):
    """Random users for validation and test, who have no training rows ("strong generalization").

    Ranking metrics fold in some rows of each held-out user, the history, and compare the recommended list with the
    user's other rows. Rows of items without training rows always belong to the history.

    With the same seed and row order, the code of Liang et al. makes the same split.

    Source: Liang, Krishnan, Hoffman, Jebara, "Variational Autoencoders for Collaborative Filtering", WWW 2018.
    """

    name: ClassVar[str] = "held_out_users"
    holds_out_users: ClassVar[bool] = True

    validation: int = field(metadata=at_least(0))
    """Number of users held out for validation. 0 turns off validation and early stopping."""
    test: int = field(metadata=at_least(0))
    """Number of users held out for test. 0 turns off the test."""
    hidden: float = field(metadata=at_least(0, below=1))
    """Fraction of a held-out user's ratings against which lists are measured, rounded down to whole ratings. The user's
    other ratings are folded in."""
    seed: int = field(metadata=valid_seed())
    """Seed of the split, independent of the training `seed`."""

    def assign(self, table: RatingTable) -> NDArray[np.int8]:
        user, item, num_users = table.ratings.user, table.ratings.item, table.num_users
        num_held_out = self.validation + self.test
        if num_held_out >= num_users:
            raise UserError(
                f"split.validation + split.test must be below {num_users:,}, the users of {table.name}, "
                f"got {self.validation} + {self.test} = {num_held_out}"
            )
        # RandomState gives the same stream in all versions of numpy
        order = np.random.RandomState(self.seed).permutation(num_users)
        part_of_user = np.full(num_users, TRAIN, dtype=np.int8)
        part_of_user[order[num_users - num_held_out :]] = VALIDATION_HISTORY
        part_of_user[order[num_users - self.test :]] = TEST_HISTORY
        part = part_of_user[user]
        is_trained = np.bincount(item[part == TRAIN], minlength=table.num_items) > 0
        for history, held_out in ((VALIDATION_HISTORY, VALIDATION), (TEST_HISTORY, TEST)):
            rows = np.flatnonzero((part == history) & is_trained[item])
            part[self._choose_hidden_rows(rows[np.argsort(user[rows], kind="stable")], user)] = held_out
        return part

    def _choose_hidden_rows(self, rows: NDArray[np.intp], user: NDArray[np.int32]) -> NDArray[np.intp]:
        """Choose the rows that lists are measured against, (M,), from `rows` (N,), which are sorted by user."""
        random, hidden_rows = np.random.RandomState(self.seed), [rows[:0]]
        borders = np.flatnonzero(np.diff(user[rows])) + 1
        for user_rows in np.split(rows, borders):
            count = int(self.hidden * len(user_rows))
            if count > 0:  # drawing zero rows would change later draws
                hidden_rows.append(user_rows[random.choice(len(user_rows), size=count, replace=False)])
        return np.concatenate(hidden_rows)

    def empty_part_reason(self, table: RatingTable) -> str:
        return f": no held-out user has enough ratings to hide {self.hidden:g} of them, rounded down"
