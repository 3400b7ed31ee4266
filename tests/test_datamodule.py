import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tables import table_of

from ratinglab import datamodule
from ratinglab.batches import BLOCK_SIZE, Blocks, ShuffledBatches
from ratinglab.datamodule import RatingDataModule
from ratinglab.ratings.holdout import hold_out
from ratinglab.ratings.splits import RandomSplit
from ratinglab.ratings.table import MILLISECONDS, Ratings


def numbered(count: int) -> Ratings:
    """Ratings of which each column tells the row."""
    row = np.arange(count)
    user, item, day = (column.astype(np.int32) for column in (row, row * 2, row * 3))
    return Ratings(user=user, item=item, rating=(row / 2).astype(np.float32), day=day)


def shuffled(count: int, *, fraction=1.0, seed=0, epoch=0) -> ShuffledBatches:
    return ShuffledBatches(numbered(count), batch_size=4, fraction=fraction, seed=seed, epoch=lambda: epoch)


def batches_of(count: int, **options) -> list:
    return list(itertools.chain.from_iterable(shuffled(count, **options)))


def epoch_of(seed: int, epoch: int) -> list[int]:
    return [int(user) for batch, *_ in batches_of(10, seed=seed, epoch=epoch) for user in batch]


def test_an_epoch_has_every_row_once_and_keeps_rows_together():
    batches = batches_of(10)
    assert [len(user) for user, *_ in batches] == [4, 4, 2]
    user, item, rating, day = (torch.cat(column) for column in zip(*batches, strict=True))
    assert sorted(user.tolist()) == list(range(10))
    assert torch.equal(item, user * 2)
    assert torch.equal(rating, user / 2)
    assert torch.equal(day, user * 3)


def test_the_order_depends_on_seed_and_epoch_alone():
    assert epoch_of(0, 0) == epoch_of(0, 0)
    assert len({tuple(epoch_of(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize("at_once", [1, 2, 3, 64])
def test_batches_come_in_lists_that_make_the_same_epoch(monkeypatch, at_once):
    whole = batches_of(30)
    monkeypatch.setattr(datamodule, "BATCHES_AT_ONCE", at_once)
    lists = list(shuffled(30))
    assert len(lists) == len(shuffled(30)) == -(-8 // at_once)
    assert max(map(len, lists)) == min(at_once, 8)
    for batch, other in zip(itertools.chain.from_iterable(lists), whole, strict=True):
        assert torch.equal(batch[0], other[0])


@pytest.mark.parametrize(("fraction", "batches"), [(1.0, 10), (0.5, 5), (0.01, 1)])
def test_a_fraction_of_the_batches_is_the_first_ones_and_at_least_one(fraction, batches):
    some, whole = batches_of(37, fraction=fraction), batches_of(37)
    assert len(some) == shuffled(37, fraction=fraction).num_batches == batches
    assert all(torch.equal(batch[0], other[0]) for batch, other in zip(some, whole, strict=False))


def test_blocks_keep_the_order_and_every_row():
    ratings = numbered(BLOCK_SIZE + 3)
    blocks = list(Blocks(ratings))
    assert [len(user) for user, *_ in blocks] == [BLOCK_SIZE, 3]
    assert len(Blocks(ratings)) == 2
    user, day = (torch.cat([getattr(block, name) for block in blocks]) for name in ("user", "day"))
    assert torch.equal(user, torch.arange(BLOCK_SIZE + 3, dtype=torch.int32))
    assert torch.equal(day, user * 3)
    without = Blocks(replace(ratings, day=None))
    assert [block.day for block in without] == [None, None]


def test_rows_live_on_the_device_of_the_fit():
    """`meta` stands in for a GPU: a device to which nothing on the cpu can be added."""
    rows = vars(numbered(10))
    day = rows.pop("day")
    table = table_of(**rows, timestamp=day * np.int64(MILLISECONDS)).with_days(asked_by="a test")
    split = RandomSplit(refit=False, seed=0, validation=0.2, test=0.0).apply(table)
    data = RatingDataModule(hold_out(table, split), batch_size=4, fraction=1.0, seed=0)
    data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta")), current_epoch=0)
    parts = itertools.chain(*data.train_dataloader(), data.val_dataloader())
    assert {column.device.type for batch in parts for column in batch} == {"meta"}
    data.trainer = None
    parts = itertools.chain(*data.train_dataloader(), data.val_dataloader())
    assert {column.device.type for batch in parts for column in batch} == {"cpu"}


def test_no_rows_are_no_blocks():
    assert list(Blocks(numbered(0))) == []
    assert len(Blocks(numbered(0))) == 0
