"""Draws of noise precisions: their posterior, and how far the users' precisions may differ."""

import numpy as np
import pytest
from scipy import stats

from ratinglab.fitting.gibbs import noise
from ratinglab.fitting.gibbs.noise import draw_common_precision, draw_precisions, redraw_common_precision


def made_errors(degrees, *, num_users=2_000):
    """Generate the users' precisions (all 1 if degrees is None), numbers of errors and sums of squared errors."""
    random = np.random.default_rng(1)
    counts = random.integers(0, 60, num_users).astype(np.float64)
    true = np.ones(num_users) if degrees is None else random.gamma(degrees / 2, 2 / degrees, num_users)
    return true, counts, random.chisquare(counts.clip(min=1e-9)) / true


def draw_many(counts, squares, *, seed=0, repeats=200):
    random = np.random.default_rng(seed)
    return np.stack([draw_precisions(counts, squares, random)[0] for _ in range(repeats)])


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
        likelihood *= [stats.multivariate_t(np.zeros(5), np.eye(5), df=degrees).pdf(point) for degrees in choices]
    shares = likelihood / likelihood.sum()
    drawn = draw_many(counts, squares, repeats=4_000)
    expected = sum(share * (degrees + 5) / (degrees + squares) for share, degrees in zip(shares, choices, strict=True))
    assert drawn.mean(axis=0) == pytest.approx(expected, abs=4 * drawn.std(axis=0).max() / len(drawn) ** 0.5)


def test_precisions_of_users_without_ratings_are_finite():
    drawn = draw_precisions(np.zeros(3), np.zeros(3), np.random.default_rng(0))[0]
    assert np.isfinite(drawn).all()
    assert (drawn > 0).all()


def draw_chain(counts, squares, *, common, sweeps, redraws=True):
    """Draw the common precision as GibbsFit does, with the squared errors fixed."""
    random = np.random.default_rng(0)
    relative, drawn = np.ones(len(counts)), []
    for _ in range(sweeps):
        common = draw_common_precision(counts.sum(), relative @ squares, random)
        relative, degrees = draw_precisions(counts, common * squares, random)
        if redraws:
            precision = common * relative
            common = redraw_common_precision(common, precision, degrees, random)
            relative = precision / common
        drawn.append(common)
    return np.array(drawn)


@pytest.mark.parametrize("redraws", [False, True])
def test_common_precision_has_its_posterior(monkeypatch, redraws):
    """p(α | errors) ∝ p(α) Π_u α^(n/2) (1 + α S/ν)^(−(ν + n)/2), on a grid."""
    monkeypatch.setattr(noise, "DEGREES", np.array([6.0]))
    counts, squares = np.array([3.0, 5.0, 8.0]), np.array([1.0, 8.0, 2.0])
    grid = np.linspace(0.001, 20, 20_000)
    log_likelihood = counts / 2 * np.log(grid)[:, None] - (6 + counts) / 2 * np.log1p(grid[:, None] * squares / 6)
    density = np.exp(log_likelihood.sum(axis=1) - grid)
    cumulative = np.cumsum(density) / density.sum()
    drawn = draw_chain(counts, squares, common=1.0, sweeps=12_000, redraws=redraws)[::6]
    assert stats.kstest(drawn, lambda values: np.interp(values, grid, cumulative)).pvalue > 0.001


def test_common_precision_is_found_in_a_few_sweeps_beside_users_with_many_ratings():
    counts = np.tile([3.0, 1000.0], 500)
    random = np.random.default_rng(1)
    true = 4 * random.gamma(5, 1 / 5, len(counts))
    drawn = draw_chain(counts, random.chisquare(counts) / true, common=1.0, sweeps=10)
    assert drawn[-1] == pytest.approx(4, rel=0.1)
