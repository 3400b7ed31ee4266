"""Users, items and ratings folded into a run from Python."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from equations import options_of
from fits import SPLIT
from run_folders import write_run_of
from tables import table_of, table_with_features

from ratinglab.errors import UserError
from ratinglab.inference.run import Run
from ratinglab.models.bias_baseline import SHRINKAGE
from ratinglab.splits.split import TEST

FACTOR_MODELS = ("mf", "biased_mf", "svdpp", "timesvdpp", "nmf")
NEW = {0: 5.0, "title 3": 1.0, "7": 4.0}
FEATURES = {"user_features": ["age", "group"], "item_features": ["genres"]}


def write(folder, name: str, **options) -> Run:
    table = table_with_features()
    titles = np.array([f"title {number}" for number in range(len(table.item_ids))], dtype=object)
    titles[18] = titles[19] = "twin"
    columns = {"user_columns": table.user_columns, "item_columns": table.item_columns}
    time = None if name != "timesvdpp" else np.arange(len(table.ratings)) * 86_400_000
    table = table_of(*list(table.ratings.columns().values())[:3], timestamp=time, titles=titles, **columns)
    write_run_of(folder, options_of(name, **options), table)
    return Run.load(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return write(tmp_path_factory.mktemp("folded") / "run", "biased_mf")


@pytest.fixture(scope="module")
def featured(tmp_path_factory) -> Run:
    return write(tmp_path_factory.mktemp("featured") / "run", "biased_mf", **FEATURES)


@pytest.mark.parametrize("name", FACTOR_MODELS)
def test_new_user_gets_predictions_lists_and_reasons_from_every_model_with_factors(name, tmp_path):
    run = write(tmp_path / "run", name)
    folded = run.fold_in(NEW)
    table = folded.predict_table([1, 2])
    assert table["prediction"].between(1, 5).all()
    assert (table["standard_deviation"] > 0).all()
    assert table["basis"].tolist() == ["folded_in", "folded_in"]
    listed = folded.recommend(k=100)
    assert len(listed) == run.record.num_items - 3
    assert not listed["item_id"].isin([0, 3, 7]).any()
    np.testing.assert_array_equal(folded.predict(listed["item_id"]), listed["prediction"])
    changes = folded.explain([1], k=2)
    assert changes["item_id"].tolist() == [1, 1]
    assert set(changes["rated_item_id"]) < {0, 3, 7}
    assert changes["change"].abs().is_monotonic_decreasing


@pytest.mark.parametrize("name", ["bias", "mean"])
def test_a_model_without_factors_is_refused(name, tmp_path):
    with pytest.raises(UserError, match=f"model={name} cannot fold in or explain ratings: only factor equations can"):
        write(tmp_path / "run", name).fold_in(NEW)


def test_reasons_are_the_differences_to_folding_in_without_each_rating(run):
    changes = run.fold_in(NEW).explain([1, 2], k=3)
    for row in changes.itertuples():
        names = run.tables.item_names
        others = {item: NEW[item] for item in NEW if names.find([item], place=str) != row.rated_item_id}
        # far from the ends of the scale, where predictions are clipped
        scores = [
            each.folded_users.predictor.predict_unclipped(torch.tensor([0]), torch.tensor([row.item_id]))
            for each in map(run.fold_in, (NEW, others))
        ]
        assert row.change == pytest.approx(float(scores[0] - scores[1]), abs=1e-4)


def test_users_of_a_data_frame_are_predicted_as_each_alone(run):
    frame = pd.DataFrame({"user_id": ["ann", "bob", "ann"], "item_id": [0, 3, 7], "rating": [5, 2, 4]})
    folded = run.fold_in(frame)
    assert folded.folded_user_ids == ["ann", "bob"]
    alone = run.fold_in({0: 5, 7: 4})
    np.testing.assert_allclose(folded.predict([1, 2], user_ids=["ann", "ann"]), alone.predict([1, 2]), atol=1e-6)
    listed = folded.recommend_to_all(k=2)
    assert listed["user_id"].tolist() == ["ann", "ann", "bob", "bob"]
    pd.testing.assert_frame_equal(
        listed[:2].drop(columns="user_id"), alone.recommend(k=2).astype({"rank": int}), check_dtype=False, rtol=1e-5
    )
    with pytest.raises(UserError, match="set user_id: 2 users were folded in; recommend_to_all lists items for"):
        folded.recommend(k=1)


def test_list_of_one_other_user_is_that_of_recommend(run):
    folded, other = run.fold_in({0: 5, 7: 4}, user_id="ann"), run.user_ids.ids[2]
    listed = folded.recommend_to_all(user_ids=[other], k=3)
    assert listed.pop("user_id").tolist() == [other] * 3
    pd.testing.assert_frame_equal(listed, folded.recommend(other, k=3))
    assert listed["item_id"].tolist() == run.recommend(other, k=3)["item_id"].tolist()


def test_other_users_of_the_run_are_predicted_as_before(run):
    folded = run.fold_in({0: 5.0})
    np.testing.assert_array_equal(folded.predict([1, 2], user_ids=[4, 5]), run.predict([4, 5], [1, 2]))
    assert folded.predict_table([1], user_ids=[4])["basis"].tolist() == ["known"]
    assert folded.predict_table([1], user_ids=["nobody"])["basis"].tolist() == ["user_unknown"]


def test_a_known_user_keeps_training_ratings_and_a_given_one_replaces_its_own(run):
    own = run.tables.ratings[(run.tables.ratings["user"] == 2) & (run.tables.ratings["part"] == 0)]
    item, rating = int(own["item"].iloc[0]), float(own["rating"].iloc[0])
    nothing_new, same = run.fold_in({item: rating}, user_id=2), run.explain(2, [1], k=100)
    assert len(same) == len(own)
    np.testing.assert_allclose(same["change"], nothing_new.explain([1], k=100)["change"], atol=1e-9)
    unrated = next(item for item in range(20) if item not in set(own["item"]))
    other = run.fold_in({item: 6 - rating, unrated: 3}, user_id=2)
    assert other.notes == ("the given ratings replace 1 training rating of the same items",)
    assert run.fold_in({unrated: 3}, user_id=2).notes == ()
    other = run.fold_in({item: 6 - rating}, user_id=2)
    assert other.folded_user_ids == ["2"]
    assert other.predict([1])[0] != nothing_new.predict([1])[0]
    assert len(other.explain([1], k=100)) == len(own)
    rated = other.rated_highest(2, k=100).set_index("item_id")["rating"]
    assert rated.index.is_unique
    assert rated[item] == 6 - rating
    seen = run.tables.ratings.loc[run.tables.ratings["user"] == 2, "item"]
    assert not other.recommend(k=100)["item_id"].isin(seen).any()


def test_a_new_item_is_folded_in_from_the_ratings_of_known_users(run):
    frame = pd.DataFrame(
        {"user_id": ["1", "2", "3", "ann"], "item_id": ["new", "new", "new", "0"], "rating": [5, 5, 5, 3]}
    )
    folded = run.fold_in(frame)
    assert (folded.folded_user_ids, folded.folded_item_ids) == (["ann"], ["new"])
    assert folded.notes == ("folded in 1 new item, new",)
    low = run.fold_in(frame.assign(rating=[1, 1, 1, 3]))
    pairs = {"item_ids": ["new", "new"], "user_ids": [5, "ann"]}
    assert (folded.predict(**pairs) > low.predict(**pairs)).all()
    assert folded.predict_table(**pairs)["basis"].tolist() == ["folded_in", "folded_in"]
    assert folded.predict_table([0], user_ids=[5])["basis"].tolist() == ["known"]
    np.testing.assert_allclose(folded.predict([0], user_ids=[5]), run.predict([5], [0]), atol=1e-5)
    assert "new" in folded.recommend(5, k=100)["item_id"].astype(str).tolist()
    assert "new" not in folded.recommend(1, k=100)["item_id"].astype(str).tolist()


def test_ratings_of_new_items_by_new_users_are_left_out_with_a_note(run):
    frame = pd.DataFrame({"user_id": ["ann", "ann"], "item_id": ["new", "0"], "rating": [5, 5]})
    folded = run.fold_in(frame)
    assert folded.folded_item_ids == []
    reason = "neither the item nor the user has training ratings"
    assert folded.notes == (f"skipped 1 rating, that of item new: {reason}",)
    of_others = pd.DataFrame({"user_id": ["zoe", "bob"], "item_id": ["new", "odd"], "rating": [5, 5]})
    assert run.fold_in(pd.concat([frame, of_others])).notes == (
        f"skipped 3 ratings, such as that of item new: {reason}",
        "skipped 2 users, such as bob: they have rated no item with training ratings",
    )


def test_the_bias_baseline_of_a_new_user_predicts_unknown_items(run):
    baseline = run.predictor.baseline
    residual = sum(rating - float(baseline.mean) - float(baseline.item_bias[item]) for item, rating in ((0, 5), (7, 4)))
    expected = float(baseline.mean) + residual / (SHRINKAGE + 2)
    table = run.fold_in({0: 5, 7: 4}).predict_table(["nothing"])
    assert table["basis"].tolist() == ["item_unknown"]
    assert table["prediction"][0] == pytest.approx(expected, abs=1e-5)


def test_features_alone_predict_and_differ(featured):
    first, second = (featured.fold_in(users={"age": 0.5, "group": value}).predict([1])[0] for value in ("a", "b"))
    assert first != second
    frame = pd.DataFrame({"user_id": ["x", "y"], "age": [0.5, 0.5], "group": ["a", "b"]})
    folded = featured.fold_in(users=frame)
    np.testing.assert_allclose(folded.predict([1, 1], user_ids=["x", "y"]), [first, second], atol=1e-6)
    items = pd.DataFrame({"item_id": ["p", "q"], "genres": ["x", "y|z"], "title": ["P", "Q"]})
    folded = featured.fold_in({0: 5}, items=items)
    first, second = folded.predict(["p", "q"])
    assert first != second
    listed = folded.recommend(k=100).set_index("item_id")
    assert listed.loc[["p", "q"], "title"].tolist() == ["P", "Q"]


MISTAKES = [
    ({0: 10**400}, {}, "ratings: the rating of '0' must be a number"),
    ({0: np.True_}, {}, "ratings: the rating of '0' must be a number, got np.True_"),
    ({0: 5.0000001}, {}, "must be from 1 to 5, got 5.0000001"),
    (
        {"user_id": ["x"], "item_id": ["new"], "rating": [5]},
        {},
        "nothing to fold in: neither the users nor the items of these ratings have training ratings",
    ),
    (
        {"user_id": ["x"], "item_id": ["0"], "rating": [5]},
        {"user_id": 1},
        "user_id must be None for ratings with users, got 1",
    ),
    (
        {"user_id": ["x"], "item_id": ["0"], "rating": [5]},
        {"users": {"age": 3}},
        "users must be a table with the users of ratings",
    ),
    ("mine.csv", {}, "ratings must be a data frame or a mapping, got 'mine.csv'; read the file first"),
    ({}, {}, "ratings must have at least one rating, got none"),
    ({0: 9}, {}, "ratings: the rating of '0' must be from 1 to 5, got 9"),
    ({0: "x"}, {}, "ratings: the rating of '0' must be a number, got 'x'"),
    ({0: True}, {}, "ratings: the rating of '0' must be a number, got True"),
    ({0: 5, "0": 4}, {}, "ratings: '0' is rated twice by the same user"),
    ({0: 5, "title 0": 4}, {}, "ratings: '0' and 'title 0' are the same item"),
    ({"title 33": 4}, {}, "ratings: no item has the id or the title 'title 33'; did you mean title 3"),
    ({"twin": 4}, {}, "ratings: 2 items have the title 'twin': twin .id 18. and twin .id 19.; give the id"),
    ({0: 5}, {"users": {"age": 3}}, "users: the model uses no features of users"),
    ({0: 5}, {"columns": {"usr": "x"}}, "columns: unknown role 'usr'; did you mean user"),
    (
        {"user_id": ["a"], "item_id": [0], "rating": ["x"]},
        {},
        "ratings, row 1, column rating: the rating of '0' must be a number",
    ),
    (
        {"user_id": ["a"], "item_id": [0], "rating": [7]},
        {},
        "ratings, row 1, column rating: the rating of '0' must be from",
    ),
    (
        {"userId": ["a"], "item_id": [0], "rating": [4]},
        {},
        "columns.user: ratings has no column 'user_id'.*did you mean",
    ),
    ({"item_id": [0, 0], "rating": [4, 4]}, {}, "row 2, column item_id: '0' is rated twice by the same user"),
    ({"item_id": [], "rating": []}, {}, "ratings must have at least one rating, got none"),
]


@pytest.mark.parametrize(("ratings", "options", "message"), MISTAKES)
def test_mistakes_are_one_line(ratings, options, message, run):
    with pytest.raises(UserError, match=message) as error:
        run.fold_in(ratings, **options)
    assert "\n" not in str(error.value)


def test_unknown_features_are_one_line(featured):
    with pytest.raises(UserError, match="users: age: the value must be a finite number, in training from"):
        featured.fold_in(users={"age": "1e300"})
    with pytest.raises(UserError, match="users: group: 'c' does not occur in training"):
        featured.fold_in(users={"group": "c"})
    with pytest.raises(
        UserError,
        match="users must have at least one of the model's features, age or group, got agee; did you mean age",
    ):
        featured.fold_in(users={"agee": 3})


def test_explaining_a_user_without_ratings_is_one_line(run):
    with pytest.raises(UserError, match=r"user_id: 'nobody' has no training ratings$"):
        run.explain("nobody", [1])
    with pytest.raises(UserError, match="item_ids: item '999' has no training ratings and was not folded in"):
        run.fold_in({0: 5}).explain([999])
    with pytest.raises(UserError, match="k must be at least 1, got 0"):
        run.fold_in({0: 5}).explain([1], k=0)
    with pytest.raises(UserError, match="item_ids must be a list of ids, got 7"):
        run.fold_in({0: 5}).predict(7)


def frame_of(user_ids, item_ids, ratings) -> pd.DataFrame:
    return pd.DataFrame({"user_id": user_ids, "item_id": item_ids, "rating": ratings})


def test_features_of_items_alone_fold_in_no_user(featured):
    items = pd.DataFrame({"item_id": ["p"], "genres": ["x"]})
    folded = featured.fold_in(items=items)
    assert (folded.folded_user_ids, folded.folded_item_ids) == ([], ["p"])
    np.testing.assert_allclose(folded.predict([1], user_ids=[2]), featured.predict([2], [1]), atol=1e-5)
    assert set(folded.recommend_to_all(k=1)["user_id"]) == set(featured.recommend_to_all(k=1)["user_id"])


def test_items_with_training_ratings_are_not_folded_in(featured):
    known = pd.DataFrame({"item_id": [1], "genres": ["x"]})
    with pytest.raises(UserError, match=r"^items: all of these items have training ratings; only new items are folded"):
        featured.fold_in(items=known)
    folded = featured.fold_in(items=pd.DataFrame({"item_id": [1, "p"], "genres": ["x", "x"]}))
    assert folded.folded_item_ids == ["p"]
    assert folded.notes[1] == "skipped 1 item, 1: items with training ratings keep their weights"


def test_a_series_holds_the_ratings_of_one_user(run):
    expected = run.fold_in({0: 5, 3: 2}).predict([1, 2])
    assert np.array_equal(run.fold_in(pd.Series([5, 2], index=[0, 3])).predict([1, 2]), expected)


def test_a_user_called_new_user_is_not_anonymous(run):
    assert run.fold_in({0: 5}).is_anonymous
    assert not run.fold_in(frame_of(["new user"], [0], [5])).is_anonymous


def test_spellings_of_an_id_are_one_user_and_one_item(run):
    spelled = run.fold_in(frame_of(["2.0", "new.0"], ["0", "0"], [5, 5]))
    assert spelled.folded_user_ids == ["2", "new.0"]
    assert run.fold_in({0: 5}, user_id=2.0).folded_user_ids == ["2"]
    np.testing.assert_allclose(
        spelled.predict([1], user_ids=[2]), run.fold_in({0: 5}, user_id=2).predict([1]), atol=1e-6
    )
    new = run.fold_in(frame_of(["1", "2"], ["777", "777.0"], [5, 4]))
    assert new.folded_item_ids == ["777"]
    assert new.predict_table([777.0], user_ids=[5])["basis"].tolist() == ["folded_in"]
    with pytest.raises(UserError, match=r"row 2 \(index 1\), column item_id: '777' and '777\.0' are the same item"):
        run.fold_in(frame_of(["1", "1.0"], ["777", "777.0"], [5, 4]))


@pytest.mark.parametrize("user_id", [True, [1, 2], float("nan"), 1.5])
def test_an_id_of_another_kind_is_refused(run, user_id):
    with pytest.raises(UserError, match="id must"):
        run.fold_in({0: 5}, user_id=user_id)


def test_a_new_item_that_a_new_user_has_rated_is_not_recommended_to_that_user(run):
    folded = run.fold_in(frame_of(["1", "ann", "ann"], ["777", "777", "0"], [5, 1, 5]))
    assert 777 not in folded.recommend("ann", k=100)["item_id"].tolist()
    assert 777 in folded.recommend(5, k=100)["item_id"].tolist()
    assert folded.notes[1].startswith("skipped 1 rating, that of item 777: neither the item nor the user has training ")


def test_titles_are_found_in_a_data_frame_with_users(run):
    by_title, by_id = (run.fold_in(frame_of(["ann"], [name], [5])) for name in ("Title 3", "3"))
    assert by_title.folded_item_ids == []
    np.testing.assert_array_equal(by_title.predict([1]), by_id.predict([1]))


def test_a_user_and_an_item_of_other_parts_keep_what_the_run_knows(tmp_path):
    table = table_with_features()
    titles = np.array([f"title {number}" for number in range(20)], dtype=object)
    columns = {"user_columns": table.user_columns, "item_columns": table.item_columns}
    ratings = [np.array(column) for column in list(table.ratings.columns().values())[:3]]
    held_out = np.flatnonzero(SPLIT.apply(table).part == TEST)[:2]
    for column, new in zip(ratings, (30, 20, 3.0), strict=True):
        column[held_out[0]] = new
    titles, genres = np.append(titles, "held out"), np.append(table.item_columns["genres"], "y|z")
    columns = {
        "user_columns": {name: np.append(column, column[:1]) for name, column in table.user_columns.items()},
        "item_columns": {"genres": genres},
    }
    write_run_of(tmp_path / "run", options_of("biased_mf", **FEATURES), table_of(*ratings, titles=titles, **columns))
    run = Run.load(tmp_path / "run")
    assert not run.tables.are_users_trained([30])[0]
    assert not run.tables.are_items_trained([20])[0]
    untrained = run.fold_in(frame_of(["30", "30"], ["777", "0"], [5, 5]))
    assert (untrained.folded_user_ids, untrained.folded_item_ids) == (["30"], [])
    user = run.fold_in({0: 5}, user_id=30)
    assert 20 not in user.recommend(k=100)["item_id"].tolist()
    (index,), tables = run.user_ids.index_of([30]), run.tables
    columns = tables.read_features("user", tuple(FEATURES["user_features"]))
    stored = {name: column[index] for name, column in columns.items()}
    given = run.fold_in({0: 5}, users={name: str(value) for name, value in stored.items() if value == value})
    np.testing.assert_allclose(user.predict([1]), given.predict([1]), atol=1e-6)
    item = run.fold_in(frame_of(["1"], ["20"], [5]))
    assert item.recommend(5, k=100).set_index("item_id").loc[20, "title"] == "held out"
    features = pd.DataFrame({"item_id": ["20"], "genres": ["y|z"]})
    again = run.fold_in(frame_of(["1"], ["20"], [5]), items=features)
    np.testing.assert_allclose(item.predict([20], user_ids=[5]), again.predict([20], user_ids=[5]), atol=1e-6)


def test_reasons_for_a_new_item(run):
    folded = run.fold_in(frame_of(["1", "ann", "ann"], ["777", "0", "3"], [5, 5, 1]))
    changes = folded.explain([777], user_id="ann")
    assert changes["rated_item_id"].tolist() in ([0, 3], [3, 0])


def test_a_new_item_with_a_text_id_makes_all_ids_text(run):
    folded = run.fold_in(frame_of(["1", "ann"], ["new", "0"], [5, 5]))
    listed = folded.recommend("ann", k=100)["item_id"]
    assert {type(item_id) for item_id in listed} == {str}
    assert folded.predict_table([1, "new"], user_ids=[5, 5])["basis"].tolist() == ["known", "folded_in"]


def test_lists_of_folded_in_and_other_users_are_those_of_each(run):
    folded = run.fold_in(frame_of(["ann", "bob"], [0, 3], [5.0, 1.0]))
    users = ["ann", 4, 5, "bob"]
    lists = folded.recommend_to_all(user_ids=users, k=2)
    assert lists["user_id"].tolist() == [str(user) for user in users for _ in range(2)]
    for user in users:
        own = lists[lists["user_id"] == str(user)].drop(columns="user_id").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, folded.recommend(user, k=2), check_dtype=False)
    assert len(folded.recommend_to_all(user_ids=[4, 5], k=2)) == 4


def test_tables_have_all_columns_for_users_who_were_not_folded_in(run):
    folded = run.fold_in({0: 5})
    assert folded.predict_table([1], user_ids=[4])["standard_deviation"].isna().all()
    assert folded.recommend(4, k=2)["standard_deviation"].isna().all()
    assert folded.predict([]).shape == (0,)
    assert list(folded.predict_table([], user_ids=[]).columns) == ["prediction", "standard_deviation", "basis"]


def test_an_unknown_user_may_get_the_baseline(run):
    folded = run.fold_in({0: 5})
    expected = run.recommend("nobody", k=3, unknown="baseline")["item_id"]
    assert folded.recommend("nobody", k=3, unknown="baseline")["item_id"].tolist() == expected.tolist()


def test_features_of_known_users_replace_theirs_and_blank_ones_do_not(featured):
    age = featured.tables.read_features("user", ("age",))["age"]
    user = int(np.flatnonzero(~np.isnan(age[: featured.record.num_users]))[0])
    frame = pd.DataFrame({"user_id": [str(user)], "age": [""]})
    same = featured.fold_in(users={"age": str(age[user])}, user_id=user)
    np.testing.assert_allclose(featured.fold_in(users=frame).predict([1]), same.predict([1]), atol=1e-6)
    changed = featured.fold_in(users=frame.assign(age=[str(age[user] + 3)])).predict([1])
    assert changed[0] != featured.fold_in(users=frame).predict([1])[0]


def test_columns_name_those_of_all_data_frames(featured):
    ratings = frame_of(["x"], ["0"], [5]).rename(columns={"user_id": "uid"})
    users = pd.DataFrame({"uid": ["x"], "age": [0.5], "group": ["a"]})
    folded = featured.fold_in(ratings, users=users, columns={"user": "uid"})
    expected = featured.fold_in({0: 5}, users={"age": 0.5, "group": "a"})
    np.testing.assert_allclose(folded.predict([1]), expected.predict([1]), atol=1e-6)


def test_a_column_of_ratings_may_be_named_after_users(run):
    frame = pd.DataFrame({"item_id": [0], "user_rating": [5]})
    folded = run.fold_in(frame, columns={"rating": "user_rating"})
    assert folded.is_anonymous


def test_lists_of_users_of_a_point_fit_hold_the_items_once(run):
    factors = run.fold_in({0: 5}).folded_users.predictor.model.factors()
    assert factors.item.factors.shape == run.predictor.model.factors().item.factors.shape


def test_tables_of_folded_in_users_and_items_have_no_parts(run):
    folded = run.fold_in(frame_of(["1", "ann"], ["777", "0"], [5, 5]))
    for recommender in (folded, folded.folded_users):
        for name in ("train_counts", "train_pairs", "held_out"):
            assert not hasattr(recommender.tables, name)
        assert not hasattr(recommender, "part")


@pytest.mark.parametrize(("validation", "part"), [(0.1, "val"), (0.0, "train")])
def test_noise_of_a_run_without_samples_is_its_error_on_rows_outside_test(tmp_path, validation, part):
    """On a scale of 1 to 9 ratings, a star is 2 rating units."""
    scale = {"scale": (1.0, 9.0), "fitted_scale": (1.0, 9.0)}
    split = replace(SPLIT, validation=validation)
    write_run_of(tmp_path / "run", options_of("biased_mf"), table_with_features(), split=split, **scale)
    run = Run.load(tmp_path / "run")
    rows = run.part(part)
    error = run.predict(run.user_ids.ids[rows.user], run.item_ids.ids[rows.item]) - rows.rating
    expected = torch.full((run.record.num_users,), float(2**2 / np.square(error).mean()))
    (precision,) = run.solvers["user"].trained_rows.noise_precisions()
    torch.testing.assert_close(precision, expected)
    assert run.solvers["item"].trained_rows.noise_precisions()[0].tolist() == [1.0] * run.record.num_items
