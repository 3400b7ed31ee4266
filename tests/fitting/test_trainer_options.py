"""Options passed to Lightning's Trainer and its callbacks."""

import dataclasses

import numpy as np
import pytest
import torch
from equal_runs import assert_equal_runs
from equations import options_of
from fits import TRAINER, fit
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.strategies import DDPStrategy
from tables import table_of

from ratinglab.evaluation.metrics import MSE, Metric
from ratinglab.fitting.callbacks.checkpoints import BestAndLast
from ratinglab.fitting.gradient_options import AdamOptions
from ratinglab.fitting.trainer_options import (
    CallbackOptions,
    CheckpointOptions,
    EarlyStoppingOptions,
    Profiler,
    PruningOptions,
    Strategy,
)
from ratinglab.runs.run_files import BEST


def build(tmp_path, **changed):
    return dataclasses.replace(TRAINER, **changed).build(run_folder=tmp_path, loggers=[], callbacks=[])


@pytest.mark.parametrize(("option", "value"), [("max_epochs", 7), ("min_epochs", 3), ("check_val_every_n_epoch", 2)])
def test_options_are_passed_to_the_trainer(tmp_path, option, value):
    trainer = build(tmp_path, **{option: value})
    assert getattr(trainer, option) == value
    assert getattr(build(tmp_path), option) != value


def test_trainer_gets_profiler_and_accelerator(tmp_path):
    trainer = build(tmp_path, profiler=Profiler.simple)
    assert type(trainer.profiler).__name__ == "SimpleProfiler"
    assert type(trainer.accelerator).__name__ == "CPUAccelerator"
    assert type(build(tmp_path).profiler).__name__ == "PassThroughProfiler"


@pytest.mark.parametrize("variables", [{}, {"LOCAL_RANK": "1", "NODE_RANK": "1", "SLURM_PROCID": "1"}])
def test_strategy_ddp_holds_on_one_device(tmp_path, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    trainer = build(tmp_path, strategy=Strategy.ddp)
    assert isinstance(trainer.strategy, DDPStrategy)
    trainer.strategy.setup_environment()
    assert not torch.distributed.is_initialized()  # it needs no port
    assert (trainer.global_rank, trainer.world_size) == (0, 1)
    assert trainer.strategy.root_device == torch.device("cpu")
    assert not isinstance(build(tmp_path).strategy, DDPStrategy)


@pytest.mark.parametrize("optimizer", ["adam", "block_sgd"])
def test_ddp_on_one_device_trains_the_same_run(train_here, optimizer):
    overrides = ["model=biased_mf", f"optimizer={optimizer}", "trainer.max_epochs=3"]
    assert_equal_runs(train_here(*overrides, "trainer.strategy=ddp"), train_here(*overrides))


def test_deterministic_turns_on_the_deterministic_mode_of_torch(tmp_path):
    try:
        build(tmp_path, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


CLOSENESS = Metric("closeness", label="closeness", higher_is_better=True, compute=lambda *rows: -MSE.compute(*rows))
"""A metric whose value is highest when the MSE is lowest."""


def callbacks(folder, *, monitor, patience, min_delta=0.0):
    pruning = PruningOptions(enabled=False, n_startup_trials=5, n_warmup_steps=10)
    checkpoint = CheckpointOptions(last_every_seconds=1e9)
    options = CallbackOptions(EarlyStoppingOptions(patience, min_delta), checkpoint, pruning)
    return options.build(run_folder=folder, monitor=monitor)


def fit_until_worse(folder, *, monitor, patience, min_delta=0.0, epochs=60):
    """Fit random ratings, for which the validation error soon rises."""
    random = np.random.default_rng(0)
    table = table_of(random.integers(0, 20, 300), random.integers(0, 15, 300), random.integers(1, 6, 300))
    acting = callbacks(folder, monitor=monitor, patience=patience, min_delta=min_delta)
    adam = AdamOptions(lr=0.02, weight_decay=0.0, beta1=0.9, beta2=0.999)
    model = options_of("biased_mf", embedding_dim=8, regularization=0.0)
    return fit(model, adam, table, epochs=epochs, batch_size=50, monitor=monitor, callbacks=acting)


def best_epoch(folder) -> int:
    return torch.load(folder / BEST, weights_only=True)["epochs"]


@pytest.mark.parametrize("patience", [1, 5])
def test_early_stopping_and_best_epoch_follow_the_direction_of_the_metric(tmp_path, patience):
    results = {}
    for monitor in (MSE, CLOSENESS):
        fitted = fit_until_worse(tmp_path / monitor.name, monitor=monitor, patience=patience)
        results[monitor.name] = best_epoch(tmp_path / monitor.name), fitted.module.epochs_done
    assert results["closeness"] == results["mse"]
    best, stopped = results["mse"]
    assert (best > 1, stopped) == (True, best + patience)


def test_early_stopping_is_off_without_patience_or_monitor(tmp_path):
    assert not any(isinstance(callback, EarlyStopping) for callback in callbacks(tmp_path, monitor=MSE, patience=None))
    (only,) = callbacks(tmp_path, monitor=None, patience=3)
    assert isinstance(only, BestAndLast)
    assert fit_until_worse(tmp_path / "run", monitor=MSE, patience=None).module.epochs_done == 60


@pytest.mark.parametrize("monitor", [MSE, CLOSENESS])
def test_gain_below_min_delta_is_no_improvement(tmp_path, monitor):
    fitted = fit_until_worse(tmp_path / "run", monitor=monitor, patience=2, min_delta=100.0)
    assert fitted.module.epochs_done == 3


def test_monitored_metric_is_logged_beside_mse(tmp_path):
    metrics = fit_until_worse(tmp_path / "run", monitor=CLOSENESS, patience=1).trainer.callback_metrics
    assert float(metrics["val/closeness"]) == -float(metrics["val/mse"])
