"""Environment variables of OpenMP, which reads them when it is loaded, for example when torch is imported."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

SLEEPING_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""Settings that let threads sleep after a short wait.

By default, OpenMP's threads spin while they wait, which makes small batches 20 times as slow beside a busy process. If
they slept at once, compiled loops would be slower, because their threads wait for each other for microseconds. More
spins would not make these loops faster.
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
