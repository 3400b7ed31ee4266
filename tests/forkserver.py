"""Server that runs scripts as commands, each in its own process, without importing everything each time.

The server imports everything and trains a run once. It forks for each request, and the new process has its own
arguments, folder, streams and exit status, like a command. tests/config/test_startup.py tests the imports of a real
start.

A request is one line of JSON on stdin: script, arguments, folder, stdout and stderr (files to write), the cache folder
unless it is the tests', further environment variables, seconds to pause after each epoch, whether to draw figures (see
blank_figures.py), and the number of other processes of the fit to fork as well. The answer is one line on stdout, the
process id. The answer to {"wait_for": process id} is the exit status, once the process has ended.
"""

import atexit
import functools
import gc
import io
import json
import logging
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from contextlib import redirect_stdout, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import BinaryIO, ClassVar, NamedTuple, NoReturn

import blank_figures
import matplotlib.backends.backend_agg  # noqa: F401
from cached_answers import cache_answers
from cached_configs import cache_configs
from hydra._internal.hydra import Hydra
from short_fits import SHORT_FITS

import ratinglab.cli  # noqa: F401
from ratinglab.commands import (  # noqa: F401
    evaluate_command,
    export_command,
    inspect_command,
    predict_command,
    recommend_command,
    report_command,
    similar_command,
)
from ratinglab.config.job import compose_call
from ratinglab.config.primary_config import PrimaryConfig
from ratinglab.fitting import als, block_sgd, ranks, sparse_adam  # noqa: F401
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.gibbs import gibbs_fit  # noqa: F401
from ratinglab.training import training


def train_once() -> None:
    """Train a small run, so that what is imported or built at first use, such as Hydra's grammar, is ready."""
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), warnings.catch_warnings():
        path = Path(folder) / "ratings.csv"
        rows = [f"{user},{item},{1 + (user + item) % 5}" for user in range(20) for item in range(20)]
        path.write_text("\n".join(["user_id,item_id,rating", *rows]), encoding="utf-8")
        data = ["data=csv", f"data.path={path}", "data.cache=null", "logger=[tensorboard,csv]"]
        call = compose_call([*data, "trainer.max_epochs=2", "optimizer.lr=1e-2"], config_dir=None)
        training.train_run(call.options, Path(folder) / "run", command=[])


def pause_after_epochs(seconds: float) -> None:
    """Let every fit sleep at the end of each epoch, after its line is printed, so that a test can stop it there."""
    end = Fit.on_train_epoch_end

    def end_slowly(self: Fit) -> None:
        end(self)
        time.sleep(seconds)

    Fit.on_train_epoch_end = end_slowly


@functools.cache
def compose_once(config_name: str, *choices: str) -> None:
    """Compose the choices of a command, to fill the caches. Ignores mistakes, which the command itself will report."""
    conf = PrimaryConfig(config_name)
    with suppress(Exception):
        conf.compose(choices)


class Waiting(NamedTuple):
    """A process forked before the command begins. It runs the same command once it receives its environment."""

    pid: int
    stdin: BinaryIO
    stdout: BinaryIO


class ForkedProcess(subprocess.Popen):
    """Another process of the fit, forked instead of started; otherwise like the Popen object that it replaces."""

    waiting: ClassVar[list[Waiting]] = []

    def __init__(self, command_line: list[str], *, env: dict[str, str], **_: object) -> None:
        assert command_line == [sys.executable, *sys.argv]
        self.pid, self.stdin, self.stdout = self.waiting.pop(0)
        self.stdin.write(json.dumps(env).encode() + b"\n")
        self._status, self._lock = list[int](), threading.Lock()

    def wait(self, timeout: None = None) -> int:
        with self._lock:
            if not self._status:
                self._status.append(os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]))
        return self._status[0]


def fork_waiting(request: dict) -> None:
    """Fork another process of the fit, before the command sets or opens anything that the process would inherit."""
    (their_stdin, stdin), (stdout, their_stdout) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid > 0:
        os.close(their_stdin)
        os.close(their_stdout)
        ForkedProcess.waiting.append(Waiting(pid, os.fdopen(stdin, "wb", buffering=0), os.fdopen(stdout, "rb")))
        return
    os.dup2(their_stdin, 0)
    os.dup2(their_stdout, 1)
    os.closerange(3, max(stdin, stdout, their_stdin, their_stdout) + 1)  # else no end of the command would be noticed
    os.setpgid(0, 0)
    line = b"".join(iter(lambda: os.read(0, 1), b"\n"))
    os.environ |= json.loads(line)
    end(run_script(request))


def become_command(request: dict) -> int:
    """Turn this process into the requested command; return its exit status."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["folder"])
    os.environ |= request.get("variables", {})
    if "cache" in request:
        os.environ["RATINGLAB_DATA"] = request["cache"]
    if not request.get("figures"):
        for module, name, replacement in blank_figures.REPLACEMENTS:
            setattr(module, name, replacement)
    if "pause" in request:
        pause_after_epochs(request["pause"])
    # A text file without an encoding would have another one on other machines.
    warnings.filterwarnings("ignore", category=EncodingWarning)
    warnings.filterwarnings("error", category=EncodingWarning, module="ratinglab")
    os.environ.pop("PYTHONWARNDEFAULTENCODING")  # processes that the command starts import packages that warn
    # as on a terminal: a shell's background jobs ignore Ctrl-C, nohup's ignore SIGHUP
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    sys.argv = [request["script"], *request["arguments"]]
    sys.path.insert(0, os.path.dirname(request["script"]))
    if "forked" in request:
        for _ in range(int(request["forked"])):
            fork_waiting(request)
        ranks.subprocess = SimpleNamespace(Popen=ForkedProcess, PIPE=subprocess.PIPE)
    return run_script(request)


def run_script(request: dict) -> int:
    try:
        runpy.run_path(request["script"], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


os.fsync = os.fstat  # as in conftest.py: a sync takes long, and a power loss is not tested


def end(status: int) -> NoReturn:
    """End without the teardown of torch, which takes longer than most commands."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


# Hydra composes once more to read hydra.mode, which ratinglab refuses: 0.1 s per command. test_startup.py runs it.
Hydra.get_mode = lambda *arguments, **options: None
cache_configs()
cache_answers()
SHORT_FITS.start()
train_once()
# what imports have left to clean up: it touches so much memory that it took a quarter of a short command
atexit._clear()
atexit.register(logging.shutdown)
GROUPS = PrimaryConfig("train").groups()
gc.freeze()  # forks share the memory of what is imported
for line in sys.stdin:
    request = json.loads(line)
    if "wait_for" in request:
        _, status = os.waitpid(request["wait_for"], 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    if "--config-dir" not in request["arguments"]:
        choices = (text for text in request["arguments"] if text.partition("=")[0] in GROUPS)
        compose_once(Path(request["script"]).stem, *choices)
    child = os.fork()
    if child == 0:
        end(become_command(request))
    print(child, flush=True)
