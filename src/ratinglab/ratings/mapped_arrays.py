"""Arrays in memory-mapped files, for rows that do not fit into memory, and passes over them in bounded memory."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

BLOCK = 1 << 24
"""Rows per block of a pass: 192 MB of a table's columns."""


def empty(count: int, dtype: DTypeLike, *, folder: Path | None) -> NDArray[Any]:
    """Make an array of `count` values: in memory, or, with a folder, in a file there that has no name.

    The file's space is reserved at once, since a write to a mapped page of a full disk would kill the process. The
    operating system frees it when the array is gone, or the process ends in any way.

    Raises:
        OSError: the disk is full, or the folder, which it names, cannot be written.
    """
    num_bytes = count * np.dtype(dtype).itemsize
    if folder is None or num_bytes == 0:
        return np.empty(count, dtype=dtype)
    try:
        with TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            else:
                file.truncate(num_bytes)
            return np.frombuffer(mmap.mmap(file.fileno(), num_bytes), dtype=dtype)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(folder)) from error


def opened(path: Path, dtype: DTypeLike) -> NDArray[Any]:
    """Map a file of values for reading.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=dtype)


def release(*arrays: NDArray[Any] | None) -> None:
    """Drop the pages of mapped arrays from this process; the next access reads them again. Other arrays stay."""
    for array in arrays:
        base: object = array
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, memoryview):
            base = base.obj
        if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            base.madvise(mmap.MADV_DONTNEED)


def blocks_of(count: int) -> Iterator[slice]:
    """Yield the ranges of BLOCK rows that make up `count` rows; the last may be smaller."""
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))


def count_values(index: NDArray[np.int32], count: int, *, where: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Count the rows of each index below `count`, among all rows or those of a mask: (count,) int64."""
    found = np.zeros(count, dtype=np.int64)
    for rows in blocks_of(len(index)):
        block = index[rows] if where is None else index[rows][where[rows]]
        found += np.bincount(block, minlength=count)
        release(index)
    return found
