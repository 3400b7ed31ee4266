"""Ratings from delimited text, read by pyarrow."""

import codecs
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from ratinglab.errors import UserError
from ratinglab.formats.faults import count_nonempty_lines, find_first_fault, find_rating_fault, has_regular_rows
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import Layout
from ratinglab.formats.text_dialects import QuoteScan, cut_into_pieces
from ratinglab.formats.text_parsing import TextStream, parse_batches
from ratinglab.formats.timestamps import parse_times
from ratinglab.process.threads import map_in_order
from ratinglab.ratings.ids import ParsedBatch, parse_batch_ids

ENCLOSED_CELL = r'^\s*"([^"]*|([^"]|"")*"\s*)$'
"""A cell that is enclosed in quotation marks, or begins with one, so that the marks are not text."""


class IrregularQuotesError(UserError):
    """Quotation marks are irregular, or cells span lines. Only reading into memory can go on."""

    def __init__(self, file: InputFile) -> None:
        super().__init__(
            f"{file} has quotation marks within cells, or cells that span lines, which data.on_disk=true does not "
            "read: save it as Parquet, or set data.quote=none if they are text"
        )


def read_text(file: InputFile, layout: Layout, threads: ThreadPoolExecutor) -> tuple[Layout, list[ParsedBatch]]:
    """Read the rows of a file. Returns the layout that fits the file, with notes, and the rows.

    Raises:
        UserError: a row is faulty; the message gives the line of the first one.
    """
    try:
        return _read(file, layout, threads)
    except UserError:  # perhaps a date has another form than the first one
        any_dates = replace(layout, time_format=layout.time_format and layout.time_format.any_dates)
        if any_dates == layout:
            raise
    return _read(file, any_dates, threads)


def _read(file: InputFile, layout: Layout, threads: ThreadPoolExecutor) -> tuple[Layout, list[ParsedBatch]]:
    """Read the rows of a file whose timestamps have the format of the layout."""
    try:
        return layout, list(stream_text(file, layout, threads))
    except IrregularQuotesError:
        return _read_irregular_quotes(file, layout, threads)


def _read_irregular_quotes(
    file: InputFile, layout: Layout, threads: ThreadPoolExecutor
) -> tuple[Layout, list[ParsedBatch]]:
    """Read a file whose quotation marks are irregular, or whose quoted cells span lines.

    Tries to read the marks as text first, then to let quoted cells span lines.

    Raises:
        UserError: a row is faulty, a mark may have joined rows, or a mark is irregular in a column that is read.
    """
    as_text = layout.with_quotes_as_text(file)
    with suppress(pa.ArrowInvalid):
        return as_text, list(_convert_stream(file, as_text, threads, as_text.new_quote_scan(), _parse_unquoted_ids))
    multiline = replace(layout, spans_lines=True)
    scan, reason = layout.new_quote_scan(), "a quotation mark is irregular"
    batches: list[ParsedBatch] = []
    try:
        batches = list(_convert_stream(file, multiline, threads, scan))
        if scan.is_regular and not scan.may_join_rows:
            return multiline, batches
        if not scan.is_regular and sum(len(batch[2]) for batch in batches) != count_nonempty_lines(file, layout):
            batches = []  # a mark has joined lines
    except pa.ArrowInvalid as error:
        reason = str(error)
    fault = _find_fault(file, multiline)
    if fault is None and batches:
        return multiline, batches
    raise fault or (None if scan.is_regular else _find_fault(file, layout)) or _unreadable_error(file, reason)


def _parse_unquoted_ids(batch: pa.RecordBatch) -> ParsedBatch:
    """Parse the ids of a batch that was read without quotes. Raises ArrowInvalid if marks enclose or open an id."""
    for column in batch.columns[:2]:
        if pc.any(pc.match_substring_regex(column, ENCLOSED_CELL)).as_py():
            raise pa.ArrowInvalid("an id is enclosed in quotation marks, or only opened by one")
    return parse_batch_ids(batch)


def stream_text(file: InputFile, layout: Layout, threads: ThreadPoolExecutor) -> Iterator[ParsedBatch]:
    """Yield the converted batches of a file in bounded memory.

    Parses a plain file in several threads, any other file in one thread.

    Raises:
        IrregularQuotesError: a quoted cell spans lines, or quotation marks are irregular.
        UserError: a row is faulty, or there are no rows.
    """
    scan, num_rows = layout.new_quote_scan(), 0
    if pieces := cut_into_pieces(file, layout.dialect, header_lines=layout.header_lines):
        batches = _convert_pieces(file, layout, threads, pieces)
    else:
        batches = _convert_stream(file, layout, threads, scan)
    try:
        for batch in batches:
            num_rows += len(batch[2])
            yield batch
        if num_rows == 0:
            raise pa.ArrowInvalid("it has no rows")
    except pa.ArrowInvalid as error:
        if scan.is_regular and not scan.spans_lines:
            raise _find_fault(file, layout) or _unreadable_error(file, error) from error
    if not scan.is_regular or scan.spans_lines:
        raise IrregularQuotesError(file)


def _unreadable_error(file: InputFile, reason: object) -> UserError:
    return UserError(f"{file} cannot be read: {' '.join(str(reason).split())}")


def _find_fault(file: InputFile, layout: Layout) -> UserError | None:
    """Make the error for the first faulty row. Returns None if no row is faulty."""
    return find_first_fault(file, layout, find_rating_fault, parse=lambda text: _parse_rows(text, layout))


def _convert_pieces(
    file: InputFile, layout: Layout, threads: ThreadPoolExecutor, pieces: list[tuple[int, int]]
) -> Iterator[ParsedBatch]:
    """Parse and convert the pieces of a plain file in several threads. Raises the errors of `stream_text`."""

    def read(piece: tuple[int, int]) -> list[ParsedBatch]:
        start, stop = piece
        with file.path.open("rb") as stream:
            stream.seek(start)
            content = stream.read(stop - start)
        if start > 0 and content.startswith(codecs.BOM_UTF8):
            content = b"\n" + content  # else pyarrow would drop the byte-order mark
        if not has_regular_rows(content, layout):  # a quoted cell may continue in the next piece
            raise IrregularQuotesError(file)
        return [parse_batch_ids(batch) for batch in _parse_rows(content, layout)]

    return chain.from_iterable(map_in_order(threads, read, pieces, ahead=2 * pa.cpu_count()))


def _convert_stream(
    file: InputFile,
    layout: Layout,
    threads: ThreadPoolExecutor,
    scan: QuoteScan,
    convert: Callable[[pa.RecordBatch], ParsedBatch] = parse_batch_ids,
) -> Iterator[ParsedBatch]:
    """Parse a file in one thread while other threads convert its batches. Raises ArrowInvalid for a faulty row."""
    batches = _parse_rows(TextStream(file, layout, scan), layout)
    return map_in_order(threads, convert, batches, ahead=2 * pa.cpu_count())


def _parse_rows(text: TextStream | bytes, layout: Layout) -> Iterator[pa.RecordBatch]:
    """Yield batches of user, item, rating and, if read, timestamp. Raises ArrowInvalid for a faulty row.

    `text` is a whole file, or some rows of it.
    """
    time_type = pa.int64() if layout.time_format is None else layout.time_format.type
    type_by_role = {"user": pa.string(), "item": pa.string(), "rating": pa.float32(), "timestamp": time_type}
    types = {layout.positions[role]: kind for role, kind in type_by_role.items() if role in layout.positions}
    for batch in parse_batches(text, layout, types):
        numbers = [column for column in batch.columns if pa.types.is_floating(column.type)]
        if not all(pc.all(pc.is_finite(column), min_count=0).as_py() for column in numbers):
            raise pa.ArrowInvalid("a number is not finite")
        if layout.spans_lines and any(
            pc.any(pc.match_substring_regex(ids, r"[\r\n]")).as_py() for ids in batch.columns[:2]
        ):
            raise pa.ArrowInvalid("an id spans lines")
        if layout.time_format is not None and pa.types.is_string(layout.time_format.type):
            times = parse_times(batch.column(3), layout.time_format.pattern)
            batch = pa.RecordBatch.from_arrays([*batch.columns[:3], times], names=batch.schema.names)
        yield batch
