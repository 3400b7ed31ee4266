"""Gradient fits on a small table."""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from equations import options_of
from fits import TRAINER, Fitted, split_ratings_of, training_data
from fits import fit as fit_equation
from pytorch_lightning import Callback
from tables import table_of

from ratinglab.datamodule import RatingDataModule
from ratinglab.errors import RunFailedError
from ratinglab.fitting.callbacks.checkpoints import BestAndLast
from ratinglab.fitting.gradient_options import AdamOptions, GradientOptions, SGDOptions
from ratinglab.models.build_equation import build_equation
from ratinglab.models.equation import Equation
from ratinglab.models.mf import MF, MFOptions
from ratinglab.ratings.table import MILLISECONDS_PER_DAY, RatingTable
from ratinglab.runs.run_files import LAST
from ratinglab.splits.chosen_rows import RowsSplitOptions
from ratinglab.splits.split import TRAIN, VALIDATION
from ratinglab.splits.split_ratings import SplitRatings

ADAM = AdamOptions(lr=0.05, weight_decay=0.0, beta1=0.9, beta2=0.999)
SGD_PLAIN = SGDOptions(lr=0.1, weight_decay=0.0, momentum=0.0)
FROZEN = replace(SGD_PLAIN, lr=1e-30)


def small_table() -> RatingTable:
    random = np.random.default_rng(0)
    return table_of(random.integers(0, 6, 60), random.integers(0, 8, 60), random.integers(1, 6, 60))


def small_split(validation: float) -> RowsSplitOptions:
    return RowsSplitOptions(refit=False, test_start=0, test_stop=10, seed=0, validation=validation)


def small_split_ratings(validation: float = 0.25) -> SplitRatings:
    return split_ratings_of(small_table(), model_options(), split=small_split(validation))


def model_options(**changed):
    return options_of("biased_mf", **{"embedding_dim": 3, **changed})


def fit(
    optimizer=ADAM,
    *,
    model=None,
    epochs=3,
    seed=0,
    batch_size=8,
    lr_factor=lambda epoch: 1.0,
    validation=0.25,
    scale=(1.0, 5.0),
    accumulate=1,
    clip=None,
    regularization=0.1,
    **more,
) -> Fitted:
    return fit_equation(
        model_options(regularization=regularization) if model is None else model,
        optimizer,
        small_table(),
        epochs=epochs,
        split=small_split(validation),
        batch_size=batch_size,
        seed=seed,
        model_seed=seed,
        scale=scale,
        lr_factor=lr_factor,
        trainer=replace(TRAINER, accumulate_grad_batches=accumulate, gradient_clip_val=clip),
        **more,
    )


def errors(model: Equation, part: int, *, validation: float = 0.25) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the model's errors on the rows of a part; return them and the users: (N,) float32 and (N,) int64."""
    rows = small_split_ratings(validation).copy_rows(part)
    user, item, rating = map(torch.from_numpy, (rows.user, rows.item, rows.rating))
    with torch.no_grad():
        return model(user, item) - rating, user.long()


def metric(fitted: Fitted, tag: str) -> float:
    return float(fitted.trainer.callback_metrics[tag])


def test_same_seed_gives_equal_weights_and_another_does_not():
    same, again, other = fit().weights, fit().weights, fit(seed=1).weights
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_step_equals_the_gradient_computed_by_hand():
    one_batch = {"epochs": 1, "batch_size": 1_000, "validation": 0.0}
    model = fit(FROZEN, **one_batch).equation
    after = fit(SGD_PLAIN, **one_batch).equation
    error, user = errors(model, TRAIN, validation=0.0)
    # ∂/∂b_u of (1/n) Σ (r̂ − r)² + λ (… + b_u² + …), where every b_u starts at 0
    expected = torch.zeros(6).index_add_(0, user, -0.1 * 2 * error / len(error))
    assert torch.allclose(after.user_bias.weight[:, 0], expected, atol=1e-6)


def test_train_mse_pools_errors_before_each_update_without_the_penalty():
    fitted = fit(SGD_PLAIN, epochs=1, batch_size=7, validation=0.0)
    data = RatingDataModule(small_split_ratings(0.0), batch_size=7, fraction=1.0, seed=0)
    model = build_equation(model_options(), training_data(small_split_ratings(0.0)), seed=0)
    squared = 0.0
    for user, item, rating, _ in itertools.chain.from_iterable(data.train_dataloader()):
        error = model(user, item) - rating
        squared += error.detach().square().sum().item()
        model.zero_grad()
        (error.square().mean() + model.penalty(user, item)).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    assert metric(fitted, "train/mse") == pytest.approx(squared / len(data.train_ratings_in_stars), rel=1e-5)


def test_val_mse_is_computed_from_clipped_predictions():
    fitted = fit(epochs=20, scale=(2.9, 3.1))
    rows = small_split_ratings().copy_rows(VALIDATION)
    user, item = torch.from_numpy(rows.user), torch.from_numpy(rows.item)
    with torch.no_grad():
        free = fitted.module.predictor.predict_unclipped(user, item).numpy()
    assert np.abs(free - 3).max() > 0.5, "else clipping would change nothing"
    expected = np.square(free.clip(2.9, 3.1) - rows.rating).mean()
    assert metric(fitted, "val/mse") == pytest.approx(expected, rel=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fit_on_a_gpu_equals_one_on_the_cpu_up_to_rounding():
    on_gpu, on_cpu = fit(accelerator="gpu"), fit()
    assert torch.allclose(on_gpu.weights.cpu(), on_cpu.weights, atol=1e-4)
    for tag in ("train/mse", "val/mse"):
        assert metric(on_gpu, tag) == pytest.approx(metric(on_cpu, tag), rel=1e-4)


def test_training_error_falls():
    first, last = (metric(fit(epochs=epochs), "train/mse") for epochs in (1, 40))
    assert last < 0.5 * first


def test_regularization_and_batch_size_change_the_weights():
    base = fit().weights
    assert not torch.allclose(base, fit(regularization=0.5).weights, atol=1e-5)
    assert not torch.allclose(base, fit(batch_size=16).weights, atol=1e-5)


def test_schedule_changes_the_learning_rate_once_per_epoch():
    fitted = fit(epochs=3, lr_factor=lambda epoch: 0.5**epoch)
    assert fitted.module.epoch_lr == fitted.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.05 / 4)
    frozen_after_one = fit(SGD_PLAIN, epochs=3, lr_factor=lambda epoch: float(epoch == 0)).weights
    assert torch.equal(frozen_after_one, fit(SGD_PLAIN, epochs=1).weights)


def test_error_of_a_diverging_loss_names_epoch_and_learning_rate():
    with pytest.raises(RunFailedError, match=r"train/mse is (nan|inf) in epoch \d+ at lr 1e\+06"):
        fit(replace(SGD_PLAIN, lr=1e6), epochs=50)


def test_non_finite_weights_after_the_last_update_are_found():
    with pytest.raises(RunFailedError, match=r"weights/user_bias is (inf|nan) in epoch 1 at lr 1e\+30"):
        fit(replace(SGD_PLAIN, lr=1e30), epochs=1, batch_size=1_000, validation=0.0)


def test_seconds_and_rows_of_steps_are_counted():
    module = fit(epochs=4).module
    assert module.rows_trained == 4 * len(small_split_ratings().copy_rows(TRAIN))
    assert 0 < module.step_seconds < math.inf


def test_step_over_two_batches_equals_a_step_on_both_together():
    two, one = (fit(SGD_PLAIN, batch_size=size, accumulate=over, validation=0.0) for size, over in ((5, 2), (10, 1)))
    assert torch.allclose(two.weights, one.weights, atol=1e-6)


def test_last_step_of_an_epoch_uses_the_remaining_batches():
    """Two batches where a step averages three: two thirds of a step on both together."""
    left = fit(SGD_PLAIN, epochs=1, batch_size=25, accumulate=3, validation=0.0)
    two_thirds = replace(SGD_PLAIN, lr=0.1 * 2 / 3)
    whole = fit(two_thirds, epochs=1, batch_size=50, validation=0.0)
    assert torch.allclose(left.weights, whole.weights, atol=1e-6)
    one, two = (fit(SGD_PLAIN, epochs=epochs, batch_size=25, accumulate=5, validation=0.0) for epochs in (1, 2))
    assert not torch.equal(one.weights, two.weights)


def test_gradient_clipping_limits_the_norm_of_the_step():
    once = {"epochs": 1, "batch_size": 50, "validation": 0.0}
    before = fit(FROZEN, **once).weights
    step = fit(replace(SGD_PLAIN, lr=1.0), clip=0.01, **once).weights - before
    assert float(step.norm()) == pytest.approx(0.01, rel=1e-3)


@dataclass
class NoisyOptions(MFOptions):
    """Options of mf with dropout."""

    def build(self, training, *, generator):
        return Noisy(self, training, generator=generator)


class Noisy(MF):
    """Dot product of embeddings with dropout of half the entries in training."""

    def __init__(self, options, training, *, generator):
        super().__init__(options, training, generator=generator)
        self.dropout = torch.nn.Dropout(0.5)
        self.seen = []

    def forward(self, user, item):
        self.seen.append((torch.is_grad_enabled(), self.training))
        return (self.dropout(self.user_embedding(user)) * self.item_embedding(item)).sum(dim=-1)


NOISY = NoisyOptions(embedding_dim=3, regularization=0.1, init_std=0.1)


class Interrupt(Callback):
    """Interruption in the middle of an epoch, as if the process had ended."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == self.epoch:
            raise SystemError("interrupted")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_equation_with_dropout_resumes_bit_for_bit(tmp_path, accumulate):
    whole = fit(model=NOISY, epochs=4, accumulate=accumulate)
    assert not torch.equal(whole.weights, fit(model=NOISY, epochs=4, accumulate=accumulate, seed=1).weights)
    writes = BestAndLast(tmp_path, monitor=None, last_every_seconds=0.0)
    with pytest.raises(SystemError):
        fit(model=NOISY, epochs=4, accumulate=accumulate, callbacks=[writes, Interrupt(2)])
    torch.manual_seed(99)
    resumed = fit(model=NOISY, epochs=4, accumulate=accumulate, checkpoint=tmp_path / LAST)
    assert resumed.module.epochs_done == 4
    assert torch.equal(resumed.weights, whole.weights)
    assert metric(resumed, "train/mse") == metric(whole, "train/mse")


def test_fit_can_be_extended_from_a_checkpoint(tmp_path):
    fit(model=NOISY, epochs=2, callbacks=[BestAndLast(tmp_path, monitor=None, last_every_seconds=1e9)])
    before = torch.load(tmp_path / LAST, weights_only=True)
    resumed = fit(model=NOISY, epochs=4, checkpoint=tmp_path / LAST)
    assert torch.equal(resumed.weights, fit(model=NOISY, epochs=4).weights)
    assert resumed.module.seconds == before["seconds"] > 0, "its time is added to that of the process"
    assert resumed.module.step_seconds > before["step_seconds"] > 0
    assert resumed.module.rows_trained == 2 * before["rows_trained"] == 4 * len(small_split_ratings().copy_rows(TRAIN))


def test_each_epoch_draws_new_dropout_noise():
    """With one batch and a learning rate of nearly 0, the errors of two epochs differ only by the noise."""
    one, two, plain, still = (
        metric(fit(FROZEN, model=model, epochs=epochs, batch_size=None), "train/mse")
        for model in (NOISY, model_options())
        for epochs in (1, 2)
    )
    assert plain == still
    assert one != pytest.approx(two, rel=1e-3)


def test_dropout_noise_depends_on_the_seed():
    """With the same weights, one batch and a learning rate of nearly 0, the errors differ only by the noise."""
    one, again, other = (
        metric(fit_equation(NOISY, FROZEN, small_table(), epochs=1, seed=seed), "train/mse") for seed in (0, 0, 1)
    )
    assert one == again
    assert one != pytest.approx(other, rel=1e-3)


def test_dropout_is_on_in_training_and_off_in_validation():
    fitted = fit(model=NOISY, epochs=3, scale=None)
    equation = fitted.equation.eval()
    assert set(equation.seen) == {(True, True), (False, False)}
    error, _ = errors(equation, VALIDATION)
    assert metric(fitted, "val/mse") == pytest.approx(float(error.square().mean()), rel=1e-5)


@dataclass
class LBFGS(GradientOptions):
    """torch's LBFGS, which evaluates the loss several times per step."""

    name = "lbfgs"
    takes_batches = False

    def make_optimizer(self, parameters):
        return torch.optim.LBFGS(parameters, lr=self.lr, max_iter=10)


def test_optimizer_can_evaluate_the_loss_several_times_per_step():
    error, _ = errors(build_equation(model_options(), training_data(small_split_ratings()), seed=0), TRAIN)
    one, two, ten = (fit(LBFGS(lr=0.5), epochs=epochs, batch_size=None) for epochs in (1, 2, 10))
    # the error before the step, each row once, however often the step evaluates the loss
    assert metric(one, "train/mse") == pytest.approx(float(error.square().mean()), rel=1e-5)
    assert metric(ten, "train/mse") < metric(two, "train/mse") < metric(one, "train/mse")
    assert one.module.rows_trained == len(error)
    adam = metric(fit(epochs=10, batch_size=None), "train/mse")
    assert metric(ten, "train/mse") < adam


def test_drift_over_years_does_not_diverge():
    random = np.random.default_rng(0)
    pairs = random.permutation(20 * 30)[:400]
    days = random.integers(0, 7000, len(pairs))
    table = table_of(pairs // 30, pairs % 30, random.integers(1, 6, len(pairs)), timestamp=days * MILLISECONDS_PER_DAY)
    default = replace(SGD_PLAIN, lr=0.6, momentum=0.9)
    fitted = fit_equation(options_of("timesvdpp", init_std=0.01), default, table, epochs=10, batch_size=64)
    assert fitted.weights.isfinite().all()
