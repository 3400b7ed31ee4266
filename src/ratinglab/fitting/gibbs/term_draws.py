"""Draws of the weights of a term in Gibbs sampling, and of their precision."""

import numpy as np

from ratinglab.fitting.gibbs.priors import Normal
from ratinglab.fitting.term_solver import TermSolver
from ratinglab.kernels.column_draws import draw_columns, join_columns, split_columns
from ratinglab.kernels.rows import FloatArray, gram

GAMMA_SHAPE, GAMMA_RATE = 1.0, 1.0
"""Parameters of the gamma prior on λ, the precision of a term's weights."""


def draw_term(
    solver: TermSolver,
    residual: FloatArray,
    weights: FloatArray,
    *,
    term_precision: float,
    prior: Normal,
    random: np.random.Generator,
) -> tuple[FloatArray, float]:
    """Draw y and λ, given rows ~ Normal(m + F y + other terms, Λ⁻¹) and each row of y ~ Normal(0, (λ Λ)⁻¹).

    Each row of y is drawn given all others; see draw_columns.

    Args:
        solver: solver of F, without row_weight.
        residual: (B, num_rows, W) float32, the rows minus m and all terms, in blocks; updated in place.
        weights: (num_columns, D) float32, the last draw of y.
        term_precision: λ.
        prior: m and Λ.

    Returns:
        y and λ.
    """
    num_columns, dim = weights.shape
    precision = np.float32(term_precision)
    deviations = prior.draw_deviations(num_columns, random) / np.sqrt(solver.diagonal + precision)
    blocks = split_columns(weights)
    draw_columns(
        solver.by_column,
        solver.scale,
        solver.selection,
        solver.diagonal.ravel(),
        precision,
        split_columns(deviations),
        blocks,
        residual,
    )
    drawn = join_columns(blocks, dim)
    squares = float((prior.precision * gram(drawn, drawn)).sum())
    return drawn, random.gamma(GAMMA_SHAPE + num_columns * dim / 2, 1 / (GAMMA_RATE + squares / 2))
