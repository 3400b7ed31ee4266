"""Lists of a run, measured on its own held-out rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from equations import options_of
from run_folders import write_run_of
from tables import table_with_features

from ratinglab.errors import UserError
from ratinglab.evaluation.ranking import METRIC_LABELS
from ratinglab.inference.run import Run

SYSTEMS = ("", "baseline/popularity/")
COUNTS = ("ranked_users", "users_without_relevant", "users_without_training")


def run_of(folder, model: str) -> Run:
    write_run_of(folder, options_of(model), table_with_features())
    return Run.load(folder)


def own_lists(run: Run, part: str, *, k: int) -> dict[str, dict[int, list[int]]]:
    """List by system and user what a model, by predicted rating, and the popular items recommend, in plain loops."""
    rows = {name: run.part(name) for name in ("train", "val")}
    count = np.bincount(rows["train"].item, minlength=run.record.num_items)
    popular = sorted(range(run.record.num_items), key=lambda item: (-count[item], item))
    seen_in = ["train", "val"] if part == "test" else ["train"]
    found = {"": {}, "baseline/popularity/": {}}
    for user in set(run.part(part).user.tolist()) & set(range(run.record.num_users)):
        seen = {item for name in seen_in for item in rows[name].item[rows[name].user == user].tolist()}
        left = [item for item in popular if item not in seen]
        found["baseline/popularity/"][user] = left[:k]
        predicted = {item: run.predict([run.user_ids.ids[user]], [run.item_ids.ids[item]])[0] for item in left}
        found[""][user] = sorted(left, key=lambda item: -predicted[item])[:k]
    return found


@pytest.mark.parametrize("threshold", [None, 2.0])
def test_recall_and_coverage_equal_plain_loops_for_both_parts_and_systems(tmp_path, threshold):
    run = run_of(tmp_path, "biased_mf")
    run.predictor.scale = None  # predict ranks by the unclipped score
    found = run.evaluate_ranking(k=3, by="prediction", threshold=threshold)
    names = {f"{system}{part}/{name}@3" for system in SYSTEMS for part in ("val", "test") for name in METRIC_LABELS}
    assert set(found) == names | {f"{part}/{name}" for part in ("val", "test") for name in COUNTS}
    for part in ("val", "test"):
        rows = run.part(part)
        is_wanted = rows.rating >= (threshold or 4)
        for system, lists in own_lists(run, part, k=3).items():
            wanted = {user: set(rows.item[(rows.user == user) & is_wanted].tolist()) for user in lists}
            ranked = [user for user in lists if wanted[user]]
            recall = np.mean([len(wanted[user].intersection(lists[user])) / len(wanted[user]) for user in ranked])
            assert found[f"{system}{part}/recall@3"] == pytest.approx(recall)
            listed = {item for user in ranked for item in lists[user]}
            assert found[f"{system}{part}/coverage@3"] == pytest.approx(len(listed) / run.record.num_items)
            assert found[f"{part}/ranked_users"] == len(ranked)
            assert found[f"{part}/users_without_relevant"] == run.record.num_users - len(ranked)


def test_parts_and_lengths_are_those_asked_for(tmp_path):
    run = run_of(tmp_path, "biased_mf")
    assert {tag.split("/")[-2] for tag in run.evaluate_ranking(k=2, parts=("val",))} == {"val"}
    with pytest.raises(UserError, match=r"^k must be at least 1, got 0$"):
        run.evaluate_ranking(k=0)
    with pytest.raises(UserError, match=r"^threshold must be at most 5, the highest held-out rating, got 5.5"):
        run.evaluate_ranking(k=2, threshold=5.5)


@pytest.mark.parametrize("by", ["expected_gain", "prediction"])
def test_own_lists_have_the_order_and_lengths_of_the_options_and_of_the_monitored_metric(tmp_path, by):
    run = run_of(tmp_path, "biased_mf")
    assert run.evaluate_own_ranking(parts=("val", "test")) == {}
    run.record = replace(run.record, monitor="val/map@2", ranking={"k": 4, "by": by, "threshold": 3.0})
    expected = {}
    for k in (2, 4):
        expected |= run.evaluate_ranking(k=k, by=by, threshold=3.0, parts=("val",))
    assert run.evaluate_own_ranking(parts=("val",)) == expected


def test_own_lists_of_a_part_without_relevant_ratings_have_counts_only(tmp_path):
    """A threshold that only test ratings reach does not fail a run at its end."""
    run = run_of(tmp_path, "biased_mf")
    run.record = replace(run.record, ranking={"k": 4, "by": "expected_gain", "threshold": 9.0})
    found = run.evaluate_own_ranking(parts=("val",))
    num_users = run.record.num_users
    assert found == {"val/ranked_users": 0, "val/users_without_relevant": num_users, "val/users_without_training": 0}


def test_recommend_gives_ties_to_the_item_with_more_training_ratings(tmp_path):
    run = run_of(tmp_path, "mean")  # all predictions are equal
    count = run.tables.train_counts[1]
    for exclude_seen in (True, False):
        listed = run.recommend(3, k=30, exclude_seen=exclude_seen, by="prediction")["item_id"].to_numpy()
        item = run.item_ids.index_of(listed)
        assert sorted(item, key=lambda each: (-count[each], each)) == item.tolist()
        everyone = run.recommend_to_all(k=30, exclude_seen=exclude_seen, by="prediction")
        assert everyone.loc[everyone["user_id"] == 3, "item_id"].tolist() == listed.tolist()
    chosen = run.item_ids.ids[np.argsort(count[: run.record.num_items], kind="stable")[:5]]
    item = run.item_ids.index_of(
        run.recommend(3, k=9, candidates=chosen, exclude_seen=False, by="prediction")["item_id"]
    )
    assert sorted(item, key=lambda each: (-count[each], each)) == item.tolist()


def test_items_folded_in_come_after_those_with_training_ratings(tmp_path):
    run = run_of(tmp_path, "biased_mf")
    folded = run.fold_in(pd.DataFrame({"user_id": ["1", "2"], "item_id": ["new", "new"], "rating": [5, 4]}))
    order = folded.tables.items_by_popularity.tolist()
    assert order == [*run.tables.items_by_popularity.tolist(), run.record.num_items]


def test_runs_without_held_out_rows_have_no_lists(tmp_path, monkeypatch):
    run = run_of(tmp_path, "biased_mf")
    empty = run.part("val").take(slice(0, 0))
    monkeypatch.setattr(run.tables, "held_out", {"val": empty, "test": empty})
    assert run.evaluate_ranking(k=2, threshold=9) == {}
