"""Runs of models that predict scores: what they measure, and where they are used or refused."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from equal_runs import assert_equal_runs
from run_folders import metrics_of, run_json_of

import ratinglab
from ratinglab.errors import UserError
from ratinglab.inference.new_rows import notes_on_likes
from ratinglab.inference.run import Run

RECIPES = ["ease", "item_knn", "ials"]
SHORT = ["logger=none", "ranking.threshold=4", "trainer.max_epochs=3"]
RATING_METRICS = ["best", "bias", "biased_mf", "mean", "mf", "nmf", "svdpp", "timesvdpp"]
REFUSED = "predicts ranking scores, not ratings"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a folder with ratings of two groups of users, each of which likes the items of its own group."""
    folder = tmp_path_factory.mktemp("scores")
    random = np.random.default_rng(0)
    rows = [
        f"u{user},i{item},{5 - (user + item) % 2 * 3}"
        for user in range(40)
        for item in range(30)
        if random.random() < (0.6 if (user + item) % 2 == 0 else 0.15)
    ]
    (folder / "ratings.csv").write_text("\n".join(["user_id,item_id,rating", *rows]))
    return folder


DATA = ["data=csv", "data.path=ratings.csv", "split=per_user"]


@pytest.fixture(scope="module")
def trained(command, folder):
    """Train each recipe once."""
    return {
        recipe: command(folder, "train", *DATA, f"recipe={recipe}", *SHORT, f"hydra.run.dir={recipe}")
        for recipe in RECIPES
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_metrics_are_those_of_lists_only_and_beat_popular_items(trained, recipe):
    outcome, metrics = trained[recipe], metrics_of(trained[recipe].run)
    assert not any(name in tag for tag in metrics for name in ("mse", "rmse", "mae"))
    assert "MSE" not in outcome.stdout
    assert metrics["test/ndcg@10"] > 1.2 * metrics["baseline/popularity/test/ndcg@10"]
    assert metrics["fit/best_epoch"] >= 1
    assert not (outcome.run / "predictions.parquet").exists()


@pytest.mark.parametrize("recipe", RECIPES)
def test_runs_on_any_rating_scale_count_the_same_pairs(folder, trained, recipe, tmp_path):
    frame = pd.read_csv(folder / "ratings.csv")
    frame["rating"] = frame["rating"].map({2: 0.0, 5: 1.0})
    same = [*SHORT, "split=per_user", "ranking.threshold=0.8"]
    run = ratinglab.train(*same, ratings=frame, recipe=recipe, folder=tmp_path / "run", verbose=False)
    of_stars = Run.load(trained[recipe].run)
    timed = ("fit/seconds", "fit/ratings_per_second")
    assert {tag: each for tag, each in run.metrics.items() if tag not in timed} == pytest.approx(
        {tag: each for tag, each in of_stars.metrics.items() if tag not in timed}, rel=1e-6
    )
    pd.testing.assert_frame_equal(run.recommend("u3", k=5), of_stars.recommend("u3", k=5))
    assert run.recommend("u3", k=5)["score"].max() > 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_evaluate_and_report_show_the_lists(command, folder, trained, recipe):
    shown = command(folder, "evaluate", f"run={recipe}").stdout
    assert "\n\n" not in shown + trained[recipe].stdout  # no table without rows
    assert "by score" in shown
    assert shown.endswith("equal to metrics.json to the last digit\n")
    report = command(folder, "report", recipe).stdout
    assert f"{metrics_of(trained[recipe].run)['val/ndcg@10']:.4f}" in report


def test_evaluate_says_what_it_compares(command, folder, trained):
    own = command(folder, "evaluate", "run=ease", "ranking.threshold=3").stdout  # without ranking.k, the run's own
    assert own.endswith("equal to metrics.json to the last digit\n")
    other = command(folder, "evaluate", "run=ease", "ranking.k=7").stdout
    assert other.endswith("metrics.json has none of these metrics: nothing to compare\n")


@pytest.mark.parametrize("recipe", RECIPES)
def test_lists_of_held_out_users_are_those_of_folding_them_in(command, folder, recipe):
    held_out = ["split=held_out_users", "split.validation=8", "split.test=8", "split.hidden=0.3"]
    options = [*DATA[:2], *held_out, f"recipe={recipe}", *SHORT]
    trained = command(folder, "train", *options, f"hydra.run.dir=held-out-{recipe}")
    run, metrics = Run.load(trained.run), metrics_of(trained.run)
    assert " folded in" in trained.stdout
    assert run.record.num_users == 24
    for part in ("val", "test"):
        history, rows = run.part(f"{part}_history"), run.part(part)
        recalls = []
        for user in np.unique(rows.user[rows.rating >= 4]).tolist():
            own = history.user == user
            items = run.item_ids.ids[history.item[own]]
            folded = run.fold_in(dict(zip(items, history.rating[own].tolist(), strict=True)))
            listed = run.item_ids.index_of(folded.recommend(k=10)["item_id"])
            liked = rows.item[(rows.user == user) & (rows.rating >= 4)]
            recalls.append(np.isin(liked, listed).mean())
        assert metrics[f"{part}/recall@10"] == pytest.approx(np.mean(recalls))
        assert metrics[f"{part}/ranked_users"] == len(recalls) > 0
    assert metrics["test/ndcg@10"] > 1.2 * metrics["baseline/popularity/test/ndcg@10"]
    assert command(folder, "evaluate", f"run=held-out-{recipe}").stdout.endswith("to the last digit\n")
    refit = command(folder, "train", *options, "split.refit=true", "test=false")
    assert Run.load(refit.run).record.num_users == 32  # also those of validation


def test_few_candidates_do_not_widen_the_blocks(trained, monkeypatch):
    run = Run.load(trained["ease"].run)
    expected = run.recommend_to_all(k=2, candidates=["i1", "i2", "i3"])
    monkeypatch.setattr("ratinglab.recommend.topk.SCORES_AT_ONCE", 40)
    sizes = []
    predict = run.predictor.model.predict_table
    monkeypatch.setattr(run.predictor.model, "predict_table", lambda u, i: sizes.append(len(u)) or predict(u, i))
    pd.testing.assert_frame_equal(run.recommend_to_all(k=2, candidates=["i1", "i2", "i3"]), expected)
    assert max(sizes) == 1  # 40 scores are one row of 30 items


@pytest.mark.parametrize("recipe", RECIPES)
def test_lists_are_ordered_by_score_whatever_the_order(trained, recipe):
    run = Run.load(trained[recipe].run)
    listed = run.recommend("u3", k=5)
    assert listed["score"].is_monotonic_decreasing
    assert "rating" not in listed
    assert listed.equals(run.recommend("u3", k=5, by="prediction"))
    with pytest.raises(UserError, match=r"^by=lower_bound needs standard deviations: a run of optimizer=gibbs"):
        run.recommend("u3", k=5, by="lower_bound")
    of_all = run.recommend_to_all(k=5)
    own = of_all[of_all["user_id"] == "u3"].drop(columns="user_id").reset_index(drop=True)
    assert own["item_id"].tolist() == listed["item_id"].tolist()
    np.testing.assert_allclose(own["score"], listed["score"], rtol=1e-5)


def test_recommend_notes_that_an_order_has_no_effect(command, folder, trained):
    note = "note: item_knn orders lists by score and ignores ranking.by and ranking.threshold"
    for settings, is_noted in (([], False), (["ranking.by=prediction"], True), (["ranking.threshold=3"], True)):
        shown = command(folder, "recommend", "run=item_knn", "user=u3", *settings).stdout
        assert (note in shown.splitlines()) is is_noted


@pytest.mark.parametrize("recipe", RECIPES)
def test_user_folded_in_gets_the_list_of_a_trained_user_with_the_same_ratings(trained, recipe):
    run = Run.load(trained[recipe].run)
    train, (user,) = run.part("train"), run.user_ids.index_of(["u3"])
    own = train.take(train.user == user)
    ratings = dict(zip(run.item_ids.ids[own.item], own.rating.tolist(), strict=True))
    listed = run.recommend("u3", k=3, candidates=run.item_ids.ids, exclude_seen=False)
    folded = run.fold_in(ratings).recommend(k=3, exclude_seen=False)
    if recipe == "ials":  # conjugate gradients stop before the exact solution
        assert set(folded["item_id"]) == set(listed["item_id"])
        np.testing.assert_allclose(folded["score"], listed["score"], atol=0.05)
    else:
        assert folded.equals(listed)
    unseen = run.fold_in(ratings).recommend(k=30)
    assert not set(unseen["item_id"]) & set(ratings)


def test_folded_in_users_keep_their_training_ratings(trained):
    run = Run.load(trained["ease"].run)
    item = run.recommend("u3", k=1)["item_id"][0]
    folded = run.fold_in({item: 5}, user_id="u3").recommend(k=30)
    assert set(folded["item_id"]) == set(run.recommend("u3", k=30)["item_id"]) - {item}


def test_new_users_who_like_nothing_get_the_most_popular_items_with_a_note(trained):
    run = Run.load(trained["ease"].run)
    items = [*run.item_ids.ids[run.tables.items_by_popularity[:2]]]
    ratings = pd.DataFrame({"user_id": ["a", "b", "u3"], "item_id": [items[0]] * 3, "rating": [2, 5, 2]})
    folded = run.fold_in(ratings)
    (note,) = folded.notes
    assert note == (
        "1 user, a, gave no rating of at least 4.25 (model.min_stars): "
        "the most popular items are listed, with scores of 0"
    )
    assert folded.recommend("a", k=1)[["item_id", "score"]].to_numpy().tolist() == [[items[1], 0]]


def test_user_with_only_held_out_rows_who_likes_nothing_gets_a_note(trained):
    record = Run.load(trained["ease"].run).record
    ratings = pd.DataFrame({"user": ["held out"], "item_index": [0], "rating": np.float32([2])})
    users = SimpleNamespace(ids=["held out"], run_index=np.array([record.num_users], dtype=np.int32))
    (note,) = notes_on_likes(record, ratings, users)
    assert note.startswith("1 user, held out, gave no rating of at least ")


def test_run_shows_its_lists_in_a_notebook(trained):
    run = Run.load(trained["ease"].run)
    shown = run._repr_html_()
    assert "NDCG@10" in shown
    for system in ("", "baseline/popularity/"):
        assert f"{run.metrics[f'{system}test/ndcg@10']:.4f}" in shown


def test_header_of_a_closed_form_says_one_epoch_and_nothing_of_clipped_predictions(command, folder, tmp_path):
    rows = [f"u{user},i{item},{3 + (user + item) % 2}" for user in range(9) for item in range(9)]
    (tmp_path / "ratings.csv").write_text("\n".join(["user_id,item_id,rating", *rows]))
    (tmp_path / "others.test").write_text("user_id,item_id,rating\nu1,i99,5\nu2,i99,1\n")
    given = ["data=csv", "data.path=[ratings.csv,others.test]", "split=files", "split.test_files=*.test"]
    shown = command(tmp_path, "train", *given, "recipe=ease", *SHORT, "split.validation=0.2").stdout
    assert "optimizer  closed_form: closed form, one epoch\n" in shown
    assert "\nepoch 1/1 " in shown
    assert "clipped" not in shown


def test_demo_of_scores_shows_no_noise_floor(command, folder):
    shown = command(folder, "train", "recipe=ease", "logger=none", "test=false").stdout
    assert "noise floor" not in shown


@pytest.mark.parametrize("refit", ["true", "false"])
def test_closed_form_is_kept_though_the_initial_weights_are_as_good(command, folder, refit):
    tied = ["recipe=ease", "model.min_stars=null", "model.ridge=1e-3", "monitor=val/recall@30"]  # lists of all items
    outcome = command(folder, "train", *DATA, *tied, f"split.refit={refit}", *SHORT)
    assert "no epoch beat" not in outcome.stdout
    run = Run.load(outcome.run)
    assert run.best_epoch == 1
    assert run.recommend_to_all(k=1)["score"].ne(0).any()


def test_similarities_count_as_parameters(trained):
    run = Run.load(trained["item_knn"].run)
    assert run.metrics["fit/parameters"] == run.record.num_items**2  # fewer than 100 neighbors


@pytest.mark.parametrize("recipe", RECIPES)
def test_record_that_does_not_fit_the_ratings_is_one_line(trained, tmp_path, recipe):
    shutil.copytree(trained[recipe].run, tmp_path / "run")
    record = run_json_of(tmp_path / "run")
    record["num_items"] -= 1
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"is damaged|does not hold the weights"):
        Run.load(tmp_path / "run")


def test_new_items_are_refused(trained):
    run = Run.load(trained["ease"].run)
    ratings = pd.DataFrame({"user_id": ["u3"], "item_id": ["new"], "rating": [5]})
    with pytest.raises(UserError, match=r"^items: ease folds in users, not items, and new has no training ratings$"):
        run.fold_in(ratings)


def test_users_without_training_ratings_get_the_most_popular_items(trained):
    run = Run.load(trained["ease"].run)
    listed = run.recommend("nobody", k=4, unknown="baseline")
    popular = run.item_ids.ids[run.tables.items_by_popularity[:4]]
    assert listed["item_id"].tolist() == popular.tolist()
    counts = run.tables.train_counts[1][run.tables.items_by_popularity[:4]]
    np.testing.assert_allclose(listed["score"], counts / run.record.num_users, rtol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "run=ease", "input=ratings.csv", "output=predicted.csv"],
        ["export", "run=ease", "format=numpy"],
        ["recommend", "run=ease", "user=u3", "why=true"],
    ],
)
def test_commands_that_need_ratings_refuse_scores(command, folder, trained, arguments):
    files = sorted(folder.iterdir())
    failed = command(folder, *arguments, status=2)
    assert failed.stderr == f"error: run: ease {REFUSED}\n"
    assert sorted(folder.iterdir()) == files


def test_unknown_parts_are_refused_although_scores_have_no_metrics_of_ratings(trained):
    run = Run.load(trained["ease"].run)
    assert run.evaluate(parts=["val", "test"]) == {}
    with pytest.raises(UserError, match=r"^a part must be one of train, val, test, got 'valid'$"):
        run.evaluate(parts=["val", "valid"])


def test_python_methods_that_need_ratings_refuse_scores(trained):
    run = Run.load(trained["ease"].run)
    folded = run.fold_in({"i2": 5})
    for call in (
        lambda: run.predict(["u3"], ["i2"]),
        lambda: run.explain("u3", ["i2"]),
        lambda: folded.predict(["i2"]),
        lambda: folded.explain(["i2"]),
        lambda: run.predictions("val"),
    ):
        with pytest.raises(UserError, match=f"{REFUSED}$"):
            call()


def test_items_are_similar_by_the_factors_of_implicit_als(trained):
    similar = Run.load(trained["ials"].run).similar("i4", k=5)
    assert all(int(item[1:]) % 2 == 0 for item in similar["item_id"])  # liked by the same group


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["recipe=ease", "monitor=val/mse"],
            "monitor must be a ranking metric, such as val/ndcg@10, with model=ease, which predicts scores, not "
            "ratings; got val/mse",
        ),
        (
            ["recipe=ease", "optimizer=implicit_als"],
            "optimizer=implicit_als fits implicit_mf, got model=ease, which needs optimizer=closed_form; recipe=ease "
            "sets it, and the monitor",
        ),
        (
            ["recipe=ease", "trainer.check_val_every_n_epoch=2"],
            "trainer.check_val_every_n_epoch must be 1 with optimizer=closed_form, got 2",
        ),
        *[
            (
                [f"recipe={recipe}", "model.min_stars=5.5"],
                "model.min_stars must be at most 5, the highest training rating in stars, got 5.5: no pair would count",
            )
            for recipe in RECIPES
        ],
        (["recipe=ease", "ranking.by=lower_bound"], "ranking.by=lower_bound needs optimizer=gibbs, got closed_form"),
    ],
)
def test_invalid_choices_are_one_line(command, folder, arguments, message):
    failed = command(folder, "train", *DATA, *arguments, status=2)
    assert failed.stderr == f"error: {message}\n"


@pytest.mark.parametrize(("fit", "names"), [("implicit_als", ["implicit_mf"]), ("closed_form", ["ease", "item_knn"])])
def test_valid_fits_of_the_model_are_named(command, folder, fit, names):
    failed = command(folder, "train", *DATA, "model=mf", f"optimizer={fit}", status=2)
    fitted, fits = re.fullmatch(
        rf"error: optimizer={fit} fits (.+), got model=mf, which needs optimizer=adam, (.+)\n", failed.stderr
    ).groups()
    # other tests in this process may have added models and fits of their own
    assert set(names) <= set(re.split(", | and ", fitted))
    assert not {"mf", "biased_mf", "svdpp"} & set(re.split(", | and ", fitted))
    assert {"adamw", "als", "block_sgd", "gibbs", "sgd", "spark_als", "sparse_adam"} <= set(re.findall(r"\w+", fits))


def test_valid_models_of_the_fit_are_named(command, folder):
    failed = command(folder, "train", *DATA, "model=ease", status=2)
    # other tests in this process may have added equations of their own
    assert failed.stderr.startswith("error: optimizer=adam fits ")
    hint = "recipe=ease sets it, and the monitor"
    assert failed.stderr.endswith(f", got model=ease, which needs optimizer=closed_form; {hint}\n")
    assert set(RATING_METRICS) <= set(re.findall(r"\w+", failed.stderr))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_runs_are_reproduced(command, folder, trained, recipe):
    assert "reproduced: every metric is equal to the last digit" in command(folder, "reproduce", f"run={recipe}").stdout


@pytest.mark.slow
def test_implicit_als_resumes_bit_for_bit(command, folder, trained):
    cut = [*DATA, "recipe=ials", *SHORT, "hydra.run.dir=cut"]
    command(folder, "train", *cut, "trainer.max_epochs=1")
    resumed = command(folder, "train", "resume=cut", "trainer.max_epochs=3").run
    assert_equal_runs(resumed, trained["ials"].run)


@pytest.mark.slow
def test_sweep_ranks_jobs_by_lists_and_shows_their_test_lists(command, folder):
    outcome = command(folder, "train", "-m", *DATA, "recipe=ease", *SHORT, "test=true", "model.ridge=1,100000")
    lines = outcome.stdout.splitlines()
    (head,) = (line for line in lines if "val NDCG@10" in line)
    assert "test NDCG@10" in head
    (best,) = (line for line in lines if line.startswith("best "))
    assert "model.ridge=1 " in f"{best} "


def test_train_from_python(folder, tmp_path):
    frame = pd.read_csv(folder / "ratings.csv")
    given = ["logger=none", "split=per_user"]
    run = ratinglab.train(*given, ratings=frame, recipe="item_knn", folder=tmp_path / "run", verbose=False)
    assert run.metrics["test/ndcg@10"] > 0
    assert run.evaluate() == {}
    assert run.evaluate_ranking(k=3)["test/ndcg@3"] > 0
