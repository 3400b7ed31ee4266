"""Training with the rows on disk: the same run as with the rows in memory."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from equal_runs import assert_equal_runs
from run_folders import metrics_of

import ratinglab
from ratinglab.errors import UserError
from ratinglab.inference import run_tables
from ratinglab.kernels import sorted_ratings
from ratinglab.ratings import mapped_arrays
from ratinglab.ratings.mapped_arrays import allocate_array

DATA = ["data=csv", "data.path=ratings.parquet", "data.cache=cache"]
ON_DISK = [*DATA, "data.on_disk=true"]
SHORT = ["model=biased_mf", "trainer.max_epochs=3", "logger=none"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("on disk")
    random = np.random.default_rng(0)
    pair = random.permutation(300 * 60)[:4_000]
    user, item = pair // 60, pair % 60
    rating = np.clip(np.round(3 + np.sin(user) + np.cos(item) + random.normal(0, 0.3, len(pair))), 0, 7)
    pd.DataFrame({"user_id": user, "item_id": item, "rating": rating}).to_parquet(folder / "ratings.parquet")
    return folder


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(mapped_arrays, "BLOCK_ROWS", 900)
    monkeypatch.setattr(sorted_ratings, "RATINGS_PER_PASS", 700)


@pytest.mark.parametrize("fit", ["block_sgd", "als"])
@pytest.mark.parametrize("split", ["random", "kfold", "rows split.test_start=0 split.test_stop=500"])
def test_run_equals_the_one_in_memory(command, folder, fit, split):
    common = [*SHORT, f"optimizer={fit}", *f"split={split}".split()]
    runs = [
        command(folder, "train", *data, *common, f"hydra.run.dir={fit}-{split[:4]}-{len(data)}").run
        for data in (DATA, ON_DISK)
    ]
    assert_equal_runs(*runs)
    assert (runs[0] / "ratings.parquet").read_bytes() == (runs[1] / "ratings.parquet").read_bytes()
    assert metrics_of(runs[1])["fit/best_epoch"] > 0


def test_header_says_what_the_disk_must_hold(command, tmp_path, folder):
    outcome = command(folder, "train", *ON_DISK, f"data.cache={tmp_path}", *SHORT, "optimizer=als")
    first = outcome.stdout.splitlines()[0]
    assert first.startswith("disk       about 4,000 rows: 48 kB in the cache, and 80 kB while a run trains; ")


def test_interrupted_run_resumes_bit_for_bit(command, folder):
    common = [*SHORT, *ON_DISK, "optimizer=block_sgd"]
    whole = command(folder, "train", *common, "hydra.run.dir=whole").run
    command(folder, "train", *common, "hydra.run.dir=cut", "trainer.max_epochs=1")
    before = sorted((folder / "cache" / "tables").iterdir())
    resumed = command(folder, "train", "resume=cut", "trainer.max_epochs=3").run
    assert_equal_runs(whole, resumed)
    assert sorted((folder / "cache" / "tables").iterdir()) == before, "a resumed run keeps no second copy of the rows"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("optimizer=adam", "optimizer must be one of als, block_sgd, spark_als with data.on_disk=true, got adam"),
        ("split=per_user", "with data.on_disk=true, got per_user"),
        ("monitor=val/ndcg@10", "monitor must be a metric of ratings with data.on_disk=true, got val/ndcg@10"),
        ("ranking.k=10", "ranking.k must be null with data.on_disk=true, got 10"),
        ("model=svdpp", "data.on_disk must be false with model=svdpp, which uses implicit feedback"),
    ],
)
def test_choices_that_need_memory_are_refused(command, folder, changed, message):
    arguments = [*ON_DISK, "model=biased_mf", "optimizer=als", changed]
    outcome = command(folder, "train", *arguments, "hydra.run.dir=refused", status=2)
    assert outcome.stderr.count("\n") == 1
    assert message in outcome.stderr
    assert not (folder / "refused").exists()


@pytest.mark.parametrize("fit", ["block_sgd", "als"])
def test_full_disk_is_one_line(command, folder, monkeypatch, fit):
    command(folder, "train", *ON_DISK, *SHORT, "optimizer=als", f"hydra.run.dir=before-{fit}")
    monkeypatch.setattr("os.posix_fallocate", full_disk)
    arguments = [*ON_DISK, *SHORT, f"optimizer={fit}", "hydra.run.dir=full"]
    outcome = command(folder, "train", *arguments, status=2)
    assert outcome.stderr.count("\n") == 1
    assert "data.cache: " in outcome.stderr
    assert "No space left on device" in outcome.stderr
    assert not (folder / "full").exists()


def test_disk_that_fills_once_the_run_is_written_is_named_and_the_run_resumes(command, folder, monkeypatch):
    whole = command(folder, "train", *ON_DISK, *SHORT, "optimizer=als", "hydra.run.dir=roomy").run
    with monkeypatch.context() as context:
        context.setattr(sorted_ratings, "allocate_array", partial(after_full_disk, allocate_array))
        outcome = command(folder, "train", *ON_DISK, *SHORT, "optimizer=als", "hydra.run.dir=filled", status=1)
    assert outcome.stderr == "error: cache/tables: No space left on device\n"
    assert_equal_runs(whole, command(folder, "train", "resume=filled").run)


def after_full_disk(function, *arguments, **keywords):
    with pytest.MonkeyPatch.context() as context:
        context.setattr("os.posix_fallocate", full_disk)
        return function(*arguments, **keywords)


def full_disk(*_):
    raise OSError(28, "No space left on device")


def test_data_frame_is_refused(folder):
    arguments = ["data.on_disk=true", *SHORT, "optimizer=als"]
    with pytest.raises(UserError, match=r"data\.on_disk must be false for data frames"):
        ratinglab.train(*arguments, ratings=pd.read_parquet(folder / "ratings.parquet"))


def test_run_with_very_many_ratings_recommends_to_one_user(command, folder, monkeypatch):
    run = command(folder, "train", *ON_DISK, *SHORT, "optimizer=als", "hydra.run.dir=used").run
    expected = ratinglab.load(run).recommend(7, k=5, by="prediction")
    changed = ratinglab.load(run).fold_in({3: 5, 4: 1}, user_id=7).recommend(k=5, by="prediction")
    monkeypatch.setattr(run_tables, "MAX_RATINGS_IN_MEMORY", 100)
    loaded = ratinglab.load(run)
    assert loaded.recommend(7, k=5, by="prediction").equals(expected)
    assert loaded.fold_in({3: 5, 4: 1}, user_id=7).recommend(k=5, by="prediction").equals(changed)
    assert "ratings" not in vars(loaded.tables)
    with pytest.raises(UserError, match="by=expected_gain needs all 4,000 ratings of the run in memory: by=prediction"):
        loaded.recommend(7, k=5)
    with pytest.raises(UserError, match="exclude_seen=true needs all 4,000 ratings of the run in memory"):
        loaded.recommend_to_all(k=5, by="prediction")
