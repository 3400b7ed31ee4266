"""Data module: batches and their device."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from tables import NO_SIDE_INFORMATION, table_of

from ratinglab.datamodule import RatingDataModule
from ratinglab.splits.chosen_rows import RowsSplitOptions
from ratinglab.splits.random_rows import RandomSplitOptions
from ratinglab.splits.split import TRAIN, VALIDATION
from ratinglab.splits.split_ratings import make_split_ratings


def trainer_on(device: str, *, epoch: int = 0, rank: int = 0, world_size: int = 1) -> SimpleNamespace:
    """Make a stand-in for Lightning's Trainer, with what the data module reads."""
    strategy = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(strategy=strategy, current_epoch=epoch, global_rank=rank, world_size=world_size)


def test_batches_are_on_the_device_of_the_fit():
    """`meta` stands in for a GPU: tensors on it cannot be mixed with those on the CPU."""
    row = np.arange(10)
    side_information = replace(NO_SIDE_INFORMATION, day=(row * 3).astype(np.int32))
    table = table_of(row, row * 2, row / 2)
    split = RandomSplitOptions(refit=False, seed=0, validation=0.2, test=0.0).apply(table)
    data = RatingDataModule(make_split_ratings(table, split, side_information), batch_size=4, fraction=1.0, seed=0)
    data.trainer = trainer_on("meta")
    parts = itertools.chain(*data.train_dataloader(), data.val_dataloader())
    assert {column.device.type for batch in parts for column in batch} == {"meta"}
    data.trainer = None
    parts = itertools.chain(*data.train_dataloader(), data.val_dataloader())
    assert {column.device.type for batch in parts for column in batch} == {"cpu"}


def test_training_ratings_are_in_stars_and_their_mean_and_other_ratings_in_rating_units():
    """On a scale of 1 to 9, a star is 2 rating units: 1, 3, 5, 7 and 9 are 1 to 5 stars."""
    rating = np.array([1, 3, 5, 7, 9, 9], dtype=np.float32)
    table = table_of(np.arange(6), np.arange(6), rating, scale=(1.0, 9.0))
    split = RowsSplitOptions(refit=False, test_start=0, test_stop=1, seed=0, validation=0.4).apply(table)
    data = RatingDataModule(make_split_ratings(table, split, NO_SIDE_INFORMATION), batch_size=4, fraction=1.0, seed=0)
    train = rating[split.part == TRAIN]
    assert data.train_ratings_in_stars.rating.tolist() == [(rating + 1) / 2 for rating in train.tolist()]
    assert data.rating_mean == train.mean()
    assert data.validation_ratings.rating.tolist() == rating[split.part == VALIDATION].tolist()


def test_data_module_serves_whole_users_on_request():
    table = table_of([3, 0, 3, 1, 4, 3, 0, 4, 4, 4, 5, 2, 3], np.arange(13), np.ones(13))
    split = RandomSplitOptions(refit=False, seed=0, validation=0.0, test=0.0).apply(table)
    split_ratings = make_split_ratings(table, split, NO_SIDE_INFORMATION)
    whole = RatingDataModule(split_ratings, batch_size=4, fraction=1.0, seed=0, whole_users=True)
    (batches,) = whole.train_dataloader()
    assert [len(batch.user.unique()) for batch in batches] == [2, 2, 2]
    (rows,) = RatingDataModule(split_ratings, batch_size=4, fraction=1.0, seed=0).train_dataloader()
    assert [len(batch.user) for batch in rows] == [4, 4, 4, 1]


def test_each_epoch_of_the_trainer_has_its_own_order():
    row = np.arange(50)
    table = table_of(row, row, row)
    split = RandomSplitOptions(refit=False, seed=0, validation=0.0, test=0.0).apply(table)
    data = RatingDataModule(make_split_ratings(table, split, NO_SIDE_INFORMATION), batch_size=50, fraction=1.0, seed=0)
    orders = []
    for epoch in (0, 1, 1):
        data.trainer = trainer_on("cpu", epoch=epoch)
        ((batch,),) = data.train_dataloader()
        orders.append(batch.user.tolist())
    assert orders[0] != orders[1] == orders[2]
    assert sorted(orders[0]) == sorted(orders[1])
