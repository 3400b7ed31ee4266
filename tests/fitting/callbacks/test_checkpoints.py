"""Best and last checkpoints, also on a full disk; resuming: tests/training/test_continuation.py."""

import errno
import logging
import os
from types import SimpleNamespace

import pytest
import torch

from ratinglab import files
from ratinglab.evaluation.metrics import MSE, Metric
from ratinglab.fitting.callbacks.checkpoints import AtomicCheckpointIO, BestAndLast
from ratinglab.runs.run_files import BEST, CHECKPOINTS, LAST


class Trainer:
    """Stand-in for Lightning's Trainer with what the callback uses: each checkpoint holds the epoch's number."""

    check_val_every_n_epoch = 1
    is_global_zero = True
    strategy = SimpleNamespace(broadcast=lambda value: value, barrier=lambda: None)

    def __init__(self):
        self.current_epoch = 0
        self.callback_metrics = {}

    def save_checkpoint(self, path):
        AtomicCheckpointIO().save_checkpoint({"epoch": self.current_epoch}, path)


def run(callback: BestAndLast, values: list[float], before_epoch=lambda epoch: None, tag="val/mse") -> None:
    trainer = Trainer()
    for epoch, value in enumerate(values):
        before_epoch(epoch)
        trainer.current_epoch, trainer.callback_metrics = epoch, {tag: torch.tensor(value)}
        callback.on_train_epoch_end(trainer, SimpleNamespace())
    callback.on_train_end(trainer, SimpleNamespace())


def epochs(folder) -> dict[str, int]:
    paths = sorted((folder / CHECKPOINTS).iterdir())
    return {path.name: torch.load(path, weights_only=True)["epoch"] for path in paths}


def callback_in(folder, **changed) -> BestAndLast:
    return BestAndLast(folder, **{"monitor": MSE, "last_every_seconds": 1e9} | changed)


def test_best_holds_the_lowest_error_and_last_the_last_epoch(tmp_path):
    run(callback_in(tmp_path), [3.0, 1.0, 2.0, 1.0])
    assert epochs(tmp_path) == {"best.ckpt": 1, "last.ckpt": 3}


def test_kill_between_the_two_leaves_the_last_epoch_to_be_done_again(tmp_path, monkeypatch):
    run(callback_in(tmp_path, monitor=None), [3.0])

    def die(source, target):
        own(source, target)
        raise KeyboardInterrupt

    own = files.os.replace
    monkeypatch.setattr(files.os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        run(callback_in(tmp_path, monitor=None), [3.0, 1.0])
    assert epochs(tmp_path) == {"best.ckpt": 1, "last.ckpt": 0}


SHARE = Metric("share", label="share", higher_is_better=True, compute=lambda predicted, rating: 0.0)


def test_best_holds_the_highest_value_when_higher_is_better(tmp_path):
    run(callback_in(tmp_path, monitor=SHARE), [0.1, 0.5, 0.2, 0.5], tag="val/share")
    assert epochs(tmp_path) == {"best.ckpt": 1, "last.ckpt": 3}


@pytest.mark.parametrize(("monitor", "tag", "values"), [(MSE, "val/mse", [2, 3]), (SHARE, "val/share", [3, 2])])
def test_resumed_callback_keeps_the_best_value_of_the_whole_run(tmp_path, monitor, tag, values):
    first, second = callback_in(tmp_path, monitor=monitor), callback_in(tmp_path, monitor=monitor)
    run(first, values[:1], tag=tag)
    (tmp_path / BEST).unlink()
    second.load_state_dict(first.state_dict())
    run(second, values[1:], tag=tag)
    assert not (tmp_path / BEST).exists()
    third = callback_in(tmp_path, monitor=monitor)
    run(third, values[1:], tag=tag)
    assert (tmp_path / BEST).exists()


def test_epoch_without_validation_is_never_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "check_val_every_n_epoch", 2)
    run(callback_in(tmp_path), [1.0, 3.0, 0.5, 2.0])
    assert epochs(tmp_path) == {"best.ckpt": 3, "last.ckpt": 3}


def test_best_and_last_are_the_last_epoch_without_validation(tmp_path):
    run(callback_in(tmp_path, monitor=None), [3.0, 1.0, 2.0])
    assert epochs(tmp_path) == {"best.ckpt": 2, "last.ckpt": 2}


@pytest.mark.parametrize(("seconds", "written"), [(0.0, 5), (1e9, 1)])
def test_last_is_written_every_given_number_of_seconds(tmp_path, monkeypatch, seconds, written):
    names = []
    own = files.os.replace
    monkeypatch.setattr(files.os, "replace", lambda source, target: (names.append(target.name), own(source, target)))
    run(callback_in(tmp_path, last_every_seconds=seconds), [1.0, 2.0, 2.0, 2.0])
    assert names.count("last.ckpt") == written
    assert names.count("best.ckpt") == 1


def full_disk(monkeypatch, full_epochs):
    """Make a function to call before each epoch, which fills the disk in some epochs, counted from 0."""
    own = os.fsync

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda epoch: monkeypatch.setattr(files.os, "fsync", full if epoch in full_epochs else own)


def test_full_disk_keeps_good_checkpoints_and_warns_once(tmp_path, monkeypatch, caplog):
    callback = callback_in(tmp_path, last_every_seconds=0.0)
    with caplog.at_level(logging.WARNING):
        run(callback, [4.0, 3.0, 2.0, 1.0], before_epoch=full_disk(monkeypatch, (2, 3)))
    assert epochs(tmp_path) == {"best.ckpt": 1, "last.ckpt": 1}
    assert set(callback.failed) == {BEST, LAST}
    assert [record.message.count("best.ckpt cannot be written: No space left") for record in caplog.records] == [1, 0]


def test_checkpoints_are_written_again_once_the_disk_has_room(tmp_path, monkeypatch):
    callback = callback_in(tmp_path, last_every_seconds=0.0)
    run(callback, [4.0, 3.0, 2.0], before_epoch=full_disk(monkeypatch, (1,)))
    assert callback.failed == {}
    assert callback.lost is None
    assert epochs(tmp_path) == {"best.ckpt": 2, "last.ckpt": 2}


def test_best_value_stays_that_of_the_file_when_a_write_fails(tmp_path, monkeypatch):
    callback = callback_in(tmp_path)
    run(callback, [4.0, 1.0, 2.0, 3.0], before_epoch=full_disk(monkeypatch, (1,)))
    assert epochs(tmp_path) == {"best.ckpt": 2, "last.ckpt": 3}
    assert callback.failed == {}
    assert callback.lost == {"epoch": 2, "value": 1.0}
    resumed = callback_in(tmp_path)
    resumed.load_state_dict(callback.state_dict())
    run(resumed, [1.5])
    assert resumed.lost == {"epoch": 2, "value": 1.0}
    run(resumed, [0.5])
    assert resumed.lost is None
