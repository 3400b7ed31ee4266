"""Base class for fits that solve for whole weight rows, a user's or an item's, given the other side."""

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ratinglab.batches import as_tensors
from ratinglab.fitting.fit import Fit, FitSetup
from ratinglab.fitting.kernels.rows import (
    OtherRows,
    RowPriors,
    SortedRatings,
    load,
    sample_rows,
    squared_errors,
)
from ratinglab.fitting.priors import FloatArray
from ratinglab.fitting.sorted_ratings import sort_ratings
from ratinglab.models.factor_equation import FactorEquation, Side, as_factor_equation
from ratinglab.models.predictor import Predictor

OTHER_SIDE = {"user": "item", "item": "user"}


class RowFit(Fit):
    """Updates a factor equation's weights row by row. A row is the bias, if there are biases, then the factors.

    An epoch is one sweep over both sides. The rows of a side are independent: they are solved in parallel and are the
    same, bit for bit, for any number of threads. train/mse uses the weights after the sweep.
    """

    def __init__(self, predictor: Predictor, setup: FitSetup) -> None:
        """Fit the weights of a factor equation."""
        super().__init__(predictor, setup)
        names = [part.name for name in OTHER_SIDE for part in self.side(name).parts]
        assert len(set(names)) == len(names), f"two parts share a name: {names}"
        self.has_biases = self.side("user").bias is not None
        self._ratings: dict[str, SortedRatings] = {}
        self._train_mse = 0.0
        load()  # before the fit is timed

    @property
    def equation(self) -> FactorEquation:
        """The equation being fitted."""
        return as_factor_equation(self.predictor.model)

    def side(self, name: str) -> Side:
        """The "user" or the "item" side of the equation."""
        return self.equation.user_side() if name == "user" else self.equation.item_side()

    def configure_optimizers(self) -> None:
        """Return None: a sweep changes the weights in place."""

    def on_train_start(self) -> None:
        """Sort the training ratings by the rows of both sides."""
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        user, item, rating, day = as_tensors(self.data.train_ratings)
        user_row, item_row = (row.int().numpy() for row in self.equation.rows(user, item, day))
        for name, row, other in (("user", user_row, item_row), ("item", item_row, user_row)):
            count, dim = self.own_rows(name).shape
            assert 0 <= row.min() <= row.max() < count, f"a rating has no row on the {name} side"
            self._ratings[name] = sort_ratings(row, other, rating.numpy(), count=count, dim=dim)
            assert self._ratings[name].counts.min() > 0, f"a row of the {name} side has no training rating"

    def train_mse(self) -> float:
        """MSE over the training rows with the weights after this epoch's sweep."""
        return self._train_mse

    def own_rows(self, name: str) -> FloatArray:
        """A copy of each row's own bias, if there are biases, and factors: (num_rows, D) float32."""
        side = self.side(name)
        return joined(side.embedding, side.bias)

    def write_own_rows(self, name: str, rows: FloatArray) -> None:
        """Store rows as the side's own weights."""
        side = self.side(name)
        write_joined(rows, side.embedding, side.bias)

    def solve(
        self,
        name: str,
        rows: FloatArray,
        other_rows: FloatArray,
        *,
        priors: RowPriors,
        weight: FloatArray,
        other_weight: FloatArray,
        noise: FloatArray,
    ) -> None:
        """Solve for the rows of a side, in place; see sample_rows."""
        sample_rows(self._ratings[name], self._seen(other_rows, other_weight), priors, weight, noise, rows)

    def errors(
        self, name: str, rows: FloatArray, other_rows: FloatArray, *, other_weight: FloatArray
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Plain and weighted squared errors of each row of a side; see squared_errors. Stores the MSE for train_mse."""
        ratings = self._ratings[name]
        plain, weighted = squared_errors(ratings, rows, self._seen(other_rows, other_weight))
        self._train_mse = float(plain.sum()) / len(ratings.rating)
        return plain, weighted

    def _seen(self, rows: FloatArray, weight: FloatArray) -> OtherRows:
        """Split the other side's rows into features and offsets: the bias becomes the offset, with 1 in its place."""
        mean = np.float32(float(self.equation.rating_mean))
        if not self.has_biases:
            return OtherRows(rows, np.full(len(rows), mean), weight)
        features = rows.copy()
        features[:, 0] = 1
        return OtherRows(features, mean + rows[:, 0], weight)


def joined(embedding: nn.Embedding, bias: nn.Embedding | Tensor | None) -> FloatArray:
    """Copy the bias, if there is one, and the embedding into one table: (count, D) or (count, 1 + D) float32."""
    weight = bias.weight if isinstance(bias, nn.Embedding) else bias
    tables = [embedding.weight] if weight is None else [weight, embedding.weight]
    rows: FloatArray = torch.cat(tables, dim=1).detach().numpy()
    return rows


def write_joined(rows: FloatArray, embedding: nn.Embedding, bias: nn.Embedding | Tensor | None) -> None:
    """Write rows, as returned by `joined`, back into their tables."""
    weight = bias.weight if isinstance(bias, nn.Embedding) else bias
    with torch.no_grad():
        if weight is not None:
            weight.copy_(torch.from_numpy(rows[:, :1]))
            rows = rows[:, 1:]
        embedding.weight.copy_(torch.from_numpy(rows))
