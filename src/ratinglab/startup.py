"""Settings of the process that must stand before torch is loaded. Imports nothing slow."""

import atexit
import gc
import logging
import os

from ratinglab.fitting.optimizers import FitOptions


def configure_process() -> None:
    """Set up threads, garbage collection and logging. Call it first in a command."""
    # Without it Hydra prints its own mistakes, in several lines, and exits with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # By default torch's threads spin while they wait for each other. With another process on a core, a fit of small
    # batches ran at a twentieth of its speed. Asleep they cost 13 % where all cores are free.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A line that cannot be printed, as into a closed pipe, is no reason for a traceback.
    logging.raiseExceptions = False
    # Imports make a million objects that stay. Looking for garbage among them took half a second at the start and a
    # whole one at the end.
    gc.set_threshold(10_000, 50, 100)
    atexit.register(gc.freeze)


def prepare_fit(fit: type[FitOptions]) -> None:
    """Load what a fit needs before torch. Call it once the fit is chosen, before an equation's file is imported."""
    if fit.has_compiled_loops:
        load_compiled_loops()


def load_compiled_loops() -> None:
    """Load the compiled loops, which start their threads.

    If this runs before torch is imported, both share one OpenMP. Otherwise each has its own, and the threads of one
    spin for a while after their work, at the cost of the other's.
    """
    # Threads wait for each other at every diagonal, for microseconds. Asleep they were 1.5 times slower; a hundred
    # times as many spins were no faster, and beside a busy process on two cores took up to ten times as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    from ratinglab.fitting.kernels.block_epochs import load

    load()
