"""Tables in any supported format as columns of text: users, items, and pairs to predict."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from ratinglab.errors import UserError
from ratinglab.formats.columnar import column_to_text, open_batches
from ratinglab.formats.detection import Format, detect_format
from ratinglab.formats.faults import (
    are_valid,
    describe_multiline_cell,
    describe_wrong_width,
    find_first_fault,
    find_line_numbers,
    find_quote_fault,
    split_as_written,
)
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import Layout, check_unique, find_column_position, make_layout, separators_in
from ratinglab.formats.row_reader import first_rows, printable
from ratinglab.formats.text_dialects import QuoteScan, TextDialect
from ratinglab.formats.text_options import SEPARATORS
from ratinglab.formats.text_parsing import TextStream, parse_batches
from ratinglab.sides import SideName


@dataclass(frozen=True)
class OpenTable:
    """A table that has been checked, whose rows are read in blocks.

    Attributes:
        layout: layout of a text file; None for Parquet, Arrow, ORC and JSON Lines.
        schema: names and types of the columns; text in a text file.
        read_batches: function that reads the rows.
        notes: one line each, on the dialect.
    """

    file: InputFile
    layout: Layout | None
    schema: pa.Schema
    read_batches: Callable[[], Iterator[pa.RecordBatch]]
    notes: tuple[str, ...] = ()

    @property
    def dialect(self) -> TextDialect | None:
        """Dialect of text; None for other formats."""
        return None if self.layout is None else self.layout.dialect

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
        return TextTable(self, pa.Table.from_batches(batches, self.schema), first_row)


@dataclass(frozen=True)
class TextTable:
    """Rows of a table, with methods that return their cells as text.

    Attributes:
        opened_from: the file and its format.
        content: the cells, in the types of the file.
        first_row: number of rows of the file before these.
    """

    opened_from: OpenTable
    content: pa.Table
    first_row: int = 0

    @property
    def names(self) -> list[str]:
        """Names of the columns or, without a header, their positions from 1."""
        names: list[str] = self.content.column_names
        return names

    @property
    def decimal(self) -> str:
        """Decimal point of numbers in the cells."""
        return "." if self.opened_from.dialect is None else self.opened_from.dialect.decimal

    def column(self, name: str, *, key: str) -> list[str]:
        """Return the cells of a column without surrounding white space. `key` is the option that names the column."""
        texts: list[str] = self._texts(name, key=key).to_pylist()
        return texts

    def _texts(self, name: str, *, key: str) -> pa.ChunkedArray:
        return pc.utf8_trim_whitespace(column_to_text(self.content[self.position(name, key=key)]))

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
        ids = self._texts(name, key=key).dictionary_encode().combine_chunks()
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
        file, layout, row_in_file = self.opened_from.file, self.opened_from.layout, self.first_row + row
        if layout is None:
            return f"{file}, row {row_in_file + 1}, column {column}"
        (line,) = find_line_numbers(file, layout, [row_in_file])
        return f"{file}, line {line}, column {column}"


def with_separator_of(file: InputFile, dialect: TextDialect) -> TextDialect:
    """Return the dialect with the separator of the file's header, if the file has one and is text.

    Replaces a comma that does not split the header by the only tab, semicolon, pipe or double colon that does.
    """
    if dialect.separator != "," or not dialect.has_header or detect_format(file) is not Format.TEXT:
        return dialect
    ((_, cells),) = first_rows(file, dialect.adapt_to(file), 1)
    names = separators_in(cells[0]) if len(cells) == 1 else []
    return dialect if len(names) != 1 or names == ["spaces"] else replace(dialect, separator=SEPARATORS[names[0]])


def open_text_table(file: InputFile, dialect: TextDialect) -> OpenTable:
    """Check a table, reading the whole file if it is text, and open it.

    Raises:
        UserError: the file is empty, two columns have the same name, or a row has too many or too few cells.
    """
    file_format = detect_format(file)
    if file_format is not Format.TEXT:
        schema, read_batches = open_batches(file, file_format)
        check_unique(schema.names, file=file)
        return OpenTable(file, None, schema, read_batches)
    dialect = dialect.adapt_to(file)
    ((line, cells),) = first_rows(file, dialect, 1)
    layout = replace(make_layout(line, cells, dialect), spans_lines=dialect.is_quoted)
    names = layout.names
    check_unique(names, file=file)
    types = dict.fromkeys(range(len(names)), pa.string())

    def read_batches_as(layout: Layout, scan: QuoteScan) -> Iterator[pa.RecordBatch]:
        batches = parse_batches(TextStream(file, layout, scan), layout, types, use_threads=True)
        return (batch.rename_columns(names) for batch in batches)

    def open_as(layout: Layout) -> OpenTable:
        schema = pa.schema([(name, pa.string()) for name in names])
        return OpenTable(file, layout, schema, lambda: read_batches_as(layout, layout.new_quote_scan()), layout.notes)

    scan = layout.new_quote_scan()
    is_table = are_valid(read_batches_as(layout, scan))
    if is_table and scan.is_regular and not scan.may_join_rows:
        return open_as(layout)
    if scan.any_quotes:
        unquoted = open_as(layout.with_quotes_as_text(file))
        if are_valid(unquoted.read_batches()) and not any(map(_encloses_a_cell, unquoted.read_batches())):
            return unquoted
    fault = find_first_fault(file, layout, _find_row_fault, parse=lambda text: parse_batches(text, layout, types))
    if fault is not None:
        raise fault
    if not is_table:
        raise UserError(f"{file} cannot be read as a table of {len(names)} columns")
    return open_as(layout)


def _encloses_a_cell(batch: pa.RecordBatch) -> bool:
    """Return whether quotation marks enclose a cell of a batch that was read without quotes."""
    enclosed = (pc.match_substring_regex(column, r'^\s*"([^"]|"")*"\s*$') for column in batch.columns)
    return any(pc.any(column).as_py() for column in enclosed)


def _find_row_fault(cells: list[str], lines: list[bytes], layout: Layout) -> str | None:
    """Describe the fault of a row, to follow `FILE, line N:`; None if it has none.

    A row is faulty if it has too many or too few cells, irregular quotation marks, bytes that are not UTF-8, or a cell
    with lines that look like rows.
    """
    dialect, num_columns = layout.dialect, layout.num_columns
    looks_joined = any(line.count(dialect.delimiter.encode()) == num_columns - 1 for line in lines[1:])
    if looks_joined or (len(lines) > 1 and len(cells) != num_columns):
        return describe_multiline_cell(dialect)
    for cell in split_as_written(lines, dialect):
        if (fault := find_quote_fault(cell, dialect, noun="cell")) is not None:
            return fault
    if len(cells) != num_columns:
        return describe_wrong_width(cells, layout)
    undecodable = next((cell for cell in cells if cell != printable(cell)), None)
    if undecodable is not None:
        return f"{printable(undecodable)!r} is not UTF-8 text; is {dialect.key_prefix}encoding right?"
    return None
