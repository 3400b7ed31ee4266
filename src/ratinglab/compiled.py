"""numba's decorator, with compiled code kept on disk where that is possible."""

from typing import Any

import numba


def _probe() -> None:
    """Stand in for any compiled function: numba caches beside the function's file, or in one folder per user."""


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
