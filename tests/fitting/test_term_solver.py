"""Weights of a term: the operator, the linear system, and the distribution of draws."""

import numpy as np
import pytest
import torch

from ratinglab.fitting.gibbs.priors import Normal
from ratinglab.fitting.term_solver import TermSolver
from ratinglab.kernels.column_draws import in_blocks, out_of_blocks
from ratinglab.models.design import Design

USER = np.array([0, 0, 0, 1, 1, 2, 3, 3], dtype=np.int32)
ITEM = np.array([0, 1, 2, 0, 2, 1, 1, 2], dtype=np.int32)
PRIOR = Normal(np.array([0.5, -1.0]), np.array([[2.0, 0.5], [0.5, 1.0]]))
OWNER = np.array([0, 0, 1, 2, 3, 3])
"""The user of each of six days."""


def rated() -> Design:
    """Make the design of the items of each user."""
    return Design.from_sets(torch.from_numpy(USER), torch.from_numpy(ITEM), num_rows=4, num_columns=3)


def dense() -> np.ndarray:
    """Make the matrix of `rated`: each row divided by the square root of its count."""
    matrix = np.zeros((4, 3))
    matrix[USER, ITEM] = 1
    return matrix / np.sqrt(matrix.sum(axis=1, keepdims=True))


def of_users() -> TermSolver:
    return TermSolver(rated(), dim=2)


def drift() -> tuple[Design, np.ndarray]:
    """Make a design in which each day has its user and its own scale; return it with its matrix."""
    scale = np.array([1, 2, -1, 0.5, 0, 3], dtype=np.float32)
    matrix = np.zeros((6, 4))
    matrix[np.arange(6), OWNER] = scale
    return Design.one_hot(torch.from_numpy(OWNER), num_columns=4, scale=torch.from_numpy(scale)), matrix


def cases() -> dict[str, tuple[Design, np.ndarray]]:
    """Make designs with their matrices."""
    of_days, of_day = drift()
    picked = torch.tensor([3, 0, 0, 2, 5, 1, 5])
    return {
        "sets": (rated(), dense()),
        "one_hot": (of_days, of_day),
        "sets seen from days": (rated().select_rows(torch.from_numpy(OWNER)), dense()[OWNER]),
        "one_hot seen from other rows": (of_days.select_rows(picked), of_day[picked.numpy()]),
    }


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("case", cases())
def test_solver_equals_the_dense_matrix(case, is_weighted):
    design, matrix = cases()[case]
    random = np.random.default_rng(0)
    row_weight = random.uniform(0.5, 3, len(matrix)).astype(np.float32) if is_weighted else None
    solver = TermSolver(design, dim=2, row_weight=row_weight)
    if row_weight is not None:
        matrix = row_weight[:, None] * matrix
    weights, right = (random.normal(size=(matrix.shape[1], 2)).astype(np.float32) for _ in range(2))
    rows = random.normal(size=(len(matrix), 2)).astype(np.float32)
    assert solver.times(weights) == pytest.approx(matrix @ weights, abs=1e-5)
    assert solver.transposed(rows) == pytest.approx(matrix.T @ rows, abs=1e-5)
    assert solver.diagonal[:, 0] == pytest.approx(np.diag(matrix.T @ matrix), rel=1e-5)
    for ridge in (np.float32(0.3), random.uniform(0.2, 4, (len(weights), 1)).astype(np.float32)):
        system = matrix.T @ matrix + np.diag(np.broadcast_to(np.ravel(ridge), len(weights)))
        found = solver.solve(right, np.zeros_like(right), ridge)
        assert found == pytest.approx(np.linalg.solve(system, right), abs=1e-4)


def test_row_without_columns_gets_zero():
    design = Design.from_sets(torch.tensor([0]).int(), torch.tensor([1]).int(), num_rows=2, num_columns=2)
    solver = TermSolver(design, dim=1)
    assert solver.times(np.array([[5.0], [7.0]], dtype=np.float32)).tolist() == [[7.0], [0.0]]


def test_solve_converges_from_any_start():
    implicit, matrix = of_users(), dense()
    right = np.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]], dtype=np.float32)
    expected = np.linalg.solve(matrix.T @ matrix + 0.3 * np.eye(3), right)
    for start in (np.zeros((3, 2), np.float32), np.full((3, 2), 5, np.float32), expected.astype(np.float32)):
        assert implicit.solve(right, start, np.float32(0.3)) == pytest.approx(expected, abs=1e-4)


def chain(solver: TermSolver, rows: np.ndarray, *, precision: float, length: int) -> np.ndarray:
    """Draw y given rows again and again, each time from the last: (length, num_columns, 2)."""
    random, draws = np.random.default_rng(1), [np.zeros((solver.diagonal.shape[0], 2), dtype=np.float32)]
    residual = in_blocks((rows - PRIOR.mean).astype(np.float32))
    for _ in range(length + 20):
        draws.append(solver.draw(residual, draws[-1], precision=precision, prior=PRIOR, random=random)[0])
    expected = rows - PRIOR.mean - solver.times(draws[-1])
    assert out_of_blocks(residual, 2) == pytest.approx(expected, abs=1e-4), "the residual is not up to date"
    return np.array(draws[-length:])


@pytest.mark.slow
@pytest.mark.parametrize("case", cases())
def test_draws_have_the_mean_and_covariance_of_the_posterior(case):
    """y has the mean (FᵀF + λ I)⁻¹ Fᵀ (v − m) and the covariance (FᵀF + λ I)⁻¹ ⊗ Λ⁻¹, here by a dense solve."""
    design, matrix = cases()[case]
    rows = np.random.default_rng(0).normal(size=(len(matrix), 2)).astype(np.float32)
    draws = chain(TermSolver(design, dim=2), rows, precision=0.7, length=20_000)
    inverse = np.linalg.inv(matrix.T @ matrix + 0.7 * np.eye(matrix.shape[1]))
    assert draws.mean(axis=0) == pytest.approx(inverse @ matrix.T @ (rows - PRIOR.mean), abs=0.05)
    covariance = np.cov(draws.reshape(len(draws), -1).T)
    assert covariance == pytest.approx(np.kron(inverse, np.linalg.inv(PRIOR.precision)), abs=0.06)


def test_column_is_drawn_given_all_others():
    """With rows of precision 1e12 there is no noise: one sweep is one of Gauss and Seidel's."""
    matrix = dense()
    rows = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    weights = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)
    residual = in_blocks((rows - matrix @ weights).astype(np.float32))
    prior = Normal(np.zeros(2), 1e12 * np.eye(2))
    drawn, _ = of_users().draw(residual, weights, precision=0.7, prior=prior, random=np.random.default_rng(0))
    expected = weights.astype(np.float64)
    for column in range(3):
        rest = rows - np.delete(matrix, column, axis=1) @ np.delete(expected, column, axis=0)
        expected[column] = matrix[:, column] @ rest / (matrix[:, column] @ matrix[:, column] + 0.7)
    assert drawn == pytest.approx(expected, abs=1e-4)


def test_precision_is_drawn_given_the_weights():
    """λ ~ Gamma(1 + n D / 2, 1 + Σ yᵀ Λ y / 2), here with rows far from the prior mean, hence large y."""
    implicit = of_users()
    rows = np.full((4, 2), 30, dtype=np.float32)
    random, start = np.random.default_rng(2), np.zeros((3, 2), np.float32)
    drawn = [implicit.draw(in_blocks(rows), start, precision=1.0, prior=PRIOR, random=random) for _ in range(1000)]
    expected = [(1 + 3) / (1 + np.einsum("nd,de,ne->", y, PRIOR.precision, y) / 2) for y, _ in drawn]
    assert np.mean([precision for _, precision in drawn]) == pytest.approx(np.mean(expected), rel=0.05)
