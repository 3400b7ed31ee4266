"""Settings of the process that must be made before torch is imported. This file imports nothing slow."""

import atexit
import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ratinglab.process.exits import silence_storage_faults_of_threads

SLEEPING_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""Settings of OpenMP that let threads sleep after a short wait.

By default, OpenMP's threads spin while they wait, which makes small batches 20 times as slow while another process
keeps the cores busy. If the threads slept at once, compiled loops would be slower, because their threads wait for each
other for only microseconds.
"""


@contextmanager
def sleeping_threads() -> Iterator[None]:
    """Apply SLEEPING_THREADS to an OpenMP that is loaded in a `with` block. Keeps variables that are already set."""
    added = SLEEPING_THREADS.keys() - os.environ.keys()
    os.environ |= SLEEPING_THREADS | os.environ
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def configure_process() -> None:
    """Set up threads, garbage collection and logging. A command must call this first."""
    # Without this variable, Hydra prints errors in its own format, in several lines, and exits with status 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ |= SLEEPING_THREADS | os.environ
    # A line that cannot be printed, for example into a closed pipe, must not cause a traceback.
    logging.raiseExceptions = False
    silence_storage_faults_of_threads()
    # matplotlib would report that its font cache is missing in a new or read-only home folder.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # Imports create a million long-lived objects. Scanning them for garbage took 0.5 s at start and 1 s at exit.
    gc.set_threshold(10_000, 50, 100)
    atexit.register(gc.freeze)
