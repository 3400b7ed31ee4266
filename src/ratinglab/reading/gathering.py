"""Columns of a file, gathered in memory batch by batch."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ratinglab.ratings.ids import IdColumn, ParsedBatch


class FileColumns(NamedTuple):
    """Columns of the rows of a file.

    Attributes:
        user, item: ids, in chunks.
        rating: (N,) float32.
        timestamp: (N,) int64, float64 or datetime64, as in the file. None if the timestamps are not read.
    """

    user: list[IdColumn]
    item: list[IdColumn]
    rating: NDArray[np.float32]
    timestamp: NDArray[Any] | None


def gather_columns(batches: Iterable[ParsedBatch]) -> FileColumns:
    """Gather the batches of a file, which has at least one row."""
    columns = [_GrowingColumn() for _ in range(4)]
    for batch in batches:
        for column, values in zip(columns, batch, strict=False):  # the batches may lack timestamps
            column.append(values)
    user, item, (rating,), timestamps = (column.chunks() for column in columns)
    (timestamp,) = timestamps or [None]  # all in one type
    return FileColumns(user, item, rating, timestamp)


class _GrowingColumn:
    """Values of a column in chunks: one array for all batches of a data type, and each batch of encoded text.

    A buffer that grows takes half the memory of a list of batches that are concatenated at the end.
    """

    def __init__(self) -> None:
        self._chunks: list[Any] = []
        self._buffer, self._dtype = bytearray(), np.dtype(np.int32)

    def append(self, values: NDArray[Any] | pa.DictionaryArray) -> None:
        if not isinstance(values, np.ndarray):
            self._end_chunk()
            self._chunks.append(values)
            return
        if values.dtype != self._dtype:
            self._end_chunk()
            self._dtype = values.dtype
        self._buffer.extend(values.view(np.uint8).data)

    def chunks(self) -> list[Any]:
        self._end_chunk()
        return self._chunks

    def _end_chunk(self) -> None:
        if self._buffer:
            self._chunks.append(np.frombuffer(self._buffer, self._dtype))
            self._buffer = bytearray()
