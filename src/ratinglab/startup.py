"""Process settings to make before importing torch. Imports nothing slow."""

import atexit
import gc
import logging
import os

from ratinglab.exits import silence_storage_faults_of_threads
from ratinglab.fitting.fit_options import FitOptions
from ratinglab.openmp import SLEEPING_THREADS


def configure_process() -> None:
    """Set up threads, garbage collection and logging. Call it first in a command."""
    # Without it, Hydra prints errors in its own format, in several lines, and exits with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ |= SLEEPING_THREADS | os.environ
    # A line that cannot be printed, for example into a closed pipe, must not cause a traceback.
    logging.raiseExceptions = False
    silence_storage_faults_of_threads()
    # matplotlib reports its font cache, which a new or read-only home folder lacks.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # Imports create a million long-lived objects; scanning them took 0.5 s at start, 1 s at exit.
    gc.set_threshold(10_000, 50, 100)
    atexit.register(gc.freeze)


def prepare_fit(fit: type[FitOptions]) -> None:
    """Start the threads of a fit's compiled loops. Call it before importing an equation's module.

    If this runs before importing torch, both share one OpenMP. Otherwise each has its own, and the threads of one
    slow down the other by spinning for a while after their work.
    """
    if fit.has_compiled_loops:
        from ratinglab.compiled import start_threads

        start_threads()
