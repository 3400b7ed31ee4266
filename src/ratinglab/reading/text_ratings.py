"""Ratings from delimited text, read by pyarrow."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from ratinglab.errors import UserError
from ratinglab.formats.faults import count_nonempty_lines, find_first_fault
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import Layout
from ratinglab.formats.quotes import QuoteScan, has_regular_rows
from ratinglab.formats.rows_by_pyarrow import map_row_blocks, parse_rows
from ratinglab.formats.timestamps import parse_times
from ratinglab.ratings.ids import ParsedBatch, parse_batch_ids
from ratinglab.reading.gathering import FileColumns, gather_columns

MARKED_CELL = r'^\s*"([^"]*|([^"]|"")*"\s*)$'
"""A cell that quotation marks enclose, or that begins with one. These marks are not text."""


class IrregularQuotesError(UserError):
    """Quotation marks are irregular, or cells span lines. Only reading into memory can handle this."""

    def __init__(self, file: InputFile) -> None:
        super().__init__(
            f"{file} has quotation marks within cells, or cells that span lines, which data.on_disk=true does not "
            "read: save it as Parquet, or set data.quote=none if they are text"
        )


def read_text(file: InputFile, layout: Layout) -> tuple[Layout, FileColumns]:
    """Read the rows of a file. Returns the layout that fits the file, with notes, and the columns.

    Raises:
        UserError: a row is faulty; the message gives the line of the first one.
    """
    try:
        return layout, gather_columns(stream_text(file, layout))
    except IrregularQuotesError:
        return _read_irregular_quotes(file, layout)


def _read_irregular_quotes(file: InputFile, layout: Layout) -> tuple[Layout, FileColumns]:
    """Read a file whose quotation marks are irregular, or whose quoted cells span lines.

    Tries to read the marks as text first, then to let quoted cells span lines.

    Raises:
        UserError: a row is faulty, a mark may have joined rows, or a mark is irregular in a column that is read.
    """
    as_text = layout.with_quotes_as_text(file)
    with suppress(pa.ArrowInvalid):
        parse_as_text = partial(_parse, layout=as_text, refused=MARKED_CELL)
        return as_text, gather_columns(map_row_blocks(file, as_text, parse_as_text))
    multiline = replace(layout, spans_lines=True)
    scan, reason = QuoteScan(multiline), "a quotation mark is irregular"
    columns: FileColumns | None = None

    def parse(text: bytes) -> list[ParsedBatch]:
        scan.add(text)
        return _parse(text, multiline)

    try:
        columns = gather_columns(map_row_blocks(file, multiline, parse))
        if scan.fits_layout:
            return multiline, columns
        if not scan.is_regular and len(columns.rating) != count_nonempty_lines(file, layout):
            columns = None  # a mark has joined lines
    except pa.ArrowInvalid as error:
        reason = str(error)
    fault = _find_fault(file, multiline)
    if fault is None and columns is not None:
        return multiline, columns
    raise fault or (None if scan.is_regular else _find_fault(file, layout)) or _unreadable_error(file, reason)


def stream_text(file: InputFile, layout: Layout) -> Iterator[ParsedBatch]:
    """Yield the converted batches of a file in bounded memory.

    Raises:
        IrregularQuotesError: a quoted cell spans lines, or quotation marks are irregular.
        UserError: a row is faulty, or there are no rows.
    """

    def parse(text: bytes) -> list[ParsedBatch]:
        if not has_regular_rows(text, layout):
            raise IrregularQuotesError(file)
        return _parse(text, layout)

    num_rows = 0
    try:
        for batch in map_row_blocks(file, layout, parse):
            num_rows += len(batch[2])
            yield batch
        if num_rows == 0:
            raise pa.ArrowInvalid("it has no rows")
    except pa.ArrowInvalid as error:
        raise _find_fault(file, layout) or _unreadable_error(file, error) from error


def _unreadable_error(file: InputFile, reason: object) -> UserError:
    return UserError(f"{file} cannot be read: {' '.join(str(reason).split())}")


def _find_fault(file: InputFile, layout: Layout) -> UserError | None:
    return find_first_fault(file, layout, parse=partial(_parse, layout=layout))


def _parse(text: bytes, layout: Layout, *, refused: str | None = None) -> list[ParsedBatch]:
    """Parse whole rows into batches of user, item, rating and, if read, timestamp.

    Raises:
        ArrowInvalid: a row is faulty, or an id or a date spans lines or matches the pattern `refused`.
    """
    batches = []
    for batch in _parse_columns(text, layout, refused=r"[\r\n]" if layout.spans_lines else refused):
        numbers = [column for column in batch.columns if pa.types.is_floating(column.type)]
        if not all(pc.all(pc.is_finite(column), min_count=0).as_py() for column in numbers):
            raise pa.ArrowInvalid("a number is not finite")
        batches.append(parse_batch_ids(batch))
    return batches


def _parse_columns(text: bytes, layout: Layout, *, refused: str | None) -> list[pa.RecordBatch]:
    """Parse the columns of `_parse`, with dates in any ISO form if the first one is an ISO date."""
    time_format = layout.time_format
    type_by_role = {"user": pa.string(), "item": pa.string(), "rating": pa.float32()}
    types = {layout.positions[role]: kind for role, kind in type_by_role.items()}
    if time_format is None:
        return parse_rows(text, layout, types, refused=refused)
    position = layout.positions["timestamp"]
    if not pa.types.is_string(time_format.type):
        try:
            return parse_rows(text, layout, {**types, position: time_format.type}, refused=refused)
        except pa.ArrowInvalid:
            if time_format.any_dates == time_format:
                raise
    batches = []
    for batch in parse_rows(text, layout, {**types, position: pa.string()}, refused=refused):
        times = parse_times(batch.column(3), time_format.pattern)
        if not pa.types.is_string(time_format.type):
            times = times.cast(time_format.type)
        batches.append(pa.RecordBatch.from_arrays([*batch.columns[:3], times], names=batch.schema.names))
    return batches
