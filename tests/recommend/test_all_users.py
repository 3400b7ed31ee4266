"""Top-k for all users is top-k for each of them."""

import numpy as np
import pytest
import torch
from equations import equation_of

from ratinglab.models.baselines import BiasBaseline
from ratinglab.models.equation import Equation, TrainingData
from ratinglab.models.predictor import Predictor
from ratinglab.recommend import all_users
from ratinglab.recommend.all_users import rated_by_user, top_k_of_all
from ratinglab.recommend.topk import top_k

NUM_USERS, NUM_ITEMS, UNTRAINED = 23, 150, 4
"""The last users and items of the rated pairs have no training rows."""


class ByItem(Equation):
    """Scores that depend on the item alone, many of them equal; no equation of factors."""

    def forward(self, user, item):
        return (item % 7).float() + 0 * user

    def penalty(self, user, item):
        return torch.zeros(())


def predictor_of(name: str) -> Predictor:
    numbers = {"num_users": NUM_USERS, "num_items": NUM_ITEMS}
    training = TrainingData(**numbers, rating_mean=3.0)
    model = ByItem() if name == "by_item" else equation_of(name, training, embedding_dim=3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    baseline = BiasBaseline(**numbers)
    baseline.item_bias[:-1] = torch.randn(NUM_ITEMS, generator=torch.Generator().manual_seed(2))
    return Predictor(model, baseline, scale=(1.0, 5.0))


def pairs(count: int):
    random = np.random.default_rng(0)
    user = random.integers(0, NUM_USERS + UNTRAINED, count).astype(np.int32)
    return user, random.integers(0, NUM_ITEMS + UNTRAINED, count).astype(np.int32)


@pytest.mark.parametrize("scores", [1, 1_000, 1 << 20])
@pytest.mark.parametrize("k", [1, 7, NUM_ITEMS])
@pytest.mark.parametrize("name", ["mf", "biased_mf", "by_item"])
def test_each_user_gets_the_items_of_top_k(monkeypatch, name, k, scores):
    monkeypatch.setattr(all_users, "SCORES", scores)
    predictor, (user, item) = predictor_of(name), pairs(600)
    rated = rated_by_user(user, item, num_users=NUM_USERS + UNTRAINED)
    found = top_k_of_all(predictor, rated, num_items=NUM_ITEMS, k=k)
    for one in range(NUM_USERS + UNTRAINED):
        candidates = np.setdiff1d(np.arange(NUM_ITEMS, dtype=np.int32), item[user == one])
        expected = top_k(predictor, user=one, candidates=torch.from_numpy(candidates), k=k).tolist()
        assert found[one].tolist() == expected + [-1] * (k - len(expected))


def test_the_items_of_a_user_keep_their_order():
    user, item = np.array([2, 0, 2, 2], dtype=np.int32), np.array([5, 4, 3, 5], dtype=np.int32)
    rated = rated_by_user(user, item, num_users=4)
    assert rated.start.tolist() == [0, 1, 1, 4, 4]
    assert rated.item.tolist() == [4, 5, 3, 5]
