"""Weights of who rated what: the operator, the linear system, and the distribution that they are drawn from."""

import numpy as np
import pytest

from ratinglab.fitting.implicit import Implicit
from ratinglab.fitting.priors import Normal
from ratinglab.fitting.sides import sides
from ratinglab.ratings.table import Ratings

USER = np.array([0, 0, 0, 1, 1, 2, 3, 3], dtype=np.int32)
ITEM = np.array([0, 1, 2, 0, 2, 1, 1, 2], dtype=np.int32)
PRIOR = Normal(np.array([0.5, -1.0]), np.array([[2.0, 0.5], [0.5, 1.0]]))


def of_users() -> tuple[Implicit, np.ndarray]:
    """The operator, and the matrix that it stands for."""
    rows = Ratings(user=USER, item=ITEM, rating=np.ones(8, dtype=np.float32))
    by_user, by_item = sides(rows, num_users=4, num_items=3, dim=2)
    dense = np.zeros((4, 3))
    dense[USER, ITEM] = 1
    return Implicit(by_user, by_item), dense / np.sqrt(dense.sum(axis=1, keepdims=True))


def test_the_part_of_a_row_is_the_scaled_sum_over_what_was_rated():
    implicit, dense = of_users()
    weights = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]], dtype=np.float32)
    assert implicit.part(weights) == pytest.approx(dense @ weights, abs=1e-6)


def test_the_system_is_solved_from_any_start():
    implicit, dense = of_users()
    right = np.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]], dtype=np.float32)
    expected = np.linalg.solve(dense.T @ dense + 0.3 * np.eye(3), right)
    for start in (np.zeros((3, 2), np.float32), np.full((3, 2), 5, np.float32), expected.astype(np.float32)):
        assert implicit._solve(right, start, np.float32(0.3)) == pytest.approx(expected, abs=1e-4)


def test_draws_have_the_mean_and_covariance_of_the_posterior():
    """y has the mean (FᵀF + λ I)⁻¹ Fᵀ (v − m) and the covariance (FᵀF + λ I)⁻¹ ⊗ Λ⁻¹."""
    implicit, dense = of_users()
    rows = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    random, start = np.random.default_rng(1), np.zeros((3, 2), dtype=np.float32)
    draws = np.array([implicit.draw(rows, start, precision=0.7, prior=PRIOR, random=random)[0] for _ in range(5000)])
    inverse = np.linalg.inv(dense.T @ dense + 0.7 * np.eye(3))
    assert draws.mean(axis=0) == pytest.approx(inverse @ dense.T @ (rows - PRIOR.mean), abs=0.05)
    covariance = np.cov(draws.reshape(5000, 6).T)
    assert covariance == pytest.approx(np.kron(inverse, np.linalg.inv(PRIOR.precision)), abs=0.06)


def test_the_precision_is_drawn_given_the_weights():
    """λ ~ Gamma(1 + n D / 2, 1 + Σ yᵀ Λ y / 2); here y is what rows far away leave of it."""
    implicit, _ = of_users()
    rows = np.full((4, 2), 30, dtype=np.float32)
    random = np.random.default_rng(2)
    drawn = [
        implicit.draw(rows, np.zeros((3, 2), np.float32), precision=1.0, prior=PRIOR, random=random)
        for _ in range(2000)
    ]
    expected = [(1 + 3) / (1 + np.einsum("nd,de,ne->", y, PRIOR.precision, y) / 2) for y, _ in drawn]
    assert np.mean([precision for _, precision in drawn]) == pytest.approx(np.mean(expected), rel=0.05)
