"""Compiled parser for large files of plain numbers; it leaves anything unusual to the general reader."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from ratinglab.ratings.faults import Layout
from ratinglab.ratings.inputs import InputFile

PIECE = 4 << 20
"""Bytes per thread and read."""
MOST_DIGITS = 18
"""Maximum digits of a time, so that it fits int64."""
LARGEST_ID = 2**31 - 1
MOST_RATING_DIGITS = 7
"""Maximum digits of a rating: its digits and the power of ten are then exact in float32, and so is their quotient's
rounding."""
IGNORED, USER, ITEM, RATING, TIMESTAMP = range(5)
NEWLINE, RETURN, QUOTE, MINUS, POINT, ZERO = (ord(character) for character in '\n\r"-.0')
REFUSED = -1


class PlainColumns(NamedTuple):
    """Columns of a file, each (N,).

    Attributes:
        user: int32 ids.
        item: int32 ids.
        rating: float32.
        timestamp: int64, as written; None if not read.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    rating: NDArray[np.float32]
    timestamp: NDArray[np.int64] | None


def read_plain(file: InputFile, layout: Layout) -> PlainColumns | None:
    """Read a file whose ids and times are plain decimal integers and whose ratings have few digits.

    Returns None for any other file: blank lines, quotation marks, blanks, exponents, ids beyond int32, rows of unequal
    length. The general reader reads the same values.
    """
    form = layout.form
    is_eligible = file.kind() == "plain" and form.is_utf8 and form.is_quoted and form.separator not in "-."
    if not is_eligible or (layout.timestamp is not None and layout.timestamp_type != pa.int64()):
        return None
    borders = list(_borders(file.path, layout.header_lines))
    pieces = list(pairwise(borders))
    if not pieces:
        return None
    largest = max(stop - start for start, stop in pieces)
    local = threading.local()

    def content_of(piece: tuple[int, int]) -> NDArray[np.uint8]:
        if not hasattr(local, "buffer"):  # reused memory is much faster than new memory
            local.buffer = np.empty(largest + 1, dtype=np.uint8)
        return _bytes(file.path, *piece, buffer=local.buffer)

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # numpy and the compiled code release the GIL
        stops = np.cumsum([0, *threads.map(lambda piece: _count_lines(content_of(piece)), pieces)])
        user, item = np.empty(stops[-1], dtype=np.int32), np.empty(stops[-1], dtype=np.int32)
        rating = np.empty(stops[-1], dtype=np.float32)
        timestamp = np.empty(0 if layout.timestamp is None else stops[-1], dtype=np.int64)
        roles = _roles(layout)
        separator = ord(form.delimiter)

        def parse(piece: tuple[int, int], start: int, stop: int) -> bool:
            return bool(_parse(content_of(piece), separator, roles, user, item, rating, timestamp, start, stop) == stop)

        if not all(threads.map(parse, pieces, stops[:-1], stops[1:])):
            return None
    return PlainColumns(user, item, rating, None if layout.timestamp is None else timestamp)


def _roles(layout: Layout) -> NDArray[np.int64]:
    """The role of each column: (num_columns,)."""
    roles = np.full(layout.num_columns, IGNORED)
    roles[[layout.user, layout.item, layout.rating]] = USER, ITEM, RATING
    if layout.timestamp is not None:
        roles[layout.timestamp] = TIMESTAMP
    return roles


def _borders(path: Path, header_lines: int) -> Iterator[int]:
    """Yield where to cut the file: after the header, after lines about PIECE bytes apart, and at the end.

    Yields nothing if the header's lines end with anything but \\n or \\r\\n.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header = b"".join(file.readline() for _ in range(header_lines))
        if b"\r" in header.replace(b"\r\n", b"\n"):
            return
        while file.tell() < size:
            yield file.tell()
            file.seek(PIECE, 1)
            file.readline()
        yield size


def _bytes(path: Path, start: int, stop: int, *, buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Read the bytes of a piece and append a line end, which the last line may lack: (stop − start + 1,)."""
    content = buffer[: stop - start + 1]
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        read = file.readinto(content[:-1])  # type: ignore[arg-type]
    content[read:] = NEWLINE  # if the file was truncated meanwhile, these are blank lines, which are rejected
    return content


def _count_lines(content: NDArray[np.uint8]) -> int:
    """Count the lines of a piece; the appended line end counts if the last line lacks its own."""
    return int(np.count_nonzero(content[:-1] == NEWLINE)) + int(content[-2] != NEWLINE)


@njit(nogil=True, cache=True)
def _parse(content, separator, roles, user, item, rating, timestamp, row, stop):  # type: ignore[no-untyped-def]
    """Write the rows of a piece from `row` up to `stop`; return the row after the last one, or REFUSED."""
    position, size = 0, len(content) - 1  # the appended line end is not a line of its own
    while position < size:
        if row == stop:  # the file has grown since its lines were counted
            return REFUSED
        for column in range(len(roles)):
            role = roles[column]
            byte = content[position]
            if role == IGNORED:
                while byte != separator and byte != NEWLINE and byte != RETURN:
                    if byte == QUOTE:
                        return REFUSED
                    position += 1
                    byte = content[position]
            else:
                is_negative = role == RATING and byte == MINUS
                if is_negative:
                    position += 1
                first = position
                value, position = _digits(content, position, 0)
                digits = position - first
                if digits == 0 or digits > MOST_DIGITS or (digits > 1 and content[first] == ZERO):
                    return REFUSED
                byte = content[position]
                if role in (USER, ITEM):
                    if value > LARGEST_ID:
                        return REFUSED
                    if role == USER:
                        user[row] = value
                    else:
                        item[row] = value
                elif role == TIMESTAMP:
                    timestamp[row] = value
                else:
                    scale = np.float32(1)
                    if byte == POINT:
                        first = position + 1
                        value, position = _digits(content, first, value)
                        byte = content[position]
                        digits += position - first
                        if position == first:
                            return REFUSED
                        for _ in range(position - first):
                            scale *= np.float32(10)
                    if digits > MOST_RATING_DIGITS:
                        return REFUSED
                    rating[row] = (-np.float32(value) if is_negative else np.float32(value)) / scale
            position += 1
            if column < len(roles) - 1:
                if byte != separator:
                    return REFUSED
            elif byte == RETURN:
                if content[position] != NEWLINE:
                    return REFUSED
                position += 1
            elif byte != NEWLINE:
                return REFUSED
        row += 1
    return row


@njit(nogil=True, cache=True)
def _digits(content, position, value):  # type: ignore[no-untyped-def]
    """Append the digits from a position on to a value; return the new value and the position after them."""
    while True:
        digit = np.int64(content[position]) - ZERO
        if digit < 0 or digit > 9:
            return value, position
        value = value * 10 + digit
        position += 1
