"""Guess the dialect of a text file, and read its first rows."""

import re
from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Generic, TypeVar

from ratinglab.datasets.sources import CsvOptions
from ratinglab.errors import UserError
from ratinglab.formats.detection import Format, detect_format
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import MATRIX_NOTE, looks_like_matrix, numbered_names
from ratinglab.formats.literals import has_thousands_separator, is_number
from ratinglab.formats.rows_by_csv import read_rows
from ratinglab.formats.text_dialects import SEPARATOR_LINE, read_utf8_blocks
from ratinglab.formats.text_options import SEPARATORS, Decimal, Escape, Quote, TextOptions, separator_text
from ratinglab.formats.text_tables import open_text_table

Options = TypeVar("Options", bound=TextOptions)

SAMPLE_ROWS = 1000
"""Number of first rows used to guess the layout."""
MIN_COLUMNS = 3
"""Minimum number of columns of a ratings file: users, items and ratings."""
MIN_NUMBER_SHARE = 0.5
"""Minimum share of numbers in a column of ratings. The other cells are errors, which reading will report."""
SEPARATOR_ORDER = ("tab", "double_colon", "semicolon", "pipe", "comma", "spaces")
"""Separators, in the order in which they are tried. Characters that are rare in text come first."""
COMMENT_START = re.compile(r"#[#\s]|%[%\s]")
"""Start of a line that is likely a comment, not a row or a header."""


@dataclass(frozen=True)
class FirstRows(Generic[Options]):
    """First rows of a file, by column.

    Attributes:
        options: the options that the rows were read with, some of them guessed.
        names: names of the columns from the header, or 1, 2, … if there is no header.
        columns: the cells of each column below the header, without surrounding white space.
        spans_lines: whether a cell spans lines, perhaps because of a stray quotation mark.
        notes: one line each, on guesses that may be wrong.
    """

    options: Options
    names: list[str]
    columns: list[list[str]]
    spans_lines: bool = False
    notes: tuple[str, ...] = ()


def read_first_ratings(options: CsvOptions, file: InputFile) -> FirstRows[CsvOptions]:
    """Read the first rows of a ratings file.

    Raises:
        UserError: no dialect fits a text file, or the file is a matrix of users and items.
    """
    if detect_format(file) is not Format.TEXT:
        start = next(open_text_table(file, options.dialect()).blocks(SAMPLE_ROWS))
        columns = [start.column(name, key="data.path") for name in start.names]
        return FirstRows(replace(options, header=True), start.names, columns)
    first = read_first_lines(options, file)
    if first is None:
        raise _explain_refusal(options, file)
    if looks_like_matrix([cells[0] for cells in first.columns]):
        raise UserError(MATRIX_NOTE.format(file=file))
    return first


def _explain_refusal(options: CsvOptions, file: InputFile) -> UserError:
    """Make the error for a ratings file that no dialect fits, by the first separator that splits most of its rows."""
    narrow: Sequence[str] = ()  # the first row, if a separator splits most rows into two columns
    for candidate in _candidate_options(options, file):
        try:
            rows = _read_sample(candidate, file)
        except UserError:
            continue
        if not rows:
            return UserError(f"{file} is empty")
        ((width, count),) = Counter(len(cells) for _, cells in rows).most_common(1)
        if 2 * count < len(rows):
            continue
        if width < MIN_COLUMNS:
            narrow = rows[0][1] if width > 1 else narrow
            continue
        if len(rows) == 1:
            has_numbers = any(look_like_numbers([cell], candidate.decimal) for cell in rows[0][1])
            return UserError(f"{file} has {'only one row' if has_numbers else 'no ratings, only a header'}")
        wrong = next(((line, len(cells)) for line, cells in rows if len(cells) != width), None)
        if wrong is not None:
            hint = "; remove the lines before the header" if wrong[0] == rows[0][0] else ""
            if any(cell.startswith("'") for _, cells in rows for cell in cells):
                hint = "; if single quotes enclose cells, replace them with double quotes"
            return UserError(f"{file}, line {wrong[0]}: a row must have {width} columns, got {wrong[1]}{hint}")
        columns = zip(*(cells for _, cells in rows[1:]), strict=True)
        if not any(are_nearly_numbers(column, decimal) for column in columns for decimal in Decimal):
            return UserError(f"{file} has no column in which most cells are numbers, and ratings must be numbers")
    if narrow:
        shown = " and ".join(cell.strip() for cell in narrow)
        return UserError(
            f"{file} has only the columns {shown}: ratings need a user, an item and a rating in each row; "
            "for another separator, set data.separator"
        )
    return UserError(f"{file}: no known separator splits its rows into three or more columns; set data.separator")


def read_first_lines(options: Options, file: InputFile) -> FirstRows[Options] | None:
    """Read the first rows of a text file in the first dialect that fits them. Returns None if no dialect fits.

    Prefers dialects in which no cell spans lines.
    """
    found = None
    for candidate in _candidate_options(options, file):
        first = _try_options(candidate, file)
        if first is not None and not first.spans_lines:
            found = first
            break
        found = found or first
    if found is None or found.options.encoding == options.encoding:
        return found
    advice = f"set {options.key_prefix}encoding for another encoding"
    return replace(found, notes=(f"{file} is not UTF-8 text: read as {found.options.encoding}; {advice}",))


def _guess_encoding(options: TextOptions, file: InputFile) -> str:
    """Return the encoding in the options or, if that is UTF-8 but the text is not, cp1252 or latin-1.

    In latin-1, the bytes 0x80 to 0x9f are control characters; in cp1252, they are characters such as ’ and €.
    """
    if options.dialect().adapt_to(file).is_utf8:
        try:
            getincrementaldecoder("utf-8")().decode(file.read_start())
        except UnicodeDecodeError:
            controls = b"".join({byte for block in file.blocks() for byte in re.findall(rb"[\x80-\x9f]", block)})
            return "cp1252" if len(controls.decode("cp1252", "ignore")) == len(controls) > 0 else "latin-1"
    return options.encoding


def _candidate_options(options: Options, file: InputFile) -> Iterator[Options]:
    """Yield options to try: each separator, with and without quotation marks, and possible escapes and comments."""
    options = replace(options, encoding=_guess_encoding(options, file))
    start = file.read_start().decode(options.dialect().adapt_to(file).encoding, "ignore").removeprefix("\ufeff")
    is_known = separator_text(options.separator, key=f"{options.key_prefix}separator") in SEPARATORS.values()
    separators = [*([] if is_known else [options.separator]), *SEPARATOR_ORDER]
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


def _try_options(options: Options, file: InputFile) -> FirstRows[Options] | None:
    """Try to read the first rows with these options, and guess the decimal point and whether there is a header.

    Returns None unless all rows have the same number of cells: at least two or, in a ratings file, at least three with
    a column of numbers, perhaps with a few errors.
    """
    are_ratings = isinstance(options, CsvOptions)
    try:
        rows = [row for _, row in _read_sample(options, file)]
    except UserError:
        return None
    width = len(rows[0]) if rows else 0
    if width < (MIN_COLUMNS if are_ratings else 2) or len(rows) < 2 or any(len(row) != width for row in rows):
        return None
    columns = [[cell.strip() for cell in column] for column in zip(*rows, strict=True)]
    if sum(not any(column) for column in columns) > 1 and options.separator != "spaces":
        return None  # two separators follow each other
    decimals = dict.fromkeys((options.decimal, Decimal.point, Decimal.comma))
    numeric = {
        decimal: [column for column in columns if look_like_numbers(column[1:], decimal)] for decimal in decimals
    }
    nearly_numeric = {
        decimal: [column for column in columns if are_nearly_numbers(column[1:], decimal)] for decimal in decimals
    }
    decimal = max(decimals, key=lambda decimal: (len(numeric[decimal]), len(nearly_numeric[decimal])))
    if are_ratings and not numeric[decimal]:
        numeric = nearly_numeric
    if are_ratings and not numeric[decimal]:
        return None
    header = options.header
    if numeric[decimal]:
        header = not any(look_like_numbers(column[:1], decimal) for column in numeric[decimal])
    names = [cell.strip() for cell in rows[0]] if header else numbered_names(rows[0])
    cells_below_header = [column[1:] if header else column for column in columns]
    spans_lines = any("\n" in cell or "\r" in cell for row in rows[int(header) :] for cell in row)
    return FirstRows(replace(options, decimal=decimal, header=header), names, cells_below_header, spans_lines)


def _read_sample(options: TextOptions, file: InputFile) -> list[tuple[int, list[str]]]:
    """Read the first rows that are not empty, each with its line. Raises UserError for a row that cannot be parsed."""
    dialect = options.dialect().adapt_to(file)
    return list(islice(read_rows(read_utf8_blocks(file, dialect), dialect, file=file), SAMPLE_ROWS + 1))


def are_numbers(cells: Sequence[str], decimal: Decimal = Decimal.point) -> bool:
    """Return whether there are cells, and all of them are finite numbers."""
    point = "." if decimal is Decimal.point else ","
    return len(cells) > 0 and all(is_number(cell.strip(), decimal=point) for cell in cells)


def look_like_numbers(cells: Sequence[str], decimal: Decimal) -> bool:
    """Return whether there are cells, and all of them are finite numbers, perhaps with thousands separators."""
    point = "." if decimal is Decimal.point else ","
    return len(cells) > 0 and all(
        is_number(cell.strip(), decimal=point) or has_thousands_separator(cell, decimal=point) for cell in cells
    )


def are_nearly_numbers(cells: Sequence[str], decimal: Decimal) -> bool:
    """Return whether there are cells, and at least MIN_NUMBER_SHARE of them look like numbers."""
    num_numbers = sum(look_like_numbers([cell], decimal) for cell in cells)
    return len(cells) > 0 and num_numbers >= MIN_NUMBER_SHARE * len(cells)
