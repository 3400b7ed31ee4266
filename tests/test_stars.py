"""Ratings as 1 to 5 stars."""

import numpy as np
import pytest
import torch

from ratinglab.stars import Stars, is_liked


def test_lowest_and_highest_rating_are_1_and_5_stars():
    stars = Stars(-10.0, 10.0)
    assert [stars.to_stars(rating) for rating in (-10.0, 0.0, 10.0)] == [1, 3, 5]
    assert [stars.to_rating(value) for value in (1.0, 3.0, 5.0, 0.0)] == [-10, 0, 10, -15]
    assert stars.unit == 5


@pytest.mark.parametrize("scale", [(0.5, 5.0), (1.0, 100.0)])
def test_conversion_there_and_back_returns_the_rating(scale):
    rating = np.linspace(*scale, 50, dtype=np.float32)
    np.testing.assert_allclose(Stars(*scale).to_rating(Stars(*scale).to_stars(rating)), rating, rtol=1e-6)


def test_scale_of_1_to_5_changes_no_bit():
    predicted = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 3
    assert torch.equal(Stars(1.0, 5.0).to_rating(predicted), predicted)
    assert torch.equal(Stars(1.0, 5.0).to_stars(predicted), predicted)


def test_ratings_equal_to_the_threshold_are_liked():
    rating = np.array([4.0, 4.1, 3.9], dtype=np.float32)
    assert is_liked(rating, 4.1).tolist() == [False, True, False]  # 4.1 is not a float32


@pytest.mark.parametrize("scale", [(1.0, 5.0), (0.5, 5.0), (-10.0, 10.0)])
def test_the_rounding_of_converted_ratings_does_not_decide_what_is_liked(scale):
    stars = Stars(*scale)
    rating = stars.to_rating(np.array([3.66, 3.6675, 3.7], dtype=np.float32))
    assert is_liked(rating, stars.to_rating(3.668), unit=stars.unit).tolist() == [False, True, True]
