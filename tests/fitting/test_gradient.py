"""A fit on a table of a few rows, in this process."""

import itertools
import math

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from ratinglab.models.discovery import build_model
from tables import table_of

from ratinglab.datamodule import RatingDataModule
from ratinglab.errors import RunFailedError
from ratinglab.fitting.gradient import GradientFit
from ratinglab.fitting.optimizers import SGD, Adam, AdamW
from ratinglab.models.baselines import BiasBaseline
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.holdout import Holdout, hold_out
from ratinglab.ratings.splits import RowsSplit

ADAM = Adam(lr=0.05, weight_decay=0.0, beta1=0.9, beta2=0.999)
SGD_PLAIN = SGD(lr=0.1, weight_decay=0.0, momentum=0.0)


def small_holdout(validation: float = 0.25) -> Holdout:
    random = np.random.default_rng(0)
    user, item, rating = random.integers(0, 6, 60), random.integers(0, 8, 60), random.integers(1, 6, 60)
    table = table_of(user, item, rating)
    return hold_out(
        table, RowsSplit(refit=False, test_start=0, test_stop=10, seed=0, validation=validation).apply(table)
    )


def fit(
    optimizer=ADAM,
    *,
    epochs=3,
    seed=0,
    batch_size=8,
    lr_factor=lambda epoch: 1.0,
    validation=0.25,
    scale=(1.0, 5.0),
    accumulate=1,
    clip=None,
    **options,
) -> tuple[GradientFit, Trainer]:
    data = RatingDataModule(small_holdout(validation), batch_size=batch_size, fraction=1.0, seed=seed)
    options = {"embedding_dim": 3, "regularization": 0.1, "init_std": 0.1} | options
    numbers = {"num_users": data.num_users, "num_items": data.num_items}
    model = build_model("biased_mf", options, **numbers, rating_mean=data.rating_mean, seed=seed)
    predictor = Predictor(model, BiasBaseline(**numbers), scale=scale)
    module = GradientFit(
        predictor,
        optimizer=optimizer,
        lr=lambda epoch: optimizer.lr * lr_factor(epoch),
        accumulate_grad_batches=accumulate,
        gradient_clip_val=clip,
    )
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return module, trainer


def weights(module: GradientFit) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.predictor.model.parameters()])


def test_the_same_seed_repeats_bit_for_bit_and_another_does_not():
    same, again, other = weights(fit()[0]), weights(fit()[0]), weights(fit(seed=1)[0])
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_a_step_is_the_gradient_of_the_objective_by_hand():
    one_batch = {"epochs": 1, "batch_size": 1_000, "validation": 0.0}
    before, _ = fit(SGD(lr=1e-30, weight_decay=0.0, momentum=0.0), **one_batch)
    after, _ = fit(SGD_PLAIN, **one_batch)
    rows = small_holdout(0.0).train
    model = before.predictor.model
    with torch.no_grad():
        error = model(torch.from_numpy(rows.user), torch.from_numpy(rows.item)) - torch.from_numpy(rows.rating)
    # ∂/∂b_u of (1/n) Σ (r̂ − r)² + λ (… + b_u² + …), where every b_u starts at 0
    expected = torch.zeros(6).index_add_(0, torch.from_numpy(rows.user).long(), -0.1 * 2 * error / len(rows))
    assert torch.allclose(after.predictor.model.user_bias.weight[:, 0], expected, atol=1e-6)


def test_train_mse_is_pooled_over_the_epoch_before_each_update_without_penalty():
    _, trainer = fit(SGD_PLAIN, epochs=1, batch_size=7, validation=0.0)
    data = RatingDataModule(small_holdout(0.0), batch_size=7, fraction=1.0, seed=0)
    options = {"embedding_dim": 3, "regularization": 0.1, "init_std": 0.1}
    numbers = {"num_users": data.num_users, "num_items": data.num_items, "rating_mean": data.rating_mean}
    model = build_model("biased_mf", options, **numbers, seed=0)
    squared = 0.0
    for user, item, rating, _ in itertools.chain.from_iterable(data.train_dataloader()):
        error = model(user, item) - rating
        squared += error.detach().square().sum().item()
        model.zero_grad()
        (error.square().mean() + model.penalty(user, item)).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    assert float(trainer.callback_metrics["train/mse"]) == pytest.approx(squared / len(data.train_ratings), rel=1e-5)


def test_val_mse_is_that_of_the_clipped_predictions():
    module, trainer = fit(epochs=20, scale=(2.9, 3.1))
    rows = small_holdout().validation
    user, item = torch.from_numpy(rows.user), torch.from_numpy(rows.item)
    with torch.no_grad():
        free = module.predictor.score(user, item).numpy()
    assert np.abs(free - 3).max() > 0.5, "else clipping would change nothing"
    expected = np.square(free.clip(2.9, 3.1) - rows.rating).mean()
    assert float(trainer.callback_metrics["val/mse"]) == pytest.approx(expected, rel=1e-5)


def test_it_learns():
    first, last = (float(fit(epochs=epochs)[1].callback_metrics["train/mse"]) for epochs in (1, 40))
    assert last < 0.5 * first


@pytest.mark.parametrize(
    ("base", "changed"),
    [
        (ADAM, Adam(lr=0.06, weight_decay=0.0, beta1=0.9, beta2=0.999)),
        (ADAM, Adam(lr=0.05, weight_decay=0.1, beta1=0.9, beta2=0.999)),
        (ADAM, Adam(lr=0.05, weight_decay=0.0, beta1=0.5, beta2=0.999)),
        (ADAM, Adam(lr=0.05, weight_decay=0.0, beta1=0.9, beta2=0.9)),
        (ADAM, AdamW(lr=0.05, weight_decay=0.1, beta1=0.9, beta2=0.999)),
        (
            Adam(lr=0.05, weight_decay=0.1, beta1=0.9, beta2=0.999),
            AdamW(lr=0.05, weight_decay=0.1, beta1=0.9, beta2=0.999),
        ),
        (SGD_PLAIN, SGD(lr=0.2, weight_decay=0.0, momentum=0.0)),
        (SGD_PLAIN, SGD(lr=0.1, weight_decay=0.1, momentum=0.0)),
        (SGD_PLAIN, SGD(lr=0.1, weight_decay=0.0, momentum=0.5)),
    ],
)
def test_every_option_of_an_optimizer_changes_the_result(base, changed):
    assert not torch.allclose(weights(fit(base)[0]), weights(fit(changed)[0]), atol=1e-5)


def test_regularization_and_batch_size_change_the_result():
    base = weights(fit()[0])
    assert not torch.allclose(base, weights(fit(regularization=0.5)[0]), atol=1e-5)
    assert not torch.allclose(base, weights(fit(batch_size=16)[0]), atol=1e-5)


def test_the_schedule_moves_the_learning_rate_once_an_epoch():
    module, trainer = fit(epochs=3, lr_factor=lambda epoch: 0.5**epoch)
    assert module.epoch_lr == trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.05 / 4)
    frozen_after_one = weights(fit(SGD_PLAIN, epochs=3, lr_factor=lambda epoch: float(epoch == 0))[0])
    assert torch.equal(frozen_after_one, weights(fit(SGD_PLAIN, epochs=1)[0]))


def test_a_diverging_loss_names_epoch_and_learning_rate():
    with pytest.raises(RunFailedError, match=r"the training loss is (nan|inf) in epoch \d+ at lr 1e\+06"):
        fit(SGD(lr=1e6, weight_decay=0.0, momentum=0.0), epochs=50)


def test_weights_that_the_last_update_has_blown_up_are_found():
    with pytest.raises(RunFailedError, match=r"a weight is (inf|nan) in epoch 1 at lr 1e\+30"):
        fit(SGD(lr=1e30, weight_decay=0.0, momentum=0.0), epochs=1, batch_size=1_000, validation=0.0)


def test_time_and_rows_in_steps_are_counted():
    module, _ = fit(epochs=4)
    assert module.rows_trained == 4 * len(small_holdout().train)
    assert 0 < module.step_seconds < math.inf


def test_a_step_over_two_batches_is_a_step_on_both_together():
    two, one = (fit(SGD_PLAIN, batch_size=size, accumulate=over, validation=0.0) for size, over in ((5, 2), (10, 1)))
    assert torch.allclose(weights(two[0]), weights(one[0]), atol=1e-6)


def test_the_last_step_of_every_epoch_takes_what_batches_are_left():
    """Two batches, of which a step would average three: two thirds of a step on both together."""
    left = fit(SGD_PLAIN, epochs=1, batch_size=25, accumulate=3, validation=0.0)[0]
    two_thirds = SGD(lr=0.1 * 2 / 3, weight_decay=0.0, momentum=0.0)
    assert torch.allclose(
        weights(left), weights(fit(two_thirds, epochs=1, batch_size=50, validation=0.0)[0]), atol=1e-6
    )
    one, two = (fit(SGD_PLAIN, epochs=epochs, batch_size=25, accumulate=5, validation=0.0)[0] for epochs in (1, 2))
    assert not torch.equal(weights(one), weights(two))


def test_a_clipped_step_has_the_norm_it_is_clipped_to():
    once = {"epochs": 1, "batch_size": 50, "validation": 0.0}
    before = weights(fit(SGD(lr=1e-30, weight_decay=0.0, momentum=0.0), **once)[0])
    step = weights(fit(SGD(lr=1.0, weight_decay=0.0, momentum=0.0), clip=0.01, **once)[0]) - before
    assert float(step.norm()) == pytest.approx(0.01, rel=1e-3)
