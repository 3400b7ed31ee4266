"""Ratings from delimited text, read by pyarrow."""

import codecs
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from ratinglab.errors import UserError
from ratinglab.formats.faults import fault_of_ratings, first_fault, has_regular_rows, num_rows_by_line
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import Layout
from ratinglab.formats.text_dialects import QuoteScan, pieces_of
from ratinglab.formats.text_parsing import TextStream, parsed_batches
from ratinglab.formats.timestamps import parsed_times
from ratinglab.process.threads import map_in_order
from ratinglab.ratings.ids import with_parsed_ids

ENCLOSED = r'^\s*"([^"]*|([^"]|"")*"\s*)$'
"""A cell that quotation marks enclose or one mark opens, so that the marks are not text."""
Parts: TypeAlias = "list[list[Any]]"
"""Batches: ids of users and of items, see `with_parsed_ids`; rating as float32; and, if read, timestamp."""


class IrregularQuotesError(UserError):
    """Quotation marks within cells, or cells that span lines."""

    def __init__(self, file: InputFile) -> None:
        super().__init__(
            f"{file} has quotation marks within cells, or cells that span lines, which data.on_disk=true does not "
            "read: save it as Parquet, or set data.quote=none if they are text"
        )


def read_text(file: InputFile, layout: Layout, threads: ThreadPoolExecutor) -> tuple[Layout, Parts]:
    """Read the rows of a file; return them after the layout that fits the file, with notes on it.

    Raises:
        UserError: a row is faulty; the message gives the line of the first one.
    """
    any_dates = replace(layout, time_format=layout.time_format and layout.time_format.any_dates)
    try:
        return _read(file, layout, threads)
    except UserError:  # perhaps for a date in another form than the first one
        if any_dates == layout:
            raise
    return _read(file, any_dates, threads)


def _read(file: InputFile, layout: Layout, threads: ThreadPoolExecutor) -> tuple[Layout, Parts]:
    """Read the rows of a file whose timestamps have one type."""
    try:
        return layout, list(_parts_of(file, layout, threads))
    except IrregularQuotesError:
        return _read_irregular_quotes(file, layout, threads)
    except pa.ArrowInvalid as error:
        raise _fault(file, layout) or _unreadable(file, error) from error


def _read_irregular_quotes(file: InputFile, layout: Layout, threads: ThreadPoolExecutor) -> tuple[Layout, Parts]:
    """Read a file whose quotation marks are text or irregular, or whose quoted cells span lines.

    Raises:
        UserError: a row is faulty; or a mark may have joined rows, or is irregular in a column that is read.
    """
    note = f"{file}: quotation marks were read as text, as with data.quote=none"
    as_text = replace(layout, dialect=replace(layout.dialect, quote=False), notes=(*layout.notes, note))
    with suppress(pa.ArrowInvalid):
        return as_text, list(_parts_in_order(file, as_text, threads, as_text.new_scan(), _convert_unquoted))
    spanning, scan, reason = replace(layout, spans_lines=True), layout.new_scan(), "a quotation mark is irregular"
    parts: Parts = []
    try:
        parts = list(_parts_in_order(file, spanning, threads, scan))
        if scan.is_regular and not scan.may_join_rows:
            return spanning, parts
        if not scan.is_regular and sum(len(part[2]) for part in parts) != num_rows_by_line(file, layout):
            parts = []  # a mark has joined lines
    except pa.ArrowInvalid as error:
        reason = str(error)
    fault = _fault(file, spanning)
    if fault is None and parts:
        return spanning, parts
    raise fault or (None if scan.is_regular else _fault(file, layout)) or _unreadable(file, reason)


def _convert_unquoted(batch: pa.RecordBatch) -> list[Any]:
    """Convert a batch that was read without quotes. Raises ArrowInvalid if marks enclose or open an id."""
    for column in batch.columns[:2]:
        if pc.any(pc.match_substring_regex(column, ENCLOSED)).as_py():
            raise pa.ArrowInvalid("an id is enclosed in quotation marks, or only opened by one")
    return with_parsed_ids(batch)


def stream_text(file: InputFile, layout: Layout, threads: ThreadPoolExecutor) -> Iterator[list[Any]]:
    """Yield the converted batches of a file in bounded memory.

    Raises:
        UserError: a row is faulty, a quoted cell spans lines, or quotation marks are irregular.
    """
    try:
        yield from _parts_of(file, layout, threads)
    except pa.ArrowInvalid as error:
        raise _fault(file, layout) or _unreadable(file, error) from error


def _unreadable(file: InputFile, reason: object) -> UserError:
    return UserError(f"{file} cannot be read: {' '.join(str(reason).split())}")


def _fault(file: InputFile, layout: Layout) -> UserError | None:
    """Make the error for the first faulty row; None if there is none."""

    def is_valid(lines: bytes) -> bool:
        try:
            return has_regular_rows(lines, layout) and len(list(_parsed(lines, layout))) > 0
        except pa.ArrowInvalid:
            return False

    return first_fault(file, layout, fault_of_ratings, is_valid=is_valid)


def _parts_of(file: InputFile, layout: Layout, threads: ThreadPoolExecutor) -> Iterator[list[Any]]:
    """Yield the converted batches of a file. Parses a plain file in several threads, any other file in one.

    Raises:
        ArrowInvalid: a row is faulty, or there is none.
        IrregularQuotesError: a quoted cell spans lines, or quotation marks are irregular.
    """
    scan, num_rows = layout.new_scan(), 0
    if pieces := pieces_of(file, layout.dialect, header_lines=layout.header_lines):
        parts = _parts_of_pieces(file, layout, threads, pieces)
    else:
        parts = _parts_in_order(file, layout, threads, scan)
    try:
        for part in parts:
            num_rows += len(part[2])
            yield part
        if num_rows == 0:
            raise pa.ArrowInvalid("it has no rows")
    except pa.ArrowInvalid:
        if scan.is_regular and not scan.spans_lines:
            raise
    if not scan.is_regular or scan.spans_lines:
        raise IrregularQuotesError(file)


def _parts_of_pieces(
    file: InputFile, layout: Layout, threads: ThreadPoolExecutor, pieces: list[tuple[int, int]]
) -> Iterator[list[Any]]:
    """Parse and convert the pieces of a plain file in several threads; see `_parts_of`."""

    def read(piece: tuple[int, int]) -> Parts:
        start, stop = piece
        with file.path.open("rb") as stream:
            stream.seek(start)
            content = stream.read(stop - start)
        if start > 0 and content.startswith(codecs.BOM_UTF8):
            content = b"\n" + content  # else pyarrow would drop the mark
        if not has_regular_rows(content, layout):  # a quoted cell may continue in the next piece
            raise IrregularQuotesError(file)
        return [with_parsed_ids(batch) for batch in _parsed(content, layout)]

    return chain.from_iterable(map_in_order(threads, read, pieces, ahead=2 * pa.cpu_count()))


def _parts_in_order(
    file: InputFile,
    layout: Layout,
    threads: ThreadPoolExecutor,
    scan: QuoteScan,
    convert: Callable[[pa.RecordBatch], list[Any]] = with_parsed_ids,
) -> Iterator[list[Any]]:
    """Parse a file in one thread while others convert its batches. Raises ArrowInvalid for a faulty row."""
    batches = _parsed(TextStream(file, layout, scan), layout)
    return map_in_order(threads, convert, batches, ahead=2 * pa.cpu_count())


def _parsed(source: TextStream | bytes, layout: Layout) -> Iterator[pa.RecordBatch]:
    """Yield batches of user, item, rating and timestamp of a file or of some rows. Raises ArrowInvalid."""
    time_type = pa.int64() if layout.time_format is None else layout.time_format.type
    type_of = {"user": pa.string(), "item": pa.string(), "rating": pa.float32(), "timestamp": time_type}
    types = {layout.positions[role]: kind for role, kind in type_of.items() if role in layout.positions}
    for batch in parsed_batches(source, layout, types):
        numbers = [column for column in batch.columns if pa.types.is_floating(column.type)]
        if not all(pc.all(pc.is_finite(column), min_count=0).as_py() for column in numbers):
            raise pa.ArrowInvalid("a number is not finite")
        if layout.spans_lines and any(
            pc.any(pc.match_substring_regex(ids, r"[\r\n]")).as_py() for ids in batch.columns[:2]
        ):
            raise pa.ArrowInvalid("an id spans lines")
        if layout.time_format is not None and pa.types.is_string(layout.time_format.type):
            times = parsed_times(batch.column(3), layout.time_format.pattern)
            batch = pa.RecordBatch.from_arrays([*batch.columns[:3], times], names=batch.schema.names)
        yield batch
