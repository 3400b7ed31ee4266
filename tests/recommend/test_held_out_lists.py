"""Lists of a part's users: which users, which items, and what counts as relevant."""

import numpy as np
import pytest
import torch
from equations import equation_of, ranked

from ratinglab.batches import as_tensors
from ratinglab.models.bias_baseline import BiasBaseline
from ratinglab.models.equation import TrainingData
from ratinglab.models.implicit_mf import ImplicitMFOptions
from ratinglab.models.predictor import Predictor
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.ratings.table import Ratings
from ratinglab.recommend import topk
from ratinglab.recommend.held_out_lists import HeldOutLists
from ratinglab.stars import Stars

NUM_USERS, NUM_ITEMS = 40, 30
"""Users and items with training ratings; ten more of each have only held-out ratings."""


def pairs(*given: tuple[int, int]) -> RatedPairs:
    return RatedPairs(*np.array(given, dtype=np.int32).reshape(-1, 2).T)


def rows(*given: tuple[int, int, float]) -> Ratings:
    user, item = pairs(*(each[:2] for each in given))
    return Ratings(user=user, item=item, rating=np.array([each[2] for each in given], dtype=np.float32))


def predictor_of(name: str, *, num_users: int, num_items: int) -> Predictor:
    numbers = {"num_users": num_users, "num_items": num_items}
    model = equation_of(name, TrainingData(**numbers, rating_mean=3.0))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return Predictor(model, BiasBaseline(**numbers), stars=Stars(1.0, 5.0), scale=(1.0, 5.0))


TRAIN = pairs((0, 0), (0, 1), (1, 0), (2, 2), (2, 0), (1, 1))
"""Three users and three items; item 0 is the most popular one, then 1, then 2."""


def lists_of(held_out: Ratings, *, between=None, threshold=1.0) -> HeldOutLists:
    liked = held_out.take(held_out.rating >= threshold)
    return HeldOutLists(liked, train=TRAIN, validation_pairs=between, num_users=3, num_items=3)


def test_users_need_training_ratings_and_a_relevant_held_out_rating():
    lists = lists_of(rows((0, 2, 5), (1, 2, 3), (3, 0, 5), (8, 0, 2)), threshold=4)
    assert lists.users.tolist() == [0]
    assert lists.num_without_relevant == 2
    assert lists.num_without_training == 1
    assert lists_of(rows((0, 2, 5), (1, 2, 3), (3, 0, 5), (8, 0, 2))).users.tolist() == [0, 1]


def test_the_most_popular_items_leave_out_what_a_user_has_rated_in_earlier_parts():
    held_out = rows((0, 2, 5), (1, 2, 5), (2, 1, 5))
    assert lists_of(held_out).measure_popularity(k=1)["hit_rate"] == 1  # each has one item left
    between = pairs((0, 2), (9, 1))
    assert lists_of(held_out, between=between).measure_popularity(k=1)["hit_rate"] == pytest.approx(2 / 3)


def test_relevant_items_without_training_ratings_count_but_cannot_be_found():
    found = lists_of(rows((0, 2, 5), (0, 5, 5))).measure_popularity(k=10)
    assert found["recall"] == 0.5


def test_a_part_without_users_has_no_metrics():
    lists = lists_of(rows((7, 0, 5)))
    assert lists.measure_popularity(k=2) == {}
    assert lists.measure(predictor_of("mf", num_users=3, num_items=3), k=2, order=None) == {}


def test_users_with_a_history_are_folded_in_and_its_items_are_no_candidates():
    history = as_tensors(rows((7, 0, 5), (7, 5, 5), (9, 2, 4), (9, 1, 1), (11, 0, 5)))  # item 5 has no training rows
    held_out = rows((7, 2, 5), (7, 1, 2), (9, 0, 5), (11, 1, 3), (12, 1, 5))
    numbers = {"num_users": 3, "num_items": 3}
    lists = HeldOutLists(held_out.take(held_out.rating >= 4), train=TRAIN, history=history, **numbers)
    assert (lists.users.tolist(), lists.num_without_relevant, lists.num_without_training) == ([0, 1], 1, 0)
    # item 1 is the most popular one left for user 7, and item 0 for user 9
    assert lists.measure_popularity(k=1)["hit_rate"] == 0.5
    options = ImplicitMFOptions(
        min_stars=4.0, embedding_dim=2, regularization=0.1, frequency_exponent=0.0, init_std=1.0, unrated_weight=0.1
    )
    model = options.build(TrainingData(**numbers, rating_mean=3.0), generator=torch.Generator().manual_seed(1))
    predictor = Predictor(model, BiasBaseline(**numbers), stars=Stars(1.0, 5.0), scale=None)
    known = history.take(history.item < 3)
    folded = predictor.with_users(known._replace(user=torch.tensor([0, 1, 1, 2])), num_users=3)
    (best,) = ranked(folded, 0, [1, 2], k=1)
    assert lists.measure(predictor, k=1, order=None)["hit_rate"] == (0.5 if best == 1 else 1)
    assert lists.measure(predictor, k=2, order=None)["hit_rate"] == 1


@pytest.mark.parametrize("scores", [1, 100, 1 << 20])
@pytest.mark.parametrize("k", [1, 4, 100])
@pytest.mark.parametrize("name", ["biased_mf", "bias", "mean"])
def test_lists_are_those_of_top_k_and_equal_scores_go_to_the_more_popular_item(monkeypatch, name, k, scores):
    monkeypatch.setattr(topk, "SCORES_AT_ONCE", scores)
    random = np.random.default_rng(0)
    is_rated = random.random((NUM_USERS + 10, NUM_ITEMS + 10)) < np.linspace(0.05, 0.6, NUM_ITEMS + 10)
    part = random.integers(0, 3, is_rated.shape)
    is_train = is_rated & (part == 0)
    is_train[NUM_USERS:], is_train[:, NUM_ITEMS:] = False, False
    is_train[:NUM_USERS, 0], is_train[0, :NUM_ITEMS] = True, True  # all have a training rating
    train, between, held_out = (
        tuple(index.astype(np.int32) for index in np.nonzero(mask & ~is_train | mask & (number == 0)))
        for number, mask in ((0, is_train), (1, is_rated & (part == 1)), (2, is_rated & (part == 2)))
    )
    rating = random.integers(1, 6, len(held_out[0])).astype(np.float32)
    lists = HeldOutLists(
        Ratings(*held_out, rating=rating).take(rating >= 3),
        train=RatedPairs(*train),
        validation_pairs=RatedPairs(*between),
        num_users=NUM_USERS,
        num_items=NUM_ITEMS,
    )
    predictor = predictor_of(name, num_users=NUM_USERS, num_items=NUM_ITEMS)
    count = np.bincount(train[1], minlength=NUM_ITEMS)
    popular = sorted(range(NUM_ITEMS), key=lambda item: (-count[item], item))
    hits = {"model": [], "popularity": []}
    for user in lists.users.tolist():
        seen = {*train[1][train[0] == user], *between[1][between[0] == user]}
        wanted = set(held_out[1][(held_out[0] == user) & (rating >= 3)])
        own = [item for item in popular if item not in seen]
        best = ranked(predictor, user, own, k=k)
        for system, chosen in (("model", best), ("popularity", own[:k])):
            hits[system].append(len(wanted.intersection(chosen)) / len(wanted))
            if name == "mean":  # all scores are equal
                assert chosen == own[:k]
    assert lists.measure(predictor, k=k, order=None)["recall"] == pytest.approx(np.mean(hits["model"]))
    assert lists.measure_popularity(k=k)["recall"] == pytest.approx(np.mean(hits["popularity"]))
