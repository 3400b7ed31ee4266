"""Slow second pass over a file that the fast reader rejects, to find the line of the fault."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ratinglab.errors import UserError, did_you_mean
from ratinglab.ratings.inputs import InputFile, TextForm, utf8_blocks
from ratinglab.ratings.timestamps import is_written_as

LONGEST_NAME, MOST_NAMES = 40, 30
"""Maximum characters of a column name, and number of columns, in a message."""
LARGEST_RATING = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Layout:
    """Layout of a text file.

    Attributes:
        form: separator and encoding.
        header_lines: number of lines before the first rating, 0 without a header.
        num_columns: number of cells in every row.
        user: position of the user ids, from 0; likewise item, rating and, if read, timestamp.
        timestamp_type: type of the timestamps.
    """

    form: TextForm
    header_lines: int
    num_columns: int
    user: int
    item: int
    rating: int
    timestamp: int | None
    timestamp_type: pa.DataType | None


def column_position(names: Sequence[str], wanted: str, *, key: str, file: InputFile, header: bool) -> int:
    """Find the position, from 0, of the column that `key` names.

    Raises:
        UserError: no column has that name, or several do; the message lists the columns.
    """
    count = names.count(wanted)
    if count == 1:
        return names.index(wanted)
    if count > 1:
        raise UserError(f"{key}: {file} has {count} columns named {wanted!r}")
    hint = "; is data.separator right?" if len(names) == 1 else ""
    if not header:
        rule = f"a column's position from 1 to {len(names)} (data.header=false)"
        raise UserError(f"{key} must be {rule}, got {wanted!r}{hint}")
    if len(names) > 1 and all(name.replace(".", "", 1).isdigit() for name in names):
        hint = "; if that is not a header, set data.header=false and columns by position"
    suggestion = did_you_mean(wanted, names)
    raise UserError(f"{key}: {file} has no column {wanted!r}; it has {_listed(names)}{suggestion}{hint}")


def _listed(names: Sequence[str]) -> str:
    """List names on one line, shortened: a stray quotation mark can turn a whole file into one name."""
    shown = [" ".join(printable(name).split())[:LONGEST_NAME] for name in names[:MOST_NAMES]]
    return ", ".join(shown) + (", …" if len(names) > MOST_NAMES else "")


def printable(text: str) -> str:
    """Replace each byte that is not UTF-8 by a mark."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def first_rows(file: InputFile, form: TextForm, count: int) -> list[tuple[int, list[str]]]:
    """Read the first rows that are not empty: the line number of each, from 1, and its cells.

    Raises:
        UserError: the file is empty, damaged, or not in its encoding.
    """
    rows = [row for row, _ in zip(_lines(file, form), range(count), strict=False)]
    if not rows:
        raise UserError(f"{file} is empty")
    return rows


def first_fault(file: InputFile, layout: Layout, *, otherwise: str = "reason unknown") -> UserError:
    """Make the error for the first faulty row, with its line number.

    Args:
        file: the file.
        layout: layout of the file.
        otherwise: message of the fast reader, for a fault that this pass does not find.
    """
    line = 0
    for line, cells in _lines(file, layout.form):
        fault = None if line <= layout.header_lines else _fault(cells, layout)
        if fault is not None:
            return UserError(f"{file}, line {line}: {fault}")
    if line <= layout.header_lines:
        return UserError(f"{file} has no ratings, only a header")
    return UserError(f"{file} cannot be read: {' '.join(otherwise.split())}")


def lines_of_rows(file: InputFile, layout: Layout, rows: list[int]) -> list[int]:
    """Find the line, from 1, of each rating, from 0. Reads the file once, up to the last of them."""
    lines = (line for line, _ in _lines(file, layout.form) if line > layout.header_lines)
    wanted = set(rows)
    found = {row: line for row, line in zip(range(max(rows) + 1), lines, strict=False) if row in wanted}
    return [found[row] for row in rows]


def count_lines(file: InputFile, layout: Layout) -> int:
    """Count the lines that are not blank, header included.

    If there are more lines than rows, a cell spans lines: a stray quotation mark silently merges all rows up to the
    next one into one cell.
    """
    lines, after_end = 0, True
    for block in utf8_blocks(file, layout.form):
        content = np.frombuffer(block.removeprefix(b"\xef\xbb\xbf"), dtype=np.uint8)
        if len(content) == 0:
            continue
        is_end = (content == ord("\n")) | (content == ord("\r"))
        lines += int(np.count_nonzero(~is_end[1:] & is_end[:-1])) + int(after_end and not is_end[0])
        after_end = bool(is_end[-1])
    return lines


def _lines(file: InputFile, form: TextForm) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty, with the number of its first line."""
    csv.field_size_limit(1 << 30)
    reader = csv.reader(
        _text_lines(file, form),
        delimiter=form.delimiter,
        quoting=csv.QUOTE_MINIMAL if form.is_quoted else csv.QUOTE_NONE,
    )
    try:
        line = 1
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}") from error


def _text_lines(file: InputFile, form: TextForm) -> Iterator[str]:
    """Yield the lines of a file as text with their line ends: `\\n`, `\\r\\n` or `\\r`."""
    number, rest = 0, b""
    for block in utf8_blocks(file, form):
        lines = (rest + block).splitlines(keepends=True)
        # a line may continue in the next block, and a \r may be half of a line end
        rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in lines:
            number += 1
            yield _decoded(line, number)
    if rest:
        yield _decoded(rest, number + 1)


def _decoded(line: bytes, number: int) -> str:
    """Decode a line and preserve bytes that are not UTF-8: they may be in a column that is not read."""
    return line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")


def _fault(cells: list[str], layout: Layout) -> str | None:
    if any("\n" in cell.rstrip("\r\n") or "\r" in cell.rstrip("\r\n") for cell in cells):
        return "a quoted cell must end on the line on which it begins"
    if len(cells) != layout.num_columns:
        return f"a row must have {layout.num_columns} columns, got {len(cells)}"
    for role, position in (("user", layout.user), ("item", layout.item)):
        if not cells[position].strip():
            return f"the {role} id must not be blank"
        if cells[position] != printable(cells[position]):
            return f"the {role} id is not UTF-8 text, got {printable(cells[position])!r}; is data.encoding right?"
    text = cells[layout.rating]
    try:
        # only Python accepts 1_000, digits of other scripts, and exotic white space around numbers
        is_plain = text.isascii() and "_" not in text and text.strip() == text.strip(" \t")
        rating = float(text if is_plain else "not a number")
    except ValueError:
        return f"the rating must be a number, got {printable(text)!r}"
    if not abs(rating) <= LARGEST_RATING:
        return f"the rating must be finite, got {text!r}"
    if layout.timestamp is None:
        return None
    time = printable(cells[layout.timestamp])
    if not is_written_as(time.strip(), layout.timestamp_type):
        wanted = "an ISO date" if pa.types.is_timestamp(layout.timestamp_type) else "Unix time"
        return f"the timestamp must be {wanted}, as in the first row, got {time!r}"
    return None
