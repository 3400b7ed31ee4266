"""Settings of the process that must be made before torch is imported. This file imports nothing slow."""

import atexit
import gc
import logging
import os

from ratinglab.process.exits import silence_storage_faults_of_threads
from ratinglab.process.openmp import SLEEPING_THREADS


def configure_process() -> None:
    """Set up threads, garbage collection and logging. A command must call this first."""
    # Without this variable, Hydra prints errors in its own format, in several lines, and exits with status 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ |= SLEEPING_THREADS | os.environ
    # A line that cannot be printed, for example into a closed pipe, must not cause a traceback.
    logging.raiseExceptions = False
    silence_storage_faults_of_threads()
    # matplotlib would report that a new or read-only home folder lacks its font cache.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # Imports create a million long-lived objects. To scan them for garbage took 0.5 s at start, 1 s at exit.
    gc.set_threshold(10_000, 50, 100)
    atexit.register(gc.freeze)
