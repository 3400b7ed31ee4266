"""Runs with a split from outside the package: resumed, reproduced and in a sweep."""

import json

import pytest

SPLIT = """
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ratinglab.options import at_least
from ratinglab.ratings.splits import TEST, TRAIN, SplitOptions


@dataclass
class EveryNth(SplitOptions):
    name: ClassVar[str] = "every_nth"

    step: int = field(metadata=at_least(2))

    def assign(self, table):
        part = np.full(len(table.ratings), TRAIN)
        part[:: self.step] = TEST
        return part
"""
YAML = "# Every n-th row for test.\n_target_: own_splits.EveryNth\n\nrefit: false\nstep: 10\n"


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own" / "split").mkdir(parents=True)
    (tmp_path / "own" / "own_splits.py").write_text(SPLIT)
    (tmp_path / "own" / "split" / "every_nth.yaml").write_text(YAML)
    return ["--config-dir", "own", "split=every_nth"]


def test_run_with_a_custom_split_resumes_and_reproduces(command, tmp_path, own):
    plain = ["trainer=debug", "logger=none", "hydra.run.dir=run"]
    run = command(tmp_path, "train", *own, "split.step=4", *plain).run
    first = json.loads((run / "metrics.json").read_text())
    assert "split      every_nth" in (run / "train.log").read_text()
    resumed = command(tmp_path, "train", f"resume={run}", "trainer.max_epochs=3")
    assert resumed.run.resolve() == run.resolve()
    assert json.loads((run / "metrics.json").read_text())["fit/epochs"] == first["fit/epochs"] + 1
    again = command(tmp_path, "reproduce", f"run={run}")
    assert again.stdout.splitlines()[-1].endswith("equal to the last digit")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("split.step=1", "split.step must be at least 2, got 1"),
        ("split.step=x", "split.step must be an integer, got x"),
        ("split.setp=3", "there is no key split.setp; did you mean split.step?"),
    ],
)
def test_options_of_a_custom_split_are_checked(command, tmp_path, own, argument, message):
    assert command(tmp_path, "train", *own, argument, status=2).stderr == f"error: {message}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_sweep_accepts_a_custom_split(command, tmp_path, own):
    done = command(tmp_path, "train", "-m", *own, "split.step=5,10", "trainer.max_epochs=1", "logger=none")
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/*/metrics.json"))) == 2
    assert done.stderr == ""


def test_run_with_a_removed_option_is_refused(command, tmp_path):
    run = command(tmp_path, "train", "trainer=debug", "logger=none", "hydra.run.dir=run").run
    saved = run / ".hydra" / "config.yaml"
    saved.write_text(saved.read_text().replace("  devices: 1\n", "  devices: 1\n  fast: true\n"))
    message = "has the option trainer.fast, which ratinglab no longer has: it can be neither resumed nor reproduced"
    for arguments in (["train", f"resume={run}", "trainer.max_epochs=3"], ["reproduce", f"run={run}"]):
        key = arguments[1].split("=")[0]
        assert command(tmp_path, *arguments, status=2).stderr == f"error: {key}: {run.resolve()} {message}\n"
