"""Find invalid rows, and the lines of rows, by reading a text file again with the csv module."""

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from ratinglab.errors import UserError
from ratinglab.formats.inputs import EmptyFileError, InputFile
from ratinglab.formats.layouts import MATRIX_COLUMNS, Layout
from ratinglab.formats.literals import has_thousands_separator, parse_number
from ratinglab.formats.quotes import QUOTE, has_regular_rows
from ratinglab.formats.rows_by_csv import printable, read_rows
from ratinglab.formats.rows_by_pyarrow import read_row_blocks
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.timestamps import is_time, suggest_pattern

MAX_SHOWN = 80
"""Number of characters of a faulty cell in a message."""
LARGEST_RATING = float(np.finfo(np.float32).max)


def find_first_fault(file: InputFile, layout: Layout, *, parse: Callable[[bytes], list[Any]]) -> UserError | None:
    """Make the error for the first faulty row, with its line number, or for a file without rows, if there is a fault.

    Without `positions` in the layout, all columns are read. Searches only blocks of rows that `parse` refuses, and
    blocks with irregular quotation marks.
    """
    has_rows, stop = False, layout.header_lines + 1
    for text in read_row_blocks(file, layout):
        lines = text.splitlines(keepends=True)  # bytes: only \n and \r end lines, not U+2028 or a form feed
        first_line, stop = stop, stop + len(lines)
        has_rows = has_rows or _count_nonempty_lines_in(text) > 0
        if has_regular_rows(text, layout) and _can_parse(text, parse):
            continue
        rows = list(read_rows([text], layout.dialect, file=file, first_line=first_line))
        stops = [*(line for line, _ in rows[1:]), stop]
        for (line, cells), end in zip(rows, stops, strict=False):
            row_lines = lines[line - first_line : end - first_line]
            is_closed = sum(line.count(QUOTE) for line in row_lines) % 2 == 0
            if fault := _find_cell_fault(cells, layout, is_closed=is_closed) or _find_quote_fault(row_lines, layout):
                return UserError(f"{file}, line {line}: {fault}")
    if has_rows:
        return None
    noun = "ratings" if layout.positions else "rows"
    return EmptyFileError(f"{file} has no {noun}" + (", only a header" if layout.header_lines else ""))


def _can_parse(text: bytes, parse: Callable[[bytes], list[Any]]) -> bool:
    """Return whether there are rows, and `parse` accepts all of them."""
    try:
        return len(parse(text)) > 0
    except pa.ArrowInvalid:
        return False


def _find_cell_fault(cells: list[str], layout: Layout, *, is_closed: bool = True) -> str | None:
    """Describe the fault of a row, given its cells, to follow `FILE, line N:`. Returns None if it is valid.

    `is_closed` is false if the row ends within a quoted cell, at the end of the file.
    """
    dialect, has_right_width = layout.dialect, len(cells) == layout.num_columns
    read = layout.positions.values()
    # a row of the wrong width is probably several rows, which a stray mark has joined
    may_span_lines = layout.spans_lines and (has_right_width or (is_closed and len(read) > 0))
    for position, cell in enumerate(cells):
        text = cell.rstrip("\r\n")
        if ("\n" in text or "\r" in text) and not (may_span_lines and position not in read):
            hint = f"if quotation marks are text, set {dialect.key_prefix}quote=none"
            side = next((side for side in ("user", "item") if layout.positions.get(side) == position), None)
            if may_span_lines and is_closed and side is not None:
                shown = printable(text)[:MAX_SHOWN]
                return f"the {side} id must be on one line, got {shown!r}; replace its line breaks or, {hint}"
            return f"a quoted cell must end on the line it starts on; {hint}"
    if not has_right_width and layout.num_columns > 1:
        return f"a row must have {layout.num_columns} columns, got {len(cells)}"
    if not has_right_width:
        hint = f"is {dialect.key_prefix}separator right?"
        return f"a row must have 1 column, as the first line has, got {len(cells)}; {hint}"
    if layout.positions:
        return _find_rating_fault(cells, layout)
    undecodable = next((cell for cell in cells if cell != printable(cell)), None)
    if undecodable is not None:
        return f"{printable(undecodable)!r} is not UTF-8 text; is {dialect.key_prefix}encoding right?"
    return None


def _find_rating_fault(cells: list[str], layout: Layout) -> str | None:
    cell_of = {role: cells[position] for role, position in layout.positions.items()}
    for role in ("user", "item"):
        id_text = printable(cell_of[role])
        if not id_text.strip():
            return f"the {role} id must not be blank"
        if id_text != cell_of[role]:
            return f"the {role} id is not UTF-8 text, got {id_text!r}; is data.encoding right?"
    text = cell_of["rating"]
    try:
        rating = parse_number(text, decimal=layout.dialect.decimal)
    except ValueError:
        return f"the rating must be a number, got {printable(text)!r}{_rating_hint(text, cells, layout)}"
    if not abs(rating) <= LARGEST_RATING:
        return f"the rating must be finite, got {text!r}"
    if "timestamp" in cell_of:
        assert layout.time_format is not None, "the first row determines it"
        time = printable(cell_of["timestamp"])
        if not is_time(time.strip(), layout.time_format.any_dates, decimal=layout.dialect.decimal):
            time_format = layout.time_format
            # a pattern for this row alone would not read the rows before it
            hint = "" if time_format.pattern is None else suggest_pattern(time, key=time_format.key)
            return f"the timestamp must be {time_format.rule}, got {time!r}{hint}"
    return None


def _rating_hint(text: str, cells: list[str], layout: Layout) -> str:
    hint = layout.dialect.decimal_hint(text)
    if has_thousands_separator(text, decimal=layout.dialect.decimal):
        hint += "; if it separates thousands, remove it"
    if hint:
        return hint
    if len(cells) > MATRIX_COLUMNS and not text.strip():
        return "; if this is a user-item matrix, reshape it to one rating per row"
    if text.lower() in ("", "null", "nan", "na", "n/a", "none", "-", "?"):
        return "; drop the rows without a rating"
    return ""


def _find_quote_fault(lines: list[bytes], layout: Layout) -> str | None:
    """Describe the fault in the quotation marks of a row, given its lines, whose cells are valid.

    The fault is an irregular mark in a column that is read, or a cell with lines that look like rows, which a stray
    mark may have joined. Returns None if there is none.
    """
    if not any(QUOTE in line for line in lines):
        return None
    dialect = layout.dialect
    keys = f"set {dialect.key_prefix}escape=backslash; if they are text, set {dialect.key_prefix}quote=none"
    names = {position: role for role, position in layout.positions.items()}
    for position, cell in enumerate(_split_as_written(lines, dialect)):
        is_read = position in names or not names
        is_enclosed = re.fullmatch(r'"(?:[^"]|"")*"\s*', cell)
        if is_read and cell.strip().startswith('"') and not (is_enclosed or dialect.has_escapes):
            name = names.get(position, "cell")
            shown = printable(cell[:MAX_SHOWN]).splitlines()[0]  # a message is one line
            rule = f"quotation marks must enclose the whole {name}, got {shown}"
            return f"{rule}; if a backslash escapes quotation marks, {keys}"
    for line in _lines_of_quoted_cell(lines, layout):
        text = line.decode("utf-8", "surrogateescape")
        cells_of_line = next(csv.reader([text], delimiter=dialect.delimiter), [])
        if len(cells_of_line) == layout.num_columns and _find_cell_fault(cells_of_line, layout) is None:
            hint = f"if quotation marks are text, set {dialect.key_prefix}quote=none"
            return f"a quoted cell spans lines that look like rows; {hint}"
    return None


def _split_as_written(lines: list[bytes], dialect: TextDialect) -> list[str]:
    """Split a row, given by its lines, into cells that keep their quotation marks."""
    row = b"".join(lines).decode("utf-8", "surrogateescape")
    separator = re.escape(dialect.delimiter)
    cell = rf'"(?:[^"]|"")*"[^{separator}]*|[^{separator}]*'
    cells: list[str] = re.findall(rf"({cell})(?:{separator}|\Z)", row.rstrip("\r\n"))
    return cells


def _lines_of_quoted_cell(lines: list[bytes], layout: Layout) -> list[bytes]:
    """Return the lines of a row that may be rows themselves, which a stray mark has joined; see `QuoteScan`.

    The last line, which ends a quoted cell, looks like a row if the cell is in the first column. It counts only if the
    first line also has all cells of a row.
    """
    begins_whole = lines[0].count(layout.dialect.delimiter.encode()) >= layout.num_columns - 1
    is_closed = sum(line.count(QUOTE) for line in lines) % 2 == 0
    return lines[1:-1] if is_closed and not begins_whole else lines[1:]


def find_line_numbers(file: InputFile, layout: Layout, rows: list[int]) -> list[int]:
    """Find the line, counted from 1, of each row, counted from 0. Reads the file once, up to the last of the rows."""
    line_of_row: dict[int, int] = {}
    remaining, row, first_line = set(rows), 0, layout.header_lines + 1
    one_line_per_row = replace(layout, spans_lines=False)
    for text in read_row_blocks(file, layout):
        num_lines = len(text.splitlines())
        if has_regular_rows(text, one_line_per_row):
            stop = row + _count_nonempty_lines_in(text)
            if min(remaining) >= stop:
                row, first_line = stop, first_line + num_lines
                continue
        for line, _ in read_rows([text], layout.dialect, file=file, first_line=first_line):
            if row in remaining:
                line_of_row[row] = line
                remaining.remove(row)
            row += 1
        first_line += num_lines
        if not remaining:
            break
    return [line_of_row[row] for row in rows]


def count_nonempty_lines(file: InputFile, layout: Layout) -> int:
    """Count the lines after the header that are not empty: the number of rows, unless a cell spans lines."""
    return sum(map(_count_nonempty_lines_in, read_row_blocks(file, layout.with_quotes_as_text(file))))


def _count_nonempty_lines_in(text: bytes) -> int:
    content = np.frombuffer(text, dtype=np.uint8)
    is_end = (content == ord("\n")) | (content == ord("\r"))
    return int(np.count_nonzero(~is_end[1:] & is_end[:-1])) + int(len(content) > 0 and not is_end[0])
