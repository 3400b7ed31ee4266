"""Guess the layout of files: separator, header, quotes, columns and format of times."""

import re
from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Any, Generic, TypeVar

from ratinglab.datasets.sources import CsvOptions, ItemOptions, UserOptions
from ratinglab.errors import UserError
from ratinglab.formats.detection import Format, format_of
from ratinglab.formats.input_paths import existing_file, existing_files
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import MATRIX, listed, looks_like_matrix, positions_of
from ratinglab.formats.numbers import is_number
from ratinglab.formats.row_reader import rows_in
from ratinglab.formats.text_dialects import SEPARATOR_LINE, utf8_blocks
from ratinglab.formats.text_options import (
    SEPARATORS,
    ColumnOptions,
    Decimal,
    Escape,
    Quote,
    TextOptions,
    separator_text,
)
from ratinglab.formats.text_tables import open_text_table, read_text_table
from ratinglab.formats.timestamps import are_times, date_patterns
from ratinglab.ratings.side_information import KEYS

Form = TypeVar("Form", bound=TextOptions)

SAMPLE_ROWS = 1000
"""Number of first rows used to guess the layout."""
SEPARATOR_ORDER = ("tab", "double_colon", "semicolon", "pipe", "comma", "spaces")
"""Separators in the order of trying, the ones that are rare in texts first."""
COLUMN_NAMES = {
    "user": (
        "user id, user, users, uid, reviewer id, customer id, member id, rater id, account id, profile id, viewer id, "
        "reader id, listener id, player id, person id, visitor id, user name, user hash, review profile name, "
        "profile name, reviewer name, nickname, login, reviewer, customer, member, rater, author, profile, from id, "
        "source"
    ),
    "item": (
        "item id, item, items, iid, movie id, film id, anime id, book id, isbn, parent asin, asin, product id, "
        "business id, gmap id, place id, recipe id, artist id, track id, song id, video id, game id, app id, joke id, "
        "beer id, beer beer id, wine id, restaurant id, hotel id, show id, series id, work id, store id, news id, "
        "to id, target, movie name en, movie name, movie title, book title, movie, film, anime, book, product, artist, "
        "track, song, video, game, recipe, place, beer, restaurant, hotel, show, title, name"
    ),
    "rating": (
        "rating, ratings, overall, stars, star, star rating, score, book rating, user rating, user score, "
        "review overall, review score, overall rating, my rating, rate, grade, mark, vote, points, value, preference, "
        "weight, watch ratio, play count, plays, count, listens"
    ),
    "timestamp": (
        "timestamp, unix review time, unix time, time, ts, datetime, date time, date, review time, review date, rating "
        "date, date added, created at, created, rated at, when, submitted, updated at, date updated, year"
    ),
}
"""Names of columns by role, the best first. Only letters and digits matter, in any case."""
TITLE_NAMES = "title, titel, name, movie title, movie name, film title, film name, book title, product title, item name"
"""Names of the column of titles, likewise."""
MIN_DISTINCT = 0.9
"""Minimum share of distinct cells in a column of titles without a known name."""
MIN_RATED = 0.5
"""Minimum share of the ids in the first ratings that a table's column of ids must have."""
UNIX_TIME = re.compile(r"([6-9]\d{8}|[12]\d{9})(\d{3}){0,3}(\.\d*)?")
"""Unix times from 1990 on, in any unit."""
COMMENT = re.compile(r"#[#\s]|%[%\s]")
"""Start of a line that is likely a comment, not a row or a header."""
ITEM_CODES = re.compile(r"B[0-9A-Z]{9}|\d{9}[\dX]")
"""ASINs and ISBNs, which are ids of items."""


@dataclass(frozen=True)
class FirstRows(Generic[Form]):
    """First rows of a file.

    Attributes:
        options: the options that they are read with.
        names: names of the columns from the header, or positions from 1.
        rows: the rows below the header.
    """

    options: Form
    names: list[str]
    rows: list[list[str]]

    def column(self, position: int) -> list[str]:
        """Return the stripped cells of a column."""
        return [row[position].strip() for row in self.rows if position < len(row)]


def guess_layout(options: CsvOptions) -> tuple[CsvOptions, tuple[str, ...]]:
    """Guess the format options and the columns of the files of ratings, users and items.

    Returns:
        the user's options, with guesses in place of those that do not fit the files; and notes on guesses that may be
        wrong and options that could not be guessed, one line each.

    Raises:
        UserError: a file cannot be read or is not one rating per row, or a column that is needed cannot be guessed; the
            message lists what was found in each file, and what to set.
    """
    file = existing_files(options.path, key="data.path")[0]
    first, notes = _first_ratings(options, file)
    by_name = _columns_by_name(first)
    positions = _columns_by_cells(first, by_name)
    pattern = options.timestamp_format
    if "timestamp" in positions:
        pattern = _time_pattern(first.column(positions["timestamp"]), pattern)
        if pattern == "?":
            name, pattern = first.names[positions.pop("timestamp")], None
            notes.append(
                f"the time format of column {name} cannot be guessed; to read the times, set "
                f"data.columns.timestamp={name} and data.timestamp_format"
            )
    named = {role: first.names[positions[role]] for role in COLUMN_NAMES if role in positions}
    unsure = [f"{role}={name}" for role, name in named.items() if role not in by_name]
    if first.options.header and unsure:
        notes.append(f"columns guessed by their cells and their order: {', '.join(unsure)}")
    missing = [f"data.columns.{role}" for role in ("user", "item", "rating") if role not in positions]
    problems = _problems(file, first.options, missing, named=named, names=first.names)
    tables: dict[str, Any] = {"user": options.users, "item": options.items}
    for noun, table in tables.items():
        if table.path is not None:
            ids = set(first.column(positions[noun])) if noun in positions else set()
            tables[noun], more_notes, more_problems = _guess_table(table, noun=noun, ids=ids)
            notes, problems = notes + more_notes, problems + more_problems
    if problems:
        raise UserError("; ".join(problems))
    columns = ColumnOptions(named["user"], named["item"], named["rating"], named.get("timestamp"))
    guessed = replace(first.options, columns=columns, timestamp_format=pattern)
    return replace(guessed, users=tables["user"], items=tables["item"]), tuple(notes)


def _problems(
    file: InputFile, options: TextOptions, missing: Sequence[str], *, named: Mapping[str, str], names: Sequence[str]
) -> list[str]:
    """Describe what was found in a file and the keys of columns that are missing; empty if none is missing."""
    if not missing:
        return []
    found = {"separator": options.separator} if format_of(file) is Format.TEXT else {}
    shown = ", ".join(f"{what}={name}" for what, name in (found | {**named}).items()) or "no column"
    free = [name for name in names if name not in named.values()]
    free = free if len(free) >= len(missing) else list(names)
    number = ("one", "two", "three")[len(missing) - 1]
    return [f"{file}: found {shown}; set {' and '.join(missing)} to {number} of {listed(free)}"]


def _first_ratings(options: CsvOptions, file: InputFile) -> tuple[FirstRows[CsvOptions], list[str]]:
    """Read the first rows of a file of ratings; also return notes. See `guess_layout` for errors."""
    if format_of(file) is not Format.TEXT:
        start = next(open_text_table(file, options.dialect("data.")).blocks(SAMPLE_ROWS))
        columns = [start.column(name, key="data.path") for name in start.names]
        rows = [list(row) for row in zip(*columns, strict=True)]
        return FirstRows(replace(options, header=True), start.names, rows), []
    first, notes = _first_lines(options, file, prefix="data.")
    if first is None:
        raise UserError(f"{file}: no known separator splits its rows into three or more columns; set data.separator")
    if looks_like_matrix(first.rows[0]):
        raise UserError(MATRIX.format(file=file))
    return first, notes


def _guess_table(
    options: UserOptions | ItemOptions, *, noun: str, ids: set[str]
) -> tuple[UserOptions | ItemOptions, list[str], list[str]]:
    """Guess the layout of a table of users or items, and its columns of ids and titles.

    Args:
        noun: "user" or "item".
        ids: ids in the first ratings; empty if their column is unknown.

    Returns:
        the options of the table, notes, and problems as of `_problems`.
    """
    key, notes = KEYS[noun], list[str]()
    assert options.path is not None, "the caller has checked"
    file = existing_file(options.path, key=f"{key}.path")
    if format_of(file) is Format.TEXT:
        first, notes = _first_lines(options, file, prefix=f"{key}.")
        options = options if first is None else first.options
    table = read_text_table(file, options.dialect(f"{key}."))
    cells = {name: table.column(name, key=key) for name in table.names}
    roles = [role for role in (noun, "title") if hasattr(options, role)]
    named = {role: getattr(options, role) for role in roles if getattr(options, role) in cells}
    if noun not in named and ids:
        likely = max(cells, key=lambda name: len(ids.intersection(cells[name])))
        named |= {noun: likely} if len(ids.intersection(cells[likely])) >= MIN_RATED * len(ids) else {}
    if "title" in roles and "title" not in named:
        free = [name for name in cells if name not in named.values()]
        plain = {_normalized(name): name for name in reversed(free)}
        titles = [plain[name] for name in map(_normalized, TITLE_NAMES.split(",")) if name in plain]
        titles += [name for name in free if noun in named and _are_titles(cells[name])]
        named |= {"title": titles[0]} if titles else {}
    missing = [f"{key}.{role}" for role in roles if role not in named]
    problems = _problems(file, options, missing, named=named, names=table.names)
    return replace(options, **named), notes, problems


def _are_titles(cells: Sequence[str]) -> bool:
    """Return whether nearly all cells differ, and not all are numbers."""
    return len(set(cells)) >= MIN_DISTINCT * len(cells) and not _are_numbers(cells)


def _first_lines(options: Form, file: InputFile, *, prefix: str) -> tuple[FirstRows[Form] | None, list[str]]:
    """Read the first rows of a text file in the dialect that fits it, None if none does; also return notes.

    `prefix` begins the keys in messages, such as `data.`.
    """
    options, notes = _guess_encoding(options, file, prefix=prefix)
    spanning = None  # with a cell that spans lines, which may be due to a stray quotation mark
    for dialect in _dialects(options, file, prefix=prefix):
        if (first := _read_first_rows(dialect, file, prefix=prefix)) is not None:
            if not any("\n" in cell or "\r" in cell for row in first.rows for cell in row):
                return first, notes
            spanning = spanning or first
    return spanning, notes


def _guess_encoding(options: Form, file: InputFile, *, prefix: str) -> tuple[Form, list[str]]:
    """Choose latin-1 for text that is not UTF-8, unless the options name another encoding."""
    if options.dialect(prefix).adapted(file).is_utf8:
        try:
            getincrementaldecoder("utf-8")().decode(file.start())
        except UnicodeDecodeError:
            note = f"{file} is not UTF-8 text: read as latin-1; set {prefix}encoding for another encoding"
            return replace(options, encoding="latin-1"), [note]
    return options, []


def _dialects(options: Form, file: InputFile, *, prefix: str) -> Iterator[Form]:
    """Yield options to try: each separator, with and without quotes, and possible escapes and comments."""
    start = file.start().decode(options.dialect(prefix).adapted(file).encoding, "ignore").removeprefix("\ufeff")
    separator = separator_text(options.separator, key=f"{prefix}separator")
    names = [*([] if separator in SEPARATORS.values() else [options.separator]), *SEPARATOR_ORDER]
    if SEPARATOR_LINE.match(start.encode()):
        names = ["comma"]  # the file names its separator itself
    has_escapes = options.quote is Quote.double and any(b'\\"' in block for block in file.blocks())
    escapes = [Escape.backslash, options.escape] if has_escapes else [options.escape]
    comments = [options.comment, *([start[0]] if start.startswith(("#", "%")) else [])]
    if COMMENT.match(start):
        comments.reverse()
    for comment, escape in product(dict.fromkeys(comments), dict.fromkeys(escapes)):
        for quote, name in product(dict.fromkeys((options.quote, Quote.none)), names):
            yield replace(options, separator=name, quote=quote, escape=escape, comment=comment)


def _read_first_rows(options: Form, file: InputFile, *, prefix: str) -> FirstRows[Form] | None:
    """Read the first rows with these options, and guess the decimal point and whether there is a header.

    None unless all rows have the same number of cells: at least two, or for ratings three and a column of numbers.
    """
    dialect, are_ratings = options.dialect(prefix).adapted(file), isinstance(options, CsvOptions)
    try:
        rows = [row for _, row in islice(rows_in(utf8_blocks(file, dialect), dialect, file=file), SAMPLE_ROWS + 1)]
    except UserError:
        return None
    width = len(rows[0]) if rows else 0
    if width < (3 if are_ratings else 2) or len(rows) < 2 or any(len(row) != width for row in rows):
        return None
    columns = [[cell.strip() for cell in column] for column in zip(*rows, strict=True)]
    if sum(not any(column) for column in columns) > 1 and options.separator != "spaces":
        return None  # separators in a row
    numeric = {
        decimal: [column for column in columns if _are_numbers(column[1:], decimal)]
        for decimal in dict.fromkeys((options.decimal, Decimal.point, Decimal.comma))
    }
    decimal = max(numeric, key=lambda decimal: len(numeric[decimal]))
    if are_ratings and not numeric[decimal]:
        return None
    header = options.header
    if numeric[decimal]:
        header = not any(_are_numbers(column[:1], decimal) for column in numeric[decimal])
    names = [cell.strip() for cell in rows[0]] if header else positions_of(rows[0])
    return FirstRows(replace(options, decimal=decimal, header=header), names, rows[1:] if header else rows)


def _are_numbers(cells: Sequence[str], decimal: Decimal = Decimal.point) -> bool:
    point = "." if decimal is Decimal.point else ","
    return len(cells) > 0 and all(is_number(cell.strip(), decimal=point) for cell in cells)


def _columns_by_name(first: FirstRows[CsvOptions]) -> dict[str, int]:
    """Find the position of each role's column, as named by the user, or by a known name in the header and its cells."""
    options, names = first.options, first.names
    positions = {role: names.index(name) for role, name in vars(options.columns).items() if name in names}
    plain = [_normalized(name.partition(":")[0]) for name in names] if options.header else []

    def fits(role: str, cells: list[str]) -> bool:
        if role == "rating":
            return not cells or _are_numbers(cells, options.decimal)
        return role != "timestamp" or _time_pattern(cells, options.timestamp_format) != "?"

    for role in ("rating", "timestamp", "user", "item"):
        known = map(_normalized, COLUMN_NAMES[role].split(","))
        named = [p for name in known for p, other in enumerate(plain) if other == name and p not in positions.values()]
        # times may be in a format that cannot be guessed
        fitting = [p for p in named if fits(role, first.column(p))] or (named if role == "timestamp" else [])
        if role not in positions and fitting:
            positions[role] = fitting[0]
    return positions


def _normalized(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _columns_by_cells(first: FirstRows[CsvOptions], positions: dict[str, int]) -> dict[str, int]:
    """Find the columns of missing roles by their cells and their order.

    The rating is the numeric column with the fewest values. With a header, the timestamp is the only column of dates,
    and users and items are found only if no other column is left.
    """
    positions, header = dict(positions), first.options.header
    columns = {position: first.column(position) for position, name in enumerate(first.names) if name}

    def free() -> dict[int, list[str]]:
        return {position: cells for position, cells in columns.items() if position not in positions.values()}

    if "timestamp" not in positions:
        times = [p for p, cells in free().items() if _looks_like_times(cells) and not (header and _are_numbers(cells))]
        positions |= {"timestamp": times[-1]} if len(times) == 1 or (times and not header) else {}
    distinct = {position: len(set(cells)) for position, cells in columns.items()}
    if "rating" not in positions:
        numeric = [p for p, cells in free().items() if distinct[p] > 1 and _are_numbers(cells, first.options.decimal)]
        fractional = [p for p in numeric if any(re.search(r"[.,]0*[1-9]", cell) for cell in columns[p])]
        fewest = min(fractional or numeric, key=lambda position: (distinct[position], -position), default=None)
        positions |= {} if fewest is None else {"rating": fewest}
    missing, ids = [role for role in ("user", "item") if role not in positions], list(free())
    if len(ids) < len(missing) or (header and len(ids) > len(missing)):
        return positions
    if len(ids) > len(missing):
        ids.sort(key=lambda position: (distinct[position] <= 2, position))
    if len(missing) == 2 and all(ITEM_CODES.fullmatch(cell) for cell in columns[ids[0]]):
        ids[:2] = ids[1::-1]
    return positions | dict(zip(missing, ids, strict=False))


def _looks_like_times(cells: list[str]) -> bool:
    """Return whether cells are Unix times of 1990 to 2099, or dates."""
    if _are_numbers(cells):
        return all(re.fullmatch(UNIX_TIME, cell) for cell in cells) and len(set(cells)) > 1
    return bool(cells) and _time_pattern(cells, None) != "?"


def _time_pattern(cells: list[str], chosen: str | None) -> str | None:
    """Guess data.timestamp_format from cells; "?" if no format fits, or several do."""
    if not cells:
        return chosen
    for pattern in (chosen, None):
        if are_times(cells, pattern):
            return pattern
    suitable = date_patterns(cells)
    return suitable[0] if len(suitable) == 1 else "?"
