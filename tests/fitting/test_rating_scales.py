"""Equal weights for ratings r and a · r + b, and a start from the bias baseline."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from equations import CLASSES, options_of
from fits import fit
from tables import table_of

from ratinglab.batches import as_tensors
from ratinglab.fitting.gradient_options import AdamOptions, AdamWOptions, SGDOptions, SparseAdamOptions
from ratinglab.fitting.whole_epoch_options import ALSOptions, BlockSGDOptions, GibbsOptions, Noise

MOMENTS = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999}
FITS = {
    "adam": AdamOptions(**MOMENTS, weight_decay=0.0),
    "adamw": AdamWOptions(**MOMENTS, weight_decay=0.0),
    "sgd": SGDOptions(lr=0.1, weight_decay=0.0, momentum=0.9),
    "sparse_adam": SparseAdamOptions(**MOMENTS),
    "als": ALSOptions(damping=5.0),
    "block_sgd": BlockSGDOptions(lr=0.01, slices=None),
    "gibbs": GibbsOptions(burn_in=2, noise=Noise.own, thin=1, max_samples=None, min_gain=0.0),
}
PAIRS = [(model, name) for model, options in CLASSES.items() for name, fit in FITS.items() if options.form in fit.forms]


def made_table(a: float, b: float):
    random = np.random.default_rng(0)
    user, item = np.divmod(random.choice(30 * 20, 300, replace=False), 20)
    rating = random.integers(1, 6, 300)
    return table_of(
        user, item, a * rating + b, scale=(a + b, 5 * a + b), timestamp=random.integers(0, 5, 300) * 86_400_000
    )


def predictions(model: str, optimizer: str, *, a: float, b: float) -> torch.Tensor:
    options = options_of(model)
    if model not in ("mean", "bias"):
        options = replace(options, embedding_dim=3, init_std=0.1, regularization=0.05)
    batch_size = 64 if FITS[optimizer].takes_batches else None
    fitted = fit(options, FITS[optimizer], made_table(a, b), epochs=4, batch_size=batch_size)
    user, item, _, day = as_tensors(fitted.data.train_ratings_in_stars)
    with torch.no_grad():
        return fitted.module.predictor.eval().predict_unclipped(user, item, day)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "optimizer"), PAIRS)
def test_ratings_times_a_plus_b_give_predictions_times_a_plus_b(model, optimizer):
    plain = predictions(model, optimizer, a=1.0, b=0.0)
    for a, b in ((24.75, -23.75), (0.01, -1.0)):
        scaled = predictions(model, optimizer, a=a, b=b)
        np.testing.assert_allclose((scaled - b) / a, plain, atol=1e-3)


@pytest.mark.parametrize("model", ["bias", "biased_mf", "svdpp", "timesvdpp"])
def test_first_predictions_are_those_of_the_bias_baseline(model):
    table = made_table(5.0, -15.0)
    options = options_of(model)
    options = options if model == "bias" else replace(options, embedding_dim=3, init_std=0.0)
    fitted = fit(options, FITS["sgd"], table, epochs=0, batch_size=64)
    predictor, (user, item, _, day) = fitted.module.predictor.eval(), as_tensors(fitted.data.train_ratings_in_stars)
    baseline, unit = predictor.baseline, predictor.stars.unit
    predictor.model.start_from_baseline(baseline.user_bias[:-1] / unit, baseline.item_bias[:-1] / unit)
    with torch.no_grad():
        torch.testing.assert_close(
            predictor.predict_unclipped(user, item, day), baseline(user, item), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("name", FITS)
def test_training_error_is_in_squared_rating_units(name):
    """On a scale of 1 to 100, a star is 24.75 rating units."""
    errors = []
    for a, b in ((1.0, 0.0), (24.75, -23.75)):
        batch_size = 64 if FITS[name].takes_batches else None
        fitted = fit(options_of("biased_mf"), FITS[name], made_table(a, b), epochs=1, batch_size=batch_size)
        metrics = fitted.trainer.callback_metrics
        errors.append([float(metrics["train/mse"]), float(metrics["val/mse"]), float(fitted.module.train_mse)])
    (of_stars, held_out, raw), (of_ratings, held_out_ratings, same) = errors
    assert of_stars == pytest.approx(raw)
    assert same == pytest.approx(raw, rel=1e-3)
    assert of_ratings == pytest.approx(24.75**2 * of_stars, rel=1e-3)
    assert held_out_ratings == pytest.approx(24.75**2 * held_out, rel=1e-3)
