"""Environment variables of OpenMP, which it reads when it is loaded, as by the import of torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

SLEEPING_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""Settings that let threads sleep after a short wait.

By default they spin: with another process on a core, a fit with small batches ran 20 times slower. Sleeping threads
cost 13 % if all cores are free. Threads of compiled loops wait for each other for microseconds at every diagonal:
sleeping at once made them 1.5 times slower. A hundred times more spins made them no faster, and up to ten times slower
beside a busy process on two cores.
"""


@contextmanager
def sleeping_threads() -> Iterator[None]:
    """Let threads of an OpenMP that is loaded in a `with` block sleep while they wait. Variables that are set win."""
    added = SLEEPING_THREADS.keys() - os.environ.keys()
    os.environ |= SLEEPING_THREADS | os.environ
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
