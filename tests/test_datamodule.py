import numpy as np
import torch

from ratinglab.datamodule import BLOCK_SIZE, Blocks, ShuffledBatches
from ratinglab.ratings.table import Ratings


def numbered(count: int) -> Ratings:
    """Ratings of which each column tells the row."""
    row = np.arange(count)
    return Ratings(user=row.astype(np.int32), item=(row * 2).astype(np.int32), rating=(row / 2).astype(np.float32))


def epoch_of(seed: int, epoch: int) -> list[int]:
    batches = ShuffledBatches(numbered(10), batch_size=4, seed=seed, epoch=lambda: epoch)
    return [int(user) for batch, _, _ in batches for user in batch]


def test_an_epoch_has_every_row_once_and_keeps_rows_together():
    batches = list(ShuffledBatches(numbered(10), batch_size=4, seed=0, epoch=lambda: 0))
    assert [len(user) for user, _, _ in batches] == [4, 4, 2]
    user, item, rating = (torch.cat(column) for column in zip(*batches, strict=True))
    assert sorted(user.tolist()) == list(range(10))
    assert torch.equal(item, user * 2)
    assert torch.equal(rating, user / 2)


def test_the_order_depends_on_seed_and_epoch_alone():
    assert epoch_of(0, 0) == epoch_of(0, 0)
    assert len({tuple(epoch_of(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_length_counts_the_last_smaller_batch():
    for count, batches in ((8, 2), (9, 3)):
        assert len(ShuffledBatches(numbered(count), batch_size=4, seed=0, epoch=lambda: 0)) == batches


def test_blocks_keep_the_order_and_every_row():
    ratings = numbered(BLOCK_SIZE + 3)
    blocks = list(Blocks(ratings))
    assert [len(user) for user, _, _ in blocks] == [BLOCK_SIZE, 3]
    assert len(Blocks(ratings)) == 2
    assert torch.equal(torch.cat([user for user, _, _ in blocks]), torch.arange(BLOCK_SIZE + 3, dtype=torch.int32))


def test_no_rows_are_no_blocks():
    assert list(Blocks(numbered(0))) == []
    assert len(Blocks(numbered(0))) == 0
