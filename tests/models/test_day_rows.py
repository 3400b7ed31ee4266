"""Rows per user and day."""

import pytest
import torch

from ratinglab.models.day_rows import DayRows

USER = torch.tensor([1, 0, 1, 1], dtype=torch.int32)
DAY = torch.tensor([10, 7, -22, 10], dtype=torch.int32)
"""Days with ratings: 7 of user 0, −22 and 10 of user 1."""


def test_rows_are_sorted_by_user_then_day():
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
def test_day_without_ratings_maps_to_the_nearest_day_of_the_user(user, days, row):
    user = torch.full((5,), user, dtype=torch.int32)
    assert DayRows(USER, DAY).find(user, torch.tensor(days, dtype=torch.int32)).tolist() == [row] * 5


def test_missing_day_maps_to_the_last_day_of_the_user():
    assert DayRows(USER, DAY).find(torch.tensor([1, 0, 1]), None).tolist() == [2, 0, 2]


def test_day_rows_are_not_in_the_state_dict():
    assert DayRows(USER, DAY).state_dict() == {}
