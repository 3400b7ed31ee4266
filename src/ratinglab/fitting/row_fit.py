"""Base class for fits that solve for whole weight rows of users or items, given the other side."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ratinglab.batches import as_tensors
from ratinglab.fitting.fit import FactorFit
from ratinglab.fitting.fit_options import FitOptions, FitSetup
from ratinglab.kernels.compiled import set_num_threads
from ratinglab.kernels.rows import Entries, FloatArray, Regressors, compile_row_loops
from ratinglab.kernels.sorted_ratings import sort_ratings
from ratinglab.models.factor_equation import Side, Term
from ratinglab.models.predictor import Predictor
from ratinglab.sides import SIDE_NAMES, SideName, other_side


class RowFit(FactorFit):
    """Base class for fits that update a factor equation row by row. A row is its bias, if any, followed by its factors.

    An epoch is one sweep over both sides. The rows of a side are independent, so they are solved in parallel. They are
    bit-for-bit identical for any number of threads. train/mse uses the weights after the sweep.
    """

    def __init__(self, predictor: Predictor, setup: FitSetup, options: FitOptions) -> None:
        super().__init__(predictor, setup, options)
        term_names = [term.name for side in SIDE_NAMES for term in self.equation.side(side).terms]
        assert len(set(term_names)) == len(term_names), f"two terms share a name: {term_names}"
        self.has_biases = self.equation.side("user").bias is not None
        self._ratings: dict[str, Entries] = {}
        """Training ratings sorted by the rows of a side, by side."""
        compile_row_loops()  # before the fit is timed

    def on_train_start(self) -> None:
        """Sort the training ratings by the rows of both sides."""
        super().on_train_start()
        set_num_threads(torch.get_num_threads())
        ratings = self.data.train_ratings_in_stars
        user, item, rating, day = as_tensors(ratings)
        indices = zip(SIDE_NAMES, self.equation.row_indices(user, item, day), strict=True)
        row_of_rating = {side: index.int().numpy() for side, index in indices}
        for side in SIDE_NAMES:
            row, other_row = row_of_rating[side], row_of_rating[other_side(side)]
            num_rows, dim = self.own_rows(side).shape
            assert 0 <= row.min() <= row.max() < num_rows, f"a rating has no row on the {side} side"
            values, folder = rating.numpy(), ratings.folder
            self._ratings[side] = sort_ratings(row, other_row, values, num_rows=num_rows, dim=dim, folder=folder)
            assert self._ratings[side].counts.min() > 0, f"a row of the {side} side has no training rating"

    def own_rows(self, side: SideName) -> FloatArray:
        """Copy the rows of a side without their terms: the bias, if any, and the factors, (num_rows, D) float32."""
        return join_tables(list_tables(self.equation.side(side)))

    def make_regressors(self, rows: FloatArray, *, noise_precision: FloatArray | None = None) -> Regressors:
        """Make regressors of a side's rows, (num_rows, D) float32. A bias moves to the offset, with 1 in its place.

        noise_precision is (num_rows,) float32, by default all 1.
        """
        mean = np.float32(float(self.equation.rating_mean))
        noise_precision = np.ones(len(rows), dtype=np.float32) if noise_precision is None else noise_precision
        if not self.has_biases:
            return Regressors(rows, np.full(len(rows), mean), noise_precision)
        values = rows.copy()
        values[:, 0] = 1
        return Regressors(values, mean + rows[:, 0], noise_precision)


def list_tables(owner: Side | Term) -> list[Tensor]:
    """List the biases, if any, and the factors of a side or a term: (count, 1) and (count, D) float32."""
    return [table.weight for table in (owner.bias, owner.embedding) if table is not None]


def join_tables(tables: Sequence[Tensor]) -> FloatArray:
    """Copy tables of weights side by side into one: (count, D) float32."""
    rows: FloatArray = torch.cat(list(tables), dim=1).detach().numpy()
    return rows


def write_tables(rows: FloatArray, tables: Sequence[Tensor]) -> None:
    """Write rows, as returned by `join_tables`, back into their tables."""
    widths = [table.shape[1] for table in tables]
    with torch.no_grad():
        for table, columns in zip(tables, torch.from_numpy(rows).split(widths, dim=1), strict=True):
            table.copy_(columns)
