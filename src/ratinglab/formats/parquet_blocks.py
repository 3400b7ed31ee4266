"""Parquet files written and read block by block, for tables that do not fit into memory."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from ratinglab.formats.inputs import open_file

ROWS_PER_BLOCK = 1 << 22
"""Number of rows that are read at a time."""


def write_parquet(file: BinaryIO, blocks: Iterable[Mapping[str, NDArray[Any] | None]]) -> None:
    """Write columns by name, block by block. Leaves out columns that are None. There must be at least one block."""
    writer = None
    for block in blocks:
        table = pa.table({name: column for name, column in block.items() if column is not None})
        writer = writer or pyarrow.parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)
    assert writer is not None, "there is at least one block"
    writer.close()


def read_parquet_blocks(path: Path, columns: list[str]) -> Iterator[list[NDArray[Any]]]:
    """Yield the arrays of the columns, in the given order, block by block.

    Raises:
        OSError, ValueError, KeyError: the file is missing or damaged, or has no such column.
    """
    with pyarrow.parquet.ParquetFile(open_file(path)) as content:
        for batch in content.iter_batches(ROWS_PER_BLOCK, columns=columns):
            yield [batch.column(name).to_numpy() for name in columns]
