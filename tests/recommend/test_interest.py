"""Interest: who would rate what, by alternating least squares, against dense numpy."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from ratinglab.models import implicit_mf
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.recommend import interest
from ratinglab.recommend.interest import DIMS, FACTORIZATIONS, Interest, fit_interest

NUM_USERS, NUM_ITEMS = 30, 25
"""The last user has rated nothing, and nobody has rated the last item."""
DIM = sum(DIMS)
pytestmark = pytest.mark.usefixtures("whole_fits")


def pairs_of(is_rated: np.ndarray) -> RatedPairs:
    """List the rated pairs of a table, shuffled."""
    user, item = np.random.default_rng(1).permutation(np.argwhere(is_rated)).astype(np.int32).T.copy()
    return RatedPairs(user, item)


@pytest.fixture(scope="module")
def is_rated() -> np.ndarray:
    random = np.random.default_rng(0)
    table = random.random((NUM_USERS, NUM_ITEMS)) < np.linspace(0.9, 0.05, NUM_ITEMS)
    table[0], table[-1], table[:, -1] = True, False, False
    return table


def fitted(is_rated: np.ndarray) -> Interest:
    return fit_interest(pairs_of(is_rated), num_users=len(is_rated), num_items=is_rated.shape[1])


def dense_rows(is_rated: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Solve for each row of a table from the normal equations of each factorization's objective."""
    rows = []
    for start, (dim, (alpha, regularization, exponent)) in zip((0, DIMS[0]), FACTORIZATIONS, strict=True):
        known = other[:, start : start + dim]
        ridge = regularization * (is_rated.sum(axis=1) + alpha * len(known)) ** exponent
        matrix = np.einsum("ri,id,ie->rde", is_rated.astype(float), known, known) + alpha * known.T @ known
        matrix += ridge[:, None, None] * np.eye(dim)
        rows.append(np.linalg.solve(matrix, (is_rated @ known)[..., None])[..., 0])
    return np.concatenate(rows, axis=1)


def objective(is_rated: np.ndarray, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
    """Compute what the factorizations minimize, as the docstring of `Interest` says, and sum it."""
    rated, value = torch.from_numpy(is_rated), torch.zeros(())
    (num_users, num_items), (of_users, of_items) = is_rated.shape, (rated.sum(dim=axis) for axis in (1, 0))
    for start, (dim, (alpha, regularization, exponent)) in zip((0, DIMS[0]), FACTORIZATIONS, strict=True):
        x, y = user[:, start : start + dim], item[:, start : start + dim]
        value = value + ((1 - x @ y.T).square() * rated).sum() + alpha * (x @ y.T).square().sum()
        ridge = (x.square().sum(dim=1) * (of_users + alpha * num_items) ** exponent).sum()
        ridge = ridge + (y.square().sum(dim=1) * (of_items + alpha * num_users) ** exponent).sum()
        value = value + regularization * ridge
    return value


def test_estimate_is_the_sum_of_the_factorizations(is_rated):
    found = fitted(is_rated)
    (x1, x2), (y1, y2) = (table.split(DIMS, dim=1) for table in (found.user, found.item))
    expected = (x1 @ y1.T + x2 @ y2.T).clamp(min=0)
    torch.testing.assert_close(found.estimate(torch.arange(NUM_USERS)), expected)


def test_users_minimize_the_objective_given_the_items(is_rated):
    found = fitted(is_rated)
    np.testing.assert_allclose(found.user, dense_rows(is_rated, found.item.double().numpy()), atol=1e-5)
    user, item = (table.double().clone().requires_grad_() for table in (found.user, found.item))
    (gradient,) = torch.autograd.grad(objective(is_rated, user, item), user)
    assert gradient.abs().max() < 1e-4


def test_every_sweep_lowers_the_objective_toward_a_minimum(is_rated, monkeypatch):
    values = []
    for sweeps in (1, 2, 4, 8, 100):
        monkeypatch.setattr(interest, "ALS_ITERATIONS", sweeps)
        found = fitted(is_rated)
        values.append(float(objective(is_rated, found.user.double(), found.item.double())))
    assert all(later < earlier for earlier, later in pairwise(values))
    assert values[3] < 1.05 * values[4]
    item = found.item.double().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(is_rated, found.user.double(), item), item)
    assert gradient.abs().max() < 0.02


@pytest.mark.parametrize("entries", [1, 40, 200, 1 << 18])
def test_blocks_of_any_size_give_the_same_rows(is_rated, monkeypatch, entries):
    expected = fitted(is_rated)
    monkeypatch.setattr(implicit_mf, "ENTRIES_PER_BLOCK", entries)
    for own, other in zip(fitted(is_rated), expected, strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("entries", [1, 500, 5000])
def test_blocks_cover_all_rows_once_within_their_memory(monkeypatch, entries):
    monkeypatch.setattr(implicit_mf, "ENTRIES_PER_BLOCK", entries)
    size = np.random.default_rng(0).geometric(0.02, 400)
    blocks = list(implicit_mf._split_by_num_pairs(np.argsort(-size, kind="stable"), size, DIM))
    assert sorted(np.concatenate(blocks)) == list(range(400))
    for block in blocks:
        largest = max(size[block].max(), DIM)
        assert len(block) == 1 or len(block) * largest <= entries
        assert 2 * size[block].min() >= size[block].max() == size[block[0]]


def test_estimate_below_zero_counts_as_zero():
    interest = Interest(torch.tensor([[1.0, -2.0]]), torch.tensor([[1.0, 1.0], [3.0, 1.0]]), torch.ones(2) / 4)
    found = interest.estimate(torch.tensor([0, 1]))
    assert found.tolist() == [[0, 1], [0.25, 0.25]]  # 1 − 2 and 3 − 2; user 1 has no ratings


def test_interest_is_high_for_rated_pairs(is_rated):
    found = fitted(is_rated).estimate(torch.arange(NUM_USERS)).numpy()
    assert found[is_rated].mean() > 2 * found[~is_rated].mean()
    assert (found[-1] == 0).all()
    assert (found[:, -1] == 0).all()


def test_users_without_ratings_have_the_share_of_users_who_rated_the_item(is_rated):
    found = fitted(is_rated).take_items(torch.tensor([4, 0])).estimate(torch.tensor([-1, 3, NUM_USERS]))
    share = is_rated.mean(axis=0)[[4, 0]]
    np.testing.assert_allclose(found[[0, 2]], [share, share], rtol=1e-6)
    assert (found[1] != found[0]).all()


def test_users_folded_in_equal_trained_users_with_the_same_ratings(is_rated):
    found = fitted(is_rated)
    chosen = [7, 0, 12]
    folded = found.with_users(pairs_of(is_rated[chosen]), 3)
    torch.testing.assert_close(folded.user, found.user[chosen], atol=1e-5, rtol=1e-4)
    assert folded.item is found.item


def test_items_folded_in_are_solved_from_who_rated_them(is_rated):
    found = fitted(is_rated)
    new = np.zeros((NUM_USERS, 2), dtype=np.bool_)
    new[[2, 5, 9], 0] = True
    folded = found.with_items(pairs_of(new), 2)
    torch.testing.assert_close(folded.item[:-2], found.item)
    np.testing.assert_allclose(folded.item[-2:], dense_rows(new.T, found.user.double().numpy()), atol=1e-5)
    assert folded.share[-2:].tolist() == pytest.approx([0.1, 0.0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_one_user_or_one_item_is_enough(shape):
    found = fitted(np.ones(shape, dtype=np.bool_))
    assert found.estimate(torch.arange(shape[0])).min() > 0.5
