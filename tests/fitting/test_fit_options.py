"""Requirements that fits declare, and steps of torch's optimizers by hand."""

from dataclasses import replace

import pytest
import torch
from equations import options_of
from fits import TRAINER
from torch import nn

from ratinglab.errors import UserError
from ratinglab.fitting.gradient_options import (
    AdamOptions,
    AdamWOptions,
    GradientOptions,
    SGDOptions,
    SparseAdamOptions,
)
from ratinglab.fitting.whole_epoch_options import ALSOptions, BlockSGDOptions, GibbsOptions, Noise
from ratinglab.models.equation_options import EquationForm

GIBBS = GibbsOptions(burn_in=2, noise=Noise.own, thin=3, max_samples=None, min_gain=0.0)
FITS = [
    AdamOptions(lr=0.1, weight_decay=0.0, beta1=0.9, beta2=0.999),
    AdamWOptions(lr=0.1, weight_decay=0.0, beta1=0.9, beta2=0.999),
    SparseAdamOptions(lr=0.1, beta1=0.9, beta2=0.999),
    SGDOptions(lr=0.1, weight_decay=0.0, momentum=0.0),
    BlockSGDOptions(lr=0.1, slices=None),
    GIBBS,
    ALSOptions(damping=0.0),
]


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (EquationForm.embeddings, {"adam", "adamw", "sparse_adam", "sgd", "block_sgd", "gibbs", "als"}),
        (EquationForm.terms, {"adam", "adamw", "sgd", "gibbs", "als"}),
        (EquationForm.function, {"adam", "adamw", "sparse_adam", "sgd"}),
    ],
)
def test_each_equation_form_has_its_optimizers(form, names):
    assert {fit.name for fit in FITS if form in fit.forms} == names


def test_full_batch_optimizers_fix_the_batch_settings():
    whole = {fit.name for fit in FITS if not fit.takes_batches}
    assert whole == {"block_sgd", "gibbs", "als"}
    for fit in FITS:
        assert ({"limit_train_batches", "accumulate_grad_batches"} <= set(fit.trainer_values)) == (fit.name in whole)


def test_initial_lr_is_the_option_lr_or_none():
    assert {fit.name: fit.initial_lr for fit in FITS if fit.initial_lr is None} == {"gibbs": None, "als": None}
    assert {fit.initial_lr for fit in FITS} == {0.1, None}


@pytest.mark.parametrize(("max_epochs", "samples"), [(3, 1), (5, 1), (6, 2), (8, 2), (9, 3)])
def test_num_samples_follows_from_burn_in_thin_and_max_epochs(max_epochs, samples):
    (note,) = replace(GIBBS, max_samples=9).notes(max_epochs=max_epochs, sample_bytes=1 << 31)
    assert note.startswith(f"warning: {samples} samples take ")
    assert samples == len([epoch for epoch in range(max_epochs) if epoch >= 2 and (epoch - 2) % 3 == 0])


def test_gibbs_refuses_a_burn_in_without_samples_after_it():
    GIBBS.check(model=options_of("mf"), trainer=replace(TRAINER, max_epochs=3))
    with pytest.raises(UserError, match=r"^optimizer.burn_in must be below trainer.max_epochs, got 2 and 2$"):
        GIBBS.check(model=options_of("mf"), trainer=replace(TRAINER, max_epochs=2))


@pytest.mark.parametrize(
    "fit", [BlockSGDOptions(lr=0.1, slices=None), SparseAdamOptions(lr=0.1, beta1=0.9, beta2=0.999)]
)
def test_fits_that_read_single_rows_refuse_features(fit):
    fit.check(model=options_of("biased_mf"), trainer=TRAINER)
    for key in ("user_features", "item_features"):
        model = options_of("biased_mf", **{key: ["a", "b"]})
        with pytest.raises(UserError, match=rf"^model.{key} must be \[\] with optimizer={fit.name}, got \[a,b\]$"):
            fit.check(model=model, trainer=TRAINER)


def test_als_refuses_equations_without_regularization():
    ALSOptions(damping=0.0).check(model=options_of("mf"), trainer=TRAINER)
    with pytest.raises(UserError, match=r"^model.regularization must be above 0 with optimizer=als, got 0.0$"):
        ALSOptions(damping=0.0).check(model=options_of("mf", regularization=0.0), trainer=TRAINER)


def steps(options: GradientOptions, gradients: list[float]) -> list[float]:
    """Return a weight, 1 at first, after each step along these gradients."""
    table = nn.Embedding.from_pretrained(torch.ones(1, 1), freeze=False, sparse=options.name == "sparse_adam")
    optimizer, weights = options.make_optimizer(table.parameters()), []
    for gradient in gradients:
        optimizer.zero_grad()
        (gradient * table(torch.tensor([0]))).sum().backward()
        optimizer.step()
        weights.append(table.weight.item())
    return weights


def test_sgd_steps_are_those_computed_by_hand():
    plain = SGDOptions(lr=0.1, weight_decay=0.0, momentum=0.0)
    assert steps(plain, [2, -3]) == pytest.approx([1 - 0.2, 0.8 + 0.3])
    # the steps' directions: 2, then 2/2 + 2 = 3, then 3/2 + 2 = 3.5
    assert steps(replace(plain, momentum=0.5), [2, 2, 2]) == pytest.approx([0.8, 0.8 - 0.3, 0.5 - 0.35])
    # the gradients: 2 + 1/2, then 2 + 0.75/2
    assert steps(replace(plain, weight_decay=0.5), [2, 2]) == pytest.approx([1 - 0.25, 0.75 - 0.2375])


MOMENTS = {"lr": 0.1, "beta1": 0.5, "beta2": 0.75}


@pytest.mark.parametrize(
    "options",
    [AdamOptions(**MOMENTS, weight_decay=0.0), AdamWOptions(**MOMENTS, weight_decay=0.0), SparseAdamOptions(**MOMENTS)],
)
def test_adam_steps_are_those_computed_by_hand(options):
    """The first step has length lr. Each mean of the second is corrected for its start at 0:

    (1/4 · 1 − 1/2 · 3) / (3/4) = −5/3 of the gradients, (3/16 · 1 + 1/4 · 9) / (7/16) = 39/7 of their squares.
    """
    assert steps(options, [1, -3]) == pytest.approx([0.9, 0.9 + 0.1 * (5 / 3) / (39 / 7) ** 0.5])


def test_weight_decay_of_adam_is_part_of_the_gradient():
    # gradients: 1 + 1/2, then −3 + 0.9/2 = −2.55; their means (3/8 − 1.275) / (3/4), (27/64 + 1.625625) / (7/16)
    weights = steps(AdamOptions(**MOMENTS, weight_decay=0.5), [1, -3])
    assert weights == pytest.approx([0.9, 0.9 + 0.1 * 1.2 / 4.68**0.5])


def test_weight_decay_of_adamw_shrinks_the_weight_beside_the_step_of_adam():
    weights = steps(AdamWOptions(**MOMENTS, weight_decay=0.5), [1, -3])
    assert weights == pytest.approx([0.95 - 0.1, 0.85 * 0.95 + 0.1 * (5 / 3) / (39 / 7) ** 0.5])
    assert steps(AdamWOptions(**MOMENTS, weight_decay=0.5), [0, 0]) == pytest.approx([0.95, 0.9025])
