"""The rows of one side in Gibbs sampling, their terms, and the noise of their ratings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.fitting.compiled_design import CompiledDesign
from ratinglab.fitting.gibbs.priors import Normal
from ratinglab.fitting.row_fit import join_tables, write_tables
from ratinglab.kernels.column_draws import draw_columns
from ratinglab.kernels.rows import FloatArray, gram
from ratinglab.models.factors import SideFactors
from ratinglab.sides import SideName

GAMMA_SHAPE, GAMMA_RATE = 1.0, 1.0
"""Parameters of the gamma prior on λ, the precision of a term's weights."""


@dataclass
class TermState:
    """The last draw of a term F y, and of λ, the precision of y relative to the rows' own weights."""

    design: CompiledDesign
    """F."""
    tables: list[Tensor]
    """y: its bias entries, (num_columns, 1), if there are biases, and its weights, (num_columns, D)."""
    precision: Tensor
    """λ, () float32."""

    def weights(self) -> FloatArray:
        """Copy y: (num_columns, D) float32, the bias entry first."""
        return join_tables(self.tables)

    def draw(self, residual: FloatArray, prior: Normal, random: np.random.Generator) -> None:
        """Draw y and λ, given rows ~ Normal(m + F y + other terms, Λ⁻¹) and each row of y ~ Normal(0, (λ Λ)⁻¹).

        Each row of y is drawn given all other rows; see draw_columns.

        Args:
            residual: (num_rows, D) float32, the rows minus m and all terms; updated in place.
            prior: m and Λ.
            random: generator of the draws.
        """
        design, weights, precision = self.design, self.weights(), np.float32(float(self.precision))
        num_columns, dim = weights.shape
        deviations = prior.draw_deviations(num_columns, random) / np.sqrt(design.diagonal + precision)
        draw_columns(
            design.by_column,
            design.scale,
            design.inner_row,
            design.repeats,
            design.diagonal.ravel(),
            precision,
            deviations,
            weights,
            residual,
        )
        write_tables(weights, self.tables)
        squares = float((prior.precision * gram(weights, weights)).sum())
        self.precision.fill_(random.gamma(GAMMA_SHAPE + num_columns * dim / 2, 1 / (GAMMA_RATE + squares / 2)))


@dataclass
class SideState:
    """The last draw of one side's rows. A row is a sum: the row's own weights, and its terms F y.

    The equation's table of biases holds whole biases, which include the bias entries of all terms. Only `read` and
    `write` know this.
    """

    name: SideName
    tables: list[Tensor]
    """The equation's biases, if any, and its factors."""
    owner: NDArray[np.int64]
    """The user or item of each row, (num_rows,)."""
    noise_precision: FloatArray
    """Noise precision of each user or item, (num_owners,). It shares memory with a buffer of the fit."""
    terms: dict[str, TermState]
    """The terms by name."""
    shared_term: TermState | None
    """The term that is also drawn given the ratings, or None; see GibbsFit."""

    @property
    def has_biases(self) -> bool:
        """Whether each row begins with a bias."""
        return len(self.tables) == 2

    def read(self) -> None:
        """Read the rows, with and without their terms: (num_rows, D) float32 each, the bias first."""
        self.own_rows = join_tables(self.tables)
        products = (term.design.multiply(term.weights()) for term in self.terms.values())
        term_sum = sum(products, np.zeros_like(self.own_rows))
        if self.has_biases:
            self.own_rows[:, 0] -= term_sum[:, 0]
        self.rows = self.own_rows + term_sum

    def write(self) -> None:
        """Write the rows to the equation."""
        stored = self.own_rows.copy()
        if self.has_biases:
            stored[:, 0] = self.rows[:, 0]
        write_tables(stored, self.tables)

    def copy_factors(self) -> SideFactors:
        """Copy the rows, with their terms, and the noise precisions, as one side of a sample."""
        bias = torch.from_numpy(self.rows[:, :1]).clone() if self.has_biases else None
        factors = torch.from_numpy(self.rows[:, 1:] if self.has_biases else self.rows).clone()
        return SideFactors(factors, bias, torch.from_numpy(self.noise_precision).clone())

    def release(self) -> None:
        """Free the memory of the rows until `read` reads them again."""
        del self.own_rows, self.rows

    def sum_by_owner(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum values over the rows of each user or item: (num_rows,) → (num_owners,) float64."""
        return np.bincount(self.owner, values).astype(np.float64)
