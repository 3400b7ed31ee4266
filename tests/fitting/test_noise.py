"""Draws of noise precisions: their posterior, and how far the users' precisions may differ."""

import numpy as np
import pytest
from scipy import stats

from ratinglab.fitting import noise
from ratinglab.fitting.noise import draw_precisions


def made_errors(degrees, *, num_users=2_000):
    """Generate the users' precisions (all 1 if degrees is None), numbers of errors and sums of squared errors."""
    random = np.random.default_rng(1)
    counts = random.integers(0, 60, num_users).astype(np.float64)
    true = np.ones(num_users) if degrees is None else random.gamma(degrees / 2, 2 / degrees, num_users)
    return true, counts, random.chisquare(counts.clip(min=1e-9)) / true


def draw_many(counts, squares, *, seed=0, repeats=200):
    random = np.random.default_rng(seed)
    return np.stack([draw_precisions(counts, squares, random) for _ in range(repeats)])


@pytest.mark.parametrize("degrees", [4, 16])
def test_precisions_differ_as_much_as_the_true_ones(degrees):
    true, counts, squares = made_errors(degrees)
    drawn = draw_many(counts, squares, repeats=20)
    assert drawn.var() == pytest.approx(2 / degrees, rel=0.1)  # of Gamma(ν/2, ν/2)
    assert np.corrcoef(drawn.mean(axis=0)[counts > 30], true[counts > 30])[0, 1] > 0.8


def test_precisions_of_equal_noise_hardly_differ():
    _, counts, squares = made_errors(None)
    assert draw_many(counts, squares, repeats=20).std() < 0.1


def test_given_the_degrees_the_posterior_is_a_gamma_distribution(monkeypatch):
    monkeypatch.setattr(noise, "DEGREES", np.array([6.0]))
    drawn = draw_many(np.array([0.0, 4.0]), np.array([0.0, 10.0]), repeats=4_000)
    for column, (shape, rate) in zip(drawn.T, [(3, 3), (5, 8)], strict=True):
        assert stats.kstest(column, stats.gamma(shape, scale=1 / rate).cdf).pvalue > 0.01


def test_degrees_have_the_posterior_of_their_likelihood(monkeypatch):
    """With a integrated out, a user's errors have a multivariate t distribution."""
    choices = np.array([2.0, 8.0, 512.0])
    monkeypatch.setattr(noise, "DEGREES", choices)
    counts, squares = np.array([5.0] * 3), np.array([1.0, 5.0, 30.0])
    likelihood = np.ones(3)
    for square in squares:
        point = np.append(np.sqrt(square), np.zeros(4))
        likelihood *= [stats.multivariate_t(np.zeros(5), np.eye(5), df=each).pdf(point) for each in choices]
    shares = likelihood / likelihood.sum()
    drawn = draw_many(counts, squares, repeats=4_000)
    expected = sum(share * (each + 5) / (each + squares) for share, each in zip(shares, choices, strict=True))
    assert drawn.mean(axis=0) == pytest.approx(expected, abs=4 * drawn.std(axis=0).max() / len(drawn) ** 0.5)


def test_precisions_of_users_without_ratings_are_finite():
    drawn = draw_precisions(np.zeros(3), np.zeros(3), np.random.default_rng(0))
    assert np.isfinite(drawn).all()
    assert (drawn > 0).all()
