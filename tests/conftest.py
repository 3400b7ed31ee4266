"""Fixtures that run the commands, and runs that several tests share."""

import gc
import io
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

import pytest
from cached_answers import cache_answers
from cached_configs import cache_configs
from documented import options_of
from in_process import act_as_command
from short_fits import SHORT_FITS

from ratinglab.process.startup import SLEEPING_THREADS

# As commands do before they import torch: let waiting threads sleep. Two threads that spin on one core made a sweep
# of a small table thirty times slower.
os.environ |= SLEEPING_THREADS
# Syncing took 0.1 s of most commands. The tests of syncing patch this function again.
os.fsync = os.fstat  # also raises for a closed file
# A shell starts background jobs with SIGINT ignored; the tests of Ctrl-C need Python's own handler.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]
NO_FIGURES = [f"logger.tensorboard.{value}" for value in ("figures=false", "data_figures=false", "projector_items=0")]
"""Options of a run of which only other TensorBoard events are tested."""
REAL_DATA = Path(os.environ.get("RATINGLAB_REAL_DATA", REPOSITORY.parent / "shared" / "data"))


def environment(cache: Path) -> dict[str, str]:
    """Environment of the commands that the tests start: this checkout's code, a separate cache, one thread.

    The batches are small, and a second thread would wait for a core that another process uses.
    """
    return {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY / "src"),
        "RATINGLAB_DATA": str(cache),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",  # the width of --help, whatever terminal the tests run in
    }


@dataclass(frozen=True)
class Outcome:
    """Output and exit status of a command, and the folder it ran in."""

    status: int
    stdout: str
    stderr: str
    folder: Path

    @property
    def run(self) -> Path:
        """Folder of the run: the last line on stdout."""
        return self.folder / self.stdout.splitlines()[-1]


Command = Callable[..., Outcome]


@dataclass(frozen=True)
class Started:
    """A started command, to be watched or stopped."""

    pid: int
    stdout: TextIO
    stderr: Path
    wait_for: Callable[[int], int]

    def until(self, start: str) -> list[str]:
        """Read lines of the output up to the first line that begins with `start`."""
        lines = []
        for line in self.stdout:
            lines.append(line)
            if line.startswith(start):
                break
        return lines

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until the command meets a condition; fail at once if the command ends before.

        Waits for up to five minutes, because a loaded machine can take minutes for what otherwise takes a second.
        """
        deadline, poll = time.monotonic() + 300, select.poll()
        poll.register(self.stdout, 0)  # reports only that its other end is closed
        while not condition():
            assert not poll.poll(0), self.stderr.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end(self, number: signal.Signals | None = None) -> tuple[int, str, str]:
        """Send a signal, if any, and wait for the command to end; return its exit status and remaining output."""
        if number is not None:
            os.kill(self.pid, number)
        with self.stdout:
            stdout = self.stdout.read()
        return self.wait_for(self.pid), stdout, self.stderr.read_text() if self.stderr.is_file() else ""


class Server:
    """Client of the process that runs commands by forking (tests/forkserver.py)."""

    def __init__(self, cache: Path, streams: Path) -> None:
        self._streams = streams
        self._process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "tests" / "forkserver.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment(cache), "PYTHONWARNDEFAULTENCODING": "1"},  # see forkserver.py
        )

    def _ask(self, **request: object) -> int:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def _start(self, folder: Path, script: str, arguments: Sequence[str], **more: object) -> int:
        path = REPOSITORY / "scripts" / f"{script}.py"
        more = {name: value if isinstance(value, float | bool | dict) else str(value) for name, value in more.items()}
        return self._ask(script=str(path), arguments=arguments, folder=str(folder), **more)

    def run(self, folder: Path, script: str, *arguments: str, status: int = 0, **more: object) -> Outcome:
        """Run a script of scripts/ in a folder.

        Args:
            folder: the folder.
            script: its name.
            arguments: the command line.
            status: the expected exit status.
            more: `cache`, a folder instead of the tests' cache; `pause`, seconds to sleep after each epoch;
                `figures`, whether figures are drawn; `forked`, how many other processes of the fit are also forked;
                `variables`, a dictionary of further environment variables.
        """
        files = self._streams / "stdout", self._streams / "stderr"
        child = self._start(folder, script, arguments, stdout=files[0], stderr=files[1], **more)
        exit_status = self._ask(wait_for=child)
        stdout, stderr = (file.read_text() for file in files)
        assert exit_status == status, f"status {exit_status}\n{stdout}\n{stderr}"
        return Outcome(exit_status, stdout, stderr, folder)

    def start(
        self, folder: Path, script: str, *arguments: str, stderr: Path | None = None, pause: float = 0.1, **more: object
    ) -> Started:
        """Start a script in a folder; fits sleep after each epoch for `pause` seconds, in which tests stop them."""
        pipe = self._streams / "pipe"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        stderr = stderr or self._streams / "stderr of a started command"
        child = self._start(folder, script, arguments, stdout=pipe, stderr=stderr, pause=pause, **more)
        return Started(child, pipe.open(), stderr, lambda pid: self._ask(wait_for=pid))

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that run whole commands or train whole runs as slow.

    Begins with their files, so that no core waits at the end.
    """
    for item in items:
        if {"server", "train_here", "command"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    first = ("test_readme.py", "test_real_data.py", "test_training.py", "test_continuation.py")
    items.sort(key=lambda item: (item.path not in slow_files, item.path.name not in first))


def pytest_collection_finish() -> None:
    """Add caches and shorten fits. Collect garbage as rarely as commands do.

    Scanning imported objects took a third of many tests.
    """
    SHORT_FITS.start()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 100)
    cache_configs()
    cache_answers()


@pytest.fixture(scope="module")
def whole_fits() -> Iterator[None]:
    """Fit interest by as many iterations as commands do."""
    SHORT_FITS.stop()
    yield
    SHORT_FITS.start()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a cache folder for the tests, with demo data of a fifth of the size: 20,000 ratings."""
    from ratinglab.datasets import demo

    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as small:
        for name, size in {"NUM_USERS": 400, "NUM_ITEMS": 500, "NUM_RATINGS": 20_000}.items():
            small.setattr(demo, name, size)
        for seed in (0, 1):
            demo.make_demo_files(folder, seed=seed)
    return folder


@pytest.fixture(scope="session")
def server(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the process that runs the commands of the tests."""
    server = Server(cache, tmp_path_factory.mktemp("streams"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def command_apart(server: Server) -> Command:
    """Run a script like `command`, but in a process of its own: to kill it, pause it, fork it or see warnings."""
    return server.run


@pytest.fixture(scope="session")
def start(server: Server) -> Callable[..., Started]:
    """Start a script in a folder: start(folder, "train", *arguments)."""
    return server.start


@pytest.fixture
def train_here(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Train a run in this process, without a log: train_here(*overrides) returns its folder."""
    from ratinglab.training.training import train_run

    monkeypatch.setenv("RATINGLAB_DATA", str(cache))

    def run(*overrides: str) -> Path:
        folder = tmp_path / f"run {len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        train_run(options_of("train", *overrides, "logger=none"), folder, command=[])
        return folder

    return run


def run_here(
    cache: Path, folder: Path, script: str, *arguments: str, status: int | None = 0, figures: bool = False
) -> Outcome:
    """Run a script in a folder, in this process; its exit status must be `status` unless that is None."""
    import blank_figures
    import torch

    from ratinglab.cli import COMMANDS

    exit_status, path = 0, REPOSITORY / "scripts" / f"{script}.py"
    with (
        redirect_stdout(io.StringIO()) as stdout,
        redirect_stderr(io.StringIO()) as stderr,
        act_as_command(str(path), *arguments, folder=folder) as patch,
    ):
        for name, value in environment(cache).items():
            patch.setenv(name, value)
        torch.set_num_threads(1)
        if not figures:
            for module, name, replacement in blank_figures.REPLACEMENTS:
                patch.setattr(module, name, replacement)
        try:
            COMMANDS[script]()
        except SystemExit as end:
            exit_status = end.code if isinstance(end.code, int) else int(end.code is not None)
    outcome = Outcome(exit_status, stdout.getvalue(), stderr.getvalue(), folder)
    assert status in (None, exit_status), f"status {exit_status}\n{outcome.stdout}\n{outcome.stderr}"
    return outcome


@pytest.fixture(scope="session")
def command(cache: Path) -> Command:
    """Run a script of scripts/ in a folder, in this process: command(folder, "train", *arguments).

    Takes half to two thirds of the time of `command_apart`.
    """
    return partial(run_here, cache)


@pytest.fixture(scope="session")
def textbook(command_apart: Command, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Train the textbook model with `python scripts/train.py`, on the whole demo data."""
    folder, cache = (tmp_path_factory.mktemp(name) for name in ("textbook", "new cache"))
    return command_apart(folder, "train", cache=cache, figures=True)


@pytest.fixture(scope="session")
def quick(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Train the textbook model for a few steps, in a second."""
    return command(tmp_path_factory.mktemp("quick"), "train", "trainer=debug", "logger=none")


@pytest.fixture(scope="session")
def biased(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Train biased_mf until most of the gap to the noise floor is closed, with full logging."""
    few = ["optimizer.lr=0.01", "trainer.max_epochs=10"]
    return command(tmp_path_factory.mktemp("biased"), "train", "model=biased_mf", *few, figures=True)
