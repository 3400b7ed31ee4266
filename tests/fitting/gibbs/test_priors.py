"""Priors of the rows of a side, tested by the means of many draws."""

import numpy as np
import pytest

from ratinglab.fitting.gibbs.priors import PRIOR_MEAN_WEIGHT, Normal, draw_prior, draw_wishart


def test_wishart_draws_have_the_expected_mean():
    scale = np.array([[2.0, 0.5], [0.5, 1.0]])
    random = np.random.default_rng(0)
    draws = np.mean([draw_wishart(scale, 7.0, random) for _ in range(20_000)], axis=0)
    assert draws == pytest.approx(7 * scale, rel=0.03)


def test_normal_is_drawn_from_its_posterior_given_rows():
    """E[Λ] = ν W and E[m] = N v̄ / (β₀ + N), by the formulas over all rows."""
    random = np.random.default_rng(1)
    rows = (random.normal(size=(40, 2)) @ np.array([[1.0, 0.0], [0.7, 0.5]]) + [1.0, -2.0]).astype(np.float32)
    centered = random.normal(size=(10, 2))
    centered_scatter = centered.T @ centered
    draws = [draw_prior(rows, random, centered_scatter=centered_scatter, num_centered=10) for _ in range(8_000)]
    center = rows.mean(axis=0, dtype=np.float64)
    scatter = (rows - center).T @ (rows - center)
    shrunk = PRIOR_MEAN_WEIGHT * 40 / (PRIOR_MEAN_WEIGHT + 40) * np.outer(center, center)
    expected = (2 + 40 + 10) * np.linalg.inv(np.eye(2) + scatter + shrunk + centered_scatter)
    assert np.mean([normal.precision for normal in draws], axis=0) == pytest.approx(expected, rel=0.03)
    means = np.array([normal.mean for normal in draws])
    assert means.mean(axis=0) == pytest.approx(40 / 42 * center, abs=0.01)
    # m given Λ has the covariance ((β₀ + N) Λ)⁻¹
    covariance = np.linalg.inv([42 * normal.precision for normal in draws]).mean(axis=0)
    assert np.cov(means.T) == pytest.approx(covariance, rel=0.05)


def test_deviations_have_the_covariance_of_the_normal():
    precision = np.array([[2.0, 0.5], [0.5, 1.0]])
    deviations = Normal(np.zeros(2), precision).draw_deviations(200_000, np.random.default_rng(0))
    assert deviations.dtype == np.float32
    assert np.cov(deviations.T) == pytest.approx(np.linalg.inv(precision), rel=0.02)
    assert deviations.mean(axis=0) == pytest.approx([0, 0], abs=0.01)
