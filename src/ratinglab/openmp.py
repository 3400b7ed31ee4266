"""Environment variables of OpenMP. It reads them when it is loaded, for example by importing torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

SLEEPING_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""Settings that let threads sleep after a short wait.

By default they spin: with another process on a core, a fit with small batches ran 20 times slower. Sleeping costs 13%
if all cores are free. Threads of compiled loops wait for each other for microseconds at every diagonal: sleeping at
once made them 1.5 times slower. A hundred times more spins made them no faster, and up to ten times slower
beside a busy process on two cores.
"""


@contextmanager
def sleeping_threads() -> Iterator[None]:
    """Apply SLEEPING_THREADS to an OpenMP loaded within a `with` block; variables that are already set win."""
    added = SLEEPING_THREADS.keys() - os.environ.keys()
    os.environ |= SLEEPING_THREADS | os.environ
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
