"""Layout of a text file of ratings: start of its rows, and its columns."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ratinglab.errors import UserError, did_you_mean
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.numbers import is_number
from ratinglab.formats.row_reader import first_rows, printable
from ratinglab.formats.text_dialects import QuoteScan, TextDialect
from ratinglab.formats.text_options import SEPARATORS, ColumnOptions
from ratinglab.formats.timestamps import TimeFormat, format_of_times
from ratinglab.options import quote_for_hydra

MAX_NAME_LENGTH, MAX_NAMES = 40, 30
"""Maximum length of a column name, and number of column names, in a message."""
MATRIX = (
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
        header_lines: number of lines before the first rating, 0 without a header.
        num_columns: number of cells in every row.
        positions: position of each column that is read, from 0, by role: user, item, rating and, if read, timestamp.
        time_format: format of the timestamps; None if they are not read or there are no rows.
        spans_lines: whether quoted cells may contain line ends in columns that are not read.
        notes: one line each, on the header and on the shape of the file.
    """

    dialect: TextDialect
    header_lines: int
    num_columns: int
    positions: dict[str, int]
    time_format: TimeFormat | None
    spans_lines: bool = False
    notes: tuple[str, ...] = ()

    def new_scan(self) -> QuoteScan:
        """Make a check of the file's quotation marks."""
        return QuoteScan(self.dialect, num_columns=self.num_columns)


def layout_of(file: InputFile, dialect: TextDialect, *, columns: ColumnOptions, timestamp_format: str | None) -> Layout:
    """Find the columns of a file, and the format of its times, by its first rows.

    A byte-order mark and Excel's `sep=` line in the file override the dialect.

    Raises:
        UserError: the file is empty, a column is missing, or the first timestamp is not a time.
    """
    dialect, header = dialect.adapted(file), dialect.header
    rows = first_rows(file, dialect, 2 if header else 1)
    line, cells = rows[0]
    if any("\n" in cell or "\r" in cell for cell in cells):
        raise UserError(f"{file}, line {line}: a quoted cell must end on the line it starts on")
    names = [printable(cell).strip() for cell in cells] if header else positions_of(cells)
    positions = find_columns(names, columns, file=file, header=header)
    notes = []
    if header and is_number(names[positions["rating"]]):
        notes.append(f"{file}: the header is {listed(names)}; if it is a row of ratings, set data.header=false")
    if looks_like_matrix(cells):
        notes.append(MATRIX.format(file=file))
    timestamp, time_format = positions.get("timestamp"), None
    for data_line, row in rows[int(header) :]:
        if timestamp is not None and timestamp < len(row):
            place = f"{file}, line {data_line}"
            time_format = format_of_times(
                printable(row[timestamp]), timestamp_format, place=place, decimal=dialect.decimal
            )
    return Layout(
        dialect=dialect,
        header_lines=line if header else line - 1,
        num_columns=len(names),
        positions=positions,
        time_format=time_format,
        notes=tuple(notes),
    )


def looks_like_matrix(cells: Sequence[str]) -> bool:
    """Return whether the first row of a file looks like one user's ratings of all items."""
    return len(cells) > MATRIX_COLUMNS and all(is_number(cell.strip()) or not cell.strip() for cell in cells)


def positions_of(cells: Sequence[str]) -> list[str]:
    """Name columns without a header: 1, 2, …"""
    return [str(number) for number in range(1, len(cells) + 1)]


def find_columns(
    names: Sequence[str], columns: ColumnOptions, *, file: InputFile, header: bool | None
) -> dict[str, int]:
    """Find the position, from 0, of each column to read, by role; for `header`, see `column_position`.

    Raises:
        UserError: a column is missing, or two roles have the same column.
    """
    wanted = columns.by_role()
    missing = {role: name for role, name in wanted.items() if name not in names}
    is_plausible = len(names) > 1 and not any(is_number(name) for name in names)  # separator and header
    if len(missing) > 1 and is_plausible:  # name all, so that the user can correct them at once
        suggestions = {role: did_you_mean(name, names).removeprefix("; ") for role, name in missing.items()}
        hints = {role: f" ({hint})" if hint else "" for role, hint in suggestions.items()}
        keys = ", ".join(f"data.columns.{role}={quote_for_hydra(name)}{hints[role]}" for role, name in missing.items())
        raise UserError(f"{file} lacks {len(missing)} columns: {keys}; it has {listed(names)}")
    positions = {
        role: column_position(names, name, key=f"data.columns.{role}", file=file, header=header)
        for role, name in wanted.items()
    }
    roles: dict[str, str] = {}
    for role, name in wanted.items():
        if name in roles:
            both = f"data.columns.{roles[name]} and data.columns.{role}"
            raise UserError(f"{both} must be different columns, got {name} for both")
        roles[name] = role
    return positions


def check_unique(names: Sequence[str], *, file: InputFile) -> None:
    """Raise UserError if two columns have the same name."""
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"{file} has {count} columns named {name!r}")


def column_position(names: Sequence[str], wanted: str, *, key: str, file: InputFile, header: bool | None) -> int:
    """Find the position, from 0, of the column that `key` names.

    Args:
        header: whether the first row of a text file names the columns; None: the file is not text.

    Raises:
        UserError: no column has that name, or several do; the message lists the columns.
    """
    count = names.count(wanted)
    if count == 1:
        return names.index(wanted)
    if count > 1:
        raise UserError(f"{key}: {file} has {count} columns named {wanted!r}")
    group = key.rpartition(".")[0].removesuffix("columns").removesuffix(".")
    prefix = f"{group}." if group else ""
    suggestion, hint = did_you_mean(wanted, names), ""
    if len(names) == 1 and header is not None:
        hint = f"; is {prefix}separator right?"
        if len(fitting := separators_in(names[0])) == 1:
            suggestion, hint = "", f"; {prefix}separator={fitting[0]} splits it"
    if header is False:
        rule = f"a column's position from 1 to {len(names)} ({prefix}header=false)"
        raise UserError(f"{key} must be {rule}, got {wanted!r}{hint}")
    if header and len(names) > 1 and any(is_number(name) for name in names):
        hint = f"; if these are values, set {prefix}header=false and give columns by position"
        if len(names) > MATRIX_COLUMNS:
            hint = "; if this is a user-item matrix, reshape it to one rating per row"
    if file.is_frame and key.startswith("data."):
        role = key.rpartition(".")[2]
        argument = f"columns={{'{role}': NAME}}" if group == "data" else f'"{key}=NAME"'
        hint = f"; {argument} names it"
    raise UserError(f"{key}: {file} has no column {wanted!r}; it has {listed(names)}{suggestion}{hint}")


def separators_in(header: str) -> list[str]:
    """List the names of the separators that occur in a header; spaces only if no other does."""
    separators = [name for name, text in SEPARATORS.items() if text in header]
    return separators or ["spaces"] * (" " in header)


def listed(names: Sequence[str]) -> str:
    """List names on one line. Shortens them, since a stray quotation mark can turn a whole file into one name."""
    shown = [" ".join(printable(name).split())[:MAX_NAME_LENGTH] for name in names[:MAX_NAMES]]
    return ", ".join(shown) + (", …" if len(names) > MAX_NAMES else "")
