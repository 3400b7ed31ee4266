"""An equation of one's own is one file in models/, one YAML in conf/model/, and nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the code, with the README's equation in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("src", "conf", "scripts"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (python,) = (block for block in code_blocks("python") if "(Equation)" in block)
    (config,) = (block for block in code_blocks("yaml") if "schema_model" in block)
    (folder / "src" / "ratinglab" / "models" / "centered_mf.py").write_text(python)
    (folder / "conf" / "model" / "centered_mf.yaml").write_text(config)
    return folder


def run(checkout, cache, script, *arguments):
    return subprocess.run(
        [sys.executable, f"scripts/{script}.py", *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout / "src"), "RATINGLAB_DATA": str(cache)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_it_trains_and_the_run_can_be_used(checkout, cache):
    trained = run(checkout, cache, "train", "model=centered_mf", "trainer=debug", "model.embedding_dim=8")
    assert trained.returncode == 0, trained.stderr
    assert "model      centered_mf: embedding_dim=8" in trained.stdout
    folder = checkout / trained.stdout.splitlines()[-1]
    assert json.loads((folder / "metrics.json").read_text())["test/mse"] < 2
    evaluated = run(checkout, cache, "evaluate", f"run={folder.relative_to(checkout)}")
    assert "equal to metrics.json to the last digit" in evaluated.stdout, evaluated.stderr


def test_its_options_are_checked_like_all_others(checkout, cache):
    for argument, message in (
        ("model.embeding_dim=8", "there is no key model.embeding_dim; did you mean model.embedding_dim?"),
        ("model.embedding_dim=0", "model.embedding_dim must be at least 1, got 0"),
        ("optimizer=block_sgd", "optimizer=block_sgd fits mf and biased_mf, got model=centered_mf"),
        ("model.regularization=x", "model.regularization must be a number, got x"),
    ):
        failed = run(checkout, cache, "train", "model=centered_mf", argument)
        assert (failed.returncode, failed.stderr) == (2, f"error: {message}\n")


TOWER = """
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import nn

from ratinglab.models.equation import Equation
from ratinglab.options import at_least


class Shape(Enum):
    flat = "flat"
    deep = "deep"


@dataclass
class Options:
    width: int = field(metadata=at_least(1))
    shape: Shape


class Tower(nn.Module):
    def __init__(self, num, width):
        super().__init__()
        self.table = nn.Embedding(num, width)

    def forward(self, index):
        return self.table(index).sum(dim=-1) * 0.1


class Towers(Equation):
    def __init__(self, options, *, num_users, num_items, rating_mean, generator):
        super().__init__()
        assert options.shape is Shape.deep
        self.rating_mean = rating_mean
        self.user, self.item = Tower(num_users, options.width), Tower(num_items, options.width)

    def forward(self, user, item):
        return self.rating_mean + self.user(user) + self.item(item)

    def penalty(self, user, item):
        return torch.zeros(())
"""


def add_equation(checkout, name, python, *values):
    (checkout / "src" / "ratinglab" / "models" / f"{name}.py").write_text(python)
    lines = ["defaults:", f"  - /schema_model_{name}@_here_", "  - _self_", *values]
    (checkout / "conf" / "model" / f"{name}.yaml").write_text("\n".join(lines) + "\n")


def test_a_file_may_hold_other_modules_and_enums(checkout, cache):
    add_equation(checkout, "towers", TOWER, "width: 4", "shape: deep")
    trained = run(checkout, cache, "train", "model=towers", "trainer=debug")
    assert trained.returncode == 0, trained.stderr
    refused = run(checkout, cache, "train", "model=towers", "model.shape=dep")
    assert refused.stderr == "error: model.shape must be one of flat, deep, got dep; did you mean deep?\n"


def test_an_unfinished_file_fails_only_where_it_is_used(checkout, cache):
    add_equation(checkout, "unfinished", "class Options:\n    embedding_dim: int = (\n")
    assert run(checkout, cache, "train", "--help").returncode == 0
    assert run(checkout, cache, "train", "trainer=debug").returncode == 0
    refused = run(checkout, cache, "train", "model=unfinished")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: models/unfinished.py: Options cannot be read: ")
    assert refused.stderr.count("\n") == 1


def test_an_error_once_the_run_has_begun_keeps_what_it_needs_to_go_on(checkout, cache):
    python = TOWER.replace(
        "        return self.rating_mean +", "        raise UserError('no')\n        return self.rating_mean +"
    )
    python = python.replace("from ratinglab.models", "from ratinglab.errors import UserError\nfrom ratinglab.models", 1)
    add_equation(checkout, "refusing", python, "width: 4", "shape: deep")
    failed = run(checkout, cache, "train", "model=refusing", "trainer=debug", "hydra.run.dir=begun")
    assert (failed.returncode, failed.stderr) == (2, "error: no\n")
    assert (checkout / "begun" / "run.json").exists()
    assert (checkout / "begun" / ".hydra" / "overrides.yaml").exists()
