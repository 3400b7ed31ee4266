"""Orders of lists: the values by which they are sorted, on tables small enough to check by hand."""

from statistics import NormalDist

import numpy as np
import pytest
import torch
from equations import options_of
from fits import split_ratings_of, training_data
from run_folders import add_samples
from tables import table_with_features

from ratinglab.models.bias_baseline import BiasBaseline
from ratinglab.models.build_equation import build_equation
from ratinglab.models.posterior import Posterior
from ratinglab.models.predictor import Predictor
from ratinglab.recommend import orders
from ratinglab.recommend.interest import Interest
from ratinglab.recommend.orders import ExpectedGain, find_rating_levels, lower_bound
from ratinglab.stars import Stars

INTEREST = Interest(torch.tensor([[1.0, 0.0], [0.5, -0.5]]), torch.tensor([[0.8, 0.6], [0.2, 1.0]]), torch.ones(2) / 4)
"""Products: 0.8 and 0.2 of the first user; 0.1 and −0.4 of the second."""


def test_gain_is_interest_times_the_probability_of_a_liked_rating():
    order = ExpectedGain(INTEREST, border=3.5, standard_deviation=0.5)
    gain = order(torch.tensor([0, 1]))(torch.tensor([0, 1, 2]), torch.tensor([[3.5, 4.0], [3.0, 5.0], [3.5, 4.0]]))
    likely = NormalDist().cdf
    expected = [[0.8 * 0.5, 0.2 * likely(1)], [0.1 * likely(-1), 0], [0.25 * 0.5, 0.25 * likely(1)]]
    np.testing.assert_allclose(gain, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("rating", "threshold", "border"),
    [
        ([1, 5, 3, 4, 2, 4], 4, 3.5),
        ([0.5, 4, 3.5, 1], 3.875, 3.75),
        ([0.5, 4, 3.5, 1], 4.0000005, 3.75),
        ([1, 100, 37, 36], 37, 36.5),
        ([1, 100, 37, 36], 38, 68.5),
        ([1, 2], 4, 4),
        ([3, 3, 3], 3, 3),
    ],
)
def test_border_is_halfway_between_the_ratings_around_the_threshold(rating, threshold, border):
    levels = find_rating_levels(np.array(rating, dtype=np.float32))
    order = ExpectedGain.from_rating_levels(INTEREST, levels, threshold=threshold, mse=1, stars=Stars(1, 5))
    assert order.border == border


@pytest.mark.parametrize(
    ("scale", "threshold", "liked"),
    [((1, 5), None, 4), ((1, 5), 2.5, 2.5), ((0.5, 5), None, 3.875), ((1, 100), None, 75.25), ((3, 3), None, 3)],
)
def test_four_of_five_stars_are_liked_on_any_scale(scale, threshold, liked):
    assert Stars(*scale).liked_threshold(threshold) == liked


@pytest.mark.parametrize("scale", [(0.5, 5.0), (1.0, 100.0)])
def test_gain_is_the_same_on_every_scale(scale):
    stars, user, item, predicted = Stars(*scale), torch.arange(2), torch.arange(2), torch.tensor([[3.5, 4], [3, 5]])
    levels = np.arange(1, 5.5, 0.5, dtype=np.float32)
    five = ExpectedGain.from_rating_levels(INTEREST, levels, threshold=4, mse=0.81, stars=Stars(1, 5))
    scaled = {"threshold": stars.liked_threshold(None), "mse": 0.81 * stars.unit**2, "stars": stars}
    other = ExpectedGain.from_rating_levels(INTEREST, stars.to_rating(levels), **scaled)
    assert five.standard_deviation == pytest.approx(2 * 0.9)
    found = other(item)(user, stars.to_rating(predicted))
    torch.testing.assert_close(found, five(item)(user, predicted), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stars", [Stars(1, 5), Stars(3, 3)])
def test_gain_is_finite_without_errors(stars):
    gain = ExpectedGain.from_rating_levels(INTEREST, np.array([3], dtype=np.float32), threshold=3, mse=0, stars=stars)
    found = gain(torch.arange(2))(torch.arange(2), torch.tensor([[3.0, 5.0], [3.0, 1.0]]))
    np.testing.assert_allclose(found, [[0.4, 0.2], [0.05, 0]], rtol=1e-5)


def sampled(name: str) -> Predictor:
    """Make a predictor of three random samples, on a scale of 1 to 9."""
    options, table = options_of(name), table_with_features()
    split_ratings = split_ratings_of(table, options)
    model = Posterior(build_equation(options, training_data(split_ratings), seed=0))
    add_samples(model, torch.Generator().manual_seed(1))
    baseline = BiasBaseline(num_users=split_ratings.num_users, num_items=split_ratings.num_items)
    return Predictor(model, baseline, stars=Stars(1.0, 9.0), scale=None)


@pytest.mark.parametrize("entries", [1, 50, 1 << 20])
@pytest.mark.parametrize("name", ["mf", "biased_mf", "svdpp"])
def test_lower_bound_is_the_prediction_minus_its_deviation(monkeypatch, name, entries):
    monkeypatch.setattr(orders, "STANDARD_DEVIATIONS_AT_ONCE", entries)
    predictor = sampled(name)
    num_users = len(predictor.baseline.user_bias) - 1
    user, item = torch.tensor([2, num_users, 0, -1]), torch.tensor([1, 0, 4], dtype=torch.int32)
    pairs = user.repeat_interleave(3).int(), item.repeat(4)
    predicted = predictor.predict_unclipped(*pairs).detach()
    expected = predicted - predictor.standard_deviation(*pairs).nan_to_num(nan=0.0)
    bound = lower_bound(item, predictor=predictor)(user, predicted.view(4, 3).clone())
    torch.testing.assert_close(bound, expected.view(4, 3).detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(bound[1], predicted.view(4, 3)[1])  # a user without training ratings


def test_levels_of_a_large_sorted_table_are_all_found(monkeypatch):
    monkeypatch.setattr("ratinglab.recommend.orders.MAX_LEVEL_ROWS", 100)
    rating = np.repeat(np.arange(1, 6, dtype=np.float32), 201)
    assert find_rating_levels(rating).tolist() == [1, 2, 3, 4, 5]
