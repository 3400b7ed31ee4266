"""The rows of one side in Gibbs sampling, their terms, and the noise of their ratings."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.fitting.row_fit import join_tables, list_tables, write_tables
from ratinglab.fitting.term_solver import TermSolver
from ratinglab.kernels.rows import FloatArray
from ratinglab.models.factor_equation import Side, Term
from ratinglab.sides import SideName

MIN_RATINGS_PER_ROW = 2
"""Average number of ratings per row below which a sweep also shifts all rows of a user or item together."""


class TermState:
    """The last draw of a term F y and of λ, the precision of y relative to the rows' own weights.

    Attributes:
        name: name of the term.
        solver: products with F.
    """

    def __init__(self, term: Term, *, bias: Tensor | None, precision: Tensor) -> None:
        """Read and write the equation's tables and these tensors.

        Args:
            term: the term in the equation.
            bias: (num_columns, 1) float32, the bias entries of y; None without biases.
            precision: () float32, λ.
        """
        dim = term.embedding.embedding_dim
        self._tables = [term.embedding.weight] if bias is None else [bias, term.embedding.weight]
        self._precision = precision
        self.name = term.name
        self.solver = TermSolver(term.design, dim=dim if bias is None else 1 + dim)

    @property
    def precision(self) -> float:
        """λ."""
        return float(self._precision)

    def weights(self) -> FloatArray:
        """Copy y: (num_columns, D) float32, the bias entry first."""
        return join_tables(self._tables)

    def write(self, weights: FloatArray, *, precision: float | None = None) -> None:
        """Write a draw of y and, unless it is None, of λ."""
        write_tables(weights, self._tables)
        if precision is not None:
            self._precision.fill_(precision)


class SideState:
    """The last draw of one side's rows. A row v is a sum: the row's own weights, and its terms F y.

    In the equation, the terms have no biases: its table of biases holds whole biases, with the bias entries of all
    terms added. `read` and `write` translate; all else works with whole rows and with the rows' own weights.

    Attributes:
        name: "user" or "item".
        terms: the terms of the sum.
        shared_term: the term that all rows of a user or item share, such as p_u in timesvdpp, if the rows have so few
            ratings that p_u hardly moves given the rows; None otherwise.
        noise_precision: (num_owners,) float32, by user or item; shares memory with a buffer of the fit.
        rows: (num_rows, D) float32, the whole rows in this sweep, the bias first.
        own_rows: (num_rows, D) float32, the rows minus all terms.
    """

    def __init__(
        self, name: SideName, side: Side, terms: list[TermState], *, noise_precision: Tensor, num_ratings: int
    ) -> None:
        """Start from the equation's weights.

        Args:
            name: "user" or "item".
            side: the side in the equation.
            terms: states of the side's terms, in the same order.
            noise_precision: (num_owners,) float32; changed in place by later draws.
            num_ratings: number of training ratings.
        """
        self.name, self.terms, self._has_biases = name, terms, side.bias is not None
        self._tables = list_tables(side)
        self._owner = np.arange(len(self._tables[0])) if side.day_rows is None else side.day_rows.owner.numpy()
        """The user or item of each row."""
        shared = _find_shared_term(side, num_ratings=num_ratings)
        self.shared_term = next((term for term in terms if term.name == shared), None)
        self.noise_precision: FloatArray = noise_precision.numpy()
        self.read()

    def read(self) -> None:
        """Read the rows from the equation's tables."""
        self.own_rows = join_tables(self._tables)
        term_sum = np.zeros_like(self.own_rows)
        for term in self.terms:
            term_sum = term_sum + term.solver.multiply(term.weights())
        if self._has_biases:
            self.own_rows[:, 0] -= term_sum[:, 0]
        self.rows = self.own_rows + term_sum

    def write(self) -> None:
        """Write the rows to the equation's tables."""
        stored = self.own_rows.copy()
        if self._has_biases:
            stored[:, 0] = self.rows[:, 0]
        write_tables(stored, self._tables)

    def select_by_row(self, values: NDArray[Any]) -> NDArray[Any]:
        """Select the value of each row's user or item: (num_owners, …) → (num_rows, …)."""
        return values[self._owner]

    def sum_by_owner(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum values over the rows of each user or item: (num_rows,) → (num_owners,) float64."""
        return np.bincount(self._owner, values).astype(np.float64)

    def merge_starts(self, start: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find where the ratings of each user or item begin, given where those of each row begin.

        start (num_rows + 1,) → (num_owners + 1,), as in Entries.
        """
        return start[np.searchsorted(self._owner, np.arange(len(self.noise_precision) + 1))]


def _find_shared_term(side: Side, *, num_ratings: int) -> str | None:
    """Find the name of the term that all rows of a user or item share; None if there are enough ratings per row."""
    day_rows = side.day_rows
    if day_rows is None or num_ratings >= MIN_RATINGS_PER_ROW * len(day_rows):
        return None
    for term in side.terms:
        design = term.design
        if design.is_one_hot and torch.equal(design.column, day_rows.owner.int()) and (design.scale == 1).all():
            return term.name
    return None
