"""Top-k of one user, and of all users."""

import numpy as np
import pytest
import torch
from equations import equation_of, ranked

from ratinglab.models.bias_baseline import BiasBaseline
from ratinglab.models.equation import Equation, TrainingData
from ratinglab.models.predictor import Predictor
from ratinglab.recommend import topk
from ratinglab.recommend.topk import build_pair_matrix, order_by_popularity, select_most_popular, select_top_k
from ratinglab.stars import Stars

NUM_USERS, NUM_ITEMS, UNTRAINED = 23, 150, 4
"""The last users and items of the rated pairs have no training rows."""


class ByItem(Equation):
    """Equation without factors, whose scores depend only on the item."""

    def __init__(self, scores: list[float]):
        super().__init__()
        self.scores = torch.tensor(scores)

    def forward(self, user, item):
        return self.scores[item.long()]

    def penalty(self, user, item):
        return torch.zeros(())


def best(candidates: list[int], k: int) -> list[int]:
    model = ByItem([7.0, 9.0, 1.0, 9.0, 8.0])
    predictor = Predictor(model, BiasBaseline(num_users=1, num_items=5), stars=Stars(1.0, 5.0), scale=(0.0, 5.0))
    chosen = np.array(candidates, dtype=np.int32)
    (block,) = select_top_k(predictor, np.zeros(1, dtype=np.int32), candidates=chosen, seen=None, k=k)
    return block[0].tolist()


def test_top_k_ranks_by_unclipped_scores():
    assert best([0, 1, 2, 4], k=3) == [1, 4, 0]


def test_equal_scores_keep_the_order_of_the_candidates():
    assert best([3, 2, 1], k=2) == [3, 1]


def test_top_k_returns_only_candidates_even_when_fewer_than_k():
    assert best([2, 0], k=10) == [0, 2]
    assert best([], k=10) == []


def predictor_of(name: str) -> Predictor:
    numbers = {"num_users": NUM_USERS, "num_items": NUM_ITEMS}
    training = TrainingData(**numbers, rating_mean=3.0)
    by_item = {"many_equal": [float(item % 7) for item in range(NUM_ITEMS)], "all_equal": [1.0] * NUM_ITEMS}
    model = ByItem(by_item[name]) if name in by_item else equation_of(name, training, embedding_dim=3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    baseline = BiasBaseline(**numbers)
    baseline.item_bias[:-1] = torch.randn(NUM_ITEMS, generator=torch.Generator().manual_seed(2))
    return Predictor(model, baseline, stars=Stars(1.0, 5.0), scale=(1.0, 5.0))


@pytest.mark.parametrize("scores", [1, 1_000, 1 << 20])
@pytest.mark.parametrize("k", [1, 7, NUM_ITEMS])
@pytest.mark.parametrize("name", ["mf", "biased_mf", "many_equal", "all_equal"])
@pytest.mark.parametrize("chosen", ["all", "some"])
def test_top_k_of_users_ranks_the_predictions_of_each_user(monkeypatch, name, k, scores, chosen):
    monkeypatch.setattr(topk, "SCORES_AT_ONCE", scores)
    predictor, num_users = predictor_of(name), NUM_USERS + UNTRAINED
    random = np.random.default_rng(0)
    user = random.integers(0, num_users, 600).astype(np.int32)
    item = random.integers(0, NUM_ITEMS + UNTRAINED, 600).astype(np.int32)
    user[:NUM_ITEMS], item[:NUM_ITEMS] = 0, range(NUM_ITEMS)  # the first user has rated every item
    users, candidates = np.arange(num_users, dtype=np.int32), np.arange(NUM_ITEMS, dtype=np.int32)
    if chosen == "some":
        users, candidates = np.array([5, -1, 0, 25, 5], dtype=np.int32), np.arange(3, NUM_ITEMS, 2, dtype=np.int32)
    seen = build_pair_matrix(user, item, num_users=num_users)
    for left_out in (seen, None):
        blocks = select_top_k(predictor, users, candidates=candidates, seen=left_out, k=k)
        alone = [
            next(select_top_k(predictor, users[row : row + 1], candidates=candidates, seen=left_out, k=k))
            for row in range(len(users))
        ]
        for one, found, by_itself in zip(users, np.concatenate(list(blocks)), np.concatenate(alone), strict=True):
            own = np.setdiff1d(candidates, item[user == one]) if left_out is not None else candidates
            expected = ranked(predictor, int(one), own.tolist(), k=k)
            assert found.tolist() == expected + [-1] * (min(k, len(candidates)) - len(expected))
            assert by_itself.tolist() == found.tolist()


def test_items_are_ordered_by_their_number_of_training_ratings_then_by_index():
    assert order_by_popularity(np.array([2, 5, 2, 7, 5])).tolist() == [3, 1, 4, 0, 2]


@pytest.mark.parametrize("scores", [1, 1_000, 1 << 20])
@pytest.mark.parametrize("k", [1, 7, NUM_ITEMS])
def test_most_popular_of_users_are_the_first_candidates_that_each_has_not_rated(monkeypatch, k, scores):
    monkeypatch.setattr(topk, "SCORES_AT_ONCE", scores)
    random = np.random.default_rng(0)
    user, item = (random.integers(0, high, 900).astype(np.int32) for high in (NUM_USERS, NUM_ITEMS + UNTRAINED))
    user[:NUM_ITEMS], item[:NUM_ITEMS] = 0, range(NUM_ITEMS)  # the first user has rated every item
    candidates = random.permutation(NUM_ITEMS)[:100].astype(np.int32)
    users = np.array([5, -1, 0, 22, 5, *range(NUM_USERS)], dtype=np.int32)
    seen = build_pair_matrix(user, item, num_users=NUM_USERS)
    found = np.concatenate(list(select_most_popular(users, candidates=candidates, seen=seen, k=k)))
    for one, chosen in zip(users, found, strict=True):
        own = [each for each in candidates.tolist() if each not in item[user == one]][:k]
        assert chosen.tolist() == own + [-1] * (min(k, 100) - len(own))


@torch.inference_mode()
def test_ordered_scores_are_predictions_in_rating_units():
    predictor = predictor_of("biased_mf")
    predictor.stars = Stars(0.0, 100.0)
    users, items = np.arange(3, dtype=np.int32), np.arange(5, dtype=np.int32)
    ((_, scores),) = topk._score_by_block(predictor, users, items, lambda item: lambda user, scores: scores.clone())
    pairs = torch.from_numpy(users.repeat(5)), torch.from_numpy(np.tile(items, 3))
    torch.testing.assert_close(scores, predictor.predict_unclipped(*pairs).view(3, 5))
