"""Small tables in any format that is read, as columns of text cells: users, items, and pairs to predict."""

from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ratinglab.errors import UserError
from ratinglab.ratings.columnar import as_text, check_column, read_typed
from ratinglab.ratings.faults import has_irregular_quotes, multiline_cell, written_cells
from ratinglab.ratings.formats import Format, format_of
from ratinglab.ratings.inputs import InputFile
from ratinglab.ratings.layouts import column_position, positions_of
from ratinglab.ratings.row_reader import first_rows, printable, rows_in
from ratinglab.ratings.text_dialects import QuoteScan, TextDialect, TextStream, utf8_blocks


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are read as text.

    Attributes:
        file: the file.
        dialect: the dialect in which it was read; None for Parquet, Arrow, ORC and JSON Lines.
        header: whether its first row names the columns.
        content: the cells: text, or the types of the file's format.
        notes: remarks on its dialect.
    """

    file: InputFile
    dialect: TextDialect | None
    header: bool
    content: pa.Table
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of the columns or, without a header, their positions from 1."""
        names: list[str] = self.content.column_names
        return names

    def column(self, wanted: str, *, key: str) -> list[str]:
        """Return the stripped cells of the column that `key` names.

        Raises:
            UserError: there is no such column; the message lists the columns.
        """
        if self.dialect is None:
            check_column(self.names, wanted, key=key, file=self.file)
        position = column_position(self.names, wanted, key=key, file=self.file, header=self.header)
        return [text.strip() for text in as_text(self.content[position])]

    def ids(self, wanted: str, *, key: str, noun: str) -> list[str]:
        """Return the ids in the column that `key` names, of users or items.

        Raises:
            UserError: there is no such column; or an id is blank, or a number that is not whole.
        """
        ids = self.column(wanted, key=key)
        if "" in ids:
            raise UserError(f"{self.place(ids.index(''), wanted)}: the {noun} id must not be blank")
        if pa.types.is_floating(self.content[self.names.index(wanted)].type):
            row = next((row for row, text in enumerate(ids) if not text.lstrip("-").isdigit()), None)
            if row is not None:
                raise UserError(f"{self.place(row, wanted)}: the {noun} id must be an integer or text, got {ids[row]}")
        return ids

    def place(self, row: int, column: str) -> str:
        """Return file, line and column of a cell, for messages; rows are counted from 0. Reads a text file again."""
        if self.dialect is None:
            return f"{self.file}, row {row + 1}, column {column}"
        wanted = row + int(self.header)
        return f"{self.file}, line {first_rows(self.file, self.dialect, wanted + 1)[-1][0]}, column {column}"


def read_text_table(file: InputFile, dialect: TextDialect, *, header: bool) -> TextTable:
    """Read a table. Rejects rows of a text file with too many or too few cells.

    Raises:
        UserError: the file is empty or cannot be read, or two columns have the same name.
    """
    kind = format_of(file)
    if kind is not Format.TEXT:
        return TextTable(file, None, header=True, content=read_typed(file, kind))
    dialect = dialect.adapted(file)
    ((line, cells),) = first_rows(file, dialect, 1)
    names = [printable(cell).strip() for cell in cells] if header else positions_of(cells)
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{file} has {names.count(repeated)} columns named {repeated!r}")
    skipped_lines = line if header else line - 1
    scan = QuoteScan(dialect, num_columns=len(names))
    table = _parsed(file, dialect, names, skipped_lines, scan)
    if table is not None and scan.is_regular and not scan.may_join_rows:
        return TextTable(file, dialect, header, table)
    if scan.has_quotes:
        unquoted = replace(dialect, quote=False)
        as_text = _parsed(file, unquoted, names, skipped_lines, QuoteScan(unquoted, num_columns=len(names)))
        if as_text is not None and not _encloses_a_cell(as_text):
            note = f"{file}: quotation marks were read as text, as with {dialect.prefix}quote=none"
            return TextTable(file, unquoted, header, as_text, (note,))
    fault = _first_fault(file, dialect, len(names), skipped_lines)
    if fault is not None:
        raise fault
    if table is None:
        raise UserError(f"{file} cannot be read as a table of {len(names)} columns")
    return TextTable(file, dialect, header, table)


def _encloses_a_cell(table: pa.Table) -> bool:
    """Return whether quotation marks enclose a cell that was read as text."""
    enclosed = (pc.match_substring_regex(column, r'^\s*"([^"]|"")*"\s*$') for column in table.columns)
    return any(pc.any(each).as_py() for each in enclosed)


def _parsed(
    file: InputFile, dialect: TextDialect, names: list[str], skipped_lines: int, scan: QuoteScan
) -> pa.Table | None:
    """Parse a file with all cells as text; None if a row has too many or too few cells."""
    try:
        return pyarrow.csv.read_csv(
            TextStream(file, dialect, header_lines=skipped_lines, scan=scan),
            read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=skipped_lines),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char='"' if dialect.is_quoted else False,
                escape_char="\\" if dialect.escape else False,
                newlines_in_values=dialect.is_quoted,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None


def _first_fault(file: InputFile, dialect: TextDialect, num_columns: int, skipped_lines: int) -> UserError | None:
    """Make the error for the first row with too many or too few cells, or whose cells join lines that look like rows.

    None if there is no such row, and no byte that is not UTF-8.
    """
    lines = b"".join(utf8_blocks(file, dialect)).splitlines(keepends=True)
    rows = [row for row in rows_in([b"".join(lines)], dialect, file=file) if row[0] > skipped_lines]
    stops = [line for line, _ in rows[1:]] + [len(lines) + 1]
    if not rows:
        return UserError(f"{file} has no rows, only a header")
    for (line, cells), stop in zip(rows, stops, strict=True):
        place = f"{file}, line {line}"
        joined = lines[line : stop - 1]
        looks_joined = any(_num_cells(each, dialect) == num_columns for each in joined)
        if looks_joined or (joined and len(cells) != num_columns):
            return UserError(f"{place}: {multiline_cell(dialect)}")
        irregular = next(
            filter(has_irregular_quotes, written_cells(_text_of(lines[line - 1 : stop - 1]), dialect)), None
        )
        if irregular is not None and not dialect.escape:
            return UserError(
                f"{place}: quotation marks must enclose the whole cell, got {printable(irregular)}; if a backslash "
                f"escapes them, set {dialect.prefix}escape=backslash; if they are text, {dialect.prefix}quote=none"
            )
        if len(cells) != num_columns:
            return UserError(f"{place}: a row must have {num_columns} columns, got {len(cells)}")
        bad = next((cell for cell in cells if cell != printable(cell)), None)
        if bad is not None:
            return UserError(f"{place}: {printable(bad)!r} is not UTF-8 text; is {dialect.prefix}encoding right?")
    return None


def _text_of(lines: list[bytes]) -> str:
    return b"".join(lines).decode("utf-8", "surrogateescape")


def _num_cells(line: bytes, dialect: TextDialect) -> int:
    return line.count(dialect.delimiter.encode()) + 1
