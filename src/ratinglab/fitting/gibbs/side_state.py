"""The rows of one side in Gibbs sampling, their terms, and the noise of their ratings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.fitting.row_fit import join_tables, write_tables
from ratinglab.fitting.term_solver import TermSolver
from ratinglab.kernels.rows import FloatArray
from ratinglab.sides import SideName


@dataclass
class TermState:
    """The last draw of a term F y, and of λ, the precision of y relative to the rows' own weights."""

    solver: TermSolver
    """Products with F."""
    tables: list[Tensor]
    """y: its bias entries, (num_columns, 1), if there are biases, and its weights, (num_columns, D)."""
    precision: Tensor
    """λ, () float32."""

    def weights(self) -> FloatArray:
        """Copy y: (num_columns, D) float32, the bias entry first."""
        return join_tables(self.tables)

    def write(self, weights: FloatArray) -> None:
        """Write a draw of y."""
        write_tables(weights, self.tables)


@dataclass
class SideState:
    """The last draw of one side's rows. A row is a sum: the row's own weights, and its terms F y.

    In the equation, the terms have no biases: its table of biases holds whole biases, with the bias entries of all
    terms added. `read` and `write` alone know this.
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
    """The term to draw given the ratings, too; see GibbsFit."""

    def read(self) -> None:
        """Read the rows, (num_rows, D) float32, the bias first: whole, and the rows' own weights without terms."""
        self.own_rows = join_tables(self.tables)
        products = (term.solver.multiply(term.weights()) for term in self.terms.values())
        term_sum = sum(products, np.zeros_like(self.own_rows))
        if len(self.tables) == 2:
            self.own_rows[:, 0] -= term_sum[:, 0]
        self.rows = self.own_rows + term_sum

    def write(self) -> None:
        """Write the rows to the equation."""
        stored = self.own_rows.copy()
        if len(self.tables) == 2:
            stored[:, 0] = self.rows[:, 0]
        write_tables(stored, self.tables)

    def release(self) -> None:
        """Free the memory of the rows until `read` reads them again."""
        del self.own_rows, self.rows

    def sum_by_owner(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum values over the rows of each user or item: (num_rows,) → (num_owners,) float64."""
        return np.bincount(self.owner, values).astype(np.float64)
