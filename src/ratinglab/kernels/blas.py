"""The threads of the BLAS and LAPACK libraries that numpy calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS compute in one thread in a `with` block, or in a function that this decorates.

    With several threads, BLAS rounds some products differently: a thread computes its last rows by another loop.
    """
    with _find_libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _find_libraries() -> ThreadpoolController:
    """Find the libraries, which takes milliseconds. numpy and torch must be imported."""
    return ThreadpoolController()
