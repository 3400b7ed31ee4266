"""Ratings from delimited text, read by pyarrow."""

import codecs
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ratinglab.errors import UserError
from ratinglab.formats.faults import TimestampError, check_quotes, first_fault, has_regular_rows, num_rows_by_line
from ratinglab.formats.inputs import BLOCK_SIZE, InputFile, in_order
from ratinglab.formats.layouts import Layout
from ratinglab.formats.text_dialects import QUOTE, QuoteScan, TextStream, arrow_options, pieces_of
from ratinglab.formats.timestamps import parsed_times

ENCLOSED = r'^\s*"([^"]*|([^"]|"")*"\s*)$'
"""A cell that quotation marks enclose or one mark opens, so that the marks are not text."""
Convert = Callable[[pa.RecordBatch], list[Any]]
"""Conversion of a batch whose columns are user and item as text, rating as float32 and, if read, timestamp."""


class TextRows(NamedTuple):
    """Rows of a text file.

    Attributes:
        layout: the layout that fits the file.
        parts: the converted batches.
        notes: remarks on the dialect.
    """

    layout: Layout
    parts: list[list[Any]]
    notes: list[str]


class FaultyRowError(Exception):
    """A row that pyarrow or a conversion refuses.

    Attributes:
        num_valid_bytes: number of bytes before the row that have no fault.
    """

    def __init__(self, num_valid_bytes: int, reason: object) -> None:
        super().__init__(str(reason))
        self.num_valid_bytes = num_valid_bytes


def read_text(file: InputFile, layout: Layout, threads: ThreadPoolExecutor, convert: Convert) -> TextRows:
    """Read the rows of a file. Raises UserError for the first faulty row, with its line."""
    any_dates = layout.with_any_dates()
    try:
        return _read(file, layout, threads, convert)
    except TimestampError:
        if any_dates is None:
            raise
    return _read(file, any_dates, threads, convert)


def _read(file: InputFile, layout: Layout, threads: ThreadPoolExecutor, convert: Convert) -> TextRows:
    """Read the rows of a file whose timestamps have one type."""
    scan = QuoteScan(layout.dialect, num_columns=layout.num_columns)
    try:
        parts = _read_pieces(file, layout, threads, convert) or _read_in_order(file, layout, threads, convert, scan)
    except FaultyRowError as error:
        if scan.is_regular and not scan.spans_lines:
            raise _fault(file, layout, error) from error
        parts = []
    num_rows = sum(len(rating) for _, _, rating, *_ in parts)
    if scan.is_regular and not scan.spans_lines:
        if num_rows == 0:
            raise _fault(file, layout, FaultyRowError(0, "it has no rows"))
        return TextRows(layout, parts, [])
    is_row_by_line = num_rows == num_rows_by_line(file, layout.dialect, header_lines=layout.header_lines)
    return _read_irregular_quotes(file, layout, threads, convert, lenient=parts if is_row_by_line else [])


def _read_irregular_quotes(
    file: InputFile, layout: Layout, threads: ThreadPoolExecutor, convert: Convert, *, lenient: list[list[Any]]
) -> TextRows:
    """Read a file whose quotation marks are text or irregular, or whose quoted cells span lines.

    Args:
        lenient: the rows as pyarrow reads them with quotes; empty if it refuses a row or joins lines.

    Raises:
        UserError: a row is faulty; or a mark may have joined rows, or is irregular in a column that is read.
    """
    as_text = replace(layout, dialect=replace(layout.dialect, quote=False))
    spanning = replace(layout, spans_lines=True)
    scans = [QuoteScan(each.dialect, num_columns=layout.num_columns) for each in (as_text, spanning)]
    try:
        parts = _read_in_order(file, as_text, threads, partial(_convert_unquoted, convert), scans[0])
        return TextRows(as_text, parts, [f"{file}: quotation marks were read as text, as with data.quote=none"])
    except FaultyRowError:
        pass
    if lenient:
        check_quotes(file, layout)
        return TextRows(layout, lenient, [])
    fault = FaultyRowError(0, "a quotation mark is irregular")
    try:
        parts = _read_in_order(file, spanning, threads, convert, scans[1])
        if scans[1].is_regular:
            if scans[1].may_join_rows:
                check_quotes(file, spanning)
            return TextRows(spanning, parts, [])
    except FaultyRowError as error:
        fault = FaultyRowError(0, error)  # a cell may span the lines before the row
    check_quotes(file, spanning)
    raise _fault(file, spanning if scans[1].is_regular else layout, fault)


def _convert_unquoted(convert: Convert, batch: pa.RecordBatch) -> list[Any]:
    """Convert a batch that was read without quotes. Raises ArrowInvalid if marks enclose or open an id."""
    for column in batch.columns[:2]:
        if pc.any(pc.match_substring_regex(column, ENCLOSED)).as_py():
            raise pa.ArrowInvalid("an id is enclosed in quotation marks, or only opened by one")
    return convert(batch)


def _fault(file: InputFile, layout: Layout, error: FaultyRowError) -> UserError:
    def parse(lines: bytes) -> int:
        return sum(len(batch) for batch in _parsed(pyarrow.csv.read_csv, pa.BufferReader(lines), layout, skip=0))

    return first_fault(file, layout, parse=parse, fallback_reason=str(error), num_valid_bytes=error.num_valid_bytes)


def _read_in_order(
    file: InputFile, layout: Layout, threads: ThreadPoolExecutor, convert: Convert, scan: QuoteScan
) -> list[list[Any]]:
    """Read a file in one thread while others convert its rows. Raises FaultyRowError."""
    num_batches = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal num_batches
        for batch in _batches_in_order(file, layout, scan):
            num_batches += 1
            yield batch

    try:
        return list(threads.map(convert, batches()))
    except pa.ArrowInvalid as error:
        # the fault may be in a line that begins in the last block that was read
        raise FaultyRowError(max(num_batches - 1, 0) * BLOCK_SIZE, error) from error


def _read_pieces(file: InputFile, layout: Layout, threads: ThreadPoolExecutor, convert: Convert) -> list[list[Any]]:
    """Read a plain file without quotes in several threads; return [] for other files. Raises FaultyRowError."""

    def read(piece: tuple[int, int]) -> list[list[Any]] | None:
        content = _content(file, piece)
        # a quoted cell may continue in another piece
        if QUOTE in content or _drops_a_mark(content, piece):
            return None
        return _converted_piece(content, layout, convert, num_valid_bytes=0 if piece == pieces[0] else piece[0])

    parts, pieces = [], pieces_of(file, layout.dialect, header_lines=layout.header_lines)
    for of_piece in threads.map(read, pieces):
        if of_piece is None:
            return []
        parts += of_piece
    return parts


def stream_text(file: InputFile, layout: Layout, threads: ThreadPoolExecutor, convert: Convert) -> Iterator[list[Any]]:
    """Yield the converted batches of a file in bounded memory.

    Raises:
        UserError: a row is faulty, a quoted cell spans lines, or quotation marks are irregular.
    """
    num_rows = 0
    try:
        for part in _parts_of(file, layout, threads, convert):
            num_rows += len(part[2])
            yield part
    except pa.ArrowInvalid as error:
        raise _fault(file, layout, FaultyRowError(0, error)) from error
    except FaultyRowError as error:
        raise _fault(file, layout, error) from error
    if num_rows == 0:
        raise _fault(file, layout, FaultyRowError(0, "it has no rows"))


def _parts_of(file: InputFile, layout: Layout, threads: ThreadPoolExecutor, convert: Convert) -> Iterator[list[Any]]:
    """Yield the converted batches of a file. Raises ArrowInvalid or FaultyRowError for a faulty row."""
    pieces = pieces_of(file, layout.dialect, header_lines=layout.header_lines)
    if pieces:
        rest = partial(_whole_piece, file, layout, convert)
        yield from _whole_piece(file, layout, convert, pieces[0], is_first=True)
        for of_piece in in_order(threads, rest, pieces[1:], ahead=2 * pa.cpu_count()):
            yield from of_piece
    else:
        scan = QuoteScan(layout.dialect, num_columns=layout.num_columns)
        yield from in_order(threads, convert, _batches_in_order(file, layout, scan), ahead=2 * pa.cpu_count())
        if not scan.is_regular or scan.spans_lines:
            raise _irregular(file)


def _whole_piece(
    file: InputFile, layout: Layout, convert: Convert, piece: tuple[int, int], *, is_first: bool = False
) -> list[list[Any]]:
    """Read a piece of a plain file. Raises UserError if a quoted cell spans lines, or marks are irregular."""
    content = _content(file, piece)
    if not has_regular_rows(content, layout):
        raise _irregular(file)
    if _drops_a_mark(content, piece):
        raise UserError(f"{file} has a byte-order mark within: with data.on_disk=true, save it without")
    return _converted_piece(content, layout, convert, num_valid_bytes=0 if is_first else piece[0])


def _irregular(file: InputFile) -> UserError:
    return UserError(
        f"{file} has quotation marks within cells, or cells that span lines, which data.on_disk=true does not read: "
        "save it as Parquet, or set data.quote=none if they are text"
    )


def _content(file: InputFile, piece: tuple[int, int]) -> bytes:
    """Read a piece, given its first byte and the byte after its last one."""
    with file.path.open("rb") as stream:
        stream.seek(piece[0])
        return stream.read(piece[1] - piece[0])


def _drops_a_mark(content: bytes, piece: tuple[int, int]) -> bool:
    """Return whether pyarrow would drop a byte-order mark inside the file."""
    return piece[0] > 0 and content.startswith(codecs.BOM_UTF8)


def _converted_piece(content: bytes, layout: Layout, convert: Convert, *, num_valid_bytes: int) -> list[list[Any]]:
    """Parse and convert a piece, which `num_valid_bytes` bytes precede. Raises FaultyRowError."""
    try:
        return [convert(batch) for batch in _parsed(pyarrow.csv.read_csv, pa.BufferReader(content), layout, skip=0)]
    except pa.ArrowInvalid as error:
        raise FaultyRowError(num_valid_bytes, error) from error


def _batches_in_order(file: InputFile, layout: Layout, scan: QuoteScan) -> Iterator[pa.RecordBatch]:
    """Read a file in one thread; see `_parsed`."""
    stream = TextStream(file, layout.dialect, header_lines=layout.header_lines, scan=scan)
    return _parsed(pyarrow.csv.open_csv, stream, layout, skip=layout.header_lines)


def _parsed(read: Callable[..., Any], stream: Any, layout: Layout, *, skip: int) -> Iterator[pa.RecordBatch]:
    """Yield batches of user, item, rating and timestamp, read by a function of pyarrow. Raises ArrowInvalid."""
    names = [str(position) for position in range(layout.num_columns)]
    types = {names[layout.user]: pa.string(), names[layout.item]: pa.string(), names[layout.rating]: pa.float32()}
    if layout.timestamp is not None:
        types[names[layout.timestamp]] = pa.int64() if layout.time_format is None else layout.time_format.type
    options = arrow_options(
        layout.dialect, names, types, skipped_lines=skip, spans_lines=layout.spans_lines, use_threads=False
    )
    found = read(stream, **options)
    for batch in found.to_batches() if isinstance(found, pa.Table) else found:
        _check_finite(batch)
        if layout.spans_lines and any(
            pc.any(pc.match_substring_regex(ids, r"[\r\n]")).as_py() for ids in batch.columns[:2]
        ):
            raise pa.ArrowInvalid("an id spans lines")
        if layout.time_format is not None and pa.types.is_string(layout.time_format.type):
            times = parsed_times(batch.column(3), layout.time_format.pattern)
            batch = pa.RecordBatch.from_arrays([*batch.columns[:3], times], names=batch.schema.names)
        yield batch


def _check_finite(batch: pa.RecordBatch) -> None:
    """Raise ArrowInvalid if a number is not finite."""
    numbers = [column for column in batch.columns if pa.types.is_floating(column.type)]
    if not all(pc.all(pc.is_finite(column), min_count=0).as_py() for column in numbers):
        raise pa.ArrowInvalid("a number is not finite")
