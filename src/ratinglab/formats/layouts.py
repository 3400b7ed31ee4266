"""Layout of a text file: its dialect, its header, and the positions of its columns."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from ratinglab.errors import UserError, did_you_mean
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.literals import is_number
from ratinglab.formats.rows_by_csv import printable, read_first_rows
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_options import SEPARATORS, ColumnOptions
from ratinglab.formats.timestamps import TimeFormat, detect_time_format
from ratinglab.options import quote_for_hydra

MAX_NAME_LENGTH, MAX_NAMES = 40, 30
"""Maximum length of a column name, and number of column names, in a message."""
MATRIX_NOTE = (
    "{file} looks like a matrix with one row per user and one column per item: reshape it to one rating per row, for "
    "example with pandas.melt"
)
MATRIX_COLUMNS = 20
"""Number of columns above which a file of numbers looks like a matrix of users and items."""


@dataclass(frozen=True)
class Layout:
    """Layout of a text file.

    Attributes:
        dialect: dialect of the text.
        header_lines: number of lines before the first row of data, 0 without a header.
        names: names of the columns from the header, or 1, 2, … if there is no header.
        positions: positions of the columns of ratings, from 0, by role: user, item, rating and, if read, timestamp.
        time_format: format of the timestamps. None if the file is read without timestamps.
        spans_lines: whether quoted cells may contain line ends, unless `positions` names their column.
        notes: one line each, on the header and on the shape of the file.
    """

    dialect: TextDialect
    header_lines: int
    names: list[str]
    positions: dict[str, int] = field(default_factory=dict)
    time_format: TimeFormat | None = None
    spans_lines: bool = False
    notes: tuple[str, ...] = ()

    @property
    def num_columns(self) -> int:
        """Number of cells in every row."""
        return len(self.names)

    def with_quotes_as_text(self, file: InputFile) -> "Layout":
        """Return the layout with quotation marks as text, and a note that says so."""
        note = f"{file}: quotation marks were read as text, as with {self.dialect.key_prefix}quote=none"
        dialect = replace(self.dialect, has_quotes=False)
        return replace(self, dialect=dialect, spans_lines=False, notes=(*self.notes, note))


def detect_layout(
    file: InputFile, dialect: TextDialect, *, columns: ColumnOptions, timestamp_format: str | None
) -> Layout:
    """Find the columns of a ratings file and the format of its timestamps from its first rows.

    A byte-order mark and Excel's `sep=` line in the file override the dialect.

    Raises:
        UserError: the file is empty, a column is missing, or the first timestamp is in no known format.
    """
    dialect = dialect.adapt_to(file)
    has_header = dialect.has_header
    rows = read_first_rows(file, dialect, 2 if has_header else 1)
    line, cells = rows[0]
    if any("\n" in cell or "\r" in cell for cell in cells):
        raise UserError(f"{file}, line {line}: a quoted cell must end on the line it starts on")
    layout = make_layout(line, cells, dialect)
    names = layout.names
    positions = find_column_positions(names, columns, file=file, has_header=has_header)
    notes = []
    if has_header and is_number(names[positions["rating"]]):
        notes.append(f"{file}: the header is {join_names(names)}; if it is a row of ratings, set data.header=false")
    if looks_like_matrix(cells):
        notes.append(MATRIX_NOTE.format(file=file))
    time_format = None
    if "timestamp" in positions and len(rows) > int(has_header):
        data_line, first_row = rows[-1]
        if positions["timestamp"] < len(first_row):
            text, place = printable(first_row[positions["timestamp"]]), f"{file}, line {data_line}"
            time_format = detect_time_format(text, timestamp_format, place=place, decimal=dialect.decimal)
    return replace(layout, positions=positions, time_format=time_format, notes=tuple(notes))


def make_layout(line: int, cells: Sequence[str], dialect: TextDialect) -> Layout:
    """Make the layout of a table, given its first row: the line, counted from 1, and the cells."""
    if dialect.has_header:
        return Layout(dialect, header_lines=line, names=[printable(cell).strip() for cell in cells])
    return Layout(dialect, header_lines=line - 1, names=numbered_names(cells))


def looks_like_matrix(cells: Sequence[str]) -> bool:
    """Return whether the first row of a file looks like one user's ratings of all items."""
    return len(cells) > MATRIX_COLUMNS and all(is_number(cell.strip()) or not cell.strip() for cell in cells)


def numbered_names(cells: Sequence[str]) -> list[str]:
    """Name the columns of a file without a header: 1, 2, …"""
    return [str(position) for position in range(1, len(cells) + 1)]


def find_column_positions(
    names: Sequence[str], columns: ColumnOptions, *, file: InputFile, has_header: bool | None
) -> dict[str, int]:
    """Find the position, counted from 0, of each column to read, by role. `find_column_position` explains `has_header`.

    Raises:
        UserError: a column is missing, or two roles have the same column.
    """
    name_by_role = columns.by_role()
    missing = {role: name for role, name in name_by_role.items() if name not in names}
    looks_like_header = len(names) > 1 and not any(is_number(name) for name in names)
    if len(missing) > 1 and looks_like_header:  # list all missing columns, so the user can correct them at once
        suggestions = {role: did_you_mean(name, names).removeprefix("; ") for role, name in missing.items()}
        hints = {role: f" ({hint})" if hint else "" for role, hint in suggestions.items()}
        keys = ", ".join(f"data.columns.{role}={quote_for_hydra(name)}{hints[role]}" for role, name in missing.items())
        raise UserError(f"{file} is missing {len(missing)} columns: {keys}; it has {join_names(names)}")
    positions = {
        role: find_column_position(names, name, key=f"data.columns.{role}", file=file, has_header=has_header)
        for role, name in name_by_role.items()
    }
    for (role, name), (other, other_name) in combinations(name_by_role.items(), 2):
        if name == other_name:
            both = f"data.columns.{role} and data.columns.{other}"
            raise UserError(f"{both} must be different columns, got {name} for both")
    return positions


def check_unique(names: Sequence[str], *, file: InputFile) -> None:
    """Raise UserError if two columns have the same name."""
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"{file} has {count} columns named {name!r}")


def find_column_position(names: Sequence[str], name: str, *, key: str, file: InputFile, has_header: bool | None) -> int:
    """Find the position, counted from 0, of the column that `key` names.

    `has_header` tells whether the first row of a text file names the columns. It is None for other formats.

    Raises:
        UserError: no column has that name, or several do; the message lists the columns.
    """
    count = names.count(name)
    if count == 1:
        return names.index(name)
    if count > 1:
        raise UserError(f"{key}: {file} has {count} columns named {name!r}")
    group = key.rpartition(".")[0].removesuffix("columns").removesuffix(".")
    prefix = f"{group}." if group else ""
    suggestion, hint = did_you_mean(name, names), ""
    if len(names) == 1 and has_header is not None:
        hint = f"; is {prefix}separator right?"
        if len(separators := separators_in(names[0])) == 1:
            suggestion, hint = "", f"; {prefix}separator={separators[0]} splits it"
    if has_header is False:
        rule = f"a column's position from 1 to {len(names)} ({prefix}header=false)"
        raise UserError(f"{key} must be {rule}, got {name!r}{hint}")
    if has_header and len(names) > 1 and any(is_number(other) for other in names):
        hint = f"; if these are values, set {prefix}header=false and give columns by position"
        if len(names) > MATRIX_COLUMNS:
            hint = "; if this is a user-item matrix, reshape it to one rating per row"
    if file.frame is not None and key.startswith("data."):
        role = key.rpartition(".")[2]
        argument = f"columns={{'{role}': NAME}}" if group == "data" else f'"{key}=NAME"'
        hint = f"; {argument} names it"
    raise UserError(f"{key}: {file} has no column {name!r}; it has {join_names(names)}{suggestion}{hint}")


def separators_in(header: str) -> list[str]:
    """List the names of the separators that occur in a header. Lists "spaces" only if no other separator occurs."""
    separators = [name for name, text in SEPARATORS.items() if text in header]
    return separators or ["spaces"] * (" " in header)


def join_names(names: Sequence[str]) -> str:
    """Join names with commas. Shortens them, since a stray quotation mark can turn a whole file into one name."""
    short_names = [" ".join(printable(name).split())[:MAX_NAME_LENGTH] for name in names[:MAX_NAMES]]
    return ", ".join(short_names) + (", …" if len(names) > MAX_NAMES else "")
