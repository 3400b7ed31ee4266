"""The demo data: known noise, and files that are generated once."""

import numpy as np
import pytest
import torch
from tables import NO_SIDE_INFORMATION

from ratinglab.batches import as_tensors
from ratinglab.datasets import demo
from ratinglab.datasets.sources import DemoOptions
from ratinglab.models.bias_baseline import BiasBaseline
from ratinglab.reading.cleaning_options import Duplicates
from ratinglab.splits.random_rows import RandomSplitOptions
from ratinglab.splits.split import TEST, TRAIN
from ratinglab.splits.split_ratings import make_split_ratings


def load_demo(cache, *, seed):
    return DemoOptions(
        duplicates=Duplicates.error, min_rating=None, min_ratings_per_user=0, min_ratings_per_item=0, batch_size=1,
        cache=str(cache), seed=seed,
    ).load()  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Make an empty cache folder: the tests' own has smaller demo data."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def table(cache):
    return load_demo(cache, seed=0)


def test_demo_has_the_documented_size_and_scale(table):
    assert len(table.ratings) == 100_000
    assert (table.num_users, table.num_items) == (1_000, 1_700)
    assert set(np.unique(table.ratings.rating)) == {half / 2 for half in range(1, 11)}
    assert len(np.unique(table.ratings.user.astype(np.int64) * 10_000 + table.ratings.item)) == 100_000
    assert len(set(table.titles)) == 1_700


def test_popularity_has_a_long_tail(table):
    count = np.sort(np.bincount(table.ratings.item))[::-1]
    assert count[:170].sum() > 0.3 * count.sum()
    assert np.median(count) < 0.7 * count.mean()


def test_noise_floor_is_the_mse_of_a_model_that_knows_the_true_ratings():
    generated = demo.generate(1)
    true, given = generated.true_rating[:500], generated.ratings["rating"].to_numpy()[:500]
    # E[r | t] and Var[r | t] by a separate simulation: 2,000 draws of noise, rounded and clipped, for each row
    draws = true[:, None] + np.random.default_rng(5).normal(0, demo.NOISE_STD, (500, 2_000))
    draws = np.clip(np.round(draws / demo.STEP) * demo.STEP, demo.LOWEST, demo.HIGHEST)
    assert demo.compute_noise_floor(true) == pytest.approx(draws.var(axis=1).mean(), rel=0.01)
    assert generated.noise_floor == pytest.approx(((given - draws.mean(axis=1)) ** 2).mean(), rel=0.15)


def test_bias_baseline_is_well_above_the_noise_floor(table):
    split = RandomSplitOptions(refit=False, seed=0, validation=0.1, test=0.1).apply(table)
    split_ratings = make_split_ratings(table, split, NO_SIDE_INFORMATION)
    user, item, rating, _ = as_tensors(split_ratings.copy_rows(TRAIN))
    baseline = BiasBaseline(num_users=split_ratings.num_users, num_items=split_ratings.num_items)
    baseline.fit(user=user, item=item, rating=rating)
    user, item, rating, _ = as_tensors(split_ratings.copy_rows(TEST))
    mse = float(torch.square(baseline(user, item) - rating).mean())
    assert mse > 1.4 * table.noise_floor


def test_same_seed_gives_an_equal_table_and_another_seed_does_not(tmp_path, table):
    assert load_demo(tmp_path, seed=0).digest == table.digest
    assert load_demo(tmp_path, seed=1).digest != table.digest
    assert {path.name for path in tmp_path.iterdir()} == {"demo-v2-seed0", "demo-v2-seed1"}


def test_demo_is_equal_on_every_processor(table):
    assert table.digest == "9c8aa213f9c3c588e229628a6a1ef10c"


def test_two_runs_can_write_the_demo_at_once(tmp_path, monkeypatch):
    own = demo.generate

    def generate_while_another_does(seed):
        monkeypatch.setattr(demo, "generate", own)
        load_demo(tmp_path, seed=seed)
        return own(seed)

    monkeypatch.setattr(demo, "generate", generate_while_another_does)
    assert len(load_demo(tmp_path, seed=3).ratings) == 100_000
    assert [path.name for path in tmp_path.iterdir()] == ["demo-v2-seed3"]


def test_incomplete_files_of_a_killed_run_are_rewritten(tmp_path):
    folder = tmp_path / "demo-v2-seed3"
    folder.mkdir()
    (folder / "ratings.csv").write_text("user_id,item_id,rating,timestamp\n1,1,3.0,0\n")
    assert len(load_demo(tmp_path, seed=3).ratings) == 100_000
