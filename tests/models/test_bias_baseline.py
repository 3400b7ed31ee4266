"""The bias baseline: its closed form, unknown users and items, and rows in chunks."""

import numpy as np
import pytest
import torch

from ratinglab.models import bias_baseline
from ratinglab.models.bias_baseline import SHRINKAGE, BiasBaseline
from ratinglab.models.equation import Equation
from ratinglab.models.predictor import Predictor
from ratinglab.stars import Stars

USER = torch.tensor([0, 0, 1, 1, 2], dtype=torch.int32)
ITEM = torch.tensor([0, 1, 0, 2, 1], dtype=torch.int32)
RATING = torch.tensor([5.0, 3.0, 4.0, 1.0, 2.0])


def fitted() -> BiasBaseline:
    return BiasBaseline(num_users=3, num_items=3).fit(user=USER, item=ITEM, rating=RATING)


@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_biases_solve_the_normal_equations(monkeypatch, chunk):
    monkeypatch.setattr(bias_baseline, "CHUNK_ROWS", chunk)
    design = np.zeros((5, 6))
    design[np.arange(5), USER] = 1
    design[np.arange(5), 3 + ITEM] = 1
    residual = RATING.numpy() - RATING.numpy().mean()
    solution = np.linalg.solve(design.T @ design + SHRINKAGE * np.eye(6), design.T @ residual)
    baseline = fitted()
    assert baseline.user_bias.tolist() == pytest.approx([*solution[:3], 0], abs=1e-6)
    assert baseline.item_bias.tolist() == pytest.approx([*solution[3:], 0], abs=1e-6)
    assert float(baseline.mean) == 3.0


@pytest.mark.parametrize("num_threads", [1, 3])
def test_compiled_sums_and_threads_leave_every_bit_as_it_is(monkeypatch, num_threads):
    rng = np.random.default_rng(0)
    user, item = (torch.from_numpy(rng.integers(0, n, 50_000, dtype=np.int32)) for n in (900, 300))
    rating = torch.from_numpy(rng.integers(1, 11, 50_000).astype(np.float32) / 2)
    monkeypatch.setattr(bias_baseline, "CHUNK_ROWS", 7000)
    expected, released = BiasBaseline(num_users=900, num_items=300).fit(user=user, item=item, rating=rating), []
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    monkeypatch.setattr(bias_baseline, "MIN_COMPILED_ROWS", 0)
    found = BiasBaseline(num_users=900, num_items=300)
    found.fit(user=user, item=item, rating=rating, after_chunk=lambda: released.append(1))
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)
    assert len(released) > 20


def test_unknown_users_and_items_fall_back_to_bias_then_mean():
    baseline = fitted()
    user_bias, item_bias = float(baseline.user_bias[0]), float(baseline.item_bias[1])
    assert user_bias != 0
    assert item_bias != 0
    user = torch.tensor([0, 0, -1, 7, -1, 3], dtype=torch.int32)
    item = torch.tensor([1, -1, 1, 1, -1, 3], dtype=torch.int32)
    expected = [3 + user_bias + item_bias, 3 + user_bias, 3 + item_bias, 3 + item_bias, 3.0, 3.0]
    assert baseline(user, item).tolist() == pytest.approx(expected)
    assert baseline.is_known_pair(user, item).tolist() == [True, False, False, False, False, False]
    one_side = torch.tensor([3, 0, 2], dtype=torch.int32), torch.tensor([0, 3, 2], dtype=torch.int32)
    assert baseline.is_known_pair(*one_side).tolist() == [False, False, True]


class Constant(Equation):
    """Equation that refuses unknown indices."""

    def forward(self, user, item):
        assert ((user >= 0) & (user < 3) & (item >= 0) & (item < 3)).all()
        return torch.full(user.shape, 9.0)

    def penalty(self, user, item):
        return torch.zeros(())


def test_predictor_calls_the_model_only_for_known_pairs():
    predictor = Predictor(Constant(), fitted(), stars=Stars(1.0, 5.0), scale=None)
    user = torch.tensor([0, -1, 2, 5], dtype=torch.int32)
    item = torch.tensor([1, 1, -1, -1], dtype=torch.int32)
    baseline = predictor.baseline(user, item).tolist()
    assert predictor(user, item).tolist() == [9.0, *baseline[1:]]
    assert predictor(user[1:], item[1:]).tolist() == baseline[1:]


def test_predictions_are_clipped_and_scores_are_not():
    predictor = Predictor(Constant(), fitted(), stars=Stars(1.0, 5.0), scale=(1.0, 5.0))
    assert predictor(USER, ITEM).tolist() == [5.0] * 5
    assert predictor.predict_unclipped(USER, ITEM).tolist() == [9.0] * 5
