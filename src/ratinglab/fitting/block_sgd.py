"""Stochastic gradient descent, a step a rating, over blocks of users × items."""

from collections.abc import Callable

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.datamodule import Batch, RatingDataModule
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.kernels.block_sgd import Rule, Weights, epoch, load, move_to_blocks, sort_blocks_by_user
from ratinglab.fitting.optimizers import BlockSGD
from ratinglab.models.equation import Factors
from ratinglab.models.predictor import Predictor

MANY_RATINGS, SLICES_OF_MANY, SLICES_OF_FEW = 8_000_000, 16, 8
"""Slices a side by the number of ratings: never by that of threads, on which the weights must not depend."""


class BlockFit(Fit):
    """Steps against the gradient of (r − r̂)² + λ · penalty on one rating at a time.

    The training rows are ordered once: users and items are cut into slices of about as many ratings each, which make
    blocks, and each block is sorted by user. An epoch goes through the diagonals of the blocks in an order drawn from
    the seed and the epoch's number; the blocks of a diagonal run at once. So the weights are the same, bit for bit, at
    any number of threads.

    Where the options ask for adaptive rates, those of a row of weights fall as its gradients add up.

    Sources: Zhuang, Chin, Juan, Lin, "A Fast Parallel SGD for Matrix Factorization in Shared Memory Systems", RecSys
    2013. Chin, Zhuang, Juan, Lin, "A Learning-Rate Schedule for Stochastic Gradient Methods to Matrix Factorization",
    PAKDD 2015: the reduced per-coordinate schedule.
    """

    user_squares: Tensor
    item_squares: Tensor

    def __init__(self, predictor: Predictor, *, optimizer: BlockSGD, seed: int, lr: Callable[[int], float]) -> None:
        """Fit `predictor.model`, whose factors() tell its weights, on batches of all training rows."""
        super().__init__(predictor, lr=lr)
        self.slices = optimizer.slices
        self.seed = seed
        # buffers, so that they are kept in checkpoints; of no row where all rates are the same
        for side, rows in (("user", self._factors().user), ("item", self._factors().item)):
            squares = torch.zeros(len(rows) if optimizer.adaptive else 0)
            self.register_buffer(f"{side}_squares", squares, persistent=optimizer.adaptive)
        self._start: NDArray[np.int64] | None = None
        self._train_mse = 0.0
        load()  # before the clock of the fit runs

    def configure_optimizers(self) -> None:
        """None: the weights are moved in place."""

    def on_train_start(self) -> None:
        """Order the training rows, in their own memory."""
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, RatingDataModule)
        rows = data.train_ratings
        slices = self.slices or slices_for(len(rows))
        user_slice, item_slice = (
            balanced_slices(np.bincount(index, minlength=count), slices)
            for index, count in ((rows.user, data.num_users), (rows.item, data.num_items))
        )
        self._start = move_to_blocks(rows.user, rows.item, rows.rating, user_slice, item_slice, slices)
        sort_blocks_by_user(rows.user, rows.item, rows.rating, self._start)

    def training_step(self, batches: list[Batch]) -> None:
        """An epoch: a step for each rating."""
        user, item, rating = (column.numpy() for column in batches[0][:3])
        assert self._start is not None
        model = self._factors()
        biases = [torch.empty(0, 1) if each is None else each for each in model.biases]
        changed = (model.user, model.item, *biases, self.user_squares, self.item_squares)
        slices = round((len(self._start) - 1) ** 0.5)
        errors = epoch(
            user,
            item,
            rating,
            self._start,
            np.random.default_rng([self.seed, self.current_epoch]).permutation(slices),
            Weights(*(each.detach().numpy() for each in changed)),
            Rule(*(np.float32(number) for number in (model.mean, self.epoch_lr, model.regularization))),
        )
        self._train_mse = float(errors.sum()) / len(rating)

    def _factors(self) -> Factors:
        factors = self.predictor.model.factors()
        assert factors is not None, "the options refuse an equation without factors"
        return factors

    def train_mse(self) -> float:
        """The pooled squared error of the epoch's training rows, each before its own step."""
        return self._train_mse


def slices_for(num_ratings: int) -> int:
    """Slices a side where none were asked for."""
    return SLICES_OF_MANY if num_ratings >= MANY_RATINGS else SLICES_OF_FEW


def balanced_slices(count: NDArray[np.int64], slices: int) -> NDArray[np.int32]:
    """(len(count),) int32 slice of each index, neighbours together, each slice with about as many ratings."""
    middle = np.cumsum(count) - count / 2
    return np.minimum(middle * slices / count.sum(), slices - 1).astype(np.int32)
