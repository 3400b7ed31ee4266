"""Weights of a term: the operator and the linear system."""

import numpy as np
import pytest
import torch
from designs import cases, dense, rated_items

from ratinglab.fitting.term_solver import TermSolver
from ratinglab.models.design import Design


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
    assert solver.multiply(weights) == pytest.approx(matrix @ weights, abs=1e-5)
    assert solver.multiply_transposed(rows) == pytest.approx(matrix.T @ rows, abs=1e-5)
    assert solver.diagonal[:, 0] == pytest.approx(np.diag(matrix.T @ matrix), rel=1e-5)
    for ridge in (np.float32(0.3), random.uniform(0.2, 4, (len(weights), 1)).astype(np.float32)):
        system = matrix.T @ matrix + np.diag(np.broadcast_to(np.ravel(ridge), len(weights)))
        solution = solver.solve(right, np.zeros_like(right), ridge)
        assert solution == pytest.approx(np.linalg.solve(system, right), abs=1e-4)


def test_row_without_columns_gets_zero():
    design = Design.from_sets(torch.tensor([0]).int(), torch.tensor([1]).int(), num_rows=2, num_columns=2)
    solver = TermSolver(design, dim=1)
    assert solver.multiply(np.array([[5.0], [7.0]], dtype=np.float32)).tolist() == [[7.0], [0.0]]


def test_solve_converges_from_any_start():
    implicit, matrix = TermSolver(rated_items(), dim=2), dense()
    right = np.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]], dtype=np.float32)
    expected = np.linalg.solve(matrix.T @ matrix + 0.3 * np.eye(3), right)
    for start in (np.zeros((3, 2), np.float32), np.full((3, 2), 5, np.float32), expected.astype(np.float32)):
        assert implicit.solve(right, start, np.float32(0.3)) == pytest.approx(expected, abs=1e-4)
