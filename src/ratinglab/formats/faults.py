"""Locate invalid rows, and rows by number, by reading a text file again with the csv module."""

import codecs
import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ratinglab.errors import UserError
from ratinglab.formats.inputs import EmptyFileError, InputFile
from ratinglab.formats.layouts import MATRIX_COLUMNS, Layout
from ratinglab.formats.numbers import parsed_number
from ratinglab.formats.row_reader import printable, rows_in
from ratinglab.formats.text_dialects import LINE_END, QUOTE, QuoteScan, TextDialect, num_lines, utf8_blocks, whole_lines
from ratinglab.formats.timestamps import matches_format

LARGEST_RATING = float(np.finfo(np.float32).max)


class TimestampError(UserError):
    """A timestamp in another format than the first one."""


class RowBlock(NamedTuple):
    """Consecutive lines that hold whole rows: their text, and the number of the first line, from 1."""

    text: bytes
    first: int

    def rows(self, dialect: TextDialect, file: InputFile) -> Iterator[tuple[int, list[str], list[bytes]]]:
        """Yield the number of the first line, the cells and the lines of each row."""
        lines = self.text.splitlines(keepends=True)  # bytes: only \n and \r end lines, not U+2028 or a form feed
        rows = list(rows_in([self.text], dialect, file=file, first_line=self.first))
        starts = [*(line for line, _ in rows), self.first + len(lines)]
        for (line, cells), stop in zip(rows, starts[1:], strict=True):
            yield line, cells, lines[line - self.first : stop - self.first]


def whole_rows(
    file: InputFile, dialect: TextDialect, *, header_lines: int, num_valid_bytes: int = 0
) -> Iterator[RowBlock]:
    """Yield blocks of whole rows after the header. Skips blocks within the first `num_valid_bytes` bytes."""
    pending, number, to_skip, size = b"", 1, header_lines, 0
    for block in whole_lines(utf8_blocks(file, dialect)):
        size += len(block)
        if size <= num_valid_bytes:
            number, to_skip = number + num_lines(block), 0
            continue
        pending += block
        while to_skip and (end := LINE_END.search(pending)):
            pending, number, to_skip = pending[end.end() :], number + 1, to_skip - 1
        if to_skip or (dialect.is_quoted and pending.count(QUOTE) % 2 == 1):
            continue
        yield RowBlock(pending, number)
        number += num_lines(pending)
        pending = b""
    if pending and not to_skip:
        yield RowBlock(pending, number)


def first_fault(
    file: InputFile, layout: Layout, *, parse: Callable[[bytes], int], fallback_reason: str, num_valid_bytes: int = 0
) -> UserError:
    """Make the error for the first faulty row, with its line number.

    Args:
        parse: parses rows with pyarrow and returns their number, or raises ArrowInvalid.
        fallback_reason: message of pyarrow, used if this pass finds no fault.
        num_valid_bytes: number of bytes at the start that have no fault.
    """
    num_rows = int(num_valid_bytes > 0)
    for lines in whole_rows(file, layout.dialect, header_lines=layout.header_lines, num_valid_bytes=num_valid_bytes):
        if _num_rows(lines.text) == 0:
            continue
        if has_regular_rows(lines.text, layout):
            try:
                num_rows += parse(lines.text)
                continue
            except pa.ArrowInvalid as error:
                fallback_reason = str(error)
        for line, cells in rows_in([lines.text], layout.dialect, file=file, first_line=lines.first):
            num_rows += 1
            place = f"{file}, line {line}"
            if (fault := _fault_besides_time(cells, layout)) is not None:
                return UserError(f"{place}: {fault}")
            if (fault := _fault_of_time(cells, layout)) is not None:
                return TimestampError(f"{place}: {fault}")
    if num_rows == 0:
        return EmptyFileError(f"{file} has no ratings" + (", only a header" if layout.header_lines else ""))
    return UserError(f"{file} cannot be read: {' '.join(fallback_reason.split())}")


def has_regular_rows(text: bytes, layout: Layout) -> bool:
    """Return whether whole rows have only regular quotation marks, and no quoted cell spans lines.

    If the layout allows cells to span lines, those lines must not look like rows.
    """
    if not layout.dialect.is_quoted or QUOTE not in text:
        return True
    scan = QuoteScan(layout.dialect, num_columns=layout.num_columns)
    scan.add(text.removeprefix(codecs.BOM_UTF8))
    scan.end()
    return scan.is_regular and not (scan.may_join_rows if layout.spans_lines else scan.spans_lines)


def multiline_cell(dialect: TextDialect) -> str:
    """Describe the fault of a cell that spans lines, to follow `FILE, line N:`."""
    hint = f"if quotation marks are text, set {dialect.prefix}quote=none"
    return f"a quoted cell must end on the line it starts on; {hint}"


def fault_of(cells: list[str], layout: Layout) -> str | None:
    """Describe the fault of a row, to follow `FILE, line N:`; None if it has none."""
    return _fault_besides_time(cells, layout) or _fault_of_time(cells, layout)


def _fault_besides_time(cells: list[str], layout: Layout) -> str | None:
    for position, cell in enumerate(cells):
        text = cell.rstrip("\r\n")
        if ("\n" in text or "\r" in text) and not (layout.spans_lines and position not in layout.positions.values()):
            return multiline_cell(layout.dialect)
    if len(cells) != layout.num_columns:
        return f"a row must have {layout.num_columns} columns, got {len(cells)}"
    for role, position in (("user", layout.user), ("item", layout.item)):
        if not cells[position].strip():
            return f"the {role} id must not be blank"
        if cells[position] != printable(cells[position]):
            return f"the {role} id is not UTF-8 text, got {printable(cells[position])!r}; is data.encoding right?"
    text = cells[layout.rating]
    try:
        rating = parsed_number(text, decimal=layout.dialect.decimal)
    except ValueError:
        return f"the rating must be a number, got {printable(text)!r}{_hint_on_number(text, cells, layout)}"
    if not abs(rating) <= LARGEST_RATING:
        return f"the rating must be finite, got {text!r}"
    return None


def _fault_of_time(cells: list[str], layout: Layout) -> str | None:
    if layout.timestamp is None:
        return None
    assert layout.time_format is not None, "the first row tells the format of the times"
    time = printable(cells[layout.timestamp])
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
    wanted = sorted(set(rows))
    found: dict[int, int] = {}
    num_rows = 0
    for lines in whole_rows(file, layout.dialect, header_lines=layout.header_lines):
        is_row_by_line = has_regular_rows(lines.text, replace(layout, spans_lines=False))
        count = _num_rows(lines.text) if is_row_by_line else None
        if count is None or (wanted and wanted[0] < num_rows + count):
            count = 0
            for line, _ in rows_in([lines.text], layout.dialect, file=file, first_line=lines.first):
                if wanted and num_rows + count == wanted[0]:
                    found[wanted.pop(0)] = line
                count += 1
        num_rows += count
        if not wanted:
            break
    return [found[row] for row in rows]


def num_rows_by_line(file: InputFile, dialect: TextDialect, *, header_lines: int) -> int:
    """Count the lines after the header that are not empty, which are the rows unless a cell spans lines."""
    return sum(
        _num_rows(lines.text) for lines in whole_rows(file, replace(dialect, quote=False), header_lines=header_lines)
    )


def _num_rows(text: bytes) -> int:
    """Count the lines that are not empty."""
    content = np.frombuffer(text.removeprefix(b"\xef\xbb\xbf"), dtype=np.uint8)
    is_end = (content == ord("\n")) | (content == ord("\r"))
    return int(np.count_nonzero(~is_end[1:] & is_end[:-1])) + int(len(content) > 0 and not is_end[0])


def check_quotes(file: InputFile, layout: Layout) -> None:
    """Check the rows of a file that has irregular quotation marks or cells that span lines.

    Raises:
        UserError: a column that is read has an irregular quotation mark or a cell that spans lines; or a cell contains
            lines that look like rows, which a stray quotation mark may have joined.
    """
    for block in whole_rows(file, layout.dialect, header_lines=layout.header_lines):
        if has_regular_rows(block.text, layout):
            continue
        for line, cells, lines in block.rows(layout.dialect, file):
            fault = fault_of(cells, layout) or _fault_of_quotes(lines, layout)
            if fault is not None:
                raise UserError(f"{file}, line {line}: {fault}")


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
        if len(alone) == layout.num_columns and fault_of(alone, layout) is None:
            return "a quoted cell spans lines that look like rows; if quotation marks are text, set data.quote=none"
    return None
