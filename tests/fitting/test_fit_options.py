"""Requirements that fits declare."""

from dataclasses import replace

import pytest
from equations import options_of
from fits import TRAINER

from ratinglab.errors import UserError
from ratinglab.fitting.gradient_options import AdamOptions, AdamWOptions, SGDOptions, SparseAdamOptions
from ratinglab.fitting.whole_epoch_options import ALSOptions, BlockSGDOptions, GibbsOptions, Noise
from ratinglab.models.declarations import EquationForm

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
        (EquationForm.parts, {"adam", "adamw", "sparse_adam", "sgd", "gibbs", "als"}),
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
    assert GIBBS.num_samples(max_epochs) == samples
    assert samples == len([epoch for epoch in range(max_epochs) if epoch >= 2 and (epoch - 2) % 3 == 0])


def test_gibbs_refuses_a_burn_in_without_samples_after_it():
    GIBBS.check(model=options_of("mf"), trainer=replace(TRAINER, max_epochs=3))
    with pytest.raises(UserError, match=r"^optimizer.burn_in must be below trainer.max_epochs, got 2 and 2$"):
        GIBBS.check(model=options_of("mf"), trainer=replace(TRAINER, max_epochs=2))


def test_block_sgd_refuses_features():
    BlockSGDOptions(lr=0.1, slices=None).check(model=options_of("biased_mf"), trainer=TRAINER)
    for key in ("user_features", "item_features"):
        model = options_of("biased_mf", **{key: ["a", "b"]})
        with pytest.raises(UserError, match=rf"^model.{key} must be \[\] with optimizer=block_sgd, got \[a,b\]$"):
            BlockSGDOptions(lr=0.1, slices=None).check(model=model, trainer=TRAINER)


def test_als_refuses_equations_without_regularization():
    ALSOptions(damping=0.0).check(model=options_of("mf"), trainer=TRAINER)
    with pytest.raises(UserError, match=r"^model.regularization must be above 0 with optimizer=als, got 0.0$"):
        ALSOptions(damping=0.0).check(model=options_of("mf", regularization=0.0), trainer=TRAINER)
