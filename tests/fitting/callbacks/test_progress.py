"""Progress of a fit where there is no terminal."""

import logging
from types import SimpleNamespace

import pytest
import torch

from ratinglab.fitting.callbacks.progress import EpochLines


@pytest.mark.parametrize(
    ("first", "done", "epochs", "shown"),
    [
        (1, 4, 4, [1, 2, 3, 4]),
        (1, 50, 50, range(1, 51)),
        (1, 99, 99, [1, *range(2, 100, 2), 99]),
        (1, 1000, 1000, [1, *range(20, 1001, 20)]),
        (1, 47, 1000, [1, 20, 40, 47]),
        (33, 61, 1000, [33, 40, 60, 61]),
    ],
    ids=["few epochs", "50 epochs", "99 epochs", "1000 epochs", "stopped early", "resumed"],
)
def test_long_fits_log_about_fifty_lines(caplog, first, done, epochs, shown):
    caplog.set_level(logging.INFO, logger="ratinglab")
    trainer = SimpleNamespace(max_epochs=epochs, check_val_every_n_epoch=1)
    callback = EpochLines()
    for epoch in range(first, done + 1):
        trainer.current_epoch = epoch - 1
        trainer.callback_metrics = {"val/mse": torch.tensor(2.0), "train/mse": torch.tensor(float(epoch))}
        callback.on_train_epoch_end(trainer, SimpleNamespace())
    callback.on_train_end(trainer, SimpleNamespace())
    expected = [f"epoch {epoch}/{epochs}   train/mse {epoch:.4f}   val/mse 2.0000" for epoch in shown]
    assert caplog.messages == expected


def test_last_epoch_before_a_failure_is_logged(caplog):
    caplog.set_level(logging.INFO, logger="ratinglab")
    trainer = SimpleNamespace(max_epochs=1000, check_val_every_n_epoch=1)
    callback = EpochLines()
    for epoch in range(1, 6):
        trainer.current_epoch = epoch - 1
        trainer.callback_metrics = {"train/mse": torch.tensor(10.0**epoch)}
        callback.on_train_epoch_end(trainer, SimpleNamespace())
    callback.on_exception(trainer, SimpleNamespace(), ValueError())
    assert [line.split()[1] for line in caplog.messages] == ["1/1000", "5/1000"]
