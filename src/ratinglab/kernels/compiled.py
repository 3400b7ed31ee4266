"""numba's decorator, with compiled code kept on disk where that is possible."""

from typing import Any

import numba
import numpy as np


def _probe() -> None:
    """Dummy function that tests whether numba can write its cache."""


def _can_cache() -> bool:
    """Return whether numba can write its cache beside this file or in the user's cache folder."""
    try:
        numba.njit(cache=True)(_probe)
    except RuntimeError:  # "no locator available": it can write to neither
        return False
    return True


CACHE = _can_cache()


def njit(**options: Any) -> Any:
    """Compile a function as numba.njit does: once per machine, or once per process where nothing can be written."""
    return numba.njit(cache=CACHE, **options)


@njit(parallel=True)
def fill(values):  # type: ignore[no-untyped-def]
    """Fill an array with 1, in parallel."""
    for row in numba.prange(len(values)):
        values[row] = 1


def set_num_threads(count: int) -> None:
    """Let parallel loops use this many threads, but no more than numba can start."""
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


def start_threads() -> None:
    """Start numba's threads, by the shortest parallel loop.

    If this runs before importing torch, both share one OpenMP. Otherwise each has its own, and the threads of one
    slow down the other by spinning for a while after their work.
    """
    fill(np.zeros(1))
