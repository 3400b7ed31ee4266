"""numba's decorator, which caches compiled code on disk if possible, and numba's threads."""

from typing import Any

import numba
import numpy as np


def _can_cache() -> bool:
    """Return whether numba can write its cache beside this file or in the user's cache folder."""
    try:
        numba.njit(cache=True)(lambda: None)  # finds the cache, but compiles nothing yet
    except RuntimeError:  # "no locator available"
        return False
    return True


CACHE = _can_cache()


def njit(*, parallel: bool = False, fastmath: bool = False) -> Any:
    """Compile a function with numba.njit, to run without the GIL.

    Compiles once per machine, or once per process where nothing can be written. `fastmath` lets the compiler reorder
    the sum of each inner loop, which vectorizes it, and fuse products with sums.

    If you rename the class of a function's argument, rename the function too: numba's cache on disk finds the function
    by its name and line, and fails to load if it refers to a class that no longer exists.
    """
    flags = {"reassoc", "contract", "nsz"} if fastmath else False
    return numba.njit(cache=CACHE, nogil=True, parallel=parallel, fastmath=flags)


@njit(parallel=True)
def _fill_with_ones(values):  # type: ignore[no-untyped-def]
    for index in numba.prange(len(values)):
        values[index] = 1


def set_num_threads(count: int) -> None:
    """Let parallel loops use this many threads, but no more than numba can start."""
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


def start_threads() -> None:
    """Start numba's threads, by a parallel loop over one value. Must run before torch is imported.

    numba and torch then share one OpenMP. In the other order, each has its own OpenMP, whose threads keep spinning for
    a while after their work and slow down the other's threads.
    """
    _fill_with_ones(np.zeros(1))
