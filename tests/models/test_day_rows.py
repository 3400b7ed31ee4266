"""Rows per user and day."""

import pytest
import torch

from ratinglab.models.day_rows import DayRows

USER = torch.tensor([1, 0, 1, 1], dtype=torch.int32)
DAY = torch.tensor([10, 7, -22, 10], dtype=torch.int32)
"""User 0 has ratings on day 7, user 1 on the days −22 and 10."""


def test_each_user_has_a_row_per_day_sorted_by_user_then_day():
    rows = DayRows(USER, DAY)
    assert len(rows) == 3
    assert rows.owner.tolist() == [0, 1, 1]
    assert rows.day.tolist() == [7, -22, 10]
    assert rows.find(USER, DAY).tolist() == [2, 0, 1, 2]


@pytest.mark.parametrize(
    ("user", "days", "row"),
    [
        (0, [7, -9999, 9999, -(2**31), 2**31 - 1], 0),
        (1, [-22, -30, -7, -6, -(2**31)], 1),  # −6 is as near to both
        (1, [-5, 0, 10, 11, 2**31 - 1], 2),
    ],
)
def test_a_day_without_ratings_counts_as_the_nearest_one_of_the_user(user, days, row):
    user = torch.full((5,), user, dtype=torch.int32)
    assert DayRows(USER, DAY).find(user, torch.tensor(days, dtype=torch.int32)).tolist() == [row] * 5


def test_without_a_day_the_row_is_that_of_the_last_one():
    assert DayRows(USER, DAY).find(torch.tensor([1, 0, 1]), None).tolist() == [2, 0, 2]


def test_the_rows_are_no_part_of_a_checkpoint():
    assert DayRows(USER, DAY).state_dict() == {}
