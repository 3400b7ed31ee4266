"""Base class for fits that solve for whole weight rows of users or items, given the other side."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.batches import as_tensors
from ratinglab.fitting.fit import FactorFit
from ratinglab.fitting.fit_options import FitOptions
from ratinglab.fitting.fit_setup import FitSetup
from ratinglab.kernels.compiled import set_num_threads
from ratinglab.kernels.rows import Entries, FloatArray, OtherRows, RowPriors, compile_loops, sample_rows, squared_errors
from ratinglab.kernels.sorted_ratings import sort_ratings
from ratinglab.models.equation import SIDE_NAMES, SideName, other_side
from ratinglab.models.factor_equation import Side, Term
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.mapped_arrays import release


class RowFit(FactorFit):
    """Base class for fits that update a factor equation row by row. A row is its bias, if any, then its factors.

    An epoch is one sweep over both sides. The rows of a side are independent: they are solved in parallel and are the
    same, bit for bit, for any number of threads. train/mse uses the weights after the sweep.
    """

    def __init__(self, predictor: Predictor, setup: FitSetup, options: FitOptions) -> None:
        super().__init__(predictor, setup, options)
        names = [term.name for name in SIDE_NAMES for term in self.side(name).terms]
        assert len(set(names)) == len(names), f"two terms share a name: {names}"
        self.has_biases = self.side("user").bias is not None
        self._ratings: dict[str, Entries] = {}
        compile_loops()  # before the fit is timed

    def side(self, name: SideName) -> Side:
        """Return the side of this name of the equation."""
        return self.equation.side(name)

    def on_train_start(self) -> None:
        """Sort the training ratings by the rows of both sides."""
        super().on_train_start()
        set_num_threads(torch.get_num_threads())
        user, item, rating, day = as_tensors(self.data.train_ratings_in_stars)
        index = (row.int().numpy() for row in self.equation.rows(user, item, day))
        rows = dict(zip(SIDE_NAMES, index, strict=True))
        for name, row in rows.items():
            count, dim = self.own_rows(name).shape
            assert 0 <= row.min() <= row.max() < count, f"a rating has no row on the {name} side"
            self._ratings[name] = sort_ratings(
                row, rows[other_side(name)], rating.numpy(), count=count, dim=dim, folder=self.data.folder
            )
            assert self._ratings[name].counts.min() > 0, f"a row of the {name} side has no training rating"

    def own_rows(self, name: SideName) -> FloatArray:
        """Copy each row's own bias, if there are biases, and factors: (num_rows, D) float32."""
        return joined(tables_of(self.side(name)))

    def write_own_rows(self, name: SideName, rows: FloatArray) -> None:
        """Store rows as the side's own weights."""
        write_joined(rows, tables_of(self.side(name)))

    def solve(
        self,
        name: SideName,
        rows: FloatArray,
        other_rows: FloatArray,
        *,
        priors: RowPriors,
        weight: FloatArray,
        other_weight: FloatArray,
        noise: FloatArray,
    ) -> None:
        """Solve for the rows of a side, in place; see sample_rows."""
        ratings = self._ratings[name]
        sample_rows(ratings, self._seen(other_rows, other_weight), priors, weight, noise, rows)
        release(ratings.other, ratings.rating)

    def errors(
        self, name: SideName, rows: FloatArray, other_rows: FloatArray, *, other_weight: FloatArray
    ) -> NDArray[np.float64]:
        """Sum weighted squared errors by row of a side; see squared_errors. Stores the plain MSE as train_mse."""
        ratings = self._ratings[name]
        plain, weighted = squared_errors(ratings, rows, self._seen(other_rows, other_weight))
        release(ratings.other, ratings.rating)
        self.train_mse = float(plain.sum()) / len(ratings.rating)
        return weighted

    def _seen(self, rows: FloatArray, weight: FloatArray) -> OtherRows:
        """Split the other side's rows into features and offsets: the bias becomes the offset, with 1 in its place."""
        mean = np.float32(float(self.equation.rating_mean))
        if not self.has_biases:
            return OtherRows(rows, np.full(len(rows), mean), weight)
        features = rows.copy()
        features[:, 0] = 1
        return OtherRows(features, mean + rows[:, 0], weight)


def tables_of(owner: Side | Term) -> list[Tensor]:
    """List the biases, if any, and the factors of a side or a term: (count, 1) and (count, D) float32."""
    return [table.weight for table in (owner.bias, owner.embedding) if table is not None]


def joined(tables: Sequence[Tensor]) -> FloatArray:
    """Copy tables of weights side by side into one: (count, D) float32."""
    rows: FloatArray = torch.cat(list(tables), dim=1).detach().numpy()
    return rows


def write_joined(rows: FloatArray, tables: Sequence[Tensor]) -> None:
    """Write rows, as returned by `joined`, back into their tables."""
    widths = [table.shape[1] for table in tables]
    with torch.no_grad():
        for table, columns in zip(tables, torch.from_numpy(rows).split(widths, dim=1), strict=True):
            table.copy_(columns)
