"""Batches of ratings as slices of tensors: no row becomes a Python object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:  # the table imports pandas, which would slow down the command line
    from ratinglab.ratings.table import Ratings


class Batch(NamedTuple):
    """Rows of ratings: user (B,) int32, item (B,) int32, rating (B,) float32, day (B,) int32 or None."""

    user: Tensor
    item: Tensor
    rating: Tensor
    day: Tensor | None

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Apply a function to each column."""
        day = None if self.day is None else function(self.day)
        return Batch(function(self.user), function(self.item), function(self.rating), day)

    def split(self, size: int) -> Iterator[Batch]:
        """Yield these rows, `size` at a time; the last batch may be smaller."""
        day = repeat(None) if self.day is None else self.day.split(size)
        return map(Batch, self.user.split(size), self.item.split(size), self.rating.split(size), day)

    def shard(self, rank: int, *, world_size: int) -> Batch:
        """Return the share of these rows of process `rank`, counted from 0."""
        return self.map(lambda column: shard(column, rank, world_size=world_size))

    def take(self, rows: Tensor) -> Batch:
        """Select rows by index: rows (n,) integer."""
        return self.map(lambda column: column[rows])


def shard(column: Tensor, rank: int, *, world_size: int) -> Tensor:
    """Return the slice of process `rank`, counted from 0. The slices divide the column into nearly equal parts."""
    return column[len(column) * rank // world_size : len(column) * (rank + 1) // world_size]


BATCHES_PER_STEP = 64
"""Number of batches in one step of Lightning, whose overhead they share."""
EVALUATION_BLOCK_ROWS = 1 << 15
"""Number of rows evaluated at once. Torch sums up to this many rows on one thread, so the number of threads does not
change the last digit of an error."""
CPU = torch.device("cpu")


def as_tensors(ratings: Ratings, *, device: torch.device = CPU) -> Batch:
    """Convert the columns to tensors on a device; on the CPU they share the arrays' memory."""
    user, item, rating = (torch.from_numpy(column) for column in (ratings.user, ratings.item, ratings.rating))
    day = None if ratings.day is None else torch.from_numpy(ratings.day)
    return Batch(user, item, rating, day).map(lambda column: column.to(device))


class EvaluationLoader:
    """All rows in order, EVALUATION_BLOCK_ROWS at a time; the last block may be smaller."""

    def __init__(self, ratings: Ratings, *, device: torch.device = CPU) -> None:
        self._columns = as_tensors(ratings, device=device)

    def __len__(self) -> int:
        return -(-len(self._columns.rating) // EVALUATION_BLOCK_ROWS)

    def __iter__(self) -> Iterator[Batch]:
        return self._columns.split(EVALUATION_BLOCK_ROWS) if len(self) else iter(())


class ShuffledLoader:
    """An epoch of training rows in random order, as lists of BATCHES_PER_STEP batches. The last batches may be smaller.

    Each process of a fit gets its shard of every batch. If a batch is small, a shard may be empty.

    The order depends only on the seed and the epoch number, so a run that resumes at epoch e sees the same batches as
    an uninterrupted run. The rows stay on the device to avoid a transfer per batch.
    """

    def __init__(
        self,
        ratings: Ratings,
        *,
        batch_size: int,
        fraction: float,
        seed: int,
        epoch: Callable[[], int],
        whole_users: bool = False,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device = CPU,
    ) -> None:
        """Serve batches of `ratings`.

        Args:
            batch_size: rows per batch, in all processes together.
            fraction: fraction of each epoch's batches to serve, at least one batch.
            seed: seed of the order.
            epoch: returns the number of the epoch that begins, from 0.
            whole_users: whether a batch holds all rows of its users. All batches then have the same number of users,
                and batch_size rows on average.
            rank: number of this process, from 0, of `world_size` processes.
        """
        self._columns = as_tensors(ratings, device=device)
        self._seed, self._epoch = seed, epoch
        self._rank, self._world_size = rank, world_size
        # the units to shuffle are rows, or users with all their rows
        self._num_units, self._rows_of_user = len(ratings), None
        if whole_users:
            user = self._columns.user
            self._rows_of_user = torch.argsort(user, stable=True).split(torch.bincount(user).tolist())
            self._num_units = len(self._rows_of_user)
        self._batch_units = max(1, round(batch_size * self._num_units / len(ratings)))
        self.num_batches = max(1, round(fraction * -(-self._num_units // self._batch_units)))
        """Batches per epoch."""

    def __len__(self) -> int:
        return -(-self.num_batches // BATCHES_PER_STEP)

    def __iter__(self) -> Iterator[list[Batch]]:
        # this generator reads the epoch late: on resume, Lightning creates the iterator before it restores the epoch
        # SeedSequence mixes both numbers: seed 0 at epoch 1 differs from seed 1 at epoch 0
        epoch_seed = np.random.SeedSequence([self._seed, self._epoch()]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(epoch_seed))
        order = torch.randperm(self._num_units, generator=generator, dtype=torch.int32)
        order = order[: self.num_batches * self._batch_units].to(self._columns.rating.device)
        for step in order.split(BATCHES_PER_STEP * self._batch_units):
            if self._rows_of_user is None and self._world_size == 1:
                yield list(self._columns.take(step).split(self._batch_units))
            else:
                batches = step.split(self._batch_units)
                shards = (shard(batch, self._rank, world_size=self._world_size) for batch in batches)
                yield [self._columns.take(self._rows_of(units)) for units in shards]

    def _rows_of(self, units: Tensor) -> Tensor:
        """Return the rows of units, user by user if units are users: (U,) → (n,)."""
        if self._rows_of_user is None or len(units) == 0:
            return units
        return torch.cat([self._rows_of_user[user] for user in units.tolist()])


class WholeEpochLoader:
    """One batch per epoch, with all training rows, for fits that choose their own order."""

    def __init__(self, ratings: Ratings) -> None:
        self._columns = as_tensors(ratings)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[list[Batch]]:
        yield [self._columns]
