"""Runs of the real commands, shared by the tests that look at what they leave."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
REAL_DATA = REPOSITORY.parent / "shared" / "data"


@dataclass(frozen=True)
class Outcome:
    """What a command printed and returned, and the folder it ran in."""

    status: int
    stdout: str
    stderr: str
    folder: Path

    @property
    def run(self) -> Path:
        """The run's folder: the last line on stdout."""
        return self.folder / self.stdout.splitlines()[-1]


Command = Callable[..., Outcome]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of the tests' own."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def command(cache: Path) -> Command:
    """Run a script of scripts/ in a folder: command(folder, "train", *arguments)."""

    def run(folder: Path, script: str, *arguments: str, status: int = 0) -> Outcome:
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "scripts" / f"{script}.py"), *arguments],
            cwd=folder,
            env={**os.environ, "RATINGLAB_DATA": str(cache)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return Outcome(done.returncode, done.stdout, done.stderr, folder)

    return run


@pytest.fixture(scope="session")
def textbook(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """`python scripts/train.py`, to the end."""
    return command(tmp_path_factory.mktemp("textbook"), "train")


@pytest.fixture(scope="session")
def biased(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """`python scripts/train.py model=biased_mf`, to the end."""
    return command(tmp_path_factory.mktemp("biased"), "train", "model=biased_mf")
