"""Weights of who rated what: the operator, the linear system, and the distribution that they are drawn from."""

import numpy as np
import pytest
from ratinglab.fitting.incidence import Incidence

from ratinglab.fitting.priors import Normal

USER = np.array([0, 0, 0, 1, 1, 2, 3, 3], dtype=np.int32)
ITEM = np.array([0, 1, 2, 0, 2, 1, 1, 2], dtype=np.int32)
PRIOR = Normal(np.array([0.5, -1.0]), np.array([[2.0, 0.5], [0.5, 1.0]]))


def dense() -> np.ndarray:
    """The matrix of USER and ITEM, each row over the root of its count."""
    matrix = np.zeros((4, 3))
    matrix[USER, ITEM] = 1
    return matrix / np.sqrt(matrix.sum(axis=1, keepdims=True))


def of_users(*, spread: Incidence | None = None) -> Incidence:
    start = np.concatenate([[0], np.cumsum(np.bincount(USER))])
    scale = (np.diff(start) ** -0.5).astype(np.float32)
    return Incidence(start, ITEM, num_columns=3, scale=scale, dim=2, spread=spread)


def of_days() -> tuple[Incidence, np.ndarray]:
    """Six days, each of one user and with a scale of its own; and the matrix of it."""
    user, scale = np.array([0, 0, 1, 2, 3, 3], dtype=np.int32), np.array([1, 2, -1, 0.5, 0, 3], dtype=np.float32)
    matrix = np.zeros((6, 4))
    matrix[np.arange(6), user] = scale
    return Incidence(np.arange(7), user, num_columns=4, scale=scale, dim=2), matrix


def test_the_part_of_a_row_is_the_scaled_sum_over_what_was_rated():
    implicit, matrix = of_users(), dense()
    weights = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]], dtype=np.float32)
    assert implicit.part(weights) == pytest.approx(matrix @ weights, abs=1e-6)


@pytest.mark.parametrize("is_spread", [False, True])
def test_what_is_of_users_is_spread_to_their_days(is_spread):
    days, of_day = of_days()
    operator, matrix = (of_users(spread=days), of_day @ dense()) if is_spread else (days, of_day)
    random = np.random.default_rng(0)
    weights, right = (random.normal(size=(matrix.shape[1], 2)).astype(np.float32) for _ in range(2))
    assert operator.part(weights) == pytest.approx(matrix @ weights, abs=1e-5)
    assert operator.diagonal[:, 0] == pytest.approx(np.diag(matrix.T @ matrix), rel=1e-5)
    expected = np.linalg.solve(matrix.T @ matrix + 0.3 * np.eye(len(weights)), right)
    assert operator._solve(right, np.zeros_like(right), np.float32(0.3)) == pytest.approx(expected, abs=1e-4)


def test_a_row_that_has_nothing_has_no_part():
    scale = np.array([1, 0], np.float32)
    empty = Incidence(np.array([0, 1, 1]), np.array([1], dtype=np.int32), num_columns=2, scale=scale, dim=1)
    assert empty.part(np.array([[5.0], [7.0]], dtype=np.float32)).tolist() == [[7.0], [0.0]]


def test_the_system_is_solved_from_any_start():
    implicit, matrix = of_users(), dense()
    right = np.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]], dtype=np.float32)
    expected = np.linalg.solve(matrix.T @ matrix + 0.3 * np.eye(3), right)
    for start in (np.zeros((3, 2), np.float32), np.full((3, 2), 5, np.float32), expected.astype(np.float32)):
        assert implicit._solve(right, start, np.float32(0.3)) == pytest.approx(expected, abs=1e-4)


def test_draws_have_the_mean_and_covariance_of_the_posterior():
    """y has the mean (FᵀF + λ I)⁻¹ Fᵀ (v − m) and the covariance (FᵀF + λ I)⁻¹ ⊗ Λ⁻¹."""
    implicit, matrix = of_users(), dense()
    rows = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    random, start = np.random.default_rng(1), np.zeros((3, 2), dtype=np.float32)
    draws = np.array([implicit.draw(rows, start, precision=0.7, prior=PRIOR, random=random)[0] for _ in range(5000)])
    inverse = np.linalg.inv(matrix.T @ matrix + 0.7 * np.eye(3))
    assert draws.mean(axis=0) == pytest.approx(inverse @ matrix.T @ (rows - PRIOR.mean), abs=0.05)
    covariance = np.cov(draws.reshape(5000, 6).T)
    assert covariance == pytest.approx(np.kron(inverse, np.linalg.inv(PRIOR.precision)), abs=0.06)


def test_the_precision_is_drawn_given_the_weights():
    """λ ~ Gamma(1 + n D / 2, 1 + Σ yᵀ Λ y / 2); here y is what rows far away leave of it."""
    implicit = of_users()
    rows = np.full((4, 2), 30, dtype=np.float32)
    random = np.random.default_rng(2)
    drawn = [
        implicit.draw(rows, np.zeros((3, 2), np.float32), precision=1.0, prior=PRIOR, random=random)
        for _ in range(2000)
    ]
    expected = [(1 + 3) / (1 + np.einsum("nd,de,ne->", y, PRIOR.precision, y) / 2) for y, _ in drawn]
    assert np.mean([precision for _, precision in drawn]) == pytest.approx(np.mean(expected), rel=0.05)
