"""Guess a file's layout: separator, header, quotes, columns and format of times."""

import re
from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product

import pyarrow as pa

from ratinglab.datasets.sources import CsvOptions
from ratinglab.errors import UserError
from ratinglab.formats.columnar import column_names, read_start, text_column
from ratinglab.formats.detection import Format, format_of
from ratinglab.formats.input_paths import existing_files
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import MATRIX, listed, looks_like_matrix, positions_of
from ratinglab.formats.numbers import is_number
from ratinglab.formats.row_reader import rows_in
from ratinglab.formats.text_dialects import SEPARATOR_LINE, utf8_blocks
from ratinglab.formats.text_options import SEPARATORS, ColumnOptions, Decimal, Escape, Quote, separator_text
from ratinglab.formats.timestamps import column_of_times, format_of_times

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
DATE_PATTERNS = [
    f"{date}{time}"
    for date in "%d/%m/%Y %m/%d/%Y %d.%m.%Y %d-%m-%Y %m-%d-%Y %Y/%m/%d %Y.%m.%d %d/%m/%y %m/%d/%y".split()
    for time in ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
] + [
    *("%m %d, %Y", "%B %d, %Y", "%b %d, %Y", "%d %B %Y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d %B, %Y"),
    *("%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z"),
]
"""Date formats other than ISO."""
UNIX_TIME = re.compile(r"([6-9]\d{8}|[12]\d{9})(\d{3}){0,3}(\.\d*)?")
"""Unix times from 1990 on, in any unit."""
COMMENT = re.compile(r"#[#\s]|%[%\s]")
"""Start of a line that is likely a comment, not a row or a header."""
ITEM_CODES = re.compile(r"B[0-9A-Z]{9}|\d{9}[\dX]")
"""ASINs and ISBNs, which are ids of items."""


@dataclass(frozen=True)
class Sample:
    """First rows of a file, read with these options.

    Attributes:
        options: the options, with the decimal point and whether there is a header.
        names: names of the columns from the header, or positions from 1.
        rows: the rows below the header.
    """

    options: CsvOptions
    names: list[str]
    rows: list[list[str]]

    @property
    def spans_lines(self) -> bool:
        """Whether a cell spans lines, which may be due to a stray quotation mark."""
        return any("\n" in cell or "\r" in cell for row in self.rows for cell in row)

    def column(self, position: int) -> list[str]:
        """Return the stripped cells of a column."""
        return [row[position].strip() for row in self.rows if position < len(row)]


def guess_layout(options: CsvOptions) -> tuple[CsvOptions, tuple[str, ...]]:
    """Guess the format options and the columns of a file.

    Returns:
        the user's options, with guesses in place of those that do not fit the file; and notes on guesses that may be
        wrong and options that could not be guessed, one line each.

    Raises:
        UserError: the file cannot be read, or is not one rating per row.
    """
    file = existing_files(options.path, key="data.path")[0]
    kind = format_of(file)
    if kind is not Format.TEXT:
        names = column_names(file, kind)
        start = read_start(file, kind, SAMPLE_ROWS)
        cells = [text_column(start[name]).to_pylist() if name in start.column_names else [] for name in names]
        rows = [list(row) for row in zip(*cells, strict=True)] if all(cells) else []
        columns, pattern, notes = _guess_columns(Sample(replace(options, header=True), names, rows), file)
        return replace(options, columns=columns, timestamp_format=pattern), notes
    options, encoding_notes = _guess_encoding(options, file)
    samples = list[Sample]()
    for dialect in _dialects(options, file):
        if (sample := _read_sample(dialect, file)) is not None:
            samples.append(sample)
            if not sample.spans_lines:
                break
    if not samples:
        raise UserError(f"{file}: no known separator splits its rows into three or more columns; set data.separator")
    sample = samples[0] if samples[-1].spans_lines else samples[-1]
    if looks_like_matrix(sample.rows[0]):
        raise UserError(MATRIX.format(file=file))
    columns, pattern, notes = _guess_columns(sample, file)
    return replace(sample.options, columns=columns, timestamp_format=pattern), (*encoding_notes, *notes)


def _guess_encoding(options: CsvOptions, file: InputFile) -> tuple[CsvOptions, tuple[str, ...]]:
    """Choose latin-1 for text that is not UTF-8, unless the options name another encoding."""
    dialect = options.dialect("data.").adapted(file)
    if not dialect.is_utf8:
        return options, ()
    try:
        getincrementaldecoder("utf-8")().decode(file.start())
    except UnicodeDecodeError:
        note = f"{file} is not UTF-8 text: read as latin-1; set data.encoding for another encoding"
        return replace(options, encoding="latin-1"), (note,)
    return options, ()


def _dialects(options: CsvOptions, file: InputFile) -> Iterator[CsvOptions]:
    """Yield options to try: each separator, with and without quotes, and possible escapes and comments."""
    start = file.start().decode(options.dialect("data.").adapted(file).encoding, "ignore").removeprefix("\ufeff")
    given = separator_text(options.separator, key="data.separator")
    names = [*([] if given in SEPARATORS.values() else [options.separator]), *SEPARATOR_ORDER]
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


def _read_sample(options: CsvOptions, file: InputFile) -> Sample | None:
    """Read the first rows with these options, and guess the decimal point.

    None unless all rows have the same number of cells, at least three, and a column holds numbers.
    """
    dialect = options.dialect("data.").adapted(file)
    try:
        rows = [row for _, row in islice(rows_in(utf8_blocks(file, dialect), dialect, file=file), SAMPLE_ROWS + 1)]
    except UserError:
        return None
    width = len(rows[0]) if rows else 0
    if width < 3 or len(rows) < 2 or any(len(row) != width for row in rows):
        return None
    is_empty = [not any(row[position].strip() for row in rows) for position in range(width)]
    if sum(is_empty) > 1 and options.separator != "spaces":
        return None  # separators in a row
    body = Sample(options, [], rows[1:])
    numeric = {
        decimal: [position for position in range(width) if _are_numbers(body.column(position), decimal)]
        for decimal in dict.fromkeys((options.decimal, Decimal.point, Decimal.comma))
    }
    decimal = max(numeric, key=lambda decimal: len(numeric[decimal]))
    if not numeric[decimal]:
        return None
    header = not any(_are_numbers([rows[0][position]], decimal) for position in numeric[decimal])
    names = [cell.strip() for cell in rows[0]] if header else positions_of(rows[0])
    return Sample(replace(options, decimal=decimal, header=header), names, rows[1:] if header else rows)


def _are_numbers(cells: Sequence[str], decimal: Decimal = Decimal.point) -> bool:
    point = "." if decimal is Decimal.point else ","
    return len(cells) > 0 and all(is_number(cell.strip(), decimal=point) for cell in cells)


def _guess_columns(sample: Sample, file: InputFile) -> tuple[ColumnOptions, str | None, tuple[str, ...]]:
    """Guess the column of each role by its name, else by its cells; also return the format of times, and notes."""
    options, names = sample.options, sample.names
    found = {role: names.index(name) for role, name in vars(options.columns).items() if name in names}
    if options.header:
        for role in ("rating", "timestamp", "user", "item"):
            if role not in found:
                found |= _column_by_name(role, sample, taken=set(found.values()))
        if "timestamp" not in found:  # a column of times whose format cannot be guessed
            found |= _column_by_name("timestamp", sample, taken=set(found.values()), must_fit=False)
    found = _columns_by_cells(sample, found)
    missing = [role for role in ("user", "item", "rating") if role not in found]
    if missing:
        keys = ", ".join(f"data.columns.{role}" for role in missing)
        raise UserError(f"{file}: set {keys}, which cannot be guessed; it has {listed(names)}")
    pattern, notes = options.timestamp_format, []
    if "timestamp" in found:
        pattern = _time_pattern(sample.column(found["timestamp"]), pattern)
        if pattern == "?":
            name = names[found.pop("timestamp")]
            notes.append(
                f"the time format of column {name} cannot be guessed; to read the times, set "
                f"data.columns.timestamp={name} and data.timestamp_format"
            )
            pattern = None
    named = {role: names[position] for role, position in found.items()}
    columns = ColumnOptions(named["user"], named["item"], named["rating"], named.get("timestamp"))
    return columns, pattern, tuple(notes)


def _column_by_name(role: str, sample: Sample, *, taken: set[int], must_fit: bool = True) -> dict[str, int]:
    """Find the column of a role by the names of the columns; if `must_fit`, by its cells, too."""
    plain = [_normalized(name.partition(":")[0]) for name in sample.names]
    for name in map(_normalized, COLUMN_NAMES[role].split(",")):
        for position, found in enumerate(plain):
            if found != name or position in taken:
                continue
            if not must_fit or _fits_role(role, sample.column(position), sample.options):
                return {role: position}
    return {}


def _normalized(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _fits_role(role: str, cells: list[str], options: CsvOptions) -> bool:
    """Return whether cells can have the role; anything can be an id."""
    if not cells:
        return True
    if role == "rating":
        return _are_numbers(cells, options.decimal)
    return role != "timestamp" or _time_pattern(cells, options.timestamp_format) != "?"


def _columns_by_cells(sample: Sample, found: dict[str, int]) -> dict[str, int]:
    """Find the columns of missing roles by their cells. The rating is the numeric column with the fewest values."""
    found = dict(found)
    distinct = [len(set(sample.column(position))) for position in range(len(sample.names))]

    def free() -> list[int]:
        return [position for position in range(len(sample.names)) if position not in found.values()]

    if "timestamp" not in found and not sample.options.header:
        times = [position for position in free() if _looks_like_times(sample.column(position))]
        found |= {"timestamp": times[-1]} if times else {}
    if "rating" not in found:
        numeric = [p for p in free() if distinct[p] > 1 and _are_numbers(sample.column(p), sample.options.decimal)]
        fractional = [p for p in numeric if any(re.search(r"[.,]0*[1-9]", cell) for cell in sample.column(p))]
        fewest = min(fractional or numeric, key=lambda position: (distinct[position], -position), default=None)
        found |= {} if fewest is None else {"rating": fewest}
    ids = sorted(free(), key=lambda position: (distinct[position] <= 2, position))
    are_free = "user" not in found and "item" not in found
    if are_free and len(ids) > 1 and all(ITEM_CODES.fullmatch(cell) for cell in sample.column(ids[0])):
        ids[:2] = ids[1::-1]
    for role in ("user", "item"):
        if role not in found and ids and (not sample.options.header or len(sample.names) == 3):
            found[role] = next(position for position in ids if position not in found.values())
    return found


def _looks_like_times(cells: list[str]) -> bool:
    """Return whether cells are Unix times of 1990 to 2099, or dates."""
    if _are_numbers(cells):
        return all(re.fullmatch(UNIX_TIME, cell) for cell in cells) and len(set(cells)) > 1
    return _time_pattern(cells, None) != "?"


def _time_pattern(cells: list[str], given: str | None) -> str | None:
    """Guess data.timestamp_format from cells; "?" if no format fits, or several do."""
    if not cells:
        return given
    suitable = [pattern for pattern in dict.fromkeys((given, None)) if _all_match(cells, pattern)]
    if suitable:
        return suitable[0]
    suitable = [pattern for pattern in DATE_PATTERNS if _all_match(cells, pattern)]
    return suitable[0] if len(suitable) == 1 else "?"


def _all_match(cells: list[str], pattern: str | None) -> bool:
    try:
        time_format = format_of_times(cells[0], pattern, place="")
    except UserError:
        return False
    texts = pa.chunked_array([pa.array(cells, pa.string())])
    return column_of_times(texts, time_format) is not None
