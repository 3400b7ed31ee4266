"""Delimited text in blocks of whole rows, and the columns that pyarrow parses from them."""

import codecs
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import Layout
from ratinglab.formats.quotes import QUOTE, drop_escapes
from ratinglab.formats.text_dialects import LINE_END, TextDialect, read_utf8_blocks, regroup_by_lines
from ratinglab.process.threads import map_in_order

MAX_BLOCK_BYTES = 1 << 21
"""Approximate bytes of a block, unless a row has more."""
MAX_ROW_BYTES = 1 << 24
"""Bytes after which a row is cut if it has not ended, probably because of a stray quotation mark."""
Batch = TypeVar("Batch")


def map_row_blocks(file: InputFile, layout: Layout, parse: Callable[[bytes], list[Batch]]) -> Iterator[Batch]:
    """Yield the batches that `parse` makes of each block of rows, in order. Parses several blocks at once."""
    blocks = read_row_blocks(file, layout)
    return chain.from_iterable(map_in_order(parse, blocks, num_threads=pa.cpu_count()))  # pyarrow releases the GIL


def read_row_blocks(file: InputFile, layout: Layout) -> Iterator[bytes]:
    """Yield the text after the header in blocks of whole rows, in UTF-8."""
    pending, lines_to_skip = b"", layout.header_lines
    for block in regroup_by_lines(read_utf8_blocks(file, layout.dialect)):
        pending += block
        while lines_to_skip and (end := LINE_END.search(pending)):
            pending, lines_to_skip = pending[end.end() :], lines_to_skip - 1
        if lines_to_skip:
            continue
        stop = _find_end_of_rows(pending, layout.dialect)
        if stop == 0 and len(pending) >= MAX_ROW_BYTES:
            stop = len(pending)
        # a stray mark can make the end of a line in a cell look like the end of a row: better end with the block
        if stop > 0 and (stop == len(pending) or len(pending) >= MAX_BLOCK_BYTES):
            yield pending[:stop]
            pending = pending[stop:]
    if pending and not lines_to_skip:
        yield pending


def _find_end_of_rows(lines: bytes, dialect: TextDialect) -> int:
    """Find the end of the last whole row of these lines: the last line end outside quoted cells that is not escaped.

    Returns 0 if there is none.
    """
    if not (dialect.has_escapes or (dialect.is_quoted and QUOTE in lines)):
        return len(lines)
    content = np.frombuffer(drop_escapes(lines, dialect), dtype=np.uint8)
    is_line_feed = content == ord("\n")
    line_ends = np.flatnonzero(is_line_feed | ((content == ord("\r")) & ~np.append(is_line_feed[1:], False)))
    if dialect.is_quoted:
        marks_before = np.searchsorted(np.flatnonzero(content == ord(QUOTE)), line_ends)
        line_ends = line_ends[marks_before % 2 == 0]
    return int(line_ends[-1]) + 1 if len(line_ends) > 0 else 0


def parse_rows(
    text: bytes, layout: Layout, types: dict[int, pa.DataType], *, refused: str | None = None
) -> list[pa.RecordBatch]:
    """Parse whole rows into batches of the columns in `types`, each named by its position. Text is never null.

    Args:
        types: types of the columns to read, by position counted from 0.
        refused: pattern that no cell of text may match.

    Raises:
        ArrowInvalid: a row has too many or too few cells, or a cell does not have the type of its column.
    """
    names = [str(position) for position in range(layout.num_columns)]
    if text.startswith(codecs.BOM_UTF8):
        text = b"\n" + text  # so that pyarrow keeps the mark, which belongs to a cell
    batches: list[pa.RecordBatch] = pyarrow.csv.read_csv(
        pa.BufferReader(text),
        read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=max(1, len(text)), use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=layout.dialect.delimiter,
            quote_char='"' if layout.dialect.is_quoted else False,
            escape_char="\\" if layout.dialect.has_escapes else False,
            newlines_in_values=layout.spans_lines,
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=[names[position] for position in types],
            column_types={names[position]: kind for position, kind in types.items()},
            null_values=[],
            strings_can_be_null=False,
            decimal_point=layout.dialect.decimal,
        ),
    ).to_batches()
    texts = [column for batch in batches for column in batch.columns if pa.types.is_string(column.type)]
    if refused is not None and any(pc.any(pc.match_substring_regex(column, refused)).as_py() for column in texts):
        raise pa.ArrowInvalid("a cell is enclosed in quotation marks, or spans lines")
    return batches
