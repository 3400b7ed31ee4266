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
import pyarrow.csv

from ratinglab.errors import UserError
from ratinglab.formats.faults import check_quotes, first_fault, has_regular_rows, num_rows_by_line
from ratinglab.formats.inputs import BLOCK_SIZE, InputFile, in_order
from ratinglab.formats.layouts import Layout
from ratinglab.formats.text_dialects import QuoteScan, TextStream, arrow_options, pieces_of
from ratinglab.formats.timestamps import parsed_times
from ratinglab.ratings.ids import with_parsed_ids

ENCLOSED = r'^\s*"([^"]*|([^"]|"")*"\s*)$'
"""A cell that quotation marks enclose or one mark opens, so that the marks are not text."""
Parts: TypeAlias = "list[list[Any]]"
"""Batches: ids of users and of items, see `with_parsed_ids`; rating as float32; and, if read, timestamp."""


class FaultyRowError(Exception):
    """A row that pyarrow or a conversion refuses.

    Attributes:
        num_valid_bytes: number of bytes before the row that have no fault.
        has_regular_quotes: whether all quotation marks before it are regular, and no quoted cell spans lines.
    """

    def __init__(self, num_valid_bytes: int, reason: object, *, has_regular_quotes: bool = True) -> None:
        super().__init__(str(reason))
        self.num_valid_bytes = num_valid_bytes
        self.has_regular_quotes = has_regular_quotes


class IrregularQuotesError(UserError):
    """Quotation marks within cells, or cells that span lines."""


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
        pass
    except FaultyRowError as error:
        if error.has_regular_quotes:
            raise _fault(file, layout, error) from error
    return _read_irregular_quotes(file, layout, threads)


def _read_irregular_quotes(file: InputFile, layout: Layout, threads: ThreadPoolExecutor) -> tuple[Layout, Parts]:
    """Read a file whose quotation marks are text or irregular, or whose quoted cells span lines.

    Raises:
        UserError: a row is faulty; or a mark may have joined rows, or is irregular in a column that is read.
    """
    note = f"{file}: quotation marks were read as text, as with data.quote=none"
    as_text = replace(layout, dialect=replace(layout.dialect, quote=False), notes=(*layout.notes, note))
    with suppress(FaultyRowError):
        return as_text, list(_parts_in_order(file, as_text, threads, as_text.new_scan(), _convert_unquoted))
    with suppress(FaultyRowError):  # as pyarrow reads them, unless that joins lines
        parts = list(_parts_in_order(file, layout, threads, layout.new_scan()))
        num_rows = sum(len(rating) for _, _, rating, *_ in parts)
        if num_rows == num_rows_by_line(file, layout):
            check_quotes(file, layout)
            return layout, parts
    fault = FaultyRowError(0, "a quotation mark is irregular")
    spanning, scan = replace(layout, spans_lines=True), layout.new_scan()
    try:
        parts = list(_parts_in_order(file, spanning, threads, scan))
        if scan.is_regular:
            if scan.may_join_rows:
                check_quotes(file, spanning)
            return spanning, parts
    except FaultyRowError as error:
        fault = FaultyRowError(0, error)  # a cell may span the lines before the row
    check_quotes(file, spanning)
    raise _fault(file, spanning if scan.is_regular else layout, fault)


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
    except FaultyRowError as error:
        raise _fault(file, layout, error) from error


def _fault(file: InputFile, layout: Layout, error: FaultyRowError) -> UserError:
    def parse(lines: bytes) -> list[pa.RecordBatch]:
        return list(_parsed(pyarrow.csv.read_csv, pa.BufferReader(lines), layout, skip=0))

    return first_fault(file, layout, parse=parse, fallback_reason=str(error), num_valid_bytes=error.num_valid_bytes)


def _parts_of(file: InputFile, layout: Layout, threads: ThreadPoolExecutor) -> Iterator[list[Any]]:
    """Yield the converted batches of a file. Parses a plain file in several threads, any other file in one.

    Raises:
        FaultyRowError: a row is faulty, or there is none.
        IrregularQuotesError: a quoted cell spans lines, or quotation marks are irregular.
    """
    scan, num_rows = layout.new_scan(), 0
    if pieces := pieces_of(file, layout.dialect, header_lines=layout.header_lines):
        parts = _parts_of_pieces(file, layout, threads, pieces)
    else:
        parts = _parts_in_order(file, layout, threads, scan)
    for part in parts:
        num_rows += len(part[2])
        yield part
    if not scan.is_regular or scan.spans_lines:
        raise _irregular_quotes(file)
    if num_rows == 0:
        raise FaultyRowError(0, "it has no rows")


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
            raise _irregular_quotes(file)
        try:
            batches = _parsed(pyarrow.csv.read_csv, pa.BufferReader(content), layout, skip=0)
            return [with_parsed_ids(batch) for batch in batches]
        except pa.ArrowInvalid as error:
            raise FaultyRowError(start - pieces[0][0], error) from error

    return chain.from_iterable(in_order(threads, read, pieces, ahead=2 * pa.cpu_count()))


def _irregular_quotes(file: InputFile) -> IrregularQuotesError:
    return IrregularQuotesError(
        f"{file} has quotation marks within cells, or cells that span lines, which data.on_disk=true does not read: "
        "save it as Parquet, or set data.quote=none if they are text"
    )


def _parts_in_order(
    file: InputFile,
    layout: Layout,
    threads: ThreadPoolExecutor,
    scan: QuoteScan,
    convert: Callable[[pa.RecordBatch], list[Any]] = with_parsed_ids,
) -> Iterator[list[Any]]:
    """Parse a file in one thread while others convert its batches. Raises FaultyRowError."""
    num_batches = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal num_batches
        stream = TextStream(file, layout.dialect, header_lines=layout.header_lines, scan=scan)
        for batch in _parsed(pyarrow.csv.open_csv, stream, layout, skip=layout.header_lines):
            num_batches += 1
            yield batch

    try:
        yield from in_order(threads, convert, batches(), ahead=2 * pa.cpu_count())
    except pa.ArrowInvalid as error:
        # the fault may be in a line that begins in the last block that was read
        num_valid_bytes = max(num_batches - 1, 0) * BLOCK_SIZE
        is_regular = scan.is_regular and not scan.spans_lines
        raise FaultyRowError(num_valid_bytes, error, has_regular_quotes=is_regular) from error


def _parsed(read: Callable[..., Any], stream: Any, layout: Layout, *, skip: int) -> Iterator[pa.RecordBatch]:
    """Yield batches of user, item, rating and timestamp, read by a function of pyarrow. Raises ArrowInvalid."""
    names = [str(position) for position in range(layout.num_columns)]
    types = {names[layout.positions[role]]: pa.string() for role in ("user", "item")}
    types[names[layout.positions["rating"]]] = pa.float32()
    if "timestamp" in layout.positions:
        kind = pa.int64() if layout.time_format is None else layout.time_format.type
        types[names[layout.positions["timestamp"]]] = kind
    options = arrow_options(
        layout.dialect, names, types, skipped_lines=skip, spans_lines=layout.spans_lines, use_threads=False
    )
    found = read(stream, **options)
    for batch in found.to_batches() if isinstance(found, pa.Table) else found:
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
