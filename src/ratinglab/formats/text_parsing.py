"""Parse delimited text with pyarrow."""

import codecs
import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.csv

from ratinglab.formats.inputs import BLOCK_BYTES, BlockStream, InputFile
from ratinglab.formats.layouts import Layout
from ratinglab.formats.text_dialects import LINE_END, QuoteScan, read_utf8_blocks


class TextStream(BlockStream):
    """A file's text in UTF-8, as a stream for pyarrow. Passes the text after the header to the scan of its quotes."""

    def __init__(self, file: InputFile, layout: Layout, scan: QuoteScan) -> None:
        super().__init__(read_utf8_blocks(file, layout.dialect))
        self._scan = scan if layout.dialect.is_quoted else None
        self._header_lines = layout.header_lines

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, fewer only at the end."""
        block = super().read(size)
        if self._scan is not None:
            if block:
                # many files have quotation marks only in the header
                body = re.split(LINE_END, block, maxsplit=self._header_lines)[-1] if self._header_lines else block
                self._scan.add(body.removeprefix(codecs.BOM_UTF8))
                self._header_lines = 0
            else:
                self._scan.end()
        return block


def parse_batches(
    text: TextStream | bytes, layout: Layout, types: dict[int, pa.DataType], *, use_threads: bool = False
) -> Iterator[pa.RecordBatch]:
    """Yield batches of the columns in `types`, in their order, each named by its position. Text is never null.

    Args:
        text: a whole file, or some rows of it.
        types: types of the columns to read, by position counted from 0.

    Raises:
        ArrowInvalid: a row has too many or too few cells, or a cell does not have the type of its column.
    """
    skipped_lines = layout.header_lines if isinstance(text, TextStream) else 0
    names = [str(position) for position in range(layout.num_columns)]
    options = {
        "read_options": pyarrow.csv.ReadOptions(
            column_names=names, skip_rows=skipped_lines, block_size=BLOCK_BYTES, use_threads=use_threads
        ),
        "parse_options": pyarrow.csv.ParseOptions(
            delimiter=layout.dialect.delimiter,
            quote_char='"' if layout.dialect.is_quoted else False,
            escape_char="\\" if layout.dialect.has_escapes else False,
            newlines_in_values=layout.spans_lines,
        ),
        "convert_options": pyarrow.csv.ConvertOptions(
            include_columns=[names[position] for position in types],
            column_types={names[position]: kind for position, kind in types.items()},
            null_values=[],
            strings_can_be_null=False,
            decimal_point=layout.dialect.decimal,
        ),
    }
    if isinstance(text, TextStream):
        yield from pyarrow.csv.open_csv(text, **options)
    else:
        yield from pyarrow.csv.read_csv(pa.BufferReader(text), **options).to_batches()
