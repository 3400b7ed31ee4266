"""Draws of a term's weights: their distribution, and that of their precision."""

import numpy as np
import pytest
import torch
from designs import cases, dense, rated_items

from ratinglab.fitting.compiled_design import CompiledDesign
from ratinglab.fitting.gibbs.priors import Normal
from ratinglab.fitting.gibbs.side_state import TermState

PRIOR = Normal(np.array([0.5, -1.0]), np.array([[2.0, 0.5], [0.5, 1.0]]))
COPIES = 200


def term_of(design: CompiledDesign, weights: np.ndarray, *, precision: float) -> TermState:
    return TermState(design, [torch.tensor(weights)], torch.tensor(precision))


def chains(design: CompiledDesign, rows: np.ndarray, *, term_precision: float, length: int) -> np.ndarray:
    """Draw y given rows again and again, each time from the last: (length · COPIES, num_columns, 2)."""
    random, draws = np.random.default_rng(1), []
    term = term_of(design, np.zeros((design.diagonal.shape[0], 2), dtype=np.float32), precision=term_precision)
    residual = (rows - PRIOR.mean).astype(np.float32)
    for _ in range(length + 20):
        term.draw(residual, PRIOR, random)
        draws.append(term.weights())
        term.precision.fill_(term_precision)
    expected = rows - PRIOR.mean - design.multiply(draws[-1])
    assert residual == pytest.approx(expected, abs=1e-4), "the residual is not up to date"
    return np.array(draws[-length:]).reshape(length * COPIES, -1, 2)


@pytest.mark.parametrize("case", cases())
def test_draws_have_the_mean_and_covariance_of_the_posterior(case):
    """y has the mean (FᵀF + λ I)⁻¹ Fᵀ (v − m) and the covariance (FᵀF + λ I)⁻¹ ⊗ Λ⁻¹, here by a dense solve."""
    design, matrix = cases(COPIES)[case]
    rows = np.random.default_rng(0).normal(size=(len(matrix), 2)).astype(np.float32)
    draws = chains(CompiledDesign(design, dim=2), np.tile(rows, (COPIES, 1)), term_precision=0.7, length=200)
    inverse = np.linalg.inv(matrix.T @ matrix + 0.7 * np.eye(matrix.shape[1]))
    assert draws.mean(axis=0) == pytest.approx(inverse @ matrix.T @ (rows - PRIOR.mean), abs=0.03)
    covariance = np.cov(draws.reshape(len(draws), -1).T)
    assert covariance == pytest.approx(np.kron(inverse, np.linalg.inv(PRIOR.precision)), abs=0.04)


@pytest.mark.parametrize("dim", [1, 2, 9, 12, 66, 129])
def test_column_is_drawn_given_all_others(dim):
    """With rows of precision 1e12 there is no noise: one sweep is one of Gauss and Seidel's."""
    matrix, random = dense(), np.random.default_rng(0)
    rows, weights = (random.normal(size=(count, dim)).astype(np.float32) for count in (4, 3))
    residual = (rows - matrix @ weights).astype(np.float32)
    term = term_of(CompiledDesign(rated_items(), dim=dim), weights, precision=0.7)
    term.draw(residual, Normal(np.zeros(dim), 1e12 * np.eye(dim)), random)
    expected = weights.astype(np.float64)
    for column in range(3):
        rest = rows - np.delete(matrix, column, axis=1) @ np.delete(expected, column, axis=0)
        expected[column] = matrix[:, column] @ rest / (matrix[:, column] @ matrix[:, column] + 0.7)
    assert term.weights() == pytest.approx(expected, abs=1e-4)
    assert residual == pytest.approx(rows - matrix @ expected, abs=1e-4)


def test_precision_is_drawn_given_the_weights():
    """λ ~ Gamma(1 + n D / 2, 1 + Σ yᵀ Λ y / 2), here with rows far from the prior mean, hence large y."""
    design = CompiledDesign(rated_items(), dim=2)
    rows = np.full((4, 2), 30, dtype=np.float32)
    random, start = np.random.default_rng(2), np.zeros((3, 2), np.float32)
    precisions, expected = [], []
    for _ in range(1000):
        term = term_of(design, start, precision=1.0)
        term.draw(rows.copy(), PRIOR, random)
        y = term.weights()
        precisions.append(float(term.precision))
        expected.append((1 + 3) / (1 + np.einsum("nd,de,ne->", y, PRIOR.precision, y) / 2))
    assert np.mean(precisions) == pytest.approx(np.mean(expected), rel=0.05)
