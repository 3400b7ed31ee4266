"""Alternating least squares for explicit ratings."""

import numpy as np

from ratinglab.batches import Batch
from ratinglab.fitting.compiled_design import CompiledDesign
from ratinglab.fitting.fit_options import FitSetup
from ratinglab.fitting.row_fit import RowFit, join_tables, list_tables, write_tables
from ratinglab.fitting.whole_epoch_options import ALSOptions
from ratinglab.kernels.rows import FloatArray, RowPriors, column_dots, draw_rows, sum_squared_errors
from ratinglab.models.design import Design
from ratinglab.models.factor_equation import Term
from ratinglab.models.predictor import Predictor
from ratinglab.sides import SIDE_NAMES, other_side

MAX_STEPS, TOLERANCE = 200, 1e-5
"""Step limit and relative residual tolerance of conjugate gradients."""


class ALSFit(RowFit):
    """Alternating minimization of Σ (r − r̂)² + penalty over the users' rows, then the items': one sweep per epoch.

    The penalty is the equation's own, per rating, and includes λ. A row v with n ratings solves

        (Σ x xᵀ + (λ n + ρ) I) v = Σ x (r − o) + λ n z + ρ v'

    where x are the other side's rows, with 1 in place of the bias, o collects the terms that do not depend on v,
    and z is the sum of the row's terms. The damping ρ pulls the row towards its value v' before the sweep: a row with
    few ratings takes several sweeps to reach its minimum, so early stopping can end the fit before such rows overfit.

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
        self._designs: dict[str, CompiledDesign] = {}
        """√N F, by the name of the term."""
        self._ridges: dict[str, FloatArray] = {}
        """Diagonals of R, by the name of the term."""

    def on_train_start(self) -> None:
        """Sort the training ratings by row and compile the designs of the terms."""
        super().on_train_start()
        for side in SIDE_NAMES:
            counts, dim = self._ratings[side].counts, self.own_rows(side).shape[1]
            for term in self.equation.side(side).terms:
                self._designs[term.name] = CompiledDesign(term.design, dim=dim, row_weight=np.sqrt(counts))
                self._ridges[term.name] = _ratings_by_column(term.design, counts)

    def training_step(self, batches: list[Batch]) -> None:
        """Run one sweep: the users' terms and rows, then the items'."""
        products = {
            side: {
                term.name: self._multiply_term(term, self._ratings[side].counts)
                for term in self.equation.side(side).terms
            }
            for side in SIDE_NAMES
        }
        rows = {side: sum(products[side].values(), self.own_rows(side)) for side in SIDE_NAMES}
        for side in SIDE_NAMES:
            counts = self._ratings[side].counts
            for term in self.equation.side(side).terms:
                products[side][term.name] = self._fit_term(term, rows[side], products[side], counts)
            term_sum = sum(products[side].values(), np.zeros_like(rows[side]))
            ridge = np.float32(self.equation.regularization) * counts
            mean = (ridge[:, None] * term_sum + self.damping * rows[side]) / (ridge + self.damping)[:, None]
            priors = RowPriors(mean, np.eye(mean.shape[1], dtype=np.float32), ridge + self.damping)
            regressors = self.make_regressors(rows[other_side(side)])
            # with draws of 0, the result is the solution itself
            draw_rows(self._ratings[side], regressors, priors, np.ones_like(counts), np.zeros_like(mean), rows[side])
            self._ratings[side].drop_pages()
            write_tables(rows[side] - term_sum, list_tables(self.equation.side(side)))
        errors, _ = sum_squared_errors(self._ratings["item"], rows["item"], self.make_regressors(rows["user"]))
        self._ratings["item"].drop_pages()
        self.train_mse = float(errors.sum()) / len(self.data.train_ratings_in_stars)

    def _multiply_term(self, term: Term, counts: FloatArray) -> FloatArray:
        """Compute F y of a term: (num_rows, D) float32, with 0 as the bias of a term without biases."""
        product = self._designs[term.name].multiply(join_tables(list_tables(term))) / np.sqrt(counts)[:, None]
        if self.has_biases and term.bias is None:
            product = np.pad(product, ((0, 0), (1, 0)))
        return product.astype(np.float32, copy=False)

    def _fit_term(
        self, term: Term, rows: FloatArray, products: dict[str, FloatArray], counts: FloatArray
    ) -> FloatArray:
        """Solve for a term's weights y, write them to the equation, and return F y, (num_rows, D) float32.

        `rows` (num_rows, D) float32 are v, `products` hold F y of each term of the side, by name, and `counts`
        (num_rows,) float32 are the numbers of ratings of the rows.
        """
        other_terms = (product for name, product in products.items() if name != term.name)
        residual = rows - sum(other_terms, np.zeros_like(rows))
        if self.has_biases and term.bias is None:
            residual = np.ascontiguousarray(residual[:, 1:])
        design, tables = self._designs[term.name], list_tables(term)
        right = design.multiply_transposed(np.sqrt(counts)[:, None] * residual)
        write_tables(solve_for_weights(design, right, join_tables(tables), self._ridges[term.name]), tables)
        return self._multiply_term(term, counts)


def _ratings_by_column(design: Design, counts: FloatArray) -> FloatArray:
    """Count the ratings of the rows with an entry in each column: (num_columns, 1) float32, 1 for an empty column."""
    inner_row, num_inner = design.inner_row, len(design.scale)
    inner_counts = counts if inner_row is None else np.bincount(inner_row.numpy(), counts, minlength=num_inner)
    per_entry = np.repeat(inner_counts, np.diff(design.start.numpy()))
    ratings = np.bincount(design.column.numpy(), per_entry, minlength=design.num_columns)
    # a 1 keeps the weights of an empty column at 0
    return np.where(ratings > 0, ratings, 1).astype(np.float32)[:, None]


def solve_for_weights(
    design: CompiledDesign, right: FloatArray, start: FloatArray, ridge: FloatArray | np.float32
) -> FloatArray:
    """Solve (FᵀF + R) y = right for y, column by column, by conjugate gradients preconditioned by the diagonal.

    Args:
        design: F.
        right: (num_columns, D) float32.
        start: (num_columns, D) float32, the initial y; not changed.
        ridge: the diagonal of R: (num_columns, 1) float32, or one number.
    """
    diagonal = design.diagonal + ridge

    def multiply_system(vectors: FloatArray) -> FloatArray:
        return design.multiply_transposed(design.multiply(vectors)) + ridge * vectors

    solution = start.copy()
    residual = right - multiply_system(solution)
    scaled = residual / diagonal
    direction = scaled.copy()
    size = column_dots(residual, scaled)
    threshold = TOLERANCE**2 * column_dots(right, right / diagonal)
    for _ in range(MAX_STEPS):
        if (size <= threshold).all():
            break
        product = multiply_system(direction)
        # leave converged columns unchanged
        length = np.where(size > threshold, size / np.maximum(column_dots(direction, product), 1e-30), 0)
        solution += length.astype(np.float32) * direction
        residual -= length.astype(np.float32) * product
        scaled = residual / diagonal
        last_size, size = size, column_dots(residual, scaled)
        direction = scaled + (size / np.maximum(last_size, 1e-30)).astype(np.float32) * direction
    return solution
