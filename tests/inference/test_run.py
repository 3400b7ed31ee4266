"""Use of a run after training, by commands and from Python."""

import json
import os
import re
import shutil
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import torch
from documented import options_of
from equations import options_of as options_of_equation
from run_folders import accept_files, edit_metrics, edit_record, write_run_of
from tables import table_of

from ratinglab.commands.evaluate_command import evaluate
from ratinglab.errors import UserError
from ratinglab.formats.text_options import ColumnOptions
from ratinglab.inference.fold_in_input import DEFAULT_COLUMNS
from ratinglab.inference.run import Run
from ratinglab.runs.digests import seal_archive


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
    assert "no held-out rows" not in outcome.stdout
    assert list(tmp_path.iterdir()) == []
    recorded = json.loads((biased.run / "metrics.json").read_text())
    found = Run.load(biased.run).evaluate()
    assert found == {tag: value for tag, value in recorded.items() if not tag.startswith("fit/")}


@pytest.mark.parametrize(("change", "start"), [(1e-6, "differs"), (1e-3, "warning: differs")])
def test_evaluate_warns_of_a_difference_beyond_rounding(command, copy, change, start):
    metrics = json.loads((copy / "metrics.json").read_text())
    edit_metrics(copy, **{"test/mse": metrics["test/mse"] + change})
    last = command(copy.parent, "evaluate", f"run={copy}").stdout.splitlines()[-1]
    assert last == f"{start} from metrics.json by at most {change:.1e} (test/mse)"


@pytest.mark.parametrize(("change", "start"), [(5e-5, "differs"), (5e-4, "warning: differs")])
def test_rounding_is_relative_for_metrics_above_1(tmp_path, capsys, change, start):
    table = table_of(np.arange(200) // 10, np.arange(200) % 10, 100 * (1 + np.arange(200) % 5), scale=(100, 500))
    scale = {"scale": (100.0, 500.0), "fitted_scale": (100.0, 500.0)}
    write_run_of(tmp_path / "run", options_of_equation("mf"), table, **scale)
    metrics = Run.load(tmp_path / "run").evaluate()
    assert metrics["test/mse"] > 1000
    changed = metrics | {"fit/epochs": 2, "test/mse": metrics["test/mse"] * (1 + change)}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(changed))
    accept_files(tmp_path / "run")
    evaluate(options_of("evaluate", f"run={tmp_path / 'run'}"))
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{start} from metrics.json by at most ")


def test_baselines_are_clipped(biased):
    run = Run.load(biased.run)
    run.predictor.baseline.user_bias[:-1] += 20
    run.predictor.baseline.mean.fill_(-3)
    found, rating = run.evaluate(parts=("test",)), run.part("test").rating
    assert found["baseline/bias/test/mse"] == pytest.approx(np.square(rating - 5).mean(), rel=1e-6)
    assert found["baseline/mean/test/mse"] == pytest.approx(np.square(rating - 0.5).mean(), rel=1e-6)


def test_evaluate_reports_the_largest_difference(command, copy):
    edit_metrics(copy, **{"test/mse": 0.5})
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
    stars = (
        model.rating_mean
        + model.user_bias.weight[user, 0]
        + model.item_bias.weight[item, 0]
        + model.user_embedding.weight[user] @ model.item_embedding.weight[item]
    )
    rating = 0.5 + (float(stars.detach()) - 1) * 4.5 / 4
    assert run.predict([42], [7])[0] == pytest.approx(min(max(rating, 0.5), 5.0), abs=1e-6)
    assert run.predict(["42"], [7])[0] == run.predict([42], ["7"])[0] == run.predict(np.array([42]), [7])[0]


def test_predict_falls_back_to_bias_then_mean(run):
    baseline = run.predictor.baseline
    item = run.item_ids.index_of([7])[0]
    unknown_user, both_unknown = run.predict(["nobody", "nobody"], [7, "nothing"])
    assert unknown_user == pytest.approx(float(baseline.mean + baseline.item_bias[item]))
    assert both_unknown == pytest.approx(float(baseline.mean))


def test_predict_accepts_no_pairs_and_refuses_unequal_lengths(run):
    assert run.predict([], []).shape == (0,)
    with pytest.raises(UserError, match="user_ids and item_ids must have the same length, got 1 and 2"):
        run.predict([1], [1, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: run.predict(1, 2), "user_ids must be a list of ids, got 1"),
        (lambda run: run.predict_table([1], "2"), "item_ids must be a list of ids, got '2'"),
        (lambda run: run.predict([[1, 2]], [[1, 2]]), r"user_ids must be a list of ids, got \[\[1, 2\]\]"),
        (lambda run: run.predict(iter([1]), [2]), "user_ids must be a list of ids, got <list_iterator"),
        (lambda run: run.predict(pd.DataFrame({"a": [1, 2]}), [2, 2]), "user_ids must be a list of ids, got a 0 1"),
        (lambda run: run.recommend_to_all(user_ids=1), "user_ids must be a list of ids, got 1"),
        (lambda run: run.recommend(1, candidates="3"), "candidates must be a list of ids, got '3'"),
        (lambda run: run.similar(1, candidates=3), "candidates must be a list of ids, got 3"),
        (lambda run: run.fold_in({1: 5}).predict([3], user_ids=5), "user_ids must be a list of ids, got 5"),
        (lambda run: run.evaluate(parts=["valid"]), "a part must be one of train, val, test, got 'valid'"),
        (lambda run: run.evaluate(parts="test"), r"parts must be a list, such as \['test'\], got 'test'"),
        (lambda run: run.evaluate_ranking(k=5, parts="test"), r"parts must be a list, such as \['test'\], got 'test'"),
        (lambda run: run.predict([True], [1]), r"user_ids must be a list of ids, got \[True\]"),
        (lambda run: run.predict(torch.tensor([1]), [1]), r"user_ids must be a list of ids, got tensor\(\[1\]\)"),
        (lambda run: run.explain([1, 2], 1), r"user_id must be one id, got \[1, 2\]"),
        (lambda run: run.evaluate_ranking(k=5, parts=["valid"]), "a part must be one of val, test, got 'valid'"),
        (lambda run: run.evaluate_ranking(k=5, parts=["train"]), "a part must be one of val, test, got 'train'"),
        (lambda run: run.evaluate_own_ranking(parts=["train"]), "a part must be one of val, test, got 'train'"),
    ],
)
def test_single_ids_and_unknown_parts_are_refused(run, call, message):
    with pytest.raises(UserError, match=message):
        call(run)


def test_predictions_that_the_run_keeps_cannot_be_changed(run):
    predictions = run.predictions("test")
    for array in (predictions.predicted, predictions.baseline):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


def test_run_whose_folder_is_gone_says_so(biased, tmp_path):
    run = Run.load(shutil.copytree(biased.run, tmp_path / "run"))
    shutil.rmtree(run.folder)
    for use in (lambda: run.metrics, lambda: run.recommend(1), lambda: run.predict([1], [2]), run.evaluate):
        with pytest.raises(UserError, match=r"^there is no folder \S+run$"):
            use()
    assert run._repr_html_() is None  # so that a notebook shows the repr


def test_any_collection_of_ids_is_accepted(run):
    expected = run.predict([1, 2], [3, 4])
    for as_collection in (tuple, np.array, pd.Series, lambda ids: dict.fromkeys(ids).keys()):
        np.testing.assert_array_equal(run.predict(as_collection([1, 2]), as_collection([3, 4])), expected)
    assert set(run.recommend(1, candidates={3, 4, 5}, exclude_seen=False)["item_id"]) == {3, 4, 5}


def test_recommend_ranks_the_items_unrated_by_the_user_in_any_part(run):
    rows = pd.read_parquet(run.folder / "ratings.parquet")
    user = run.user_ids.index_of([42])[0]
    rated = set(run.item_ids.ids[rows.loc[rows["user"] == user, "item"]])
    everything = run.recommend(42, k=10_000, by="prediction")
    assert set(everything["item_id"]) == set(run.item_ids.ids[: run.record.num_items]) - rated
    assert everything["prediction"].is_monotonic_decreasing
    assert everything["prediction"].tolist() == pytest.approx(
        run.predict([42] * len(everything), everything["item_id"].tolist()).tolist()
    )
    ten = run.recommend("42", k=10, by="prediction")
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
    assert list(table.columns) == ["user_id", "rank", "item_id", "title", "prediction"]
    assert table["user_id"].drop_duplicates().tolist() == run.user_ids.ids.tolist()
    for user_id, listed in list(table.groupby("user_id", sort=False))[::50]:
        alone = run.recommend(user_id, k=4)
        assert listed["item_id"].tolist() == alone["item_id"].tolist()
        assert listed["rank"].tolist() == [1, 2, 3, 4]
        assert listed["title"].tolist() == alone["title"].tolist()
        assert listed["prediction"].tolist() == pytest.approx(alone["prediction"].tolist(), abs=1e-6)
    with pytest.raises(UserError, match="k must be at least 1, got 0"):
        run.recommend_to_all(k=0)


def test_recommend_command_prints_recommendations_and_highest_ratings(command, biased, tmp_path):
    outcome = command(tmp_path, "recommend", f"run={biased.run}", "user=42", "k=4")
    titles = Run.load(biased.run).recommend(42, k=4)["title"]
    heading = "recommended to user 42, by expected gain: interest times probability of a rating of at least 4\n"
    recommended = outcome.stdout.split(heading)[1].splitlines()
    assert recommended[0].split() == ["rank", "item_id", "title", "prediction"]
    assert len(recommended) == 5
    assert all(title in line for title, line in zip(titles, recommended[1:], strict=True))
    assert "highest ratings of user 42" in outcome.stdout
    assert "note" not in outcome.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("user", ["1e5", "007", "nobody", "1_000"])
def test_recommend_command_refuses_unknown_users_and_ranks_by_baseline_on_request(command, biased, tmp_path, user):
    refused = command(tmp_path, "recommend", f"run={biased.run}", f"user={user}", "k=3", status=2)
    assert refused.stderr.startswith(f"error: user: {user!r} has no training ratings; unknown=baseline recommends")
    by_rating = ["unknown=baseline", "ranking.by=prediction"]
    outcome = command(tmp_path, "recommend", f"run={biased.run}", f"user={user}", "k=3", *by_rating)
    run = Run.load(biased.run)
    best = run.predictor.baseline.item_bias[:-1].argsort(descending=True)[:3].tolist()
    assert outcome.stdout.startswith(f"note: user {user} has no training ratings")
    shown = outcome.stdout.split(f"recommended to user {user}, by predicted rating\n")[1].splitlines()[1:]
    assert [line.split()[1] for line in shown] == [str(run.item_ids.ids[item]) for item in best]


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("evaluate", []),
        ("recommend", ["user=42", "k=1"]),
        ("predict", ["input=pairs.csv", "output=predictions.csv"]),
        ("reproduce", []),
    ],
)
def test_commands_take_the_name_of_a_run(command, quick, tmp_path, script, arguments):
    shutil.copytree(quick.folder / "outputs", tmp_path / "outputs")
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n42,7\n")
    name = str(quick.run.relative_to(quick.folder))
    outcome = command(tmp_path, script, "run=latest", *arguments)
    assert name in outcome.stdout
    refused = command(tmp_path, script, "run=nowhere/best", *arguments, status=2)
    assert refused.stderr == "error: run=nowhere/best: there is no finished run in nowhere\n"


def test_predict_table_gives_the_basis_of_each_prediction(run):
    user_ids, item_ids = [42, "nobody", 42, "nobody"], [7, 7, "nothing", "nothing"]
    table = run.predict_table(user_ids, item_ids)
    assert list(table) == ["prediction", "basis"]
    assert table["prediction"].tolist() == run.predict(user_ids, item_ids).tolist()
    assert table["basis"].tolist() == ["known", "user_unknown", "item_unknown", "both_unknown"]


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
    with pytest.raises(UserError, match=f"{name} is {'missing' if content is None else 'damaged: its digest'}"):
        Run.load(copy).recommend(42, k=1)


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_damaged_metrics_are_refused(command, copy, content):
    (copy / "metrics.json").write_text(content)
    assert "metrics.json is damaged" in command(copy.parent, "evaluate", "run=copy", status=2).stderr


def test_evaluate_is_empty_without_validation_and_test_rows(command, tmp_path):
    trained = command(tmp_path, "train", "trainer=debug", "split.validation=0", "split.test=0")
    assert Run.load(trained.run).evaluate() == {}
    shown = command(tmp_path, "evaluate", f"run={trained.run}").stdout
    assert shown.endswith("\nmetrics.json has none of these metrics: nothing to compare\n")
    for text in (trained.stdout, shown):
        assert "\nnote: no held-out rows were evaluated, so there are no results\n" in text
        assert "MSE    RMSE" not in text


@pytest.mark.parametrize("size", [0, 1, 10, 100, 1_000, 10_000, 50_000, 100_000, -100, -1])
def test_truncated_checkpoint_is_refused(copy, size):
    path = copy / "checkpoints" / "best.ckpt"
    path.write_bytes(path.read_bytes()[:size])
    assert_refused(copy, "best.ckpt is damaged")


def test_checkpoint_that_would_run_code_is_refused(copy, tmp_path):
    class Malicious:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "pwned"),))

    content = BytesIO()
    torch.save({"state_dict": Malicious(), "epochs": 1}, content)
    seal_archive(content)
    (copy / "checkpoints" / "best.ckpt").write_bytes(content.getvalue())
    assert_refused(copy, "best.ckpt is damaged or not a checkpoint of ratinglab")
    assert not (tmp_path / "pwned").exists()


def test_checkpoint_of_another_model_is_refused(copy, quick):
    shutil.copy(quick.run / "checkpoints" / "best.ckpt", copy / "checkpoints" / "best.ckpt")
    assert_refused(copy, "best.ckpt belongs to another run; last.ckpt is intact, from epoch 10")
    edit_record(copy, id=json.loads((quick.run / "run.json").read_text())["id"])
    assert_refused(copy, "best.ckpt does not hold the weights of biased_mf")


def test_run_without_a_checkpoint_is_refused(copy):
    shutil.rmtree(copy / "checkpoints")
    assert_refused(copy, "best.ckpt is missing: the run has not written it yet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 0}, "has format 0; this version of ratinglab reads format 5"),
        (
            {"model_target": "os"},
            "run.json: model_target must be the dotted path of a class, as in module.Class, got os",
        ),
        (
            {"model_target": "torch.load"},
            "run.json: model_target must be a subclass of ratinglab.models.equation_options.",
        ),
        (
            {"model_target": "gone.Options"},
            "run.json: model_target: there is no module gone; to import from",
        ),
        ({"extra": 1}, "is damaged"),
        (
            {"model_options": {"embeding_dim": 3}},
            "run.json: BiasedMFOptions has no option embeding_dim, which the run has",
        ),
    ],
)
def test_record_with_invalid_values_is_refused(copy, change, message):
    edit_record(copy, **change)
    assert_refused(copy, message)


def test_damaged_record_is_refused(copy):
    (copy / "run.json").write_text("{")
    assert_refused(copy, "run.json is damaged")


def test_predict_command_takes_pairs_without_a_header(command, biased, tmp_path):
    (tmp_path / "pairs.txt").write_text('# pairs\n7;42.0;1,5;"a;b"\n8;nobody;2;c\n')
    form = ["header=false", "comment='#'", "separator=semicolon", "decimal=comma", "columns.user=2", "columns.item=1"]
    command(tmp_path, "predict", f"run={biased.run}", "input=pairs.txt", "output=out.txt", *form)
    expected = Run.load(biased.run).predict([42, "nobody"], [7, 8])
    lines = (tmp_path / "out.txt").read_text().splitlines()
    rows = [line.rsplit(";", 2) for line in lines]
    assert [row[0] for row in rows] == ['7;42.0;1,5;"a;b"', "8;nobody;2;c"]
    shown = [float(row[1].replace(",", ".")) for row in rows]
    assert shown == pytest.approx(expected.tolist())


@pytest.mark.parametrize(
    "write", [pd.DataFrame.to_parquet, lambda frame, path: frame.to_json(path, orient="records", lines=True)]
)
def test_predict_command_reads_typed_formats_and_writes_parquet(command, biased, tmp_path, write):
    write(pd.DataFrame({"user_id": [42.0, 43.0], "item_id": [7, 8], "note": ["a", None]}), tmp_path / "pairs")
    command(tmp_path, "predict", f"run={biased.run}", "input=pairs", "output=out.parquet")
    expected = Run.load(biased.run).predict([42, 43], [7, 8])
    written = pd.read_parquet(tmp_path / "out.parquet")
    assert written["prediction"].tolist() == expected.tolist()
    assert written["item_id"].tolist() == [7, 8]
    command(tmp_path, "predict", f"run={biased.run}", "input=pairs", "output=out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["prediction"].tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"user_id,item_id,n\xe9\n42,7,x\n", None),
        (b"user_id,item_id,n\n42,7,\xe9\n", "pairs, line 2: '\ufffd' is not UTF-8 text; is encoding right?"),
        (b"PK\x03\x04 no archive", "pairs is damaged or cut off: File is not a zip file"),
        (b"\xff\xfeu\x00", "pairs has no rows, only a header"),
        (b"\xff\xfeu\x00x", "pairs, line 1: not utf-16 text"),
        (b'{"user_id": 42}\n', "columns.item: pairs has no column 'item_id'; it has user_id"),
        (b"", "pairs is empty"),
    ],
)
def test_predict_command_reports_an_unreadable_input_in_one_line(command, biased, tmp_path, content, message):
    (tmp_path / "pairs").write_bytes(content)
    outcome = command(
        tmp_path, "predict", f"run={biased.run}", "input=pairs", "output=out.csv", status=2 if message else 0
    )
    assert outcome.stderr.startswith(f"error: {message}" if message else "")
    assert outcome.stderr.count("\n") == int(message is not None)
    assert (tmp_path / "out.csv").exists() == (message is None)


def test_predict_command_changes_no_cell_of_its_input(command, biased, tmp_path):
    rows = [
        {"user_id": 42, "item_id": 7, "z": 9007199254740993, "t": "2020-01-01"},
        {"user_id": 43, "item_id": 8, "t": "x"},
    ]
    (tmp_path / "pairs").write_text("\n".join(map(json.dumps, rows)))
    command(tmp_path, "predict", f"run={biased.run}", "input=pairs", "output=out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert [line.rsplit(",", 2)[0] for line in lines] == [
        "user_id,item_id,z,t",
        "42,7,9007199254740993,2020-01-01",
        "43,8,,x",
    ]


@pytest.mark.parametrize("user_id", [42, 42.0, "42", "42.0", np.int64(42), np.float64(42)])
def test_user_id_may_be_any_whole_number(run, user_id):
    assert run.predict([user_id], [7]) == run.predict([42], [7])
    assert run.recommend(user_id, k=2).equals(run.recommend(42, k=2))
    assert run.rated_highest(user_id, k=2).equals(run.rated_highest(42, k=2))


@pytest.mark.parametrize(
    ("user_ids", "message"),
    [
        ([42, None], "an id must not be missing, got nan at position 1"),
        ([None], "an id must not be missing, got None at position 0"),
        ([np.nan, 42], "an id must not be missing, got nan at position 0"),
        (["42", float("nan")], "an id must not be missing, got nan at position 1"),
        ([42, 42.5], "an id must be an integer or text, got 42.5 at position 1"),
        (pd.Series([42, pd.NA], dtype="Int64"), "an id must not be missing, got <NA> at position 1"),
    ],
)
def test_missing_or_fractional_id_is_refused(run, user_ids, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        run.predict(user_ids, [7] * len(user_ids))
    (wrong,) = (user_id for user_id in user_ids if str(user_id) not in ("42", "42.0"))
    with pytest.raises(UserError, match=r"^an id must|^user_id must be given; recommend_to_all\(\) recommends to all"):
        run.recommend(wrong, k=1)


@pytest.mark.parametrize(("separator", "between"), [("double_colon", "::"), ("spaces", " "), ("'||'", "||")])
def test_predict_command_writes_the_separator_and_encoding_of_its_input(command, biased, tmp_path, separator, between):
    rows = [["user_id", "item_id", "näme"], ["42", "7", "é"], ["nobody", "8", "x"]]
    lines = "".join(between.join(row) + "\n" for row in rows)
    (tmp_path / "pairs.csv").write_bytes(lines.encode("latin-1"))
    command(tmp_path, "predict", f"run={biased.run}", "input=pairs.csv", "output=out.csv", f"separator={separator}",
            "encoding=latin-1")  # fmt: skip
    written = [line.split(between) for line in (tmp_path / "out.csv").read_bytes().decode("latin-1").splitlines()]
    assert [row[:-2] for row in written] == rows
    assert written[0][-2:] == ["prediction", "basis"]
    expected = Run.load(biased.run).predict([42, "nobody"], [7, 8])
    assert [float(row[-2]) for row in written[1:]] == pytest.approx(expected.tolist())
    outcome = command(
        tmp_path, "predict", f"run={biased.run}", "input=pairs.csv", "output=o.csv", "encoding=uft-8", status=2
    )
    assert outcome.stderr == "error: encoding: there is no encoding 'uft-8'\n"


def test_recommend_command_writes_no_rows_when_all_items_are_rated(command, tmp_path):
    rows = [f"{user},{item},{1 + (user * item) % 5}" for user in range(8) for item in range(6)]
    (tmp_path / "dense.csv").write_text("\n".join(["user_id,item_id,rating", *rows]))
    trained = command(tmp_path, "train", "data=csv", "data.path=dense.csv", "trainer.max_epochs=1", "logger=none")
    outcome = command(tmp_path, "recommend", f"run={trained.run}", "output=all.csv")
    assert outcome.stdout == (
        "0 recommendations for 0 users in all.csv\nnote: skipped 8 users, for whom no candidates are left\n"
    )
    assert (tmp_path / "all.csv").read_text() == "user_id,rank,item_id,prediction\n"


def test_run_evaluates_other_ratings_like_its_own(biased):
    run = Run.load(biased.run)
    rows = run.part("test")
    frame = pd.DataFrame(
        {"who": run.user_ids.ids[rows.user], "what": run.item_ids.ids[rows.item], "rating": rows.rating}
    )
    found = run.evaluate(frame, columns={"user": "who", "item": "what"})
    own = run.evaluate(parts=("test",))
    assert found == {tag.replace("test/", ""): value for tag, value in own.items()}


def test_unknown_users_and_items_of_other_ratings_are_cold(biased):
    run = Run.load(biased.run)
    known = {"user_id": run.user_ids.ids[0], "item_id": run.item_ids.ids[0], "rating": 3.0}
    unknown = {"user_id": "nobody", "item_id": run.item_ids.ids[0], "rating": 4.0}
    found = run.evaluate(pd.DataFrame([known, unknown]).astype({"user_id": str}))
    assert found["cold/rows"] == 1
    assert found["cold/mse"] == found["baseline/bias/cold/mse"]
    assert found["mse"] == pytest.approx((found["cold/mse"] + found["warm/mse"]) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("frame", "columns", "message"),
    [
        ({"user_id": [1], "item_id": [2]}, {}, "data.columns.rating: ratings has no column 'rating'"),
        ({"user_id": [1], "item_id": [2], "rating": ["x"]}, {}, "ratings, row 1: the rating must be a number, got 'x'"),
        (
            {"user_id": [1], "item_id": [2], "rating": [1.0]},
            {"usr": "x"},
            "columns: unknown role 'usr'; did you mean user",
        ),
        (
            {"user_id": [1], "item_id": [2], "rating": [1.0], "t": [5]},
            {"timestamp": "t"},
            "biased_mf takes no timestamps: it predicts the same on all days",
        ),
    ],
)
def test_mistake_in_other_ratings_is_a_one_line_error(biased, frame, columns, message):
    with pytest.raises(UserError, match=message):
        Run.load(biased.run).evaluate(frame, columns=columns)


def test_columns_of_a_data_frame_have_the_names_of_conf():
    columns = options_of("train", "data=csv", "data.path=ratings.csv").data.columns
    assert columns == ColumnOptions(**DEFAULT_COLUMNS, timestamp=None)


def test_recommend_takes_one_user(run):
    with pytest.raises(UserError, match=r"must be one id, got \[1, 2\]; recommend_to_all\(user_ids=…\) takes several$"):
        run.recommend([1, 2], k=2, unknown="baseline")


def test_public_names_of_a_run_are_those_for_its_users(run):
    data = {"folder", "record", "predictor", "tables", "best_epoch", "metrics", "user_ids", "item_ids", "part", "load"}
    predictions = {"predict", "predict_table", "standard_deviation", "predictions", "solvers"}
    lists = {"recommend", "recommend_to_all", "lists_by_block", "similar", "rated_highest", "knows_user"}
    others = {"fold_in", "explain", "explain_list", "evaluate", "evaluate_ranking", "evaluate_own_ranking"}
    assert {name for name in dir(run) if not name.startswith("_")} == data | predictions | lists | others
