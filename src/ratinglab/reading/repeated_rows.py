"""Rows of a table of users or items that repeat an id, as in the ratings file itself."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ratinglab.formats.columnar import column_to_text
from ratinglab.formats.text_tables import OpenTable, TextTable

ROWS_AT_ONCE = 1 << 17
"""Approximate number of rows that are searched for identical rows at once, since the ratings file may be large."""


def read_distinct_rows(
    table: OpenTable, *, id_name: str, ignored: Collection[str], fixed: Collection[str] | None
) -> tuple[TextTable, set[str]]:
    """Read a table without the rows that equal an earlier row in all columns but the ignored ones.

    Args:
        id_name: name of the id column.
        ignored: names of columns to ignore.
        fixed: names of the columns that describe a user or item, or None if all do. Any other column whose values
            differ between rows of one id is ignored too, since it describes a rating.

    Returns:
        The distinct rows, in the order of the file, and the names of all ignored columns.
    """
    all_ignored, blocks = set(ignored), list[TextTable]()
    for block in table.blocks(ROWS_AT_ONCE):
        rows = _drop_equal_rows(block, ignored=all_ignored)
        if fixed is not None and id_name in rows.names:
            first_row = find_first_rows(rows.content[id_name])
            others = [name for name in rows.names if name not in fixed and name not in all_ignored]
            all_ignored |= {name for name in others if find_differing_row(rows.content[name], first_row) is not None}
        blocks.append(rows)
    content = pa.concat_tables([block.content for block in blocks], promote_options="default")
    rows = TextTable(table, content, np.concatenate([block.source_row for block in blocks]))
    return _drop_equal_rows(rows, ignored=all_ignored), all_ignored


def _drop_equal_rows(table: TextTable, *, ignored: Collection[str]) -> TextTable:
    """Drop the rows that equal an earlier row in all columns but the ignored ones, whose cells become null."""
    content, keys = table.content, {"row": pa.array(np.arange(len(table.content)))}
    for position, name in enumerate(table.names):
        if name in ignored:
            content = content.set_column(position, name, pa.nulls(len(content)))
        else:
            keys[str(position)] = _as_key(content[position])
    positions = [name for name in keys if name != "row"]
    first_rows = pa.table(keys).group_by(positions).aggregate([("row", "min")])["row_min"].to_numpy()
    return replace(table, content=content).take(np.sort(first_rows))


def _as_key(column: pa.ChunkedArray) -> pa.ChunkedArray:  # Arrow cannot compare lists
    return column_to_text(column) if pa.types.is_nested(column.type) else column


def find_first_rows(ids: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """Find the first row with the id of each row: (N,) int64."""
    _, first_row, position = np.unique(_encode(ids), return_index=True, return_inverse=True)
    return first_row[position]


def find_differing_row(cells: pa.ChunkedArray, first_row: NDArray[np.int64]) -> int | None:
    """Find the first row whose cell differs from the cell in the first row with its id. Returns None if none does."""
    code = _encode(_as_key(cells))
    differs = code != code[first_row]
    return int(np.argmax(differs)) if differs.any() else None


def _encode(cells: pa.Array | pa.ChunkedArray) -> NDArray[np.int32]:
    """Number the distinct cells: (N,) int32, equal for equal cells."""
    encoded = cells.dictionary_encode(null_encoding="encode")
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    codes: NDArray[np.int32] = encoded.indices.to_numpy()
    return codes
