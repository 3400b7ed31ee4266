"""Memory-mapped arrays for rows that do not fit into memory, read block by block."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

BLOCK_ROWS = 1 << 24
"""Rows that are read at a time: 192 MB of a table's columns."""


def allocate_array(count: int, dtype: DTypeLike, *, folder: Path | None) -> NDArray[Any]:
    """Allocate an uninitialized array of `count` values, in memory or in an unnamed file of a folder.

    Reserves the file's space immediately, because writing to a mapped page of a full disk would kill the process. The
    operating system frees the file when the array is deleted or the process ends.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the error names the folder.
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


def map_file(path: Path, dtype: DTypeLike) -> NDArray[Any]:
    """Map a file of values for reading. Raises OSError or ValueError if the file cannot be read or is empty."""
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=dtype)


def drop_pages(*arrays: NDArray[Any] | None) -> None:
    """Free the memory of mapped arrays, whose values are read again at the next access. Ignores other arrays."""
    for array in arrays:
        base: object = array
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, memoryview):
            base = base.obj
        if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            base.madvise(mmap.MADV_DONTNEED)


def row_ranges(count: int) -> Iterator[slice]:
    """Yield ranges of BLOCK_ROWS rows that cover `count` rows; the last may be smaller."""
    for start in range(0, count, BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, count))


def count_rows(index: NDArray[np.int32], count: int, *, where: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Count the rows of each user or item: (count,) int64.

    `index` (N,) holds the user or item of each row, below `count`. `where` (N,) selects the rows to count, by default
    all.
    """
    counts = np.zeros(count, dtype=np.int64)
    for rows in row_ranges(len(index)):
        block = index[rows] if where is None else index[rows][where[rows]]
        counts += np.bincount(block, minlength=count)
        drop_pages(index)
    return counts
