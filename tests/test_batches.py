"""Batches of ratings: each row once per epoch, in a reproducible order."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from ratinglab import batches as batches_module
from ratinglab.batches import EVALUATION_BLOCK_ROWS, EvaluationLoader, ShuffledLoader
from ratinglab.ratings.table import Ratings


def numbered(count: int) -> Ratings:
    """Make ratings in which every column identifies the row."""
    row = np.arange(count)
    user, item, day = (column.astype(np.int32) for column in (row, row * 2, row * 3))
    return Ratings(user=user, item=item, rating=(row / 2).astype(np.float32), day=day)


def shuffled(count: int, *, fraction=1.0, seed=0, epoch=0) -> ShuffledLoader:
    return ShuffledLoader(numbered(count), batch_size=4, fraction=fraction, seed=seed, epoch=lambda: epoch)


def batches_of(count: int, **options) -> list:
    return list(itertools.chain.from_iterable(shuffled(count, **options)))


def epoch_of(seed: int, epoch: int) -> list[int]:
    return [int(user) for batch, *_ in batches_of(10, seed=seed, epoch=epoch) for user in batch]


def test_epoch_has_every_row_once_with_its_columns_together():
    batches = batches_of(10)
    assert [len(user) for user, *_ in batches] == [4, 4, 2]
    user, item, rating, day = (torch.cat(column) for column in zip(*batches, strict=True))
    assert sorted(user.tolist()) == list(range(10))
    assert torch.equal(item, user * 2)
    assert torch.equal(rating, user / 2)
    assert torch.equal(day, user * 3)


def whole_batches(rows: Ratings, **options) -> list:
    loader = ShuffledLoader(rows, batch_size=4, fraction=1.0, seed=0, epoch=lambda: 0, **options)
    return list(itertools.chain.from_iterable(loader))


@pytest.mark.parametrize("whole_users", [False, True])
def test_processes_share_each_batch(whole_users):
    """The last batch has fewer rows or users than there are processes."""
    rows = numbered(21)
    if whole_users:
        rows = replace(rows, user=rows.user // 2)
    one = whole_batches(rows, whole_users=whole_users)
    processes = [whole_batches(rows, whole_users=whole_users, rank=rank, world_size=3) for rank in range(3)]
    assert min(len(shard.user) for shards in processes for shard in shards) == 0
    for batch, *shards in zip(one, *processes, strict=True):
        for column, *columns in zip(batch, *shards, strict=True):
            assert torch.equal(torch.cat(columns), column)


def test_order_depends_only_on_seed_and_epoch():
    assert epoch_of(0, 0) == epoch_of(0, 0)
    assert len({tuple(epoch_of(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize("at_once", [1, 2, 3, 64])
def test_epoch_does_not_depend_on_the_number_of_batches_per_list(monkeypatch, at_once):
    whole = batches_of(30)
    monkeypatch.setattr(batches_module, "BATCHES_PER_STEP", at_once)
    lists = list(shuffled(30))
    assert len(lists) == len(shuffled(30)) == -(-8 // at_once)
    assert max(map(len, lists)) == min(at_once, 8)
    for batch, other in zip(itertools.chain.from_iterable(lists), whole, strict=True):
        assert torch.equal(batch[0], other[0])


@pytest.mark.parametrize(("fraction", "batches"), [(1.0, 10), (0.5, 5), (0.01, 1)])
def test_fraction_keeps_the_first_batches_and_at_least_one(fraction, batches):
    some, whole = batches_of(37, fraction=fraction), batches_of(37)
    assert len(some) == shuffled(37, fraction=fraction).num_batches == batches
    assert all(torch.equal(batch[0], other[0]) for batch, other in zip(some, whole, strict=False))


USER = np.array([3, 0, 3, 1, 4, 3, 0, 4, 4, 4, 5, 2, 3], dtype=np.int32)
"""Users with 2, 1, 1, 4, 4 and 1 ratings."""


def of_whole_users(*, batch_size=4, fraction=1.0, seed=0, epoch=0) -> ShuffledLoader:
    rows = replace(numbered(len(USER)), user=USER)
    return ShuffledLoader(
        rows, batch_size=batch_size, fraction=fraction, seed=seed, epoch=lambda: epoch, whole_users=True
    )


def whole_user_epoch(**options) -> list:
    return list(itertools.chain.from_iterable(of_whole_users(**options)))


@pytest.mark.parametrize("batch_size", [1, 4, 1_000])
@pytest.mark.parametrize("epoch", [0, 1])
def test_batch_of_whole_users_has_all_their_rows(batch_size, epoch):
    batches = whole_user_epoch(batch_size=batch_size, epoch=epoch)
    user, item, rating, day = (torch.cat(column) for column in zip(*batches, strict=True))
    row = item // 2
    assert sorted(row.tolist()) == list(range(len(USER)))
    assert user.tolist() == USER[row].tolist()
    assert torch.equal(rating, row / 2)
    assert torch.equal(day, row * 3)
    batches_of_user = [{number for number, batch in enumerate(batches) if one in batch.user} for one in range(6)]
    assert all(len(numbers) == 1 for numbers in batches_of_user)


def test_batches_of_whole_users_have_batch_size_rows_on_average():
    batches = whole_user_epoch()
    # 13 rows of 6 users: 4 rows are about 2 users
    assert [len(batch.user.unique()) for batch in batches] == [2, 2, 2]
    assert of_whole_users().num_batches == 3
    assert [len(batch.user.unique()) for batch in whole_user_epoch(batch_size=8)] == [4, 2]


def users_in_order(**options) -> list[list[int]]:
    return [batch.user.unique_consecutive().tolist() for batch in whole_user_epoch(batch_size=2, **options)]


def test_order_of_whole_users_depends_only_on_seed_and_epoch():
    assert users_in_order() == users_in_order()
    orders = [users_in_order(seed=seed, epoch=epoch) for seed in range(3) for epoch in range(3)]
    assert len({str(order) for order in orders}) == 9
    assert {len(order) for order in orders} == {of_whole_users(batch_size=2).num_batches} == {6}


@pytest.mark.parametrize(("fraction", "batches"), [(1.0, 6), (0.5, 3), (0.01, 1)])
def test_fraction_keeps_the_first_batches_of_whole_users(fraction, batches):
    some, whole = users_in_order(fraction=fraction), users_in_order()
    assert some == whole[:batches]


def test_epoch_of_whole_users_does_not_depend_on_batches_per_list(monkeypatch):
    whole = users_in_order()
    monkeypatch.setattr(batches_module, "BATCHES_PER_STEP", 4)
    lists = list(of_whole_users(batch_size=2))
    assert [len(items) for items in lists] == [4, 2]
    assert len(of_whole_users(batch_size=2)) == 2
    assert users_in_order() == whole


def test_blocks_keep_every_row_in_order():
    ratings = numbered(EVALUATION_BLOCK_ROWS + 3)
    blocks = list(EvaluationLoader(ratings))
    assert [len(user) for user, *_ in blocks] == [EVALUATION_BLOCK_ROWS, 3]
    assert len(EvaluationLoader(ratings)) == 2
    user, day = (torch.cat([getattr(block, name) for block in blocks]) for name in ("user", "day"))
    assert torch.equal(user, torch.arange(EVALUATION_BLOCK_ROWS + 3, dtype=torch.int32))
    assert torch.equal(day, user * 3)
    without = EvaluationLoader(replace(ratings, day=None))
    assert [block.day for block in without] == [None, None]


def test_no_rows_give_no_blocks():
    assert list(EvaluationLoader(numbered(0))) == []
    assert len(EvaluationLoader(numbered(0))) == 0
