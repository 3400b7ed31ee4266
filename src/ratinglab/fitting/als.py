"""Alternating least squares for explicit ratings."""

import numpy as np

from ratinglab.batches import Batch
from ratinglab.fitting.fit_setup import FitSetup
from ratinglab.fitting.row_fit import RowFit, joined, tables_of, write_joined
from ratinglab.fitting.term_solver import TermSolver
from ratinglab.fitting.whole_epoch_options import ALSOptions
from ratinglab.kernels.rows import FloatArray, RowPriors
from ratinglab.models.design import Design
from ratinglab.models.equation import SIDE_NAMES, other_side
from ratinglab.models.factor_equation import Term
from ratinglab.models.predictor import Predictor


class ALSFit(RowFit):
    """Alternating minimization of Σ (r − r̂)² + λ · penalty over the users' rows, then the items': one sweep per epoch.

    The penalty is the equation's own, per rating. A row v with n ratings solves

        (Σ x xᵀ + (λ n + ρ) I) v = Σ x (r − o) + λ n z + ρ v'

    where x are the other side's rows, with 1 in the place of the bias, o collects the terms that do not depend on v,
    and z is the sum of the row's terms. The damping ρ pulls the row towards its value v' before the sweep: a row with
    few ratings takes several sweeps to its minimum, so that early stopping can end before it fits their noise.

    Before its rows, each side updates the weights y of each term F y. They solve

        (Fᵀ N F + R) y = Fᵀ N (v − z')

    where N is the diagonal matrix of ratings per row, R the diagonal matrix of ratings per column of F, and z' the sum
    of the other terms. Both steps minimize the same objective, so no sweep raises it.

    Sources: Zhou, Wilkinson, Schreiber, Pan, "Large-Scale Parallel Collaborative Filtering for the Netflix Prize", AAIM
    2008: λ weighted by the number of ratings; Xu, Yin, "A Block Coordinate Descent Method for Regularized Multiconvex
    Optimization", SIAM Journal on Imaging Sciences, 2013, the proximal update, for ρ.
    """

    def __init__(self, predictor: Predictor, setup: FitSetup, options: ALSOptions) -> None:
        super().__init__(predictor, setup, options)
        self.damping = np.float32(options.damping)
        self._solvers: dict[str, TermSolver] = {}
        """By term, for √N F."""
        self._ridges: dict[str, FloatArray] = {}
        """Diagonal of R by term."""

    def advice(self) -> str:
        """Suggest a larger λ: with λ near 0, rows with few ratings have no unique solution."""
        return "; a larger model.regularization may help"

    def on_train_start(self) -> None:
        """Sort the training ratings by row and build the term solvers."""
        super().on_train_start()
        for name in SIDE_NAMES:
            counts, dim = self._ratings[name].counts, self.own_rows(name).shape[1]
            for term in self.side(name).terms:
                self._solvers[term.name] = TermSolver(term.design, dim=dim, row_weight=np.sqrt(counts))
                self._ridges[term.name] = _ratings_by_column(term.design, counts)

    def training_step(self, batches: list[Batch]) -> None:
        """Run one sweep: the users' terms and rows, then the items'."""
        addends = {
            name: {term.name: self._addend(term, self._ratings[name].counts) for term in self.side(name).terms}
            for name in SIDE_NAMES
        }
        rows = {name: sum(addends[name].values(), self.own_rows(name)) for name in SIDE_NAMES}
        ones = {name: np.ones(len(rows[name]), dtype=np.float32) for name in SIDE_NAMES}
        for name in SIDE_NAMES:
            other = other_side(name)
            counts, zeros = self._ratings[name].counts, np.zeros_like(rows[name])
            for term in self.side(name).terms:
                addends[name][term.name] = self._fit_term(term, rows[name], addends[name], counts)
            term_sum = sum(addends[name].values(), zeros.copy())
            pull = np.float32(self.equation.regularization) * counts
            mean = (pull[:, None] * term_sum + self.damping * rows[name]) / (pull + self.damping)[:, None]
            self.solve(
                name,
                rows[name],
                rows[other],
                priors=RowPriors(mean, np.eye(zeros.shape[1], dtype=np.float32), pull + self.damping),
                weight=ones[name],
                other_weight=ones[other],
                noise=zeros,
            )
            self.write_own_rows(name, rows[name] - term_sum)
        self.errors("item", rows["item"], rows["user"], other_weight=ones["user"])

    def _addend(self, term: Term, counts: FloatArray) -> FloatArray:
        """Compute F y of a term: (num_rows, D) float32, with 0 as the bias of a term without biases."""
        addend = self._solvers[term.name].times(joined(tables_of(term))) / np.sqrt(counts)[:, None]
        if self.has_biases and term.bias is None:
            addend = np.pad(addend, ((0, 0), (1, 0)))
        return addend.astype(np.float32, copy=False)

    def _fit_term(self, term: Term, rows: FloatArray, addends: dict[str, FloatArray], counts: FloatArray) -> FloatArray:
        """Solve for a term's weights y, write them to the equation, and return F y."""
        others = (addend for name, addend in addends.items() if name != term.name)
        rest = rows - sum(others, np.zeros_like(rows))
        if self.has_biases and term.bias is None:
            rest = np.ascontiguousarray(rest[:, 1:])
        solver, tables = self._solvers[term.name], tables_of(term)
        right = solver.transposed(np.sqrt(counts)[:, None] * rest)
        write_joined(solver.solve(right, joined(tables), self._ridges[term.name]), tables)
        return self._addend(term, counts)


def _ratings_by_column(design: Design, counts: FloatArray) -> FloatArray:
    """Count the ratings in the rows of each column, or 1 for a column without rows: (num_columns, 1) float32."""
    inner_row, num_inner = design.inner_row, len(design.scale)
    inner_counts = counts if inner_row is None else np.bincount(inner_row.numpy(), counts, minlength=num_inner)
    per_entry = np.repeat(inner_counts, np.diff(design.start.numpy()))
    ratings = np.bincount(design.column.numpy(), per_entry, minlength=design.num_columns)
    return np.where(ratings > 0, ratings, 1).astype(np.float32)[:, None]  # 1 keeps the weights of a column at 0
