"""Early end of hopeless jobs, by the rule of Optuna's MedianPruner; in a search: tests/training/test_searches.py."""

from types import SimpleNamespace

import pytest
import torch

from ratinglab.evaluation.metrics import MSE, Metric
from ratinglab.fitting.callbacks.pruning import MedianPruning
from ratinglab.fitting.trainer_options import PruningOptions

OTHERS = [{1: 5.0, 2: 4.0, 3: 1.0}, {1: 5.0, 2: 3.0, 3: 2.0}, {1: 5.0, 2: 2.0, 3: 3.0}]
"""Curves whose medians are 5, 3 and 2."""
SHARE = Metric("share", label="share", higher_is_better=True, compute=lambda predicted, rating: 0.0)


def pruned_after(values, *, others=OTHERS, monitor=MSE, startup=0, warmup=0, every=1, state=None):
    """Run the callback; return the epoch after which it ended the fit, None if it did not, and the callback."""
    options = PruningOptions(enabled=True, n_startup_trials=startup, n_warmup_steps=warmup)
    callback = MedianPruning(options, curves=others, monitor=monitor)
    if state is not None:
        callback.load_state_dict(state)
    trainer = SimpleNamespace(should_stop=False, check_val_every_n_epoch=every, callback_metrics={})
    callback.on_train_start(trainer, SimpleNamespace())
    if trainer.should_stop:
        return 0, callback
    for epoch, value in enumerate(values, start=1):
        trainer.current_epoch, trainer.callback_metrics = epoch - 1, {f"val/{monitor.name}": torch.tensor(value)}
        callback.on_train_epoch_end(trainer, SimpleNamespace())
        if trainer.should_stop:
            return epoch, callback
    return None, callback


def test_fit_ends_once_its_best_value_is_worse_than_the_median():
    assert pruned_after([4.0, 2.9, 2.5])[0] == 3
    assert pruned_after([4.0, 2.9, 1.9])[0] is None
    assert pruned_after([4.0, 1.9, 9.0])[0] is None, "the best value so far counts"
    _, callback = pruned_after([6.0])
    assert callback.reason == "after 1 epoch, its best val/mse was worse than the median of 3 finished jobs"


def test_higher_values_may_be_better():
    assert pruned_after([4.0], monitor=SHARE)[0] == 1
    assert pruned_after([6.0, 3.5, 3.5], monitor=SHARE)[0] is None


def test_first_jobs_and_first_epochs_are_not_pruned():
    assert pruned_after([9.0, 9.0, 9.0], startup=4)[0] is None
    assert pruned_after([9.0, 9.0, 9.0], startup=3)[0] == 1
    assert pruned_after([9.0, 9.0, 9.0], warmup=2)[0] == 3
    assert pruned_after([9.0, 9.0, 9.0], others=[])[0] is None


def test_epochs_without_validation_do_not_count():
    assert pruned_after([9.0, 9.0, 9.0], every=2)[0] == 2


def test_resumed_fit_remembers_its_best_value_and_the_decision():
    _, stopped = pruned_after([1.9])
    state = stopped.state_dict()
    assert state["curve"] == {0: pytest.approx(1.9)}
    options = PruningOptions(enabled=True, n_startup_trials=0, n_warmup_steps=0)
    callback = MedianPruning(options, curves=OTHERS, monitor=MSE)
    callback.load_state_dict(state)
    trainer = SimpleNamespace(should_stop=False, check_val_every_n_epoch=1, current_epoch=1)
    trainer.callback_metrics = {"val/mse": torch.tensor(9.0)}
    callback.on_train_epoch_end(trainer, SimpleNamespace())
    assert not trainer.should_stop
    ended, callback = pruned_after([9.0])
    assert ended == 1
    again, resumed = pruned_after([0.1], state=callback.state_dict())
    assert (again, resumed.reason) == (0, callback.reason)
