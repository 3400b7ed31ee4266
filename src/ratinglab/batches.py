"""Batches of ratings as slices of tensors: never one Python object per row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:  # the table imports pandas, which an equation's options must not wait for
    from ratinglab.ratings.table import Ratings


class Batch(NamedTuple):
    """Rows of ratings: user (B,) int32, item (B,) int32, rating (B,) float32, day (B,) int32 or None."""

    user: Tensor
    item: Tensor
    rating: Tensor
    day: Tensor | None

    def split(self, size: int) -> Iterator[Batch]:
        """These rows, `size` at a time; the last part may be smaller."""
        day = repeat(None) if self.day is None else self.day.split(size)
        return map(Batch, self.user.split(size), self.item.split(size), self.rating.split(size), day)

    def take(self, rows: Tensor) -> Batch:
        """The named rows."""
        return Batch(self.user[rows], self.item[rows], self.rating[rows], None if self.day is None else self.day[rows])


BATCHES_AT_ONCE = 64
"""Batches that Lightning gets as one: its own work between two batches takes about as long as a small batch."""
BLOCK_SIZE = 1 << 15
"""Rows evaluated at once. Up to this size torch sums on one thread, so that an error has the same last digit at any
number of threads."""


CPU = torch.device("cpu")


def as_tensors(ratings: Ratings, *, device: torch.device = CPU) -> Batch:
    """The columns as tensors on a device; on the cpu they share the arrays' memory."""
    user, item, rating = (torch.from_numpy(column) for column in (ratings.user, ratings.item, ratings.rating))
    day = None if ratings.day is None else torch.from_numpy(ratings.day).to(device)
    return Batch(user.to(device), item.to(device), rating.to(device), day)


class Blocks:
    """All rows in their order, BLOCK_SIZE at a time; the last block may be smaller."""

    def __init__(self, ratings: Ratings, *, device: torch.device = CPU) -> None:
        self._columns = as_tensors(ratings, device=device)

    def __len__(self) -> int:
        return -(-len(self._columns.rating) // BLOCK_SIZE)

    def __iter__(self) -> Iterator[Batch]:
        return self._columns.split(BLOCK_SIZE) if len(self) else iter(())


class ShuffledBatches:
    """An epoch of training rows in random order, by lists of batches: each row once, the last batch may be smaller.

    The order depends on the seed and the epoch's number alone, so that a run which resumes at epoch e sees the same
    batches as an uninterrupted one. The rows live on the device, so no batch waits to be sent there.
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
        device: torch.device = CPU,
    ) -> None:
        """Serve batches of `ratings`.

        Args:
            ratings: the rows.
            batch_size: rows in a batch.
            fraction: of the batches of each epoch that are served, at least one.
            seed: of the order.
            epoch: returns the number of the epoch that begins, from 0.
            whole_users: whether a batch holds all rows of its users. Then all batches have the same number of users,
                which have batch_size rows on average.
            device: where the batches are.
        """
        self._columns = as_tensors(ratings, device=device)
        self._seed, self._epoch = seed, epoch
        # a unit is what is shuffled: a row, or a user with all rows
        self._user_rows = _RowsOfUsers(self._columns.user) if whole_users else None
        num_units = len(ratings) if self._user_rows is None else len(self._user_rows.count)
        self._batch_units = max(1, round(batch_size * num_units / len(ratings)))
        self.num_batches = max(1, round(fraction * -(-num_units // self._batch_units)))
        """Batches in an epoch."""
        self._num_units = num_units

    def __len__(self) -> int:
        return -(-self.num_batches // BATCHES_AT_ONCE)

    def __iter__(self) -> Iterator[list[Batch]]:
        # A generator, so that the epoch is asked for with the first batch: when Lightning resumes a run, it makes the
        # iterator before it knows the epoch.
        # SeedSequence mixes both numbers: seed 0 at epoch 1 is not seed 1 at epoch 0.
        mixed = np.random.SeedSequence([self._seed, self._epoch()]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(mixed))
        units = torch.randperm(self._num_units, generator=generator, dtype=torch.int32)
        units = units[: self.num_batches * self._batch_units].to(self._columns.rating.device)
        for at_once in units.split(BATCHES_AT_ONCE * self._batch_units):
            if self._user_rows is None:
                yield list(self._columns.take(at_once).split(self._batch_units))
            else:
                yield [self._columns.take(self._user_rows.of(users)) for users in at_once.split(self._batch_units)]


class _RowsOfUsers:
    """The rows of each user."""

    def __init__(self, user: Tensor) -> None:
        """Sort the rows by user: (N,) int32."""
        self._row = torch.argsort(user, stable=True)
        self.count = torch.bincount(user)
        self._start = torch.cumsum(self.count, dim=0) - self.count

    def of(self, users: Tensor) -> Tensor:
        """Rows of some users, one user after the other: (U,) → (n,) int64."""
        users = users.long()
        count = self.count[users]
        begin = torch.cumsum(count, dim=0) - count
        shift = torch.repeat_interleave(self._start[users] - begin, count)
        return self._row[torch.arange(int(count.sum()), device=users.device) + shift]


class WholeEpochs:
    """Each epoch is one batch: all training rows, for a fit that has its own order."""

    num_batches = 1
    """Batches in an epoch."""

    def __init__(self, ratings: Ratings) -> None:
        self._columns = as_tensors(ratings)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[list[Batch]]:
        yield [self._columns]
