"""Where a file of ratings is wrong: the slow second look at a file that could not be read."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ratinglab.errors import UserError

LARGEST_RATING = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Layout:
    """How the columns of a file lie.

    Attributes:
        separator: the character between two columns.
        header_lines: lines before the first rating: 0 without a header.
        num_columns: cells in every row.
        user: position of the user ids, from 0; so item and rating.
    """

    separator: str
    header_lines: int
    num_columns: int
    user: int
    item: int
    rating: int


def first_row(path: Path, separator: str) -> tuple[int, list[str]]:
    """The first row that is not empty: the number of its line, from 1, and its cells.

    Raises:
        UserError: the file is empty, or no UTF-8 text.
    """
    for line, cells in _lines(path, separator):
        return line, cells
    raise UserError(f"{path} is empty")


def first_fault(path: Path, layout: Layout, *, otherwise: str = "reason unknown") -> UserError:
    """The error that names the first row that is wrong, by its line in the file.

    Args:
        path: the file.
        layout: how its columns lie.
        otherwise: what the fast reader said, for a fault that this look does not find.
    """
    line = 0
    for line, cells in _lines(path, layout.separator):
        fault = None if line <= layout.header_lines else _fault(cells, layout)
        if fault is not None:
            return UserError(f"{path}, line {line}: {fault}")
    if line <= layout.header_lines:
        return UserError(f"{path} has no ratings, only a header")
    return UserError(f"{path} cannot be read: {' '.join(otherwise.split())}")


def has_cells_over_lines(path: Path, *, num_rows: int) -> bool:
    """Whether rows of the file, header included, stand on more lines than there are rows.

    A stray quotation mark makes one cell of all rows up to the next such mark: rows that nobody would miss.
    """
    with path.open("rb") as file:
        quoted = any(b'"' in block for block in iter(lambda: file.read(1 << 24), b""))
        if not quoted:
            return False
        file.seek(0)
        return sum(1 for line in file if line.strip(b"\r\n\xef\xbb\xbf")) > num_rows


def _lines(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty, with the number of the line on which it ends."""
    csv.field_size_limit(1 << 30)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator)
        try:
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, line {_first_undecodable(path)}: not UTF-8 text ({error.reason})") from error
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: {error}") from error


def _first_undecodable(path: Path) -> int:
    """The number of the first line that is not UTF-8."""
    with path.open("rb") as file:
        for line, content in enumerate(file, start=1):
            try:
                content.decode()
            except UnicodeDecodeError:
                return line
    raise AssertionError("every line is UTF-8")


def _fault(cells: list[str], layout: Layout) -> str | None:
    if len(cells) != layout.num_columns:
        return f"a row must have {layout.num_columns} columns, got {len(cells)}"
    if any("\n" in cell or "\r" in cell for cell in cells):
        return "a quoted cell must end on the line on which it begins"
    for role, position in (("user", layout.user), ("item", layout.item)):
        if not cells[position].strip():
            return f"the {role} id must not be blank"
    text = cells[layout.rating]
    try:
        rating = float("not a number" if "_" in text else text)  # Python alone reads 1_000 as a number
    except ValueError:
        return f"the rating must be a number, got {text!r}"
    if not abs(rating) <= LARGEST_RATING:
        return f"the rating must be finite, got {text!r}"
    return None
