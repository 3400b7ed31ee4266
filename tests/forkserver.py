"""Runs scripts as commands, each in a process of its own, without paying every time for the import of torch.

The imports are done once; each request is then a fork with its own arguments, folder, streams and exit status, as a
command has. ratinglab itself is imported in the fork. What a start really imports is for tests/config/test_startup.py.

A request is one line of JSON on stdin: script, arguments, folder, stdout and stderr (files to write). The
answer is one line on stdout: the exit status.
"""

import atexit
import gc
import json
import os
import runpy
import sys
import traceback

import hydra  # noqa: F401
import pandas as pd  # noqa: F401
import pyarrow.csv
import pyarrow.parquet  # noqa: F401
import pytorch_lightning.callbacks
import pytorch_lightning.loggers  # noqa: F401
import torch.utils.tensorboard  # noqa: F401


def become_command(request: dict) -> int:
    """Turn this process into the command that is asked for; its exit status."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["folder"])
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


gc.freeze()  # what is imported stays as it is: forks then share its memory
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        status = become_command(json.loads(line))
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # without taking torch apart, which takes longer than most commands
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
