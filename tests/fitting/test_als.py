"""Alternating least squares: its minimum, row by row, and that threads do not change it."""

import numpy as np
import pytest
import torch
from fits import run_fit
from ratinglab.models.discovery import build_model
from tables import table_of

from ratinglab.batches import as_tensors
from ratinglab.datamodule import RatingDataModule
from ratinglab.fitting.als import ALSFit
from ratinglab.models.baselines import BiasBaseline
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.holdout import hold_out
from ratinglab.ratings.splits import RandomSplit


def fit(name, *, epochs, threads=1, regularization=0.1) -> tuple[ALSFit, RatingDataModule]:
    random = np.random.default_rng(0)
    user, item = np.divmod(np.flatnonzero(random.random(30 * 20) < 0.4), 20)
    table = table_of(user, item, random.integers(1, 6, len(user)))
    split = RandomSplit(refit=False, seed=0, validation=0.0, test=0.1).apply(table)
    data = RatingDataModule(hold_out(table, split), batch_size=None, fraction=1.0, seed=0)
    options = {"embedding_dim": 3, "regularization": regularization, "init_std": 0.1}
    numbers = {"num_users": data.num_users, "num_items": data.num_items}
    model = build_model(name, options, **numbers, rating_mean=data.rating_mean, seed=0)
    module = ALSFit(Predictor(model, BiasBaseline(**numbers), scale=None))
    run_fit(module, data, epochs=epochs, threads=threads)
    return module, data


def objective(module: ALSFit, data: RatingDataModule) -> torch.Tensor:
    """What every fit of the equation minimizes: the mean of (r − r̂)² + penalty over the training rows."""
    user, item, rating, _ = as_tensors(data.train_ratings)
    model = module.predictor.model
    return (model(user, item) - rating).square().mean() + model.penalty(user, item)


@pytest.mark.parametrize("name", ["mf", "biased_mf"])
def test_after_a_sweep_no_row_of_the_items_can_be_better(name):
    """By autograd: the gradient of the objective is 0 in all weights of the side that was solved last."""
    module, data = fit(name, epochs=1)
    objective(module, data).backward()
    for key, weight in module.predictor.model.named_parameters():
        size = float(weight.grad.abs().max())
        assert size < 1e-5 if key.startswith("item") else size > 1e-4, key


@pytest.mark.parametrize("name", ["mf", "biased_mf"])
def test_sweeps_lower_the_objective_to_a_minimum(name):
    values = [float(objective(*fit(name, epochs=epochs)).detach()) for epochs in (1, 2, 5, 300)]
    assert values == sorted(values, reverse=True)
    module, data = fit(name, epochs=300)
    objective(module, data).backward()
    assert max(float(weight.grad.abs().max()) for weight in module.predictor.model.parameters()) < 1e-4


def test_the_training_error_is_that_of_the_weights():
    module, data = fit("biased_mf", epochs=3)
    user, item, rating, _ = as_tensors(data.train_ratings)
    error = (module.predictor.model(user, item) - rating).square().mean()
    assert module.train_mse() == pytest.approx(float(error.detach()), rel=1e-5)


def test_the_weights_do_not_depend_on_the_number_of_threads_but_on_the_regularization():
    one, two, other = (
        torch.cat([weight.detach().flatten() for weight in fit("biased_mf", epochs=3, **more)[0].parameters()])
        for more in ({"threads": 1}, {"threads": 2}, {"regularization": 0.2})
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
