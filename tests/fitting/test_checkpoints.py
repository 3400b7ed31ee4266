"""Checkpoints that cannot be written, seen from a run; that they resume is in tests/test_resume.py."""

import errno
import logging
import os
from types import SimpleNamespace

import pytest
import torch

from ratinglab import files
from ratinglab.fitting.checkpoints import BestAndLast, WholeCheckpointIO


class Trainer:
    """As much of Lightning's as the callback asks for: every checkpoint holds the epoch's number."""

    check_val_every_n_epoch = 1

    def __init__(self):
        self.current_epoch = 0
        self.callback_metrics = {}

    def save_checkpoint(self, path):
        WholeCheckpointIO().save_checkpoint({"epoch": self.current_epoch}, path)


def run(callback: BestAndLast, errors: list[float], before_epoch=lambda epoch: None) -> None:
    trainer = Trainer()
    callback.setup(trainer, SimpleNamespace(), "fit")
    for epoch, error in enumerate(errors):
        before_epoch(epoch)
        trainer.current_epoch, trainer.callback_metrics = epoch, {"val/mse": torch.tensor(error)}
        callback.on_train_epoch_end(trainer, SimpleNamespace())
    callback.on_train_end(trainer, SimpleNamespace())


def epochs(folder) -> dict[str, int]:
    return {path.name: torch.load(path, weights_only=True)["epoch"] for path in sorted(folder.iterdir())}


def callback_in(folder, **changed) -> BestAndLast:
    return BestAndLast(folder, **{"has_best": True, "last_every_seconds": 1e9} | changed)


def test_best_is_the_lowest_error_and_last_the_last_epoch(tmp_path):
    run(callback_in(tmp_path), [3.0, 1.0, 2.0, 1.0])
    assert epochs(tmp_path) == {"best.ckpt": 1, "last.ckpt": 3}


def test_without_validation_both_are_the_last(tmp_path):
    run(callback_in(tmp_path, has_best=False), [3.0, 1.0, 2.0])
    assert epochs(tmp_path) == {"best.ckpt": 2, "last.ckpt": 2}


@pytest.mark.parametrize(("seconds", "written"), [(0.0, 5), (1e9, 1)])
def test_last_is_written_when_its_time_has_come(tmp_path, monkeypatch, seconds, written):
    names = []
    own = files.os.replace
    monkeypatch.setattr(files.os, "replace", lambda source, target: (names.append(target.name), own(source, target)))
    run(callback_in(tmp_path, last_every_seconds=seconds), [1.0, 2.0, 2.0, 2.0])
    assert names.count("last.ckpt") == written
    assert names.count("best.ckpt") == 1


def test_a_full_disk_costs_no_good_file_warns_once_and_is_remembered(tmp_path, monkeypatch, caplog):
    def fill(epoch):
        if epoch == 2:

            def full(_):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            monkeypatch.setattr(files.os, "fsync", full)

    callback = callback_in(tmp_path, last_every_seconds=0.0)
    with caplog.at_level(logging.WARNING):
        run(callback, [4.0, 3.0, 2.0, 1.0], before_epoch=fill)
    assert epochs(tmp_path) == {"best.ckpt": 1, "last.ckpt": 1}
    assert set(callback.failed) == {"best.ckpt", "last.ckpt"}
    assert [record.message.count("best.ckpt cannot be written: No space left") for record in caplog.records] == [1, 0]


def test_a_disk_that_has_room_again_is_forgiven(tmp_path, monkeypatch):
    own = os.fsync

    def fill_and_empty(epoch):
        def full(_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(files.os, "fsync", full if epoch == 1 else own)

    callback = callback_in(tmp_path, last_every_seconds=0.0)
    run(callback, [4.0, 3.0, 2.0], before_epoch=fill_and_empty)
    assert callback.failed == {}
    assert epochs(tmp_path) == {"best.ckpt": 2, "last.ckpt": 2}
