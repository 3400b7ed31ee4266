"""Ratings as 1 to 5 stars."""

import numpy as np
import pytest
import torch

from ratinglab.stars import Stars


def test_lowest_and_highest_rating_are_1_and_5_stars():
    stars = Stars(-10.0, 10.0)
    assert [stars.to_stars(rating) for rating in (-10.0, 0.0, 10.0)] == [1, 3, 5]
    assert [stars.to_rating(each) for each in (1.0, 3.0, 5.0, 0.0)] == [-10, 0, 10, -15]
    assert stars.unit == 5


@pytest.mark.parametrize("scale", [(0.5, 5.0), (1.0, 100.0)])
def test_conversion_there_and_back_returns_the_rating(scale):
    rating = np.linspace(*scale, 50, dtype=np.float32)
    np.testing.assert_allclose(Stars(*scale).to_rating(Stars(*scale).to_stars(rating)), rating, rtol=1e-6)


def test_scale_of_1_to_5_changes_no_bit():
    predicted = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 3
    assert torch.equal(Stars(1.0, 5.0).to_rating(predicted), predicted)
    assert torch.equal(Stars(1.0, 5.0).to_stars(predicted), predicted)
