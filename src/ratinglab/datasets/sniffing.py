"""Guess the layout of files: separator, header, quotation marks, columns and format of times."""

import re
from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Any, Generic, TypeVar

from ratinglab.datasets.sources import CsvOptions, ItemOptions, UserOptions
from ratinglab.errors import UserError
from ratinglab.formats.detection import Format, detect_format
from ratinglab.formats.input_paths import find_file, find_rating_files
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import MATRIX_NOTE, join_names, looks_like_matrix, numbered_names
from ratinglab.formats.literals import is_number
from ratinglab.formats.row_reader import read_rows
from ratinglab.formats.text_dialects import SEPARATOR_LINE, read_utf8_blocks
from ratinglab.formats.text_options import (
    SEPARATORS,
    ColumnOptions,
    Decimal,
    Escape,
    Quote,
    TextOptions,
    separator_text,
)
from ratinglab.formats.text_tables import open_text_table
from ratinglab.formats.timestamps import are_times, find_date_patterns
from ratinglab.sides import SideName

Options = TypeVar("Options", bound=TextOptions)

SAMPLE_ROWS = 1000
"""Number of first rows used to guess the layout."""
SEPARATOR_ORDER = ("tab", "double_colon", "semicolon", "pipe", "comma", "spaces")
"""Separators in the order of trying: those that are rare in texts come first."""
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
"""Names of columns by role, the most likely first. Case and characters other than letters and digits are ignored."""
TITLE_NAMES = "title, titel, name, movie title, movie name, film title, film name, book title, product title, item name"
"""Names of the column of titles, by the same rules."""
MIN_DISTINCT_SHARE = 0.9
"""Minimum share of distinct cells in a column that counts as titles although its name is not in TITLE_NAMES."""
MIN_RATED_SHARE = 0.5
"""Minimum share of the ids in the first ratings that must occur in a table's column of ids."""
UNIX_TIME_PATTERN = re.compile(r"([6-9]\d{8}|[12]\d{9})(\d{3}){0,3}(\.\d*)?")
"""Unix times from 1990 on, in any unit."""
COMMENT_START = re.compile(r"#[#\s]|%[%\s]")
"""Start of a line that is likely a comment, not a row or a header."""
ITEM_CODE = re.compile(r"B[0-9A-Z]{9}|\d{9}[\dX]")
"""ASINs and ISBNs, which are ids of items."""


@dataclass(frozen=True)
class FirstRows(Generic[Options]):
    """First rows of a file.

    Attributes:
        options: the options that the rows were read with.
        names: names of the columns from the header; without a header, 1, 2, …
        rows: the cells of the rows below the header.
    """

    options: Options
    names: list[str]
    rows: list[list[str]]

    def column(self, position: int) -> list[str]:
        """Return the cells of a column, without surrounding white space."""
        return [row[position].strip() for row in self.rows if position < len(row)]


def guess_layout(options: CsvOptions) -> tuple[CsvOptions, tuple[str, ...]]:
    """Guess the format options and the columns of the files of ratings, users and items.

    Returns:
        the options, with guesses in place of those that do not fit the files; and notes, one line each, on guesses that
        may be wrong and on options that could not be guessed.

    Raises:
        UserError: a file cannot be read or does not have one rating per row, or a required column cannot be guessed:
            then the message lists what was found in each file, and what to set.
    """
    file = find_rating_files(options.path)[0]
    first, notes = _read_first_ratings(options, file)
    by_name = _find_columns_by_name(first)
    positions = _find_columns_by_cells(first, by_name)
    pattern = options.timestamp_format
    if "timestamp" in positions:
        pattern = _guess_timestamp_format(first.column(positions["timestamp"]), pattern)
        if pattern == "?":
            name, pattern = first.names[positions.pop("timestamp")], None
            notes.append(
                f"the time format of column {name} cannot be guessed; to read the times, set "
                f"data.columns.timestamp={name} and data.timestamp_format"
            )
    named = {role: first.names[positions[role]] for role in COLUMN_NAMES if role in positions}
    by_cells = [f"{role}={name}" for role, name in named.items() if role not in by_name]
    if first.options.header and by_cells:
        notes.append(f"columns guessed by their cells and their order: {', '.join(by_cells)}")
    missing = [f"data.columns.{role}" for role in ("user", "item", "rating") if role not in positions]
    problems = _describe_missing(file, first.options, missing, named=named, names=first.names)
    tables: dict[SideName, Any] = {"user": options.users, "item": options.items}
    for side, table in tables.items():
        if table.path is not None:
            ids = set(first.column(positions[side])) if side in positions else set()
            tables[side], table_notes, table_problems = _guess_table(table, side=side, ids=ids)
            notes, problems = notes + table_notes, problems + table_problems
    if problems:
        raise UserError("; ".join(problems))
    columns = ColumnOptions(named["user"], named["item"], named["rating"], named.get("timestamp"))
    guessed = replace(first.options, columns=columns, timestamp_format=pattern)
    return replace(guessed, users=tables["user"], items=tables["item"]), tuple(notes)


def _describe_missing(
    file: InputFile, options: TextOptions, missing: Sequence[str], *, named: Mapping[str, str], names: Sequence[str]
) -> list[str]:
    """Describe what was found in a file, and the columns to set: a list of one message, or empty if none is missing.

    Args:
        missing: keys of the missing columns.
        named: names of the columns that were found, by role.
        names: names of all columns.
    """
    if not missing:
        return []
    separator = {"separator": options.separator} if detect_format(file) is Format.TEXT else {}
    found = ", ".join(f"{option}={value}" for option, value in (separator | {**named}).items()) or "no column"
    candidates = [name for name in names if name not in named.values()]
    candidates = candidates if len(candidates) >= len(missing) else list(names)
    number = f"{('one', 'two', 'three')[len(missing) - 1]} of " if len(candidates) > 1 else ""
    return [f"{file}: found {found}; set {' and '.join(missing)} to {number}{join_names(candidates)}"]


def _read_first_ratings(options: CsvOptions, file: InputFile) -> tuple[FirstRows[CsvOptions], list[str]]:
    """Read the first rows of a file of ratings. Returns them, and notes; for the errors, see `guess_layout`."""
    if detect_format(file) is not Format.TEXT:
        start = next(open_text_table(file, options.dialect("data.")).blocks(SAMPLE_ROWS))
        columns = [start.column(name, key="data.path") for name in start.names]
        rows = [list(row) for row in zip(*columns, strict=True)]
        return FirstRows(replace(options, header=True), start.names, rows), []
    first, notes = _read_first_lines(options, file, prefix="data.")
    if first is None:
        raise UserError(f"{file}: no known separator splits its rows into three or more columns; set data.separator")
    if looks_like_matrix(first.rows[0]):
        raise UserError(MATRIX_NOTE.format(file=file))
    return first, notes


def _guess_table(
    options: UserOptions | ItemOptions, *, side: SideName, ids: set[str]
) -> tuple[UserOptions | ItemOptions, list[str], list[str]]:
    """Guess the layout of a table of users or items, and its columns of ids and titles.

    Args:
        ids: ids in the first ratings; empty if their column is unknown.

    Returns:
        the options of the table; notes; and messages of `_describe_missing`.
    """
    key, notes = f"data.{side}s", list[str]()
    assert options.path is not None, "the caller has checked"
    file = find_file(options.path, key=f"{key}.path")
    if detect_format(file) is Format.TEXT:
        first, notes = _read_first_lines(options, file, prefix=f"{key}.")
        options = options if first is None else first.options
    table = open_text_table(file, options.dialect(f"{key}.")).read()
    cells = {name: table.column(name, key=key) for name in table.names}
    roles = [role for role in (side, "title") if hasattr(options, role)]
    named = {role: getattr(options, role) for role in roles if getattr(options, role) in cells}
    if side not in named and ids:
        likely = max(cells, key=lambda name: len(ids.intersection(cells[name])))
        named |= {side: likely} if len(ids.intersection(cells[likely])) >= MIN_RATED_SHARE * len(ids) else {}
    if "title" in roles and "title" not in named:
        candidates = [name for name in cells if name not in named.values()]
        by_plain_name = {_normalize(name): name for name in reversed(candidates)}
        titles = [by_plain_name[name] for name in map(_normalize, TITLE_NAMES.split(",")) if name in by_plain_name]
        titles += [name for name in candidates if side in named and _are_titles(cells[name])]
        named |= {"title": titles[0]} if titles else {}
    missing = [f"{key}.{role}" for role in roles if role not in named]
    problems = _describe_missing(file, options, missing, named=named, names=table.names)
    return replace(options, **named), notes, problems


def _are_titles(cells: Sequence[str]) -> bool:
    """Return whether nearly all cells are distinct, and not all are numbers."""
    return len(set(cells)) >= MIN_DISTINCT_SHARE * len(cells) and not _are_numbers(cells)


def _read_first_lines(options: Options, file: InputFile, *, prefix: str) -> tuple[FirstRows[Options] | None, list[str]]:
    """Read the first rows of a text file in the first dialect that fits it. Returns them (None if none fits) and notes.

    `prefix` begins the keys in messages, such as `data.`.
    """
    options, notes = _guess_encoding(options, file, prefix=prefix)
    multiline = None  # rows with a cell that spans lines, which may be due to a stray quotation mark
    for candidate in _candidate_options(options, file, prefix=prefix):
        if (first := _read_first_rows(candidate, file, prefix=prefix)) is not None:
            if not any("\n" in cell or "\r" in cell for row in first.rows for cell in row):
                return first, notes
            multiline = multiline or first
    return multiline, notes


def _guess_encoding(options: Options, file: InputFile, *, prefix: str) -> tuple[Options, list[str]]:
    """Choose latin-1 if the options say UTF-8 but the text is not. Returns the options and notes."""
    if options.dialect(prefix).adapt_to(file).is_utf8:
        try:
            getincrementaldecoder("utf-8")().decode(file.read_start())
        except UnicodeDecodeError:
            note = f"{file} is not UTF-8 text: read as latin-1; set {prefix}encoding for another encoding"
            return replace(options, encoding="latin-1"), [note]
    return options, []


def _candidate_options(options: Options, file: InputFile, *, prefix: str) -> Iterator[Options]:
    """Yield options to try: each separator, with and without quotation marks, and possible escapes and comments."""
    start = file.read_start().decode(options.dialect(prefix).adapt_to(file).encoding, "ignore").removeprefix("\ufeff")
    has_known_separator = separator_text(options.separator, key=f"{prefix}separator") in SEPARATORS.values()
    separators = [*([] if has_known_separator else [options.separator]), *SEPARATOR_ORDER]
    if SEPARATOR_LINE.match(start.encode()):
        separators = ["comma"]  # the file names its separator itself
    has_escapes = options.quote is Quote.double and any(b'\\"' in block for block in file.blocks())
    escapes = [Escape.backslash, options.escape] if has_escapes else [options.escape]
    comments = [options.comment, *([start[0]] if start.startswith(("#", "%")) else [])]
    if COMMENT_START.match(start):
        comments.reverse()
    for comment, escape in product(dict.fromkeys(comments), dict.fromkeys(escapes)):
        for quote, separator in product(dict.fromkeys((options.quote, Quote.none)), separators):
            yield replace(options, separator=separator, quote=quote, escape=escape, comment=comment)


def _read_first_rows(options: Options, file: InputFile, *, prefix: str) -> FirstRows[Options] | None:
    """Read the first rows with these options, and guess the decimal point and whether there is a header.

    Returns None unless all rows have the same number of cells: at least two or, in a file of ratings, at least three
    with a column of numbers.
    """
    dialect, are_ratings = options.dialect(prefix).adapt_to(file), isinstance(options, CsvOptions)
    try:
        reader = read_rows(read_utf8_blocks(file, dialect), dialect, file=file)
        rows = [row for _, row in islice(reader, SAMPLE_ROWS + 1)]
    except UserError:
        return None
    width = len(rows[0]) if rows else 0
    if width < (3 if are_ratings else 2) or len(rows) < 2 or any(len(row) != width for row in rows):
        return None
    columns = [[cell.strip() for cell in column] for column in zip(*rows, strict=True)]
    if sum(not any(column) for column in columns) > 1 and options.separator != "spaces":
        return None  # two separators follow each other
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
    names = [cell.strip() for cell in rows[0]] if header else numbered_names(rows[0])
    return FirstRows(replace(options, decimal=decimal, header=header), names, rows[1:] if header else rows)


def _are_numbers(cells: Sequence[str], decimal: Decimal = Decimal.point) -> bool:
    point = "." if decimal is Decimal.point else ","
    return len(cells) > 0 and all(is_number(cell.strip(), decimal=point) for cell in cells)


def _find_columns_by_name(first: FirstRows[CsvOptions]) -> dict[str, int]:
    """Find the positions of columns, by role, that the options name, or that have a known name and fitting cells."""
    options, names = first.options, first.names
    positions = {role: names.index(name) for role, name in vars(options.columns).items() if name in names}
    plain_names = [_normalize(name.partition(":")[0]) for name in names] if options.header else []

    def fits(role: str, cells: list[str]) -> bool:
        if role == "rating":
            return not cells or _are_numbers(cells, options.decimal)
        return role != "timestamp" or _guess_timestamp_format(cells, options.timestamp_format) != "?"

    for role in ("rating", "timestamp", "user", "item"):
        if role in positions:
            continue
        free = [position for position in range(len(plain_names)) if position not in positions.values()]
        known_names = map(_normalize, COLUMN_NAMES[role].split(","))
        named = [position for name in known_names for position in free if plain_names[position] == name]
        fitting = [position for position in named if fits(role, first.column(position))]
        if role == "timestamp":  # times may be in a format that cannot be guessed
            fitting = fitting or named
        if fitting:
            positions[role] = fitting[0]
    return positions


def _normalize(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _find_columns_by_cells(first: FirstRows[CsvOptions], positions: dict[str, int]) -> dict[str, int]:
    """Add the positions of missing roles, guessed by their cells and their order.

    The rating is the numeric column with the fewest distinct values. With a header, the timestamp is the only column of
    dates, and users and items are found only if no other column is left.
    """
    positions, header = dict(positions), first.options.header
    columns = {position: first.column(position) for position, name in enumerate(first.names) if name}

    def free() -> dict[int, list[str]]:
        return {position: cells for position, cells in columns.items() if position not in positions.values()}

    if "timestamp" not in positions:
        times = [p for p, cells in free().items() if _look_like_times(cells) and not (header and _are_numbers(cells))]
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
    if len(missing) == 2 and all(ITEM_CODE.fullmatch(cell) for cell in columns[ids[0]]):
        ids[:2] = ids[1::-1]
    return positions | dict(zip(missing, ids, strict=False))


def _look_like_times(cells: list[str]) -> bool:
    """Return whether cells are Unix times after 1989, or dates."""
    if _are_numbers(cells):
        return all(re.fullmatch(UNIX_TIME_PATTERN, cell) for cell in cells) and len(set(cells)) > 1
    return bool(cells) and _guess_timestamp_format(cells, None) != "?"


def _guess_timestamp_format(cells: list[str], configured: str | None) -> str | None:
    """Guess data.timestamp_format from cells; "?" if no format fits, or several do."""
    if not cells:
        return configured
    for pattern in (configured, None):
        if are_times(cells, pattern):
            return pattern
    patterns = find_date_patterns(cells)
    return patterns[0] if len(patterns) == 1 else "?"
