"""Server that runs scripts as commands, each in its own process, without importing everything each time.

Everything is imported, and conf/ composed, once; each request then forks with its own arguments, folder, streams
and exit status, like a command. The imports of a real start are tested in tests/config/test_startup.py.

A request is one line of JSON on stdin: script, arguments, folder, stdout and stderr (files to write); the answer is one
line on stdout, the process id. A request {"wait_for": process id} is answered with the exit status, once there is one.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import sys
import traceback
import warnings

import matplotlib.backends.backend_agg  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
from hydra._internal.hydra import Hydra

from ratinglab.config import resolvers
from ratinglab.config.conf import Conf
from ratinglab.config.conversion import to_options
from ratinglab.experiment import evaluating, finding_similar, inspection, predicting, recommending, training  # noqa: F401
from ratinglab.experiment.root_options import ROOTS
from ratinglab.reports import comparison, sweep_report  # noqa: F401


def compose_once() -> None:
    """Compose once, so that Hydra has found its plugins and its grammar is warm."""
    resolvers.register_resolvers()
    conf = Conf("train")
    with conf.initialized():
        config, _ = conf.compose([])
    to_options(config, ROOTS["train"])


def become_command(request: dict) -> int:
    """Turn this process into the requested command; return its exit status."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["folder"])
    # A text file without an encoding would have another one on other machines.
    warnings.filterwarnings("ignore", category=EncodingWarning)
    warnings.filterwarnings("error", category=EncodingWarning, module="ratinglab")
    # as on a terminal: a shell's background jobs ignore Ctrl-C, nohup's ignore SIGHUP
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    sys.argv = [request["script"], *request["arguments"]]
    sys.path.insert(0, os.path.dirname(request["script"]))
    try:
        runpy.run_path(request["script"], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


# Hydra composes once more to read hydra.mode, which ratinglab refuses: 0.1 s per command. test_startup.py runs it.
Hydra.get_mode = lambda *arguments, **options: None
compose_once()
gc.freeze()  # forks share the memory of what is imported
for line in sys.stdin:
    request = json.loads(line)
    if "wait_for" in request:
        _, status = os.waitpid(request["wait_for"], 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    child = os.fork()
    if child == 0:
        status = become_command(request)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # skips the teardown of torch, which takes longer than most commands
    print(child, flush=True)
