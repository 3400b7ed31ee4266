"""Use of a run after training, by commands and from Python."""

import json
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from ratinglab.errors import UserError
from ratinglab.runs.run import Run


@pytest.fixture(scope="module")
def run(biased) -> Run:
    return Run.load(biased.run)


@pytest.fixture
def copy(biased, tmp_path):
    """Copy a run, to be damaged."""
    return shutil.copytree(biased.run, tmp_path / "copy")


def test_evaluate_equals_metrics_json_exactly(command, biased, tmp_path):
    outcome = command(tmp_path, "evaluate", f"run={biased.run}")
    assert "equal to metrics.json to the last digit" in outcome.stdout
    assert list(tmp_path.iterdir()) == []
    recorded = json.loads((biased.run / "metrics.json").read_text())
    found = Run.load(biased.run).evaluate()
    assert found == {tag: value for tag, value in recorded.items() if not tag.startswith("fit/")}


def test_baselines_are_clipped(biased):
    run = Run.load(biased.run)
    run.predictor.baseline.user_bias[:-1] += 20
    run.predictor.baseline.mean.fill_(-3)
    found, rating = run.evaluate(("test",)), run.part("test").rating
    assert found["baseline/bias/test/mse"] == pytest.approx(np.square(rating - 5).mean(), rel=1e-6)
    assert found["baseline/mean/test/mse"] == pytest.approx(np.square(rating - 0.5).mean(), rel=1e-6)


def test_evaluate_reports_the_largest_difference(command, copy):
    path = copy / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"test/mse": 0.5}))
    outcome = command(copy.parent, "evaluate", "run=copy")
    assert re.search(r"differs from metrics.json by at most \S+ \(test/mse\)", outcome.stdout)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_evaluate_does_not_depend_on_the_number_of_threads(biased, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = Run.load(biased.run).evaluate()["test/mse"]
    finally:
        torch.set_num_threads(before)
    assert found == json.loads((biased.run / "metrics.json").read_text())["test/mse"]


def test_run_recommends_without_its_data(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("RATINGLAB_DATA", str(tmp_path / "empty cache"))
    assert len(Run.load(copy).recommend(42, k=3)) == 3
    assert not (tmp_path / "empty cache").exists()


def test_predict_uses_the_equation_for_known_pairs(run):
    user, item = run.user_ids.index_of([42])[0], run.item_ids.index_of([7])[0]
    model = run.predictor.model
    rating = (
        model.rating_mean
        + model.user_bias.weight[user, 0]
        + model.item_bias.weight[item, 0]
        + model.user_embedding.weight[user] @ model.item_embedding.weight[item]
    )
    assert run.predict([42], [7])[0] == pytest.approx(float(rating.detach().clamp(0.5, 5.0)), abs=1e-6)
    assert run.predict(["42"], [7])[0] == run.predict([42], ["7"])[0] == run.predict(np.array([42]), [7])[0]


def test_predict_falls_back_to_bias_then_mean(run):
    baseline = run.predictor.baseline
    item = run.item_ids.index_of([7])[0]
    unknown_user, both_unknown = run.predict(["nobody", "nobody"], [7, "nothing"])
    assert unknown_user == pytest.approx(float(baseline.mean + baseline.item_bias[item]))
    assert both_unknown == pytest.approx(float(baseline.mean))


def test_predict_accepts_no_pairs_and_refuses_unequal_lengths(run):
    assert run.predict([], []).shape == (0,)
    with pytest.raises(UserError, match="as many users as items, got 1 and 2"):
        run.predict([1], [1, 2])


def test_recommend_ranks_the_items_unrated_by_the_user_in_any_part(run):
    rows = pd.read_parquet(run.folder / "ratings.parquet")
    user = run.user_ids.index_of([42])[0]
    rated = set(run.item_ids.ids[rows.loc[rows["user"] == user, "item"]])
    everything = run.recommend(42, k=10_000)
    assert set(everything["item_id"]) == set(run.item_ids.ids[: run.record.num_items]) - rated
    assert everything["rating"].is_monotonic_decreasing
    assert everything["rating"].tolist() == pytest.approx(
        run.predict([42] * len(everything), everything["item_id"].tolist()).tolist()
    )
    ten = run.recommend("42", k=10)
    assert ten.equals(everything.head(10))
    assert ten["rank"].tolist() == list(range(1, 11))


def test_rated_highest_lists_the_highest_ratings_of_the_user_in_all_parts(run):
    rows = pd.read_parquet(run.folder / "ratings.parquet")
    own = rows[rows["user"] == run.user_ids.index_of([42])[0]].sort_values("rating", ascending=False, kind="stable")
    listed = run.rated_highest("42", k=5)
    assert listed["rating"].tolist() == own["rating"].head(5).tolist()
    assert listed["item_id"].tolist() == run.item_ids.ids[own["item"].head(5)].tolist()
    assert len(run.rated_highest("nobody", k=5)) == 0


def test_recommend_to_all_equals_recommend_for_each_user(run):
    table = run.recommend_to_all(k=4)
    assert list(table.columns) == ["user_id", "rank", "item_id", "title", "rating"]
    assert table["user_id"].drop_duplicates().tolist() == run.user_ids.ids.tolist()
    for user_id, listed in list(table.groupby("user_id", sort=False))[::50]:
        alone = run.recommend(user_id, k=4)
        assert listed["item_id"].tolist() == alone["item_id"].tolist()
        assert listed["rank"].tolist() == [1, 2, 3, 4]
        assert listed["title"].tolist() == alone["title"].tolist()
        assert listed["rating"].tolist() == pytest.approx(alone["rating"].tolist(), abs=1e-6)
    with pytest.raises(UserError, match="k must be at least 1, got 0"):
        run.recommend_to_all(k=0)


def test_recommend_command_writes_a_file_for_one_user_or_all(command, biased, tmp_path):
    outcome = command(tmp_path, "recommend", f"run={biased.run}", "output=all.csv", "k=2")
    written, expected = pd.read_csv(tmp_path / "all.csv"), Run.load(biased.run).recommend_to_all(k=2)
    assert outcome.stdout == f"{len(written):,} recommendations to {written['user_id'].nunique():,} users in all.csv\n"
    assert list(written.columns) == ["user_id", "rank", "item_id", "title", "prediction"]
    assert written["item_id"].tolist() == expected["item_id"].tolist()
    command(tmp_path, "recommend", f"run={biased.run}", "user=42", "output=one.csv", "k=2")
    one = pd.read_csv(tmp_path / "one.csv")
    assert one[["user_id", "rank", "item_id", "title"]].equals(
        written.loc[written["user_id"] == 42, ["user_id", "rank", "item_id", "title"]].reset_index(drop=True)
    )


def test_recommend_command_prints_recommendations_and_highest_ratings(command, biased, tmp_path):
    outcome = command(tmp_path, "recommend", f"run={biased.run}", "user=42", "k=4")
    titles = Run.load(biased.run).recommend(42, k=4)["title"]
    recommended = outcome.stdout.split("recommended to user 42\n")[1].splitlines()
    assert recommended[0].split() == ["rank", "item_id", "title", "predicted"]
    assert len(recommended) == 5
    assert all(title in line for title, line in zip(titles, recommended[1:], strict=True))
    assert "user 42 rated highest" in outcome.stdout
    assert "note" not in outcome.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("user", ["1e5", "007", "nobody", "1_000"])
def test_recommend_command_ranks_by_baseline_with_a_note_for_unknown_users(command, biased, tmp_path, user):
    outcome = command(tmp_path, "recommend", f"run={biased.run}", f"user={user}", "k=3")
    run = Run.load(biased.run)
    best = run.predictor.baseline.item_bias[:-1].argsort(descending=True)[:3].tolist()
    assert outcome.stdout.startswith(f"note: user {user} has no training ratings")
    shown = outcome.stdout.split(f"recommended to user {user}\n")[1].splitlines()[1:]
    assert [line.split()[1] for line in shown] == [str(run.item_ids.ids[item]) for item in best]


def test_predict_command_adds_a_column(command, biased, tmp_path):
    (tmp_path / "pairs.csv").write_text('item_id,note,user_id\n7,"a, ""b""",42\n8,,nobody\n')
    outcome = command(tmp_path, "predict", f"run={biased.run}", "input=pairs.csv", "output=predictions.csv")
    written = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    expected = Run.load(biased.run).predict([42, "nobody"], [7, 8])
    assert written["note"].tolist() == ['a, "b"', ""]
    assert written["prediction"].tolist() == pytest.approx(expected.tolist())
    assert "2 predictions" in outcome.stdout
    assert "note: predicted by the bias baseline, since the user has no training ratings: 1\n" in outcome.stdout
    assert "the item has no" not in outcome.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.csv", "predictions.csv"]


def test_predict_command_refuses_a_blank_id(command, biased, tmp_path):
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n42,7\n42,\n")
    outcome = command(tmp_path, "predict", f"run={biased.run}", "input=pairs.csv", "output=out.csv", status=2)
    assert outcome.stderr == "error: pairs.csv, row 2 after the header: the item id must not be blank\n"


def test_predict_command_keeps_an_older_output_when_input_is_invalid(command, biased, tmp_path):
    (tmp_path / "pairs.csv").write_text("item_id,user_id\n7,42\n8\n")
    (tmp_path / "predictions.csv").write_text("good")
    outcome = command(tmp_path, "predict", f"run={biased.run}", "input=pairs.csv", "output=predictions.csv", status=2)
    assert outcome.stderr.startswith("error: pairs.csv cannot be read")
    assert (tmp_path / "predictions.csv").read_text() == "good"


def assert_refused(folder, message):
    with pytest.raises(UserError, match=message) as error:
        Run.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["users.parquet", "items.parquet", "ratings.parquet"])
@pytest.mark.parametrize("content", [None, b"PAR1 but no more"])
def test_missing_or_damaged_table_is_refused(copy, name, content):
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} is missing or damaged"):
        Run.load(copy).recommend(42, k=1)


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_damaged_metrics_are_refused(command, copy, content):
    (copy / "metrics.json").write_text(content)
    assert "metrics.json is damaged" in command(copy.parent, "evaluate", "run=copy", status=2).stderr


def test_evaluate_is_empty_without_validation_and_test_rows(command, tmp_path):
    run = command(tmp_path, "train", "trainer=debug", "split.validation=0", "split.test=0").run
    assert Run.load(run).evaluate() == {}
    assert "equal to metrics.json" in command(tmp_path, "evaluate", f"run={run}").stdout


@pytest.mark.parametrize("size", [0, 1, 10, 100, 1_000, 10_000, 50_000, 100_000, 500_000, 1_000_000])
def test_truncated_checkpoint_is_refused(copy, size):
    path = copy / "checkpoints" / "best.ckpt"
    path.write_bytes(path.read_bytes()[:size])
    assert_refused(copy, "best.ckpt is damaged or not a checkpoint of ratinglab")


def test_checkpoint_that_would_run_code_is_refused(copy, tmp_path):
    class Malicious:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "pwned"),))

    torch.save({"state_dict": Malicious(), "epochs": 1}, copy / "checkpoints" / "best.ckpt")
    assert_refused(copy, "best.ckpt is damaged or not a checkpoint of ratinglab")
    assert not (tmp_path / "pwned").exists()


def test_checkpoint_of_another_model_is_refused(copy, quick):
    shutil.copy(quick.run / "checkpoints" / "best.ckpt", copy / "checkpoints" / "best.ckpt")
    assert_refused(copy, "best.ckpt does not hold the weights of biased_mf")


def test_run_without_a_checkpoint_is_refused(copy):
    shutil.rmtree(copy / "checkpoints")
    assert_refused(copy, "best.ckpt is missing: the run has not written it yet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 0}, "has format 0; this version of ratinglab reads format 3"),
        (
            {"model_target": "os"},
            "run.json: model_target must be the dotted path of a class, as in module.Class, got os",
        ),
        ({"model_target": "torch.load"}, "run.json: model_target must be a subclass of ratinglab.models.declarations."),
        (
            {"model_target": "gone.Options"},
            "run.json: model_target: there is no module gone; to import from",
        ),
        ({"extra": 1}, "is damaged"),
        (
            {"model_options": {"embeding_dim": 3}},
            "run.json: BiasedMFOptions has no option embeding_dim, which the run has",
        ),
        ({"num_users": "many"}, "is damaged"),
    ],
)
def test_record_with_invalid_values_is_refused(copy, change, message):
    path = copy / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert_refused(copy, message)


def test_damaged_record_is_refused(copy):
    (copy / "run.json").write_text("{")
    assert_refused(copy, "run.json is damaged")


@pytest.mark.parametrize(("separator", "between"), [("double_colon", "::"), ("spaces", " "), ("'||'", "||")])
def test_predict_command_writes_the_separator_and_encoding_of_its_input(command, biased, tmp_path, separator, between):
    rows = [["user_id", "item_id", "näme"], ["42", "7", "é"], ["nobody", "8", "x"]]
    lines = "".join(between.join(row) + "\n" for row in rows)
    (tmp_path / "pairs.csv").write_bytes(lines.encode("latin-1"))
    command(tmp_path, "predict", f"run={biased.run}", "input=pairs.csv", "output=out.csv", f"separator={separator}",
            "encoding=latin-1")  # fmt: skip
    written = [line.split(between) for line in (tmp_path / "out.csv").read_bytes().decode("latin-1").splitlines()]
    assert [row[:-1] for row in written] == rows
    assert written[0][-1] == "prediction"
    expected = Run.load(biased.run).predict([42, "nobody"], [7, 8])
    assert [float(row[-1]) for row in written[1:]] == pytest.approx(expected.tolist())
    outcome = command(
        tmp_path, "predict", f"run={biased.run}", "input=pairs.csv", "output=o.csv", "encoding=uft-8", status=2
    )
    assert outcome.stderr == "error: encoding: there is no encoding 'uft-8'\n"


def test_recommend_command_writes_no_rows_when_all_items_are_rated(command, tmp_path):
    rows = [f"{user},{item},{1 + (user * item) % 5}" for user in range(8) for item in range(6)]
    (tmp_path / "dense.csv").write_text("\n".join(["user_id,item_id,rating", *rows]))
    trained = command(tmp_path, "train", "data=csv", "data.path=dense.csv", "trainer.max_epochs=1", "logger=none")
    outcome = command(tmp_path, "recommend", f"run={trained.run}", "output=all.csv")
    assert outcome.stdout == "0 recommendations to 0 users in all.csv\n"
    assert (tmp_path / "all.csv").read_text() == "user_id,rank,item_id,prediction\n"
