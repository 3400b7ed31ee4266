"""Environment variables of OpenMP. It reads them when it is loaded, for example by importing torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

SLEEPING_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""Settings that let threads sleep after a short wait.

By default, OpenMP threads spin, which slows small batches 20-fold beside a busy process. Sleeping at once would slow
compiled loops, whose threads wait for each other for microseconds; more spins make them no faster.
"""


@contextmanager
def sleeping_threads() -> Iterator[None]:
    """Apply SLEEPING_THREADS to an OpenMP loaded within a `with` block. Keeps variables that are already set."""
    added = SLEEPING_THREADS.keys() - os.environ.keys()
    os.environ |= SLEEPING_THREADS | os.environ
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
