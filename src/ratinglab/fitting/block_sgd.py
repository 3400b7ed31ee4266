"""Stochastic gradient descent, one step per rating, over blocks of users × items."""

import numpy as np
import torch
from numpy.typing import NDArray

from ratinglab.batches import Batch
from ratinglab.fitting.fit import FactorFit
from ratinglab.fitting.fit_options import FitSetup
from ratinglab.fitting.whole_epoch_options import BlockSGDOptions
from ratinglab.kernels.block_steps import compile_block_loops, move_to_blocks, sgd_over_diagonal, sort_blocks_by_user
from ratinglab.kernels.compiled import set_num_threads
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.mapped_arrays import count_rows

MIN_FOR_16_SLICES = 8_000_000
"""Number of ratings from which each side has 16 slices instead of 8. Independent of the number of threads, so results
are reproducible."""


class BlockSGDFit(FactorFit):
    """Stochastic gradient descent on (r − r̂)² + penalty, one rating at a time.

    The fit orders the training rows once. It cuts users and items into slices with about equal numbers of ratings; a
    user slice and an item slice make a block, sorted by user. An epoch visits the diagonals of blocks in an order drawn
    from the seed and the epoch number, and runs the blocks of a diagonal in parallel. The weights are therefore
    bit-for-bit identical for any number of threads. train/mse predicts each row before its own step.

    Source: Zhuang, Chin, Juan, Lin, "A Fast Parallel SGD for Matrix Factorization in Shared Memory Systems", RecSys
    2013.
    """

    def __init__(self, predictor: Predictor, setup: FitSetup, options: BlockSGDOptions) -> None:
        super().__init__(predictor, setup, options)
        for side in self.equation.sides():
            assert not side.terms, "the options refuse an equation with terms"
            assert side.day_rows is None, "the options refuse an equation with several rows per user or item"
        self._slices = options.slices
        compile_block_loops()  # before the fit is timed

    def on_train_start(self) -> None:
        """Sort the training ratings into blocks, in place."""
        super().on_train_start()
        set_num_threads(torch.get_num_threads())
        ratings = self.data.train_ratings_in_stars
        self._num_slices = self._slices or (16 if len(ratings) >= MIN_FOR_16_SLICES else 8)
        user_slice = assign_slices(count_rows(ratings.user, self.data.num_users), self._num_slices)
        item_slice = assign_slices(count_rows(ratings.item, self.data.num_items), self._num_slices)
        self._block_start = move_to_blocks(ratings, user_slice, item_slice, self._num_slices)
        sort_blocks_by_user(ratings, self._block_start)

    def training_step(self, batches: list[Batch]) -> None:
        """Run one epoch, one step per rating."""
        ratings = self.data.train_ratings_in_stars
        user, item, rating = (column.numpy() for column in batches[0][:3])
        equation = self.equation
        factors = [side.embedding.weight for side in equation.sides()]
        biases = [torch.empty(0, 1) if side.bias is None else side.bias.weight for side in equation.sides()]
        weights = tuple(table.detach().numpy() for table in (*factors, *biases))  # not copies
        numbers = float(equation.rating_mean), self.epoch_lr, equation.regularization
        errors = np.zeros((self._num_slices, self._num_slices))
        order = np.random.default_rng([self.seed, self.current_epoch]).permutation(self._num_slices)
        for diagonal in order.tolist():
            sgd_over_diagonal(
                user, item, rating, self._block_start, diagonal, weights, *map(np.float32, numbers), errors
            )
            ratings.drop_pages()  # of mapped files
        self.train_mse = float(errors.ravel().sum()) / len(rating)


def assign_slices(counts: NDArray[np.int64], num_slices: int) -> NDArray[np.int32]:
    """Assign users (or items) to contiguous slices with about equal numbers of ratings.

    counts (N,) is the number of ratings of each user. Returns the slice of each, (N,) int32.
    """
    middle = np.cumsum(counts) - counts / 2
    return np.minimum(middle * num_slices / counts.sum(), num_slices - 1).astype(np.int32)
