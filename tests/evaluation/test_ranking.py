"""Metrics of lists: by hand, and against a plain implementation, user by user."""

from math import log2

import numpy as np
import pytest
from scipy.sparse import csr_array

from ratinglab.errors import UserError
from ratinglab.evaluation.ranking import (
    METRIC_LABELS,
    PER_USER_LABELS,
    check_threshold,
    mean_ranking_metrics,
    ranking_metrics_per_user,
)


def lists_of(*lists: list[int]) -> np.ndarray:
    """Pad lists with −1 to the same length."""
    return np.array([items + [-1] * (max(map(len, lists)) - len(items)) for items in lists], dtype=np.int32)


def test_metrics_of_two_lists_equal_values_computed_by_hand():
    # places 1 and 3 of the first list are relevant, and one more item that it lacks; the second list has no hit
    found = ranking_metrics_per_user(np.array([[True, False, True], [False, False, False]]), np.array([3, 1]), k=3)
    assert {name: values.tolist() for name, values in found.items()} == {
        "precision": pytest.approx([2 / 3, 0]),
        "recall": pytest.approx([2 / 3, 0]),
        "ndcg": pytest.approx([(1 + 1 / 2) / (1 + 1 / log2(3) + 1 / 2), 0]),
        "map": pytest.approx([(1 + 2 / 3) / 3, 0]),
        "mrr": [1, 0],
        "hit_rate": [1, 0],
    }


def test_average_precision_divides_by_the_number_of_relevant_items_and_ndcg_by_its_highest_value_at_k():
    """As trec_eval and ranx do: min(k, |R|) would give 1 for both."""
    found = ranking_metrics_per_user(np.array([[True, True]]), np.array([5]), k=2)
    assert found["map"].tolist() == [2 / 5]
    assert found["ndcg"].tolist() == [1]


def test_missing_places_of_a_short_list_count_as_not_relevant():
    found = ranking_metrics_per_user(np.array([[True]]), np.array([1]), k=4)
    assert found["precision"].tolist() == [1 / 4]
    assert found["ndcg"].tolist() == [1]


def test_coverage_and_novelty_equal_values_computed_by_hand():
    relevant, share = csr_array(([1, 1], ([0, 1], [9, 1]))), np.array([8, 4, 2, 1]) / 8
    lists = lists_of([0, 1], [2])
    found = mean_ranking_metrics(np.array([0, 1], dtype=np.int32), [lists], relevant, k=2, share=share)
    assert found["coverage"] == 3 / 4
    assert {type(value) for value in found.values()} == {float}
    assert found["novelty"] == (0 + 1 + 2) / 3  # bits: half of the users have rated item 1, a quarter item 2


def test_lists_without_any_item_have_no_novelty_and_without_users_there_are_no_metrics():
    relevant, share = csr_array(([1], ([0], [9]))), np.array([8, 4]) / 8
    found = mean_ranking_metrics(np.array([0], dtype=np.int32), [lists_of([-1, -1])], relevant, k=2, share=share)
    assert found == {**dict.fromkeys(PER_USER_LABELS, 0.0), "coverage": 0.0}
    assert mean_ranking_metrics(np.empty(0, dtype=np.int32), [], relevant, k=2, share=share) == {}


def plain(lists, relevant, *, k, counts, num_users) -> dict[str, float]:
    """Compute the metrics of lists by user in plain loops, from the definitions."""
    sums, listed = dict.fromkeys(PER_USER_LABELS, 0.0), []
    for user, items in lists.items():
        items, wanted = items[:k], relevant[user]
        hits = [item in wanted for item in items]
        sums["precision"] += sum(hits) / k
        sums["recall"] += sum(hits) / len(wanted)
        gain = sum(1 / log2(place + 2) for place, hit in enumerate(hits) if hit)
        sums["ndcg"] += gain / sum(1 / log2(place + 2) for place in range(min(k, len(wanted))))
        sums["map"] += sum(sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit) / len(wanted)
        sums["mrr"] += 1 / (hits.index(True) + 1) if any(hits) else 0
        sums["hit_rate"] += any(hits)
        listed += items
    found = {name: value / len(lists) for name, value in sums.items()} | {"coverage": len(set(listed)) / len(counts)}
    if listed:
        found["novelty"] = sum(-log2(counts[item] / num_users) for item in listed) / len(listed)
    return found


@pytest.mark.parametrize("seed", range(10))
def test_random_cases_equal_plain_loops(seed):
    """A thousand cases: ties in scores, short and empty lists, relevant items that no list can have, several blocks."""
    random = np.random.default_rng(seed)
    for _ in range(100):
        num_users, num_items, k = (int(random.integers(low, high)) for low, high in ((1, 9), (2, 30), (1, 15)))
        shape = num_users, num_items + 3  # the last items have no training ratings
        wanted = random.random(shape) < random.choice([0.05, 0.3, 0.9])
        has_relevant = np.flatnonzero(wanted.any(axis=1))
        scores, can_be = random.integers(0, 4, shape), random.random(shape) < random.choice([0.2, 0.9, 1.0])
        chosen = [np.flatnonzero(can_be[user, :num_items]) for user in has_relevant]
        lists = [
            items[np.argsort(-scores[user, items], kind="stable")][:k].tolist()
            for user, items in zip(has_relevant, chosen, strict=True)
        ]
        counts = random.integers(1, 12, num_items)
        half = len(lists) // 2
        blocks = [lists_of(*part) for part in (lists[:half], lists[half:]) if part]
        users = has_relevant.astype(np.int32)
        found = mean_ranking_metrics(users, blocks, csr_array(wanted), k=k, share=counts / 12)
        if len(has_relevant) == 0:
            assert found == {}
            continue
        relevant = {user: set(np.flatnonzero(wanted[user])) for user in has_relevant}
        expected = plain(dict(zip(has_relevant, lists, strict=True)), relevant, k=k, counts=counts, num_users=12)
        assert found == pytest.approx(expected, abs=1e-12)
        assert list(found) == [name for name in METRIC_LABELS if name in expected]


def test_a_threshold_that_no_rating_reaches_is_refused():
    parts = [np.array([1.0, 4.5], dtype=np.float32), np.array([], dtype=np.float32)]
    check_threshold(4.5, parts, unit=1, key="threshold")
    check_threshold(9, [parts[1]], unit=1, key="threshold")
    with pytest.raises(UserError) as error:
        check_threshold(4.6, parts, unit=1, key="threshold")
    start = "threshold must be at most 4.5, the highest held-out rating, got 4.6"
    assert str(error.value) == f"{start}: no item would be relevant"


def test_huge_list_length_takes_no_memory():
    is_hit, num_relevant = np.array([[True, False]]), np.array([3])
    long = ranking_metrics_per_user(is_hit, num_relevant, k=10**12)
    short = ranking_metrics_per_user(is_hit, num_relevant, k=3)
    assert {name: long[name] for name in long if name != "precision"} == {
        name: short[name] for name in short if name != "precision"
    }
    assert long["precision"] == 1e-12
