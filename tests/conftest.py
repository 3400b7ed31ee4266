"""Runs of the real commands, shared by the tests that look at what they leave."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
REAL_DATA = REPOSITORY.parent / "shared" / "data"


def environment(cache: Path) -> dict[str, str]:
    """Of every command that the tests start: this checkout's code, and a cache of their own.

    One thread: batches here are small, and a second one waits where another process has the core.
    """
    return {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY / "src"),
        "RATINGLAB_DATA": str(cache),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",  # the width of --help, whatever terminal the tests run in
    }


def start(folder: Path, cache: Path, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start train.py in a folder, to be cut off or watched while it runs."""
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "scripts" / "train.py"), *arguments],
        cwd=folder,
        env=environment(cache),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


@dataclass(frozen=True)
class Outcome:
    """Output and exit status of a command, and the folder it ran in."""

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
def command(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Run a script of scripts/ in a folder: command(folder, "train", *arguments)."""
    streams = tmp_path_factory.mktemp("streams")
    server = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "tests" / "forkserver.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(cache),
    )

    def run(folder: Path, script: str, *arguments: str, status: int = 0) -> Outcome:
        request = {
            "script": str(REPOSITORY / "scripts" / f"{script}.py"),
            "arguments": arguments,
            "folder": str(folder),
            "stdout": str(streams / "stdout"),
            "stderr": str(streams / "stderr"),
        }
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        found = int(server.stdout.readline())
        stdout, stderr = (streams / "stdout").read_text(), (streams / "stderr").read_text()
        assert found == status, f"status {found}\n{stdout}\n{stderr}"
        return Outcome(found, stdout, stderr, folder)

    yield run
    server.stdin.close()
    server.wait()


@pytest.fixture(scope="session")
def textbook(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """`python scripts/train.py`, to the end."""
    return command(tmp_path_factory.mktemp("textbook"), "train")


@pytest.fixture(scope="session")
def biased(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """`python scripts/train.py model=biased_mf`, to the end."""
    return command(tmp_path_factory.mktemp("biased"), "train", "model=biased_mf")
