"""Tables in any supported format as columns of text: users, items, and pairs to predict."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.formats.columnar import column_to_text, open_batches
from ratinglab.formats.detection import Format, detect_format
from ratinglab.formats.faults import find_first_fault, find_line_numbers
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import Layout, check_unique, find_column_position, make_layout, separators_in
from ratinglab.formats.quotes import QuoteScan
from ratinglab.formats.rows_by_csv import read_first_rows
from ratinglab.formats.rows_by_pyarrow import map_row_blocks, parse_rows
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_options import SEPARATORS
from ratinglab.sides import SideName

ENCLOSED_CELL = r'^\s*"([^"]|"")*"\s*$'
"""A cell that quotation marks enclose. These marks are not text."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class OpenTable:
    """A table that has been checked, whose rows are read in blocks.

    Attributes:
        layout: layout of a text file, or None for Parquet, Arrow, ORC and JSON Lines.
        schema: names and types of the columns. In a text file, all types are text.
        read_batches: function that reads the rows.
    """

    file: InputFile
    layout: Layout | None
    schema: pa.Schema
    read_batches: Callable[[], Iterator[pa.RecordBatch]]

    @property
    def dialect(self) -> TextDialect | None:
        """Dialect of text, or None for other formats."""
        return None if self.layout is None else self.layout.dialect

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the dialect, one line each."""
        return () if self.layout is None else self.layout.notes

    def read(self) -> "TextTable":
        """Read all rows."""
        return self._table(list(self.read_batches()))

    def blocks(self, num_rows: int) -> "Iterator[TextTable]":
        """Yield blocks of at least `num_rows` and fewer than 2 × `num_rows` rows; the last may be smaller or empty."""
        first_row, pending = 0, list[pa.RecordBatch]()
        for batch in self.read_batches():
            for start in range(0, len(batch), num_rows):
                pending.append(batch.slice(start, num_rows))
                if sum(map(len, pending)) >= num_rows:
                    block = self._table(pending, first_row=first_row)
                    first_row, pending = first_row + len(block.content), []
                    yield block
        if pending or first_row == 0:
            yield self._table(pending, first_row=first_row)

    def _table(self, batches: list[pa.RecordBatch], *, first_row: int = 0) -> "TextTable":
        content = pa.Table.from_batches(batches, self.schema)
        return TextTable(self, content, np.arange(first_row, first_row + len(content)))


@dataclass(frozen=True)
class TextTable:
    """Rows of a table, with methods that return their cells as text.

    Attributes:
        opened_from: the file and its format.
        content: the cells, in the types of the file.
        source_row: (N,) int64, the position of each row in the file, counted from 0.
    """

    opened_from: OpenTable
    content: pa.Table
    source_row: NDArray[np.int64]

    @property
    def names(self) -> list[str]:
        """Names of the columns or, without a header, their positions from 1."""
        names: list[str] = self.content.column_names
        return names

    @property
    def decimal(self) -> str:
        """Decimal point of numbers in the cells."""
        return "." if self.opened_from.dialect is None else self.opened_from.dialect.decimal

    def decimal_hint(self, text: str) -> str:
        """Return a hint for messages if a text is a number only with the other decimal point, or ""."""
        return "" if self.opened_from.dialect is None else self.opened_from.dialect.decimal_hint(text)

    def column(self, name: str, *, key: str) -> list[str]:
        """Return the cells of a column without surrounding white space. `key` is the option that names the column."""
        cells: list[str] = self.texts(name, key=key).to_pylist()
        return cells

    def texts(self, name: str, *, key: str) -> pa.ChunkedArray:
        """Return the cells that `column` returns, as an array of Arrow."""
        return pc.utf8_trim_whitespace(column_to_text(self.content[self.position(name, key=key)]))

    def take(self, rows: NDArray[np.int64]) -> "TextTable":
        """Select rows by position, in the given order."""
        return replace(self, content=self.content.take(rows), source_row=self.source_row[rows])

    def position(self, name: str, *, key: str) -> int:
        """Find the position of a column, counted from 0. `key` is the option that names the column."""
        dialect = self.opened_from.dialect
        has_header = None if dialect is None else dialect.has_header
        return find_column_position(self.names, name, key=key, file=self.opened_from.file, has_header=has_header)

    def ids(self, name: str, *, key: str, side: SideName) -> pa.DictionaryArray:
        """Return the ids of a side in a column, as dictionary-encoded text. `key` is the option that names the column.

        Raises:
            UserError: an id is blank, or a number that is not whole.
        """
        ids = self.texts(name, key=key).dictionary_encode().combine_chunks()
        distinct = ids.dictionary.to_pylist()

        def place_of(text: str) -> str:
            return self.place(int(pc.index(ids.indices, distinct.index(text)).as_py()), name)

        if "" in distinct:
            raise UserError(f"{place_of('')}: the {side} id must not be blank")
        if pa.types.is_floating(self.content[self.names.index(name)].type):
            fraction = next((text for text in distinct if not text.lstrip("-").isdigit()), None)
            if fraction is not None:
                raise UserError(f"{place_of(fraction)}: the {side} id must be an integer or text, got {fraction}")
        return ids

    def place(self, row: int, column: str) -> str:
        """Return file, line and column of a cell, for messages. `row` counts from 0. Reads a text file again."""
        file, layout, row_in_file = self.opened_from.file, self.opened_from.layout, int(self.source_row[row])
        if layout is None:
            return f"{file.place_of_row(row_in_file)}, column {column}"
        (line,) = find_line_numbers(file, layout, [row_in_file])
        return f"{file}, line {line}, column {column}"


def with_separator_of(file: InputFile, dialect: TextDialect) -> TextDialect:
    """Return the dialect with the separator of the file's header, if the file has one and is text.

    Replaces a comma that does not split the header by the only tab, semicolon, pipe or double colon that does.
    """
    if dialect.separator != "," or not dialect.has_header or detect_format(file) is not Format.TEXT:
        return dialect
    ((_, cells),) = read_first_rows(file, dialect.adapt_to(file), 1)
    names = separators_in(cells[0]) if len(cells) == 1 else []
    return dialect if len(names) != 1 or names == ["spaces"] else replace(dialect, separator=SEPARATORS[names[0]])


def open_text_table(file: InputFile, dialect: TextDialect) -> OpenTable:
    """Check a table, reading the whole file if it is text, and open it. Raises the errors of `check_while_reading`."""
    if detect_format(file) is not Format.TEXT:
        return _open_typed_table(file)
    table, _ = check_while_reading(file, dialect, lambda table: sum(map(len, table.read_batches())))
    return table


def check_while_reading(
    file: InputFile, dialect: TextDialect, read: Callable[[OpenTable], Result]
) -> tuple[OpenTable, Result]:
    """Open a table, and check it while `read` reads all its rows, once. Return the table and the result of `read`.

    `read` is called again if quotation marks turn out to be text.

    Raises:
        UserError: the file is empty, two columns have the same name, or a row has too many or too few cells.
    """
    if detect_format(file) is not Format.TEXT:
        table = _open_typed_table(file)
        return table, read(table)
    dialect = dialect.adapt_to(file)
    ((line, cells),) = read_first_rows(file, dialect, 1)
    layout = replace(make_layout(line, cells, dialect), spans_lines=dialect.is_quoted)
    check_unique(layout.names, file=file)
    scan = QuoteScan(layout)

    def parse_and_scan(text: bytes) -> list[pa.RecordBatch]:
        scan.add(text)
        return _parse(text, layout)

    result = _read_if_valid(_open_text(file, layout, parse_and_scan), read)
    if result is not None and scan.fits_layout:
        return _open_text(file, layout), result
    if scan.any_quotes:
        as_text = layout.with_quotes_as_text(file)
        parse_as_text = partial(_parse, layout=as_text, refused=ENCLOSED_CELL)
        result_as_text = _read_if_valid(_open_text(file, as_text, parse_as_text), read)
        if result_as_text is not None:
            return _open_text(file, as_text), result_as_text
    fault = find_first_fault(file, layout, parse=partial(_parse, layout=layout))
    if fault is not None:
        raise fault
    if result is None:
        raise UserError(f"{file} cannot be read as a table of {layout.num_columns} columns")
    return _open_text(file, layout), result


def _open_typed_table(file: InputFile) -> OpenTable:
    schema, read_batches = open_batches(file)
    check_unique(schema.names, file=file)
    return OpenTable(file, None, schema, partial(read_batches, schema.names))


def _open_text(
    file: InputFile, layout: Layout, parse: Callable[[bytes], list[pa.RecordBatch]] | None = None
) -> OpenTable:
    """Open a text file whose columns all hold text. `parse` parses whole rows, by default like `_parse`."""
    schema = pa.schema([(name, pa.string()) for name in layout.names])
    parse = parse or partial(_parse, layout=layout)
    return OpenTable(file, layout, schema, partial(map_row_blocks, file, layout, parse))


def _parse(text: bytes, layout: Layout, *, refused: str | None = None) -> list[pa.RecordBatch]:
    types = dict.fromkeys(range(layout.num_columns), pa.string())
    return [batch.rename_columns(layout.names) for batch in parse_rows(text, layout, types, refused=refused)]


def _read_if_valid(table: OpenTable, read: Callable[[OpenTable], Result]) -> Result | None:
    """Return the result of `read`, or None if pyarrow cannot parse a row, or there are no rows."""
    try:
        result = read(table)
        return None if next(table.read_batches(), None) is None else result
    except pa.ArrowInvalid:
        return None
