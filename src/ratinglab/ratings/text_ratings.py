"""Ratings from delimited text."""

import codecs
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ratinglab.errors import UserError
from ratinglab.ratings.faults import Layout, column_position, count_lines, first_fault, first_rows, printable
from ratinglab.ratings.inputs import BLOCK_SIZE, Columns, InputFile, TextForm, TextStream, utf8_blocks
from ratinglab.ratings.timestamps import type_of_timestamp


def layout_of(file: InputFile, form: TextForm, *, header: bool, columns: Columns) -> Layout:
    """Find the columns of a file by its first rows.

    Raises:
        UserError: the file is empty, a column is missing, or the first timestamp is not a time.
    """
    (line, cells), *data = first_rows(file, form, 2 if header else 1)
    if any("\n" in cell or "\r" in cell for cell in cells):
        raise UserError(f"{file}, line {line}: a quoted cell must end on the line on which it begins")
    names = [cell.strip() for cell in cells] if header else [str(number) for number in range(1, len(cells) + 1)]
    positions: dict[str, int] = {}
    for role, wanted in columns._asdict().items():
        if wanted is None:
            continue
        position = column_position(names, wanted, key=f"data.columns.{role}", file=file, header=header)
        for other, taken in positions.items():
            if taken == position:
                raise UserError(
                    f"data.columns.{other} and data.columns.{role} must be different columns, got {wanted} for both"
                )
        positions[role] = position
    timestamp, timestamp_type = positions.get("timestamp"), None
    for data_line, row in data if header else [(line, cells)]:
        if timestamp is not None and timestamp < len(row):
            timestamp_type = type_of_timestamp(printable(row[timestamp]), place=f"{file}, line {data_line}")
    return Layout(
        form=form,
        header_lines=line if header else 0,
        num_columns=len(names),
        user=positions["user"],
        item=positions["item"],
        rating=positions["rating"],
        timestamp=timestamp,
        timestamp_type=timestamp_type,
    )


def read_text(file: InputFile, layout: Layout) -> Iterator[pa.RecordBatch]:
    """Read the columns user and item as text, rating as float32 and, if there is one, timestamp.

    Raises:
        UserError: while reading, for the first faulty row, with its line.
    """
    stream = TextStream(utf8_blocks(file, layout.form), header_lines=layout.header_lines)
    num_rows = 0
    try:
        for batch in pyarrow.csv.open_csv(stream, **_arrow_options(layout, skipped_lines=layout.header_lines)):
            _check_finite(batch)
            num_rows += len(batch)
            yield batch
    except pa.ArrowInvalid as error:
        raise first_fault(file, layout, otherwise=str(error)) from error
    header_rows = 1 if layout.header_lines else 0
    if num_rows == 0 or (
        layout.form.is_quoted and stream.has_quotes and count_lines(file, layout) > header_rows + num_rows
    ):
        raise first_fault(file, layout)


def read_piece(file: InputFile, layout: Layout, piece: tuple[int, int]) -> list[pa.RecordBatch]:
    """Read the rows of a piece, as `read_text` does.

    Raises:
        ArrowInvalid: a row is faulty or contains a quotation mark, or there is none.
    """
    start, stop = piece
    with file.path.open("rb") as stream:
        stream.seek(start)
        content = stream.read(stop - start)
    if b'"' in content or (start > 0 and content.startswith(codecs.BOM_UTF8)):
        raise pa.ArrowInvalid("a quoted cell may continue in another piece, and pyarrow drops a byte-order mark")
    options = _arrow_options(layout, skipped_lines=0)
    batches: list[pa.RecordBatch] = pyarrow.csv.read_csv(pa.BufferReader(content), **options).to_batches()
    for batch in batches:
        _check_finite(batch)
    return batches


def _arrow_options(layout: Layout, *, skipped_lines: int) -> dict[str, Any]:
    """Make pyarrow's options for the columns of a layout."""
    names = [str(position) for position in range(layout.num_columns)]
    types = {names[layout.user]: pa.string(), names[layout.item]: pa.string(), names[layout.rating]: pa.float32()}
    if layout.timestamp is not None:
        types[names[layout.timestamp]] = layout.timestamp_type or pa.int64()
    return {
        "read_options": pyarrow.csv.ReadOptions(
            column_names=names, skip_rows=skipped_lines, block_size=BLOCK_SIZE, use_threads=False
        ),
        "parse_options": pyarrow.csv.ParseOptions(
            delimiter=layout.form.delimiter, quote_char='"' if layout.form.is_quoted else False
        ),
        "convert_options": pyarrow.csv.ConvertOptions(
            include_columns=list(types), column_types=types, null_values=[], strings_can_be_null=False
        ),
    }


def _check_finite(batch: pa.RecordBatch) -> None:
    """Raise ArrowInvalid if a number is not finite."""
    numbers = [column for column in batch.columns if pa.types.is_floating(column.type)]
    if not all(pc.all(pc.is_finite(column), min_count=0).as_py() for column in numbers):
        raise pa.ArrowInvalid("a number is not finite")
