"""The LightningDataModule that serves batches of ratings to a fit."""

from dataclasses import replace

import numpy as np
import torch
from pytorch_lightning import LightningDataModule

from ratinglab.batches import CPU, EvaluationLoader, ShuffledLoader, WholeEpochLoader
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.table import Ratings
from ratinglab.splits.split import TRAIN, VALIDATION, VALIDATION_HISTORY
from ratinglab.splits.split_ratings import SplitRatings
from ratinglab.stars import Stars


class RatingDataModule(LightningDataModule):
    """Training and validation rows of a table, served to Lightning as batches of plain tensors."""

    def __init__(
        self, ratings: SplitRatings, *, batch_size: int | None, fraction: float, seed: int, whole_users: bool = False
    ) -> None:
        """Copy the training rows, in stars, the validation rows, and the history of users held out for validation.

        `batch_size` is the number of training rows per batch, over all processes. With None, one batch holds all rows.
        ShuffledLoader describes the other arguments.
        """
        super().__init__()
        self.num_users = ratings.num_users
        """Number of users with training rows."""
        self.num_items = ratings.num_items
        """Number of items with training rows."""
        self.stars = Stars(*ratings.scale)
        self.train_ratings_in_stars = ratings.copy_rows(TRAIN)
        """The training rows."""
        self.rating_mean = float(self.train_ratings_in_stars.rating.mean(dtype=np.float64))
        """Mean of the training ratings, in rating units."""
        self.train_ratings_in_stars.drop_pages()
        for _, block in self.train_ratings_in_stars.blocks():
            block.rating[:] = self.stars.to_stars(block.rating)
        self.validation_ratings = ratings.copy_rows(VALIDATION)
        """The validation rows, with ratings in rating units."""
        history = ratings.copy_rows(VALIDATION_HISTORY)
        self.validation_history = replace(history, rating=self.stars.to_stars(history.rating))
        """Rows to fold in for users held out for validation, with ratings in stars."""
        self.test_ratings: Ratings | None = None
        """The test rows, with ratings in rating units, for a caller's own Trainer. A fit does not need them."""
        self.user_ids: IdMap | None = None
        """The ids of the users by index, for a caller's own Trainer."""
        self.item_ids: IdMap | None = None
        """The ids of the items by index, for a caller's own Trainer."""
        self.batch_size = batch_size
        self.fraction = fraction
        self.seed = seed
        self.whole_users = whole_users

    def train_dataloader(self) -> ShuffledLoader | WholeEpochLoader:
        """Make shuffled training batches, or a single batch of all rows."""
        if self.batch_size is None:
            return WholeEpochLoader(self.train_ratings_in_stars)
        return ShuffledLoader(
            self.train_ratings_in_stars,
            batch_size=self.batch_size,
            fraction=self.fraction,
            seed=self.seed,
            epoch=lambda: 0 if self.trainer is None else self.trainer.current_epoch,
            whole_users=self.whole_users,
            rank=0 if self.trainer is None else self.trainer.global_rank,
            world_size=1 if self.trainer is None else self.trainer.world_size,
            device=self._device,
        )

    def val_dataloader(self) -> EvaluationLoader:
        """Make blocks of the validation rows, in order, if there are any."""
        return EvaluationLoader(self.validation_ratings, device=self._device)

    def test_dataloader(self) -> EvaluationLoader:
        """Make blocks of the test rows, in order, if there are any."""
        assert self.test_ratings is not None, "a run evaluates its test rows after the fit"
        return EvaluationLoader(self.test_ratings, device=self._device)

    @property
    def _device(self) -> torch.device:
        return CPU if self.trainer is None else self.trainer.strategy.root_device
