"""Equations that predict scores from who rated what."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from ratinglab.batches import Batch
from ratinglab.errors import RunFailedError, UserError
from ratinglab.models import ease as ease_module
from ratinglab.models.build_equation import build_equation
from ratinglab.models.ease import EASEOptions
from ratinglab.models.equation import Equation, TrainingData
from ratinglab.models.equation_options import EquationForm
from ratinglab.models.implicit_mf import ImplicitMFOptions
from ratinglab.models.item_knn import ItemKNNOptions
from ratinglab.models.rated_pairs import liked_rows
from ratinglab.stars import Stars

NUM_USERS, NUM_ITEMS = 12, 7
OPTIONS = {
    "ease": EASEOptions(ridge=2.0, min_stars=3.0),
    "item_knn": ItemKNNOptions(num_neighbors=3, shrinkage=1.5, min_stars=3.0),
    "implicit_mf": ImplicitMFOptions(
        embedding_dim=3, regularization=0.1, frequency_exponent=0.5, init_std=0.5, unrated_weight=0.3, min_stars=3.0
    ),
}


def training() -> TrainingData:
    """Make 50 ratings of 1 to 5 stars; user 0 has rated no item 3 or better, and nobody has item 6."""
    random = np.random.default_rng(0)
    pairs = random.permutation(NUM_USERS * NUM_ITEMS)[:50]
    user, item = (each.astype(np.int32) for each in divmod(pairs, NUM_ITEMS))
    rating = random.integers(1, 6, 50).astype(np.float32)
    rating[(user == 0) | (item == 6)] = 2
    rows = Batch(*map(torch.from_numpy, (user, item, rating)), None)
    return TrainingData(num_users=NUM_USERS, num_items=NUM_ITEMS, rating_mean=3.0, rows=rows)


def rated() -> np.ndarray:
    """Return 1 for each pair that counts."""
    user, item, rating, _ = training().interactions()
    table = np.zeros((NUM_USERS, NUM_ITEMS))
    table[user[rating >= 3], item[rating >= 3]] = 1
    return table


def solved(name: str) -> Equation:
    equation = build_equation(OPTIONS[name], training(), seed=0)
    if name != "implicit_mf":
        equation.solve()
    return equation.eval()


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    user, item = torch.cartesian_prod(torch.arange(NUM_USERS), torch.arange(NUM_ITEMS)).int().T
    return user, item


def scores_of(equation: Equation) -> np.ndarray:
    return equation(*pairs()).detach().numpy().reshape(-1, NUM_ITEMS)


def test_rating_counts_from_min_stars_typed_to_three_decimals():
    """On a scale of 1 to 10, a rating of 7 is 3⅔ stars."""
    index = torch.arange(4, dtype=torch.int32)
    rows = Batch(index, index, Stars(1.0, 10.0).to_stars(torch.tensor([6.0, 7.0, 8.0, 1.0])), None)
    assert liked_rows(rows, 3.667).item.tolist() == [1, 2]
    assert liked_rows(rows, 3.7).item.tolist() == [2]
    assert liked_rows(rows, None).item.tolist() == [0, 1, 2, 3]


def test_ease_equals_its_closed_form(monkeypatch):
    monkeypatch.setattr(ease_module, "PIVOTS", 2)  # several blocks, the last ones smaller
    monkeypatch.setattr(ease_module, "ROWS_PER_BLOCK", 4)
    counts = rated()
    inverse = np.linalg.inv(counts.T @ counts + 2 * np.eye(NUM_ITEMS))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    equation = solved("ease")
    np.testing.assert_allclose(equation.weight, weights, atol=1e-6)
    np.testing.assert_allclose(scores_of(equation), counts @ weights, atol=1e-6)


def test_ease_minimizes_the_squared_error_under_a_zero_diagonal():
    counts, weight = torch.from_numpy(rated()), solved("ease").weight.double()

    def objective(change: torch.Tensor) -> float:
        changed = weight + change.fill_diagonal_(0)
        return float((counts - counts @ changed).square().sum() + 2 * changed.square().sum())

    least = objective(torch.zeros(NUM_ITEMS, NUM_ITEMS, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        assert objective(1e-2 * torch.randn(NUM_ITEMS, NUM_ITEMS, generator=generator, dtype=torch.float64)) > least


def test_ease_of_a_singular_matrix_says_what_helps():
    user = torch.zeros(2, dtype=torch.int32)
    rows = Batch(user, torch.arange(2, dtype=torch.int32), torch.full((2,), 5.0), None)
    alike = TrainingData(num_users=1, num_items=2, rating_mean=5.0, rows=rows)  # two items with the same raters
    equation = build_equation(EASEOptions(ridge=1e-9, min_stars=None), alike, seed=0)
    with pytest.raises(RunFailedError, match=r"^the matrix of items is singular; a larger model\.ridge helps$"):
        equation.solve()


def test_item_knn_equals_plain_loops():
    counts = rated()
    together, raters = counts.T @ counts, counts.sum(axis=0)
    similarity = together / (np.sqrt(np.outer(raters, raters)) + 1.5)
    np.fill_diagonal(similarity, 0)
    weights = np.zeros_like(similarity)
    by_popularity = sorted(range(NUM_ITEMS), key=lambda item: (-raters[item], item))
    for item in range(NUM_ITEMS):
        for other in sorted(by_popularity, key=lambda other: -similarity[item, other])[:3]:
            weights[other, item] = similarity[item, other]
    np.testing.assert_allclose(scores_of(solved("item_knn")), counts @ weights, atol=1e-6)


def test_item_knn_without_shrinkage_takes_items_without_raters():
    options = ItemKNNOptions(num_neighbors=NUM_ITEMS + 5, shrinkage=0.0, min_stars=3.0)
    equation = build_equation(options, training(), seed=0)
    equation.solve()
    scores = scores_of(equation)
    assert np.isfinite(scores).all()
    assert (scores[:, 6] == 0).all()


@pytest.mark.parametrize("name", ["ease", "item_knn"])
def test_scores_of_pairs_of_a_user_and_of_all_items_are_equal(monkeypatch, name):
    monkeypatch.setattr("ratinglab.models.item_weights.SCORES_AT_ONCE", 2 * NUM_ITEMS)  # two users at a time
    equation = solved(name)
    table = equation.predict_table(torch.arange(NUM_USERS), torch.arange(NUM_ITEMS)).numpy()
    np.testing.assert_array_equal(scores_of(equation), table)
    of_one_user = equation.predict_table(torch.tensor([3]), torch.tensor([4, 1]))
    np.testing.assert_array_equal(of_one_user[0], table[3, [4, 1]])
    assert (table[0] == 0).all()  # none of the user's ratings counts
    assert table[1:].any()


@pytest.mark.parametrize("name", ["ease", "item_knn"])
def test_users_with_the_ratings_of_trained_ones_get_their_scores(name):
    equation, (user, item, rating, _) = solved(name), training().interactions()
    is_chosen = (user == 2) | (user == 5)
    rows = Batch((user[is_chosen] == 5).int(), item[is_chosen], rating[is_chosen], None)
    np.testing.assert_array_equal(scores_of(equation)[[2, 5]], scores_of_two(equation.with_users(rows, num_users=2)))


def scores_of_two(equation: Equation) -> np.ndarray:
    return equation.predict_table(torch.arange(2), torch.arange(NUM_ITEMS)).numpy()


def test_users_added_to_implicit_mf_minimize_its_objective():
    equation, (user, item, rating, _) = solved("implicit_mf"), training().interactions()
    rows = Batch(user[user == 5] - 5, item[user == 5], rating[user == 5], None)
    added = equation.with_users(rows, num_users=1)
    items = equation.item_embedding.weight.detach().double()
    is_rated = torch.from_numpy(rated()[5])
    ridge = 0.1 * (is_rated.sum() + 0.3 * NUM_ITEMS) ** 0.5

    def objective(row: torch.Tensor) -> torch.Tensor:
        score = items @ row
        return (is_rated * (1 - score) ** 2).sum() + 0.3 * score.square().sum() + ridge * row.square().sum()

    start = torch.zeros(3, dtype=torch.float64)  # the objective is quadratic: one Newton step reaches its minimum
    gradient = torch.autograd.functional.jacobian(objective, start)
    hessian = torch.autograd.functional.hessian(objective, start)
    expected = -torch.linalg.solve(hessian, gradient)
    torch.testing.assert_close(added.user_embedding.weight[0].double(), expected, atol=1e-5, rtol=1e-5)
    assert equation.user_embedding.num_embeddings == NUM_USERS  # unchanged


def test_ease_refuses_more_items_than_its_matrix_may_hold():
    rows = Batch(torch.zeros(1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32), torch.ones(1), None)
    large = TrainingData(num_users=1, num_items=70_000, rating_mean=3.0, rows=rows)
    with pytest.raises(UserError, match=r"^model=ease takes 20 GB for 70,000 items, more than the limit of 16 GB: use"):
        build_equation(OPTIONS["ease"], large, seed=0)


DIGEST = """
import hashlib, numpy as np, torch
from ratinglab.batches import Batch
from ratinglab.models.ease import EASE, EASEOptions
from ratinglab.models.equation import TrainingData
user, item = map(torch.from_numpy, np.nonzero(np.random.default_rng(0).random((900, 700)) < 0.1))
rows = Batch(user.int(), item.int(), torch.full((len(user),), 5.0), None)
training = TrainingData(num_users=900, num_items=700, rating_mean=3.0, rows=rows)
equation = EASE(EASEOptions(ridge=50.0, min_stars=3.0), training)
equation.solve()
print(hashlib.sha256(equation.weight.numpy().tobytes()).hexdigest())
"""
"""Prints a hash of the weights for 900 users and 700 items."""


@pytest.mark.slow
def test_ease_is_the_same_for_any_number_of_threads():
    """With the BLAS loops that AMD's processors use, which round differently in two threads."""
    env = os.environ | {"OPENBLAS_CORETYPE": "Haswell"}
    command = [sys.executable, "-c", DIGEST]
    one, two = (
        subprocess.run(
            command,
            env=env | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    )
    assert one == two


def test_equation_of_another_kind_than_its_options_declare_is_an_error(monkeypatch):
    monkeypatch.setattr(EASEOptions, "form", EquationForm.function)
    with pytest.raises(UserError, match="model=ease: form function predicts ratings, but EASE is a ScoreEquation"):
        build_equation(OPTIONS["ease"], training(), seed=0)
