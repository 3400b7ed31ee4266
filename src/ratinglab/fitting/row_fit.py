"""Fits that find a whole row of weights at a time: all of a user's, or of an item's, given those of the other side."""

from collections.abc import Callable

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ratinglab.datamodule import RatingDataModule, as_tensors
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.kernels.rows import load, sample_rows, squared_errors
from ratinglab.fitting.sides import Side, sides
from ratinglab.models.equation import Equation
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.table import Ratings

Array = NDArray[np.float32]


class RowFit(Fit):
    """Moves the weights of an equation of factors by rows: a bias, where there are biases, and factors behind it.

    An epoch is a sweep over both sides. The rows of a side do not depend on one another: they are found at once, and
    come out the same, bit for bit, at any number of threads. train/mse is that of the weights after the sweep.
    """

    def __init__(self, predictor: Predictor, equation: Equation) -> None:
        """Fit the weights of `equation`, which is predictor.model or inside it."""
        super().__init__(predictor, lr=None)
        factors = equation.factors()
        assert factors is not None, "the options refuse an equation without factors"
        self._equation: Callable[[], Equation] = lambda: equation  # Lightning would take a module for another part
        self._mean, self.has_biases = np.float32(factors.mean), factors.biases[0] is not None
        self._sides: dict[str, Side] = {}
        self._train_mse = 0.0
        load()  # before the clock of the fit runs

    @property
    def equation(self) -> Equation:
        """What is fitted."""
        return self._equation()

    def configure_optimizers(self) -> None:
        """None: the weights are changed in place."""

    def on_train_start(self) -> None:
        """Sort the training rows by user and by item."""
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, RatingDataModule)
        ratings, users = data.train_ratings, self.rows("user")
        if self.equation.takes_day:
            columns = as_tensors(ratings)
            row = self.equation.user_rows(columns.user, columns.day)
            ratings = Ratings(user=row.int().numpy(), item=ratings.item, rating=ratings.rating)
        by_user, by_item = sides(ratings, num_users=len(users), num_items=data.num_items, dim=users.shape[1])
        self._sides = {"user": by_user, "item": by_item}

    def train_mse(self) -> float:
        """The pooled squared error of the training rows under the weights of this epoch, found from these rows."""
        return self._train_mse

    def table(self, name: str) -> nn.Embedding | None:
        """One of the equation's tables of weights, such as item_bias, where it has one of that name."""
        found: nn.Embedding | None = getattr(self.equation, name, None)
        return found

    def rows(self, side: str) -> Array:
        """(num_rows, D) float32, a copy: the bias and the embedding of each user, user and day, or item."""
        tables = self._tables(side)
        rows: Array = torch.cat([table.weight for table in tables if table is not None], dim=1).detach().numpy()
        return rows

    def _tables(self, side: str) -> tuple[nn.Embedding | None, nn.Embedding | None]:
        """The bias and the embedding of a side's rows."""
        of_days = self.table(f"{side}_day_embedding")
        if of_days is not None:
            return self.table(f"{side}_day_bias"), of_days
        return self.table(f"{side}_bias"), self.table(f"{side}_embedding")

    def write(self, side: str, rows: Array) -> None:
        """Make rows the equation's weights."""
        bias, embedding = self._tables(side)
        assert embedding is not None
        with torch.no_grad():
            if bias is not None:
                bias.weight.copy_(torch.from_numpy(rows[:, :1]))
                rows = rows[:, 1:]
            embedding.weight.copy_(torch.from_numpy(rows))

    def solve(
        self,
        name: str,
        rows: Array,
        other_rows: Array,
        *,
        mean: Array,
        precision: Array,
        scale: Array,
        weight: Array,
        other_weight: Array,
        noise: Array,
    ) -> None:
        """Find the rows of a side, in place: the arguments are those of sample_rows."""
        side = self._sides[name]
        features, offset = self._as_features(other_rows)
        sample_rows(
            side.bounds,
            side.start,
            side.other,
            side.rating,
            features,
            offset,
            mean,
            precision,
            scale,
            weight,
            other_weight,
            noise,
            rows,
        )

    def errors(
        self, name: str, rows: Array, other_rows: Array, *, other_weight: Array
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The squared errors of each row of a side, plain and weighted: see squared_errors. Kept for train_mse."""
        side = self._sides[name]
        features, offset = self._as_features(other_rows)
        plain, weighted = squared_errors(
            side.bounds, side.start, side.other, side.rating, rows, features, offset, other_weight
        )
        self._train_mse = float(plain.sum()) / len(side.rating)
        return plain, weighted

    def _as_features(self, rows: Array) -> tuple[Array, Array]:
        """What the other side's rows are multiplied with, and what is added: 1 for its bias, and this bias and μ."""
        if not self.has_biases:
            return rows, np.full(len(rows), self._mean)
        features = rows.copy()
        features[:, 0] = 1
        return features, self._mean + rows[:, 0]
