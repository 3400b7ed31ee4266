"""Block SGD: the order of rows, the steps, and independence of threads."""

import numba
import numpy as np
import pytest
import torch
from equations import equation_of, options_of
from fits import Fitted
from fits import fit as fit_equation
from tables import table_of

from ratinglab.batches import as_tensors
from ratinglab.fitting import block_sgd
from ratinglab.fitting.block_sgd import assign_slices
from ratinglab.fitting.whole_epoch_options import BlockSGDOptions
from ratinglab.kernels.block_steps import move_to_blocks, sgd_over_diagonal, sort_blocks_by_user
from ratinglab.models.equation import TrainingData
from ratinglab.ratings.table import Ratings

NUM_USERS, NUM_ITEMS = 30, 40


def rows(count: int, *, seed=0):
    random = np.random.default_rng(seed)
    user = random.integers(0, NUM_USERS, count).astype(np.int32)
    item = random.integers(0, NUM_ITEMS, count).astype(np.int32)
    return user, item, random.integers(1, 6, count).astype(np.float32)


def ordered(user, item, rating, *, slices):
    """Sort rows by blocks; return them and where each block starts."""
    columns = Ratings(user.copy(), item.copy(), rating.copy())
    cuts = [
        assign_slices(np.bincount(index, minlength=count), slices)
        for index, count in ((user, NUM_USERS), (item, NUM_ITEMS))
    ]
    start = move_to_blocks(columns, *cuts, slices)
    sort_blocks_by_user(columns, start)
    return columns.user, columns.item, columns.rating, start, *cuts


@pytest.mark.parametrize("slices", [1, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 500])
def test_rows_are_moved_to_their_block_and_sorted_by_user(slices, count):
    columns = rows(count)
    *moved, start, user_slice, item_slice = ordered(*columns, slices=slices)
    assert sorted(zip(*moved, strict=True)) == sorted(zip(*columns, strict=True))
    assert (start[0], start[-1]) == (0, count)
    for block in range(slices**2):
        user, item = (column[start[block] : start[block + 1]] for column in moved[:2])
        assert (user_slice[user] * slices + item_slice[item] == block).all()
        assert (np.diff(user) >= 0).all()


def test_slices_have_similar_numbers_of_ratings():
    count = np.random.default_rng(0).geometric(0.01, 1000)
    slice_ = assign_slices(count, 8)
    assert (np.diff(slice_) >= 0).all()
    ratings = np.bincount(slice_, count)
    assert len(ratings) == 8
    assert ratings.max() - ratings.min() <= 2 * count.max()


@pytest.mark.parametrize("name", ["mf", "biased_mf"])
def test_step_equals_an_autograd_step_on_one_row(name):
    """The reference takes torch's gradients of forward and penalty, one row per batch, in the kernel's order."""
    user, item, rating, start, *_ = ordered(*rows(200), slices=2)
    training = TrainingData(num_users=NUM_USERS, num_items=NUM_ITEMS, rating_mean=3.0)
    model_of_loops, model_of_torch = (equation_of(name, training, seed=1, embedding_dim=5) for _ in range(2))
    for model in (model_of_loops, model_of_torch):
        for parameter in model.parameters():  # biases that are not 0
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(2))
    squares = 0.0
    for block in (1, 2, 0, 3):  # the diagonals 1 and 0
        for row in range(start[block], start[block + 1]):
            batch = torch.tensor([user[row]]), torch.tensor([item[row]])
            model_of_torch.zero_grad()
            error = (model_of_torch(*batch) - torch.tensor([rating[row]])).square().mean()
            (error + model_of_torch.penalty(*batch)).backward()
            with torch.no_grad():
                for weight in model_of_torch.parameters():
                    weight -= 0.02 * weight.grad
            squares += float(error.detach())
    errors = run_epoch(model_of_loops, (user, item, rating, start), diagonals=[1, 0])
    for mine, reference in zip(model_of_loops.parameters(), model_of_torch.parameters(), strict=True):
        assert torch.allclose(mine, reference, atol=1e-5)
    assert errors.sum() == pytest.approx(squares, rel=1e-5)


def run_epoch(model, columns, *, diagonals, lr=0.02):
    sides = model.user_side(), model.item_side()
    factors = [side.embedding.weight for side in sides]
    biases = [torch.empty(0, 1) if side.bias is None else side.bias.weight for side in sides]
    weights = tuple(table.detach().numpy() for table in (*factors, *biases))
    numbers = float(model.rating_mean), lr, model.regularization
    errors = np.zeros((len(diagonals), len(diagonals)))
    for diagonal in diagonals:
        sgd_over_diagonal(*columns, diagonal, weights, *map(np.float32, numbers), errors)
    return errors


def fit(*, name="biased_mf", lr=0.02, slices=4, epochs=3, **changed) -> Fitted:
    model = options_of(name, embedding_dim=4, regularization=0.05)
    optimizer = BlockSGDOptions(lr=lr, slices=slices)
    return fit_equation(model, optimizer, table_of(*rows(900)), epochs=epochs, scale=(1.0, 5.0), **changed)


@pytest.mark.parametrize("name", ["mf", "biased_mf"])
def test_weights_do_not_depend_on_the_number_of_threads(name):
    one = fit(threads=1, name=name)
    assert numba.get_num_threads() == 1
    assert torch.equal(one.weights, fit(threads=2, name=name).weights)
    assert numba.get_num_threads() == min(2, numba.config.NUMBA_NUM_THREADS)


def test_every_setting_changes_the_weights():
    plain = fit().weights
    assert torch.equal(plain, fit().weights)
    halved = {"lr_factor": lambda epoch: 0.5}
    for changed in ({"seed": 1}, {"slices": 2}, {"lr": 0.01}, {"epochs": 2}, halved):
        assert not torch.equal(plain, fit(**changed).weights)
    assert torch.equal(fit(lr=0.01).weights, fit(lr=0.02, **halved).weights)


def test_training_error_falls_and_covers_all_rows():
    early, late = fit(epochs=1).module, fit(epochs=30).module
    assert late.train_mse < early.train_mse
    assert early.rows_trained == 720
    frozen = fit(lr=1e-30, epochs=1)
    user, item, rating, _ = as_tensors(frozen.data.train_ratings_in_stars)
    error = (frozen.equation(user, item) - rating).detach()
    assert frozen.module.train_mse == pytest.approx(float(error.square().mean()), rel=1e-5)


def test_rows_are_sorted_once_and_diagonals_are_shuffled_every_epoch(monkeypatch):
    calls = []

    def recorded(user, item, rating, start, diagonal, *more):
        calls.append((user.copy(), start, diagonal))
        return sgd_over_diagonal(user, item, rating, start, diagonal, *more)

    monkeypatch.setattr(block_sgd, "sgd_over_diagonal", recorded)
    fit(epochs=4, slices=8)
    orders = np.reshape([diagonal for *_, diagonal in calls], (4, 8)).tolist()
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    for user, start, _ in calls:
        assert np.array_equal(user, calls[0][0])
        assert all((np.diff(user[start[block] : start[block + 1]]) >= 0).all() for block in range(64))
