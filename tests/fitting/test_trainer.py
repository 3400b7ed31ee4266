"""What the options say reaches Lightning's Trainer."""

import dataclasses

import pytest
import torch
from fits import TRAINER

from ratinglab.fitting.trainer import Profiler


def build(tmp_path, **changed):
    return dataclasses.replace(TRAINER, **changed).build(run_folder=tmp_path, logger=None, callbacks=[])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_epochs", 7),
        ("min_epochs", 3),
        ("check_val_every_n_epoch", 2),
    ],
)
def test_an_option_reaches_the_trainer_under_its_own_name(tmp_path, option, value):
    trainer = build(tmp_path, **{option: value})
    assert getattr(trainer, option) == value
    assert getattr(build(tmp_path), option) != value


def test_detect_anomaly_profiler_and_accelerator(tmp_path):
    trainer = build(tmp_path, detect_anomaly=True, profiler=Profiler.simple)
    assert trainer._detect_anomaly
    assert type(trainer.profiler).__name__ == "SimpleProfiler"
    assert type(trainer.accelerator).__name__ == "CPUAccelerator"
    plain = build(tmp_path)
    assert not plain._detect_anomaly
    assert type(plain.profiler).__name__ == "PassThroughProfiler"


def test_deterministic_turns_on_torchs_own_mode(tmp_path):
    try:
        build(tmp_path, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
