"""Tables in any supported format as columns of text: users, items, and pairs to predict."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from ratinglab.errors import UserError
from ratinglab.formats.columnar import text_column, typed_batches
from ratinglab.formats.detection import Format, format_of
from ratinglab.formats.faults import (
    fault_of_marks,
    first_fault,
    has_regular_rows,
    lines_of_rows,
    multiline_cell,
    written_cells,
    wrong_width,
)
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import Layout, check_unique, column_position, positions_of, separators_in
from ratinglab.formats.row_reader import first_rows, printable
from ratinglab.formats.text_dialects import QuoteScan, TextDialect
from ratinglab.formats.text_options import SEPARATORS
from ratinglab.formats.text_parsing import TextStream, parsed_batches


@dataclass(frozen=True)
class TableFile:
    """A table whose rows are read in blocks.

    Attributes:
        layout: the layout of text; None for Parquet, Arrow, ORC and JSON Lines.
        schema: names and types of the columns: text for a text file.
        batches: function that reads the rows.
        notes: one line each, on the dialect.
    """

    file: InputFile
    layout: Layout | None
    schema: pa.Schema
    batches: Callable[[], Iterator[pa.RecordBatch]]
    notes: tuple[str, ...] = ()

    @property
    def dialect(self) -> TextDialect | None:
        """Dialect of text; None for other formats."""
        return None if self.layout is None else self.layout.dialect

    def whole(self) -> "TextTable":
        """Read all rows."""
        return self._table(list(self.batches()))

    def blocks(self, num_rows: int) -> "Iterator[TextTable]":
        """Yield blocks of at least `num_rows` rows and fewer than twice as many; the last may be smaller or empty."""
        first, pending = 0, list[pa.RecordBatch]()
        parts = (batch.slice(start, num_rows) for batch in self.batches() for start in range(0, len(batch), num_rows))
        for part in parts:
            pending.append(part)
            if sum(map(len, pending)) >= num_rows:
                block = self._table(pending, first_row=first)
                first, pending = first + len(block.content), []
                yield block
        if pending or first == 0:
            yield self._table(pending, first_row=first)

    def _table(self, batches: list[pa.RecordBatch], *, first_row: int = 0) -> "TextTable":
        return TextTable(self, pa.Table.from_batches(batches, self.schema), first_row)


@dataclass(frozen=True)
class TextTable:
    """Rows of a table whose cells are read as text.

    Attributes:
        source: the file and its format.
        content: the cells, in the types of the file.
        first_row: number of rows of the file before these.
    """

    source: TableFile
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
        return "." if self.source.dialect is None else self.source.dialect.decimal

    def column(self, wanted: str, *, key: str) -> list[str]:
        """Return the stripped cells of the column that `key` names."""
        texts: list[str] = self._texts(wanted, key=key).to_pylist()
        return texts

    def _texts(self, wanted: str, *, key: str) -> pa.ChunkedArray:
        return pc.utf8_trim_whitespace(text_column(self.content[self.position(wanted, key=key)]))

    def position(self, wanted: str, *, key: str) -> int:
        """Find the position, from 0, of the column that `key` names."""
        header = None if self.source.dialect is None else self.source.dialect.header
        return column_position(self.names, wanted, key=key, file=self.source.file, header=header)

    def ids(self, wanted: str, *, key: str, noun: str) -> pa.DictionaryArray:
        """Return the ids in the column that `key` names, as dictionary-encoded text.

        Raises:
            UserError: an id is blank, or a number that is not whole.
        """
        ids = self._texts(wanted, key=key).dictionary_encode().combine_chunks()
        distinct = ids.dictionary.to_pylist()

        def row_of(wrong: str) -> int:
            return int(pc.index(ids.indices, distinct.index(wrong)).as_py())

        if "" in distinct:
            raise UserError(f"{self.place(row_of(''), wanted)}: the {noun} id must not be blank")
        if pa.types.is_floating(self.content[self.names.index(wanted)].type):
            wrong = next((text for text in distinct if not text.lstrip("-").isdigit()), None)
            if wrong is not None:
                place = self.place(row_of(wrong), wanted)
                raise UserError(f"{place}: the {noun} id must be an integer or text, got {wrong}")
        return ids

    def place(self, row: int, column: str) -> str:
        """Return file, line and column of a cell, for messages. Counts rows from 0; reads a text file again."""
        source, number = self.source, self.first_row + row
        if source.layout is None:
            return f"{source.file}, row {number + 1}, column {column}"
        (line,) = lines_of_rows(source.file, source.layout, [number])
        return f"{source.file}, line {line}, column {column}"


def with_separator_of(file: InputFile, dialect: TextDialect) -> TextDialect:
    """Return the dialect with the separator of the file's header, if the file has one and is text.

    Replaces a comma that does not split the header by the only tab, semicolon, pipe or double colon that does.
    """
    if dialect.separator != "," or not dialect.header or format_of(file) is not Format.TEXT:
        return dialect
    ((_, cells),) = first_rows(file, dialect.adapted(file), 1)
    fitting = separators_in(cells[0]) if len(cells) == 1 else []
    return dialect if len(fitting) != 1 or fitting == ["spaces"] else replace(dialect, separator=SEPARATORS[fitting[0]])


def read_text_table(file: InputFile, dialect: TextDialect) -> TextTable:
    """Read a whole table; see `open_text_table`."""
    return open_text_table(file, dialect).whole()


def open_text_table(file: InputFile, dialect: TextDialect) -> TableFile:
    """Check a table and open it.

    Raises:
        UserError: the file is empty, two columns have the same name, or a row has too many or too few cells.
    """
    kind = format_of(file)
    if kind is not Format.TEXT:
        schema, batches = typed_batches(file, kind)
        check_unique(schema.names, file=file)
        return TableFile(file, None, schema, batches)
    dialect, header = dialect.adapted(file), dialect.header
    ((line, cells),) = first_rows(file, dialect, 1)
    names = [printable(cell).strip() for cell in cells] if header else positions_of(cells)
    check_unique(names, file=file)
    header_lines = line if header else line - 1
    as_is = Layout(dialect, header_lines, len(names), positions={}, time_format=None, spans_lines=dialect.is_quoted)

    types = dict.fromkeys(range(len(names)), pa.string())

    def parsed(layout: Layout, scan: QuoteScan) -> Iterator[pa.RecordBatch]:
        batches = parsed_batches(TextStream(file, layout, scan), layout, types, use_threads=True)
        return (batch.rename_columns(names) for batch in batches)

    def opened(layout: Layout, *notes: str) -> TableFile:
        schema = pa.schema([(name, pa.string()) for name in names])
        return TableFile(file, layout, schema, lambda: parsed(layout, layout.new_scan()), notes)

    def is_valid(lines: bytes) -> bool:
        return has_regular_rows(lines, as_is) and _is_table(parsed_batches(lines, as_is, types))

    scan = as_is.new_scan()
    is_table = _is_table(parsed(as_is, scan))
    if is_table and scan.is_regular and not scan.may_join_rows:
        return opened(as_is)
    if scan.has_quotes:
        note = f"{file}: quotation marks were read as text, as with {dialect.prefix}quote=none"
        unquoted = opened(replace(as_is, dialect=replace(dialect, quote=False), spans_lines=False), note)
        if _is_table(unquoted.batches()) and not any(map(_encloses_a_cell, unquoted.batches())):
            return unquoted
    fault = first_fault(file, as_is, _fault_of_row, is_valid=is_valid)
    if fault is not None:
        raise fault
    if not is_table:
        raise UserError(f"{file} cannot be read as a table of {len(names)} columns")
    return opened(as_is)


def _is_table(batches: Iterator[pa.RecordBatch]) -> bool:
    """Return whether there are rows, all of them with the right number of cells."""
    try:
        return sum(1 for _ in batches) > 0
    except pa.ArrowInvalid:
        return False


def _encloses_a_cell(batch: pa.RecordBatch) -> bool:
    """Return whether quotation marks enclose a cell of a batch that was read without quotes."""
    enclosed = (pc.match_substring_regex(column, r'^\s*"([^"]|"")*"\s*$') for column in batch.columns)
    return any(pc.any(column).as_py() for column in enclosed)


def _fault_of_row(cells: list[str], lines: list[bytes], layout: Layout) -> str | None:
    """Describe the fault of a row, to follow `FILE, line N:`; None if it has none.

    A row is faulty if it has too many or too few cells, irregular quotation marks, bytes that are not UTF-8, or a cell
    with lines that look like rows.
    """
    dialect, num_columns = layout.dialect, layout.num_columns
    looks_joined = any(line.count(dialect.delimiter.encode()) == num_columns - 1 for line in lines[1:])
    if looks_joined or (len(lines) > 1 and len(cells) != num_columns):
        return multiline_cell(dialect)
    for written in written_cells(lines, dialect):
        if (fault := fault_of_marks(written, dialect, noun="cell")) is not None:
            return fault
    if len(cells) != num_columns:
        return wrong_width(cells, layout)
    bad = next((cell for cell in cells if cell != printable(cell)), None)
    if bad is not None:
        return f"{printable(bad)!r} is not UTF-8 text; is {dialect.prefix}encoding right?"
    return None
