"""Runs of timesvdpp: days of ratings from the file to the prediction, with genres as item features."""

import json

import numpy as np
import pandas as pd
import pytest

from ratinglab.errors import UserError
from ratinglab.inference.run import Run
from ratinglab.models.design import Design

FILES = [
    "data=csv",
    "data.path=ratings.csv",
    "data.columns.timestamp=timestamp",
    "data.items.path=items.csv",
]
TIMED = [*FILES, "model=timesvdpp", "model.item_features=[genres]", "model.embedding_dim=4", "logger=none"]
DAY = 86_400


def write_data(folder) -> None:
    """Write ratings of 60 users who rate all items higher or lower by a different amount on each of three days."""
    random = np.random.default_rng(0)
    user, item = np.divmod(np.flatnonzero(random.random(60 * 40) < 0.6), 40)
    day = random.integers(0, 3, len(user))
    rating = 3 + random.normal(0, 1, (60, 3))[user, day] + random.normal(0, 0.3, len(user))
    time = day * DAY + random.integers(0, DAY, len(user))
    columns = {"user_id": user, "item_id": item, "rating": rating.round(2), "timestamp": time}
    pd.DataFrame(columns).to_csv(folder / "ratings.csv", index=False)
    genres = np.array(["Comedy|Drama", "(no genres listed)", "Drama", ""])[np.arange(40) % 4]
    titles = [f"Film {number}" for number in range(40)]
    pd.DataFrame({"item_id": range(40), "title": titles, "genres": genres}).to_csv(folder / "items.csv", index=False)


@pytest.fixture(scope="module", params=["adam", "gibbs"])
def timed(request, command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("timed")
    write_data(folder)
    settings = {
        "adam": ["optimizer.lr=0.02", "trainer.max_epochs=60"],
        "gibbs": ["optimizer=gibbs", "optimizer.burn_in=10", "trainer.max_epochs=30"],
    }
    return command(folder, "train", *TIMED, *settings[request.param])


def test_timesvdpp_learns_days_and_its_run_stores_them(timed):
    metrics = json.loads((timed.run / "metrics.json").read_text())
    # without days, the daily offsets (variance 1) are noise
    assert metrics["test/mse"] < 0.5 < 0.9 < metrics["baseline/bias/test/mse"]
    run = Run.load(timed.run)
    if run.record.is_sampled:
        test = run.part("test")
        ids, times = (run.user_ids.ids[test.user], run.item_ids.ids[test.item]), test.day.astype("datetime64[D]")
        distance = np.abs(run.predict(*ids, times=times) - test.rating)
        inside = (distance <= 1.6449 * run.standard_deviation(*ids, times=times)).mean()
        assert metrics["test/coverage_90"] == pytest.approx(
            inside, abs=0.02
        )  # predictions are clipped, the interval not
        of_last_day = (distance <= 1.6449 * run.standard_deviation(*ids)).mean()
        assert metrics["test/coverage_90"] != pytest.approx(of_last_day, abs=1e-9)
    rows = pd.read_parquet(timed.run / "ratings.parquet")
    given = pd.read_csv(timed.folder / "ratings.csv")
    assert rows["day"].tolist() == (given["timestamp"] // DAY).tolist()
    equation = run.predictor.model.get_submodule("equation" if run.record.is_sampled else "")
    assert [weights.weight.shape for weights in equation.item_features] == [(2, 4)]
    genres = next(term.design for term in equation.side_terms("item") if term.feature == "genres")
    assert genres.start.diff()[run.item_ids.index_of([0, 1, 2, 3])].tolist() == [2, 0, 1, 0]


def test_evaluate_and_reproduce_give_equal_metrics(command, timed, tmp_path):
    assert "equal to metrics.json to the last digit" in command(tmp_path, "evaluate", f"run={timed.run}").stdout
    assert "every metric is equal to the last digit" in command(timed.folder, "reproduce", f"run={timed.run}").stdout


def test_stopped_run_resumes_to_equal_predictions(command, tmp_path):
    write_data(tmp_path)
    settings = [*TIMED, "callbacks.early_stopping.patience=null"]
    whole = command(tmp_path, "train", *settings, "trainer.max_epochs=8").run
    part = command(tmp_path, "train", *settings, "trainer.max_epochs=5").run
    command(tmp_path, "train", f"resume={part}", "trainer.max_epochs=8")
    predicted = [Run.load(run).predictions("test").predicted for run in (whole, part)]
    assert np.array_equal(*predicted)


def test_pairs_without_timestamps_are_predicted_for_the_last_day(timed):
    run = Run.load(timed.run)
    test = run.part("test")
    ids, future = (run.user_ids.ids[test.user], run.item_ids.ids[test.item]), np.datetime64("2200-01-01")
    of_last_day = run.predict(*ids)
    assert of_last_day == pytest.approx(run.predict(*ids, times=np.full(len(test), future)), abs=1e-5)
    assert np.abs(of_last_day - run.predictions("test").predicted).max() > 0.5


def test_recommend_uses_the_last_day_of_the_user(command, timed, tmp_path):
    run = Run.load(timed.run)
    every = run.recommend_to_all(k=3)
    one = run.recommend(7, k=3)
    assert every[every["user_id"] == 7]["item_id"].tolist() == one["item_id"].tolist()
    train = run.part("train")
    days = train.day[train.user == run.user_ids.index_of([7])[0]]
    last, first = (np.full(3, np.datetime64(int(day), "D")) for day in (days.max(), days.min()))
    assert one["prediction"].to_numpy() == pytest.approx(run.predict([7] * 3, one["item_id"], times=last), abs=1e-5)
    assert np.abs(one["prediction"].to_numpy() - run.predict([7] * 3, one["item_id"], times=first)).max() > 0.1
    if run.record.is_sampled:
        of_last = run.standard_deviation([7] * 3, one["item_id"], times=last)
        assert np.array_equal(run.standard_deviation([7] * 3, one["item_id"]), of_last)
        assert not np.array_equal(run.standard_deviation([7] * 3, one["item_id"], times=first), of_last)


def test_predict_uses_the_baseline_for_unknown_ids_and_refuses_invalid_times(timed):
    run = Run.load(timed.run)
    times = np.full(3, np.datetime64("1970-01-02"))
    known = run.item_ids.ids[:1].tolist() * 2
    baseline = run.predictor.baseline
    mean, bias = float(baseline.mean), float(baseline.item_bias[0])
    predicted = run.predict(["nobody", "nobody", 7], [*known[:1], "nothing", "nothing"], times=times)
    lowest, highest = run.record.scale
    assert predicted[:2] == pytest.approx(np.clip([mean + bias, mean], lowest, highest), abs=1e-5)
    # a known pair among unknown ones still uses its day
    times[2] = np.datetime64("1970-01-01")
    mixed = run.predict(["nobody", 7, 7], [known[0], "nothing", known[0]], times=times)
    alone = run.predict([7], known[:1], times=times[2:])
    assert mixed[2] == alone[0] != run.predict([7], known[:1])[0]
    with pytest.raises(UserError, match="times: entry 1 is NaT"):
        run.predict([7, 7], known, times=np.array(["1970-01-02", "NaT"], dtype="datetime64[D]"))
    with pytest.raises(UserError, match="times and user_ids must have the same length, got 3 and 2"):
        run.predict([7, 7], known, times=times)


def test_resume_refuses_changed_days_or_genres(command, tmp_path):
    write_data(tmp_path)
    run = command(tmp_path, "train", *TIMED, "trainer.max_epochs=2", "callbacks.early_stopping.patience=null").run
    ratings, items = (tmp_path / name for name in ("ratings.csv", "items.csv"))
    for path, changed in (
        (ratings, pd.read_csv(ratings).assign(timestamp=lambda rows: rows["timestamp"] + DAY // 2)),
        (items, pd.read_csv(items, keep_default_na=False).assign(genres="Drama")),
    ):
        before = path.read_bytes()
        changed.to_csv(path, index=False)
        outcome = command(tmp_path, "train", f"resume={run}", "trainer.max_epochs=3", status=2)
        assert "resume: the side information has changed since" in outcome.stderr
        path.write_bytes(before)
    command(tmp_path, "train", f"resume={run}", "trainer.max_epochs=3")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["data.columns.timestamp=null"], "model=timesvdpp needs timestamps: set data.columns."),
        (["model.item_features=[genre]"], "model.item_features: data.items.path has no column genre; it has "),
        (["data.items.path=null"], "model.item_features=[genres] needs a table of items: set data.items.path to its"),
        (["optimizer=block_sgd"], "optimizer=block_sgd fits biased_mf and mf, got model=timesvdpp"),
        (["optimizer=sparse_adam"], "bias, biased_mf, "),
    ],
)
def test_conflicting_options_give_a_one_line_error_and_no_files(command, tmp_path, options, message):
    write_data(tmp_path)
    outcome = command(tmp_path, "train", *TIMED, *options, status=2)
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.csv", "ratings.csv"]


def test_model_without_days_refuses_times(command, tmp_path):
    write_data(tmp_path)
    folder = command(tmp_path, "train", *FILES, "model=mf", "trainer.max_epochs=1", "logger=none").run
    assert "day" not in pd.read_parquet(folder / "ratings.parquet")
    run = Run.load(folder)
    with pytest.raises(UserError, match="mf takes no timestamps: it predicts the same on all days"):
        run.predict([1], [2], times=np.array(["1970-01-02"], dtype="datetime64[D]"))


def test_feature_unknown_for_all_trained_items_is_refused():
    genres = np.array(["", "(no genres listed)", "Drama"], dtype=object)
    with pytest.raises(UserError, match=r"model\.item_features: genres is unknown in every row with training ratings"):
        Design.from_feature(genres[:2], key="model.item_features: genres")  # the third item has no training rows
    assert Design.from_feature(genres, key="model.item_features: genres").num_columns == 1


def test_times_can_be_any_dates(timed):
    run, ids = Run.load(timed.run), ([3, 3], [5, 6])
    days = np.array(["1970-01-01T23:30", "1970-01-03"], dtype="datetime64[s]")
    expected = run.predict(*ids, times=days)
    assert not np.array_equal(expected, run.predict(*ids, times=days[::-1]))
    series = pd.Series(days)
    given = [series, pd.DatetimeIndex(days), list(series), series.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")]
    for times in given:
        np.testing.assert_array_equal(run.predict(*ids, times=times), expected)
    for wrong in ([1, 2], ["1970-01-01", "1970-01-03"]):
        with pytest.raises(UserError, match=r"^times must be .* got \w+ .*; pd.to_datetime\(times.*\) converts them"):
            run.predict(*ids, times=wrong)


def test_other_ratings_are_evaluated_on_the_days_in_the_column_of_the_own_data(timed):
    run = Run.load(timed.run)
    test = run.part("test")
    frame = pd.DataFrame({"user_id": run.user_ids.ids[test.user], "item_id": run.item_ids.ids[test.item]})
    frame = frame.assign(rating=test.rating, timestamp=test.day.astype(np.int64) * DAY)
    assert run.evaluate(frame)["mse"] == run.metrics["test/mse"]
    of_last_days = run.evaluate(frame.drop(columns="timestamp"))["mse"]
    assert of_last_days == run.evaluate(frame.rename(columns={"timestamp": "at"}))["mse"] > run.metrics["test/mse"]


def test_other_ratings_can_have_times_in_any_format(timed):
    run, columns = Run.load(timed.run), {"timestamp": "when"}
    days = pd.Series(np.array(["1970-01-01", "1970-01-03"], dtype="datetime64[s]"))
    frame = pd.DataFrame({"user_id": [3, 3], "item_id": [5, 6], "rating": [2.0, 4.0], "when": days})
    expected = run.evaluate(frame, columns=columns)
    written = frame.assign(when=days.dt.strftime("%d.%m.%Y"))
    assert run.evaluate(written, columns=columns, timestamp_format="%d.%m.%Y") == expected
    with pytest.raises(UserError, match=r"timestamp_format='%d\.%m\.%Y' reads it"):
        run.evaluate(written, columns=columns)
    with pytest.raises(UserError, match=r"^timestamp_format must be one of s, ms, us, ns, or a pattern"):
        run.evaluate(written, columns=columns, timestamp_format="d.m.Y")
    numbers = written.assign(**{columns["timestamp"]: 20209999})
    with pytest.raises(UserError, match=r"^ratings: every timestamp must be written as '%Y%m%d' \(timestamp_format\)$"):
        run.evaluate(numbers, columns=columns, timestamp_format="%Y%m%d")
