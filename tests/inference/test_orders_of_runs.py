"""Orders of a run's lists: everywhere the same, also for users and items folded in; and the interest kept on disk."""

import os

import numpy as np
import pandas as pd
import pytest
import torch
from equations import options_of
from run_folders import add_samples, write_run_of, write_weights
from tables import table_with_features

from ratinglab.errors import UserError
from ratinglab.inference import run_tables
from ratinglab.inference.run import Run
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.recommend.interest import fit_interest

pytestmark = pytest.mark.usefixtures("whole_fits")
ORDERS = ["expected_gain", "prediction", "lower_bound"]


def run_of(folder, model: str = "biased_mf", *, is_sampled: bool = True) -> Run:
    predictor = write_run_of(folder, options_of(model), table_with_features(), is_sampled=is_sampled)
    if is_sampled:
        add_samples(predictor.model, torch.Generator().manual_seed(2))
        write_weights(folder, {f"predictor.{name}": each for name, each in predictor.state_dict().items()})
    return Run.load(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return run_of(tmp_path_factory.mktemp("ordered") / "run")


def own_values(run: Run, user_id, listed: pd.DataFrame, by: str) -> np.ndarray:
    """Compute the values of a list's items from the run's other methods; the ratings are 1 to 5."""
    user, item = run.user_ids.index_of([user_id]), run.item_ids.index_of(listed["item_id"])
    pairs = torch.from_numpy(np.repeat(user, len(item))), torch.from_numpy(item)
    score = run.predictor.predict_unclipped(*pairs).detach().numpy()
    if by == "prediction":
        return score
    if by == "lower_bound":
        return score - run.standard_deviation([user_id] * len(item), listed["item_id"])
    train = run.part("train")
    sizes = {"num_users": run.record.num_users, "num_items": run.record.num_items}
    found = fit_interest(RatedPairs(train.user, train.item), **sizes)
    error = run.predict(run.user_ids.ids[run.part("val").user], run.item_ids.ids[run.part("val").item])
    deviation = 2 * np.square(error - run.part("val").rating).mean() ** 0.5  # twice the RMSE: see orders.py
    likely = torch.special.ndtr(torch.from_numpy((score - 3.5) / deviation))
    return (found.take_items(torch.from_numpy(item)).estimate(torch.from_numpy(user))[0] * likely).numpy()


@pytest.mark.parametrize("by", ORDERS)
def test_lists_descend_in_the_value_that_orders_them(run, by):
    listed = run.recommend(3, k=100, by=by)
    values = own_values(run, 3, listed, by)
    assert (np.diff(values) <= 1e-5).all()
    assert (np.diff(values) < -1e-3).any()


def test_the_default_order_is_by_expected_gain_and_the_three_differ(run):
    lists = [run.recommend_to_all(k=5, by=by)["item_id"].tolist() for by in ORDERS]
    assert run.recommend_to_all(k=5)["item_id"].tolist() == lists[0]
    assert run.recommend(3, k=9).equals(run.recommend(3, k=9, by="expected_gain"))
    assert lists[0] != lists[1] != lists[2] != lists[0]
    metrics = [run.evaluate_ranking(k=3, by=by) for by in ORDERS]
    assert run.evaluate_ranking(k=3) == metrics[0]
    assert metrics[0] != metrics[1] != metrics[2] != metrics[0]


@pytest.mark.parametrize("threshold", [None, 2.0])
@pytest.mark.parametrize("by", ORDERS)
def test_all_users_have_the_lists_of_each_user(run, by, threshold):
    everyone = run.recommend_to_all(k=6, by=by, threshold=threshold)
    for user_id, listed in everyone.groupby("user_id"):
        own = run.recommend(user_id, k=6, by=by, threshold=threshold)
        assert listed["item_id"].tolist() == own["item_id"].tolist()


def test_the_threshold_changes_the_order(run):
    lists = [run.recommend_to_all(k=5, threshold=threshold)["item_id"].tolist() for threshold in (None, 4.0, 1.5)]
    assert lists[0] == lists[1] != lists[2]


@pytest.mark.parametrize("by", ORDERS)
def test_users_without_training_ratings_have_one_list_for_all(run, by):
    one = run.recommend("nobody", k=5, unknown="baseline", by=by)
    everyone = run.recommend_to_all(k=5, user_ids=["nobody", "none"], unknown="baseline", by=by)
    assert len(one) == 5
    for _, listed in everyone.groupby("user_id"):
        assert listed["item_id"].tolist() == one["item_id"].tolist()


def test_gains_of_zero_go_to_the_more_popular_item(run, monkeypatch):
    nothing = run.tables.interest._replace(user=torch.zeros_like(run.tables.interest.user))
    monkeypatch.setattr(run.tables, "interest", nothing)
    listed = run.item_ids.index_of(run.recommend(3, k=100)["item_id"])
    assert listed.tolist() == [item for item in run.tables.items_by_popularity.tolist() if item in listed]
    everyone = run.recommend_to_all(k=100, user_ids=[3])
    assert run.item_ids.index_of(everyone["item_id"]).tolist() == listed.tolist()


def test_a_known_user_folded_in_without_new_ratings_keeps_the_interest(run):
    """Ratings of validation and test do not count, as in training."""
    folded = run.fold_in(pd.DataFrame({"user_id": ["3"], "item_id": ["new"], "rating": [4.0]}))
    user = run.user_ids.index_of([3])[0]
    assert folded.tables.interest.user is run.tables.interest.user
    folded = run.fold_in(user_id=3)
    found = folded.folded_users.tables.interest.user[0]
    torch.testing.assert_close(found, run.tables.interest.user[user], atol=1e-5, rtol=1e-4)


def test_new_items_are_of_interest_by_who_rated_them(run):
    users = run.user_ids.ids[:4]
    ratings = pd.DataFrame({"user_id": users, "item_id": "new", "rating": 5.0})
    folded = run.fold_in(ratings)
    new = run.record.num_items
    found = folded.tables.interest.estimate(torch.arange(run.record.num_users))[:, new]
    assert found[:4].mean() > found[4:].mean()
    assert float(folded.tables.interest.share[new]) == pytest.approx(4 / run.record.num_users)
    other = run.user_ids.ids[5]
    assert "new" in folded.recommend(other, k=100)["item_id"].astype(str).tolist()


@pytest.mark.parametrize("by", ORDERS)
def test_fold_in_takes_orders(run, by):
    folded = run.fold_in({0: 5, 3: 1, 7: 4})
    own = folded.recommend(k=6, by=by, threshold=3)["item_id"].tolist()
    assert folded.recommend_to_all(k=6, by=by, threshold=3)["item_id"].tolist() == own


def test_lower_bounds_need_samples_but_for_users_folded_in(tmp_path):
    run = run_of(tmp_path / "run", is_sampled=False)
    for attempt in (run.recommend_to_all, run.evaluate_ranking, lambda **more: run.recommend(3, **more)):
        with pytest.raises(UserError) as error:
            attempt(k=2, by="lower_bound")
        assert str(error.value) == (
            "by=lower_bound needs standard deviations: a run of optimizer=gibbs, or folded-in users; "
            "got a run of optimizer=adam"
        )
    assert len(run.fold_in({0: 5}).recommend(k=3, by="lower_bound")) == 3


def test_unknown_orders_are_refused_with_the_nearest(run):
    for attempt in (run.recommend_to_all, run.evaluate_ranking, lambda **more: run.recommend(3, **more)):
        with pytest.raises(UserError) as error:
            attempt(k=2, by="expected_gains")
        assert str(error.value) == (
            "by must be one of expected_gain, prediction, lower_bound, got 'expected_gains'; "
            "did you mean expected_gain?"
        )


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_that_is_not_finite_is_refused(run, threshold):
    for attempt in (run.recommend_to_all, run.evaluate_ranking):
        with pytest.raises(UserError, match=rf"^threshold must be a finite number, got {threshold}$"):
            attempt(k=2, threshold=threshold)


def test_threshold_above_the_scale_matters_only_to_expected_gain(run):
    with pytest.raises(UserError, match=r"^threshold must be at most 5, the highest rating, got 6$"):
        run.recommend(3, k=2, threshold=6)
    listed = run.recommend(3, k=2, by="prediction")
    pd.testing.assert_frame_equal(run.recommend(3, k=2, by="prediction", threshold=6), listed)


def test_interest_is_fitted_once_and_kept(tmp_path, monkeypatch):
    run = run_of(tmp_path / "run")
    expected = run.recommend(3, k=9)
    monkeypatch.setattr(run_tables, "fit_interest", lambda *_, **__: 1 / 0)
    assert Run.load(run.folder).recommend(3, k=9).equals(expected)
    os.remove(run.folder / "interest.npz")
    run_of_predictions = Run.load(run.folder)
    assert len(run_of_predictions.recommend(3, k=9, by="prediction")) == 9
    with pytest.raises(ZeroDivisionError):
        run_of_predictions.recommend(3, k=9)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other", "array"])
def test_damaged_interest_is_one_line(tmp_path, damage):
    run = run_of(tmp_path / "run")
    path, interest = run.folder / "interest.npz", run.tables.interest
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"user"}.get(damage, whole))
    if damage == "other":  # of a run with other users
        np.savez(path, **{name: table.numpy()[1:] for name, table in interest._asdict().items()})
    if damage == "array":
        with path.open("wb") as file:
            np.save(file, interest.user.numpy())
    with pytest.raises(UserError) as error:
        Run.load(run.folder).recommend(3, k=2)
    assert str(error.value) == f"{path} is damaged or belongs to another run: delete it to have it refitted"


def test_a_folder_that_cannot_be_written_fits_without_keeping(tmp_path, monkeypatch):
    run = run_of(tmp_path / "run")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ratinglab.inference.run_tables.write_atomically", refuse)
    assert len(run.recommend(3, k=2)) == 2
    assert not (run.folder / "interest.npz").exists()


def test_training_again_into_a_folder_removes_the_interest_of_before(tmp_path):
    run = run_of(tmp_path / "run")
    assert run.tables.interest is not None
    for path in (run.folder / "checkpoints").iterdir():
        path.unlink()
    (run.folder / "checkpoints").rmdir()
    run_of(tmp_path / "run")
    assert not (run.folder / "interest.npz").exists()
