"""Implicit-feedback ALS: its objective, its solutions, and the same weights for any number of threads."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fits import fit
from tables import table_with_features

from ratinglab.batches import as_tensors
from ratinglab.errors import RunFailedError, UserError
from ratinglab.evaluation.list_options import OrderBy, OrderOptions
from ratinglab.evaluation.metric_kinds import parse_metric_at_k
from ratinglab.fitting.whole_epoch_options import ImplicitALSOptions
from ratinglab.kernels.implicit_rows import improve_rows
from ratinglab.kernels.sorted_ratings import sort_ratings
from ratinglab.models.implicit_mf import ImplicitMFOptions, ImplicitObjective, solve_implicit_rows
from ratinglab.models.rated_pairs import RatedPairs, liked_rows

MODEL = ImplicitMFOptions(
    embedding_dim=4, regularization=0.1, frequency_exponent=0.5, init_std=0.5, unrated_weight=0.2, min_stars=3.0
)
ORDER = OrderOptions(OrderBy.prediction, threshold=3.0)
NDCG = parse_metric_at_k("ndcg@5")


def fitted(*, epochs: int, cg_steps: int = 4, threads: int = 1, model: ImplicitMFOptions = MODEL):
    optimizer = ImplicitALSOptions(cg_steps=cg_steps)
    return fit(model, optimizer, table_with_features(), epochs=epochs, threads=threads, monitor=NDCG, order=ORDER)


def objective(run) -> float:
    """Compute the objective, divided by the number of pairs that count, in plain numpy."""
    users, items = (embedding.weight.detach().double().numpy() for embedding in run.equation.children())
    rows = liked_rows(as_tensors(run.data.train_ratings_in_stars), MODEL.min_stars)
    is_rated = np.zeros((len(users), len(items)))
    is_rated[rows.user, rows.item] = 1
    scores = users @ items.T
    total = (is_rated * (1 - scores) ** 2).sum() + 0.2 * (scores**2).sum()
    for side, axis in ((users, 1), (items, 0)):
        weight = is_rated.sum(axis=axis) + 0.2 * is_rated.shape[axis]
        total += 0.1 * weight**0.5 @ (side**2).sum(axis=1)
    return total / is_rated.sum()


def test_as_many_steps_as_factors_solve_for_each_row():
    random = np.random.default_rng(0)
    user, item = (random.integers(0, count, 60).astype(np.int32) for count in (9, 8))
    user[user == 3] = 4  # user 3 has no pairs
    others, rows = (random.standard_normal((count, 5)).astype(np.float32) for count in (8, 9))
    pairs = sort_ratings(user, item, np.ones(60, dtype=np.float32), num_rows=9, dim=5)
    ridge = (0.1 * (pairs.counts + 0.3 * 8)).astype(np.float32)
    before = [
        np.square(1 - others[pairs.column[first:last]] @ row).sum()
        for row, first, last in zip(rows, pairs.start[:-1], pairs.start[1:], strict=True)
    ]
    errors = improve_rows(pairs, others, 0.3 * others.T @ others, ridge, 8, rows)
    exact = solve_implicit_rows(RatedPairs(user, item), 9, torch.from_numpy(others), ImplicitObjective(0.3, 0.1, 1.0))
    np.testing.assert_allclose(rows, exact, atol=1e-5)
    assert (rows[3] == 0).all()
    np.testing.assert_allclose(errors, before, rtol=1e-5)


def test_loss_is_the_objective_before_the_sweep_and_no_sweep_raises_it():
    losses = [fitted(epochs=epochs).module.train_loss for epochs in range(1, 7)]
    assert losses == sorted(losses, reverse=True)
    assert losses[3] == pytest.approx(objective(fitted(epochs=3)), rel=1e-5)


def test_weights_are_the_same_for_any_number_of_threads():
    assert torch.equal(fitted(epochs=3).weights, fitted(epochs=3, threads=2).weights)


def test_ratings_below_min_stars_do_not_count():
    all_pairs = fitted(epochs=2, model=replace(MODEL, min_stars=None))
    assert not torch.equal(fitted(epochs=2).weights, all_pairs.weights)
    assert torch.equal(fitted(epochs=2, model=replace(MODEL, min_stars=1.0)).weights, all_pairs.weights)


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_error_of_a_loss_that_is_not_finite_suggests_regularization():
    message = r"^train/loss is (inf|nan) in epoch 1; a larger model\.regularization may help$"
    with pytest.raises(RunFailedError, match=message):
        fitted(epochs=1, model=replace(MODEL, init_std=1e30))


def test_regularization_must_be_above_0():
    with pytest.raises(
        UserError, match=r"^model\.regularization must be above 0 with optimizer=implicit_als, got 0\.0$"
    ):
        ImplicitALSOptions(cg_steps=3).check(model=replace(MODEL, regularization=0.0), trainer=None)
