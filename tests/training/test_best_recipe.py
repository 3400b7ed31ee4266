"""recipe=best: the parts that it chooses, and the line that names it."""

import numpy as np
import pandas as pd
import pytest
from run_folders import metrics_of, run_json_of
from tables import table_of

from ratinglab.models.best import BestOptions
from ratinglab.models.svdpp import SVDppOptions
from ratinglab.models.timesvdpp import TimeSVDppOptions
from ratinglab.ratings.side_information import AvailableData, informative_columns
from ratinglab.ratings.table import MILLISECONDS_PER_DAY
from ratinglab.splits.chosen_rows import RowsSplitOptions
from ratinglab.splits.random_rows import RandomSplitOptions
from ratinglab.splits.split_ratings import find_available_data

FEW = ["optimizer.burn_in=2", "logger=none"]


def text(*cells) -> np.ndarray:
    return np.array(cells, dtype=object)


@pytest.mark.parametrize("has_sessions", [False, True])
def test_best_has_every_part_that_the_data_support(has_sessions):
    options = BestOptions(embedding_dim=8, regularization=0.1, init_std=0.2)
    chosen = options.for_data(AvailableData(has_sessions, ("age_group",), ("genres", "year"), has_times=True))
    assert type(chosen) is (TimeSVDppOptions if has_sessions else SVDppOptions)
    assert (chosen.user_features, chosen.item_features) == (["age_group"], ["genres", "year"])
    assert (chosen.implicit.name, chosen.embedding_dim, chosen.regularization) == ("both", 8, 0.1)


def test_columns_that_say_nothing_are_left_out():
    columns = {
        "genres": text("a|b", "a", "b", "a|b", "c"),
        "address": text("p", "q", "r", "s", "t"),
        "constant": text("x", "x", "x", "x", "y"),
        "empty": text("", "", "", "", "z"),
        "age": np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
        "age_group": text("1–2", "1–2", "3–5", "3–5", "3–5"),
        "year": np.array([1990.0, 1991.0, np.nan, 1990.0, 2000.0]),
        "same": np.array([7.0, 7.0, np.nan, 7.0, 8.0]),
        "unknown": np.array([np.nan] * 4 + [1.0]),
    }
    is_trained = np.array([True, True, True, True, False])
    assert informative_columns(columns, is_trained=is_trained) == ("genres", "age_group", "year")


@pytest.mark.parametrize(
    ("days", "has_sessions"),
    [([0, 0, 0, 1, 1, 1], True), ([0, 1, 2, 3, 3, 4], False), ([0, 1, 2, 0, 1, 2], False), ([0, 0, 1, 0, 0, 0], True)],
)
def test_times_count_where_users_give_several_ratings_a_day(days, has_sessions):
    table = table_of([0, 0, 0, 1, 1, 1], range(6), [1, 2, 3, 4, 5, 1], timestamp=np.array(days) * MILLISECONDS_PER_DAY)
    split = RandomSplitOptions(refit=False, seed=0, validation=0.0, test=0.0).apply(table)
    assert find_available_data(table, split).has_sessions is has_sessions


def test_test_rows_do_not_choose_the_parts():
    """Only the last ten rows have several ratings on a user's day, and users and items of the group b."""
    user, item, day = [0, 0, 1, 1] + [2] * 5 + [3] * 5, [0, 1, 0, 1, *range(5), *range(5)], [0, 1, 0, 1] + [0] * 10
    columns = {"user_columns": {"group": text(*"aabb")}, "item_columns": {"group": text(*"aabbb")}}
    table = table_of(user, item, np.arange(14) % 5 + 1, timestamp=np.array(day) * MILLISECONDS_PER_DAY, **columns)
    found = []
    for first_test in (4, 13):
        split = RowsSplitOptions(refit=False, test_start=first_test, test_stop=14, seed=0, validation=0.0).apply(table)
        found.append(find_available_data(table, split))
    none, every = AvailableData(False, (), (), True), AvailableData(True, ("group",), ("group",), True)
    assert found == [none, every]


def test_best_uses_the_data_and_says_which(command, tmp_path):
    ratings = pd.DataFrame({"user_id": np.repeat(range(20), 10), "item_id": np.tile(range(10), 20)})
    ratings["rating"], ratings["time"] = np.random.default_rng(0).integers(1, 6, 200), 1_000_000_000
    ratings.to_csv(tmp_path / "ratings.csv", index=False)
    pd.DataFrame({"user_id": range(20), "gender": list("FM") * 10, "id_text": range(20)}).to_csv(
        tmp_path / "users.csv", index=False
    )
    data = ["data=csv", "data.path=ratings.csv", "data.users.path=users.csv"]
    outcome = command(tmp_path, "train", "recipe=best", *data, *FEW, "trainer.max_epochs=4")
    assert "model      svdpp: embedding_dim=16" in outcome.stdout
    lacking = "the data have no useful item features and no timestamps (data.columns.timestamp)"
    note = f"note: model=best selects svdpp for these data, with implicit feedback, user features (gender); {lacking}"
    assert note in outcome.stdout
    data += ["data.columns.timestamp=time", "data.timestamp_format=s"]
    outcome = command(tmp_path, "train", "recipe=best", *data, *FEW, "trainer.max_epochs=4")
    parts = "with implicit feedback, timestamps, user features (gender); the data have no useful item features"
    assert f"note: model=best selects timesvdpp for these data, {parts}" in outcome.stdout
    assert "tip:" not in outcome.stdout
    record = run_json_of(outcome.run)
    assert (record["model"], record["model_options"]["user_features"]) == ("timesvdpp", ["gender"])
    columns = {"user": "user_id", "item": "item_id", "rating": "rating", "timestamp": "time"}
    assert record["provenance"]["columns"] == columns
    assert record["provenance"]["timestamp_format"] == "s"
    assert "every metric is equal" in command(tmp_path, "reproduce", f"run={outcome.run}").stdout
    again = ["trainer.max_epochs=5", f"resume={outcome.run}"]
    assert "epoch 5/5" in command(tmp_path, "train", *again).stdout
    assert ", 4 epochs; " in outcome.stdout, "no epoch is the best of a sampler"
    parts = "with implicit feedback, timestamps, user features (gender)"
    for model in ("mf", "biased_mf"):
        shown = command(tmp_path, "train", *data, f"model={model}", "trainer.max_epochs=1", "logger=none").stdout
        assert f"tip: recipe=best fits timesvdpp by Gibbs sampling here, {parts}\n" in shown
        assert ", at most 1 epoch\n" in shown
        assert ", 1 epoch, best after " in shown


def test_run_that_only_gets_worse_keeps_the_bias_baseline(command, tmp_path):
    arguments = ["model=biased_mf", "optimizer.lr=0.5", "trainer.max_epochs=3", "logger=none"]
    outcome = command(tmp_path, "train", *arguments)
    assert "warning: no epoch beat the initial weights' val/mse, so the run keeps them\n" in outcome.stdout
    metrics = metrics_of(outcome.run)
    assert metrics["fit/best_epoch"] == 0
    assert metrics["val/rmse"] == pytest.approx(metrics["baseline/bias/val/rmse"], rel=1e-4)
    assert metrics["test/rmse"] == pytest.approx(metrics["baseline/bias/test/rmse"], rel=1e-4)
    outcome = command(tmp_path, "train", *arguments, "split.refit=true")
    metrics = metrics_of(outcome.run)
    assert (metrics["fit/epochs"], metrics["fit/best_epoch"]) == (0, 0)
    assert metrics["test/rmse"] == pytest.approx(metrics["baseline/bias/test/rmse"], rel=1e-4)
    assert "every metric is equal" in command(tmp_path, "reproduce", f"run={outcome.run}").stdout


def test_one_far_rating_does_not_make_a_biased_fit_worse_than_the_mean(command, tmp_path):
    """It moves the bias of its user and its item so far that the bias baseline is worse than the mean."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"user_id": np.repeat(range(40), 20), "item_id": np.tile(range(20), 40)})
    rows["rating"] = random.integers(1, 6, 800).astype(float)
    rows.loc[3, "rating"] = 1e5
    rows.to_csv(tmp_path / "ratings.csv", index=False)
    data = ["data=csv", "data.path=ratings.csv", "model=biased_mf", "trainer.max_epochs=3", "logger=none"]
    metrics = metrics_of(command(tmp_path, "train", *data).run)
    assert metrics["baseline/bias/val/rmse"] > 2 * metrics["baseline/mean/val/rmse"]
    assert metrics["val/rmse"] < 1.001 * metrics["baseline/mean/val/rmse"]
