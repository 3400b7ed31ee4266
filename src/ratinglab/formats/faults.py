"""Locate invalid rows, and rows by number, by reading a text file again with the csv module."""

import codecs
import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from ratinglab.errors import UserError
from ratinglab.formats.inputs import EmptyFileError, InputFile
from ratinglab.formats.layouts import MATRIX_COLUMNS, Layout
from ratinglab.formats.numbers import parsed_number
from ratinglab.formats.row_reader import printable, rows_in
from ratinglab.formats.text_dialects import LINE_END, QUOTE, TextDialect, num_lines, utf8_blocks, whole_lines
from ratinglab.formats.timestamps import matches_format

LARGEST_RATING = float(np.finfo(np.float32).max)


def whole_rows(file: InputFile, layout: Layout) -> Iterator[tuple[bytes, int]]:
    """Yield the text of blocks of whole rows after the header, and the number of its first line, from 1."""
    pending, number, to_skip = b"", 1, layout.header_lines
    for block in whole_lines(utf8_blocks(file, layout.dialect)):
        pending += block
        while to_skip and (end := LINE_END.search(pending)):
            pending, number, to_skip = pending[end.end() :], number + 1, to_skip - 1
        if to_skip or (layout.dialect.is_quoted and pending.count(QUOTE) % 2 == 1):
            continue
        yield pending, number
        number += num_lines(pending)
        pending = b""
    if pending and not to_skip:
        yield pending, number


def first_fault(
    file: InputFile,
    layout: Layout,
    fault_of: Callable[[list[str], list[bytes], Layout], str | None],
    *,
    is_valid: Callable[[bytes], bool],
) -> UserError | None:
    """Make the error for the first faulty row, with its line number, or for a file without rows; else None.

    Args:
        fault_of: describes the fault of a row, given its cells and its lines; None if it has none.
        is_valid: returns whether the text of whole rows is known to have no fault.
    """
    has_rows = False
    for text, first in whole_rows(file, layout):
        has_rows = has_rows or _num_rows(text) > 0
        if is_valid(text):
            continue
        lines = text.splitlines(keepends=True)  # bytes: only \n and \r end lines, not U+2028 or a form feed
        rows = list(rows_in([text], layout.dialect, file=file, first_line=first))
        stops = [*(line for line, _ in rows[1:]), first + len(lines)]
        for (line, cells), stop in zip(rows, stops, strict=False):
            if (fault := fault_of(cells, lines[line - first : stop - first], layout)) is not None:
                return UserError(f"{file}, line {line}: {fault}")
    if has_rows:
        return None
    noun = "ratings" if layout.positions else "rows"
    return EmptyFileError(f"{file} has no {noun}" + (", only a header" if layout.header_lines else ""))


def has_regular_rows(text: bytes, layout: Layout) -> bool:
    """Return whether whole rows have only regular quotation marks, and no quoted cell spans lines.

    If the layout allows cells to span lines, those lines must not look like rows.
    """
    if not layout.dialect.is_quoted or QUOTE not in text:
        return True
    scan = layout.new_scan()
    scan.add(text.removeprefix(codecs.BOM_UTF8))
    scan.end()
    return scan.is_regular and not (scan.may_join_rows if layout.spans_lines else scan.spans_lines)


def multiline_cell(dialect: TextDialect) -> str:
    """Describe the fault of a cell that spans lines, to follow `FILE, line N:`."""
    hint = f"if quotation marks are text, set {dialect.prefix}quote=none"
    return f"a quoted cell must end on the line it starts on; {hint}"


def wrong_width(cells: list[str], layout: Layout) -> str:
    """Describe the fault of a row with too many or too few cells, to follow `FILE, line N:`."""
    if layout.num_columns > 1:
        return f"a row must have {layout.num_columns} columns, got {len(cells)}"
    hint = f"is {layout.dialect.prefix}separator right?"
    return f"a row must have 1 column, as the first line has, got {len(cells)}; {hint}"


def fault_of_ratings(cells: list[str], lines: list[bytes], layout: Layout) -> str | None:
    """Describe the fault of a row of ratings, given its cells and lines, to follow `FILE, line N:`; None without one.

    In a row that is read otherwise, a column that is read has an irregular quotation mark, or a cell contains lines
    that look like rows, which a stray quotation mark may have joined.
    """
    return _fault_of_cells(cells, layout) or _fault_of_quotes(lines, layout)


def _fault_of_cells(cells: list[str], layout: Layout) -> str | None:
    for position, cell in enumerate(cells):
        text = cell.rstrip("\r\n")
        if ("\n" in text or "\r" in text) and not (layout.spans_lines and position not in layout.positions.values()):
            return multiline_cell(layout.dialect)
    if len(cells) != layout.num_columns:
        return wrong_width(cells, layout)
    cell_of = {role: cells[position] for role, position in layout.positions.items()}
    for role in ("user", "item"):
        shown = printable(cell_of[role])
        if not shown.strip():
            return f"the {role} id must not be blank"
        if shown != cell_of[role]:
            return f"the {role} id is not UTF-8 text, got {shown!r}; is data.encoding right?"
    text = cell_of["rating"]
    try:
        rating = parsed_number(text, decimal=layout.dialect.decimal)
    except ValueError:
        return f"the rating must be a number, got {printable(text)!r}{_hint_on_number(text, cells, layout)}"
    if not abs(rating) <= LARGEST_RATING:
        return f"the rating must be finite, got {text!r}"
    if "timestamp" in cell_of:
        assert layout.time_format is not None, "the first row tells the format of the times"
        time = printable(cell_of["timestamp"])
        if not matches_format(time.strip(), layout.time_format, decimal=layout.dialect.decimal):
            return f"the timestamp must be {layout.time_format.rule}, got {time!r}"
    return None


def _hint_on_number(text: str, cells: list[str], layout: Layout) -> str:
    if re.fullmatch(r"\s*[-+]?\d+,\d+\s*", text) and layout.dialect.decimal == ".":
        return "; if the comma is the decimal point, set data.decimal=comma"
    if len(cells) > MATRIX_COLUMNS and not text.strip():
        return "; if this is a user-item matrix, reshape it to one rating per row"
    if text.lower() in ("", "null", "nan", "na", "n/a", "none", "-", "?"):
        return "; drop the rows without a rating"
    return ""


def lines_of_rows(file: InputFile, layout: Layout, rows: list[int]) -> list[int]:
    """Find the line, from 1, of each row, from 0. Reads the file once, up to the last of the rows."""
    line_of_row: dict[int, int] = {}
    remaining, first = set(rows), 0
    one_line = replace(layout, spans_lines=False)
    for text, first_line in whole_rows(file, layout):
        if has_regular_rows(text, one_line):
            stop = first + _num_rows(text)
            if min(remaining) >= stop:
                first = stop
                continue
        for line, _ in rows_in([text], layout.dialect, file=file, first_line=first_line):
            if first in remaining:
                line_of_row[first] = line
                remaining.remove(first)
            first += 1
        if not remaining:
            break
    return [line_of_row[row] for row in rows]


def num_rows_by_line(file: InputFile, layout: Layout) -> int:
    """Count the lines after the header that are not empty, which are the rows unless a cell spans lines."""
    unquoted = replace(layout, dialect=replace(layout.dialect, quote=False))
    return sum(_num_rows(text) for text, _ in whole_rows(file, unquoted))


def _num_rows(text: bytes) -> int:
    """Count the lines that are not empty."""
    content = np.frombuffer(text.removeprefix(b"\xef\xbb\xbf"), dtype=np.uint8)
    is_end = (content == ord("\n")) | (content == ord("\r"))
    return int(np.count_nonzero(~is_end[1:] & is_end[:-1])) + int(len(content) > 0 and not is_end[0])


def written_cells(lines: list[bytes], dialect: TextDialect) -> list[str]:
    """Split a row, given by its lines, into its cells as written, with their quotation marks."""
    row = b"".join(lines).decode("utf-8", "surrogateescape")
    separator = re.escape(dialect.delimiter)
    cell = rf'"(?:[^"]|"")*"[^{separator}]*|[^{separator}]*'
    cells: list[str] = re.findall(rf"({cell})(?:{separator}|\Z)", row.rstrip("\r\n"))
    return cells


def fault_of_marks(written: str, dialect: TextDialect, *, noun: str) -> str | None:
    """Describe the fault of a written cell that begins with a quotation mark but is not enclosed by two."""
    if dialect.escape or not written.strip().startswith('"') or re.fullmatch(r'"(?:[^"]|"")*"\s*', written):
        return None
    return (
        f"quotation marks must enclose the whole {noun}, got {printable(written)}; if a backslash escapes quotation "
        f"marks, set {dialect.prefix}escape=backslash; if they are text, set {dialect.prefix}quote=none"
    )


def _fault_of_quotes(lines: list[bytes], layout: Layout) -> str | None:
    """Find the fault in the quotation marks of a row, given by its lines."""
    if not any(QUOTE in line for line in lines):
        return None
    dialect = layout.dialect
    cells = written_cells(lines, dialect)
    for role, position in layout.positions.items():
        fault = fault_of_marks(cells[position], dialect, noun=role) if position < len(cells) else None
        if fault is not None:
            return fault
    for line in lines[1:]:
        text = line.decode("utf-8", "surrogateescape")
        alone = next(csv.reader([text], delimiter=dialect.delimiter), [])
        if len(alone) == layout.num_columns and _fault_of_cells(alone, layout) is None:
            return "a quoted cell spans lines that look like rows; if quotation marks are text, set data.quote=none"
    return None
