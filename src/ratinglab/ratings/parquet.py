"""Ratings from Parquet files."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ratinglab.errors import UserError, did_you_mean
from ratinglab.ratings.inputs import Columns, InputFile
from ratinglab.ratings.timestamps import DATES, type_of_timestamp


def open_file(path: Path) -> pa.OSFile:
    """Open a file for pyarrow, which would encode its name as UTF-8 in every locale."""
    return pa.OSFile(os.fsencode(path))


def read_parquet(file: InputFile, columns: Columns) -> list[pa.RecordBatch]:
    """Read the columns user and item as text, rating as float32 and, if there is one, timestamp.

    Raises:
        UserError: the file, a column or a cell is invalid; the message names the row, from 1.
    """
    wanted = {role: name for role, name in columns._asdict().items() if name is not None}
    repeated = next((name for name in wanted.values() if list(wanted.values()).count(name) > 1), None)
    if repeated is not None:
        roles = " and ".join(f"data.columns.{role}" for role, name in wanted.items() if name == repeated)
        raise UserError(f"{roles} must be different columns, got {repeated} for both")
    try:
        names = pq.read_schema(open_file(file.path)).names
        for role, name in wanted.items():
            if name not in names:
                there = f"it has {', '.join(names)}{did_you_mean(name, names)}"
                raise UserError(f"data.columns.{role}: {file} has no column {name!r}; {there}")
            if names.count(name) > 1:
                raise UserError(f"data.columns.{role}: {file} has {names.count(name)} columns named {name!r}")
        table = pq.read_table(open_file(file.path), columns=list(wanted.values()))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} is damaged or cut off: {' '.join(str(error).split())}") from error
    if len(table) == 0:
        raise UserError(f"{file} has no ratings")
    for name in wanted.values():
        if table[name].null_count > 0:
            raise UserError(f"{file}, row {_first(pc.is_null(table[name])) + 1}: {name!r} must not be null")
    found = {
        "user": _ids(table[columns.user], file=file, role="user"),
        "item": _ids(table[columns.item], file=file, role="item"),
        "rating": _numbers(table[columns.rating], file=file),
    }
    if columns.timestamp is not None:
        found["timestamp"] = _times(table[columns.timestamp], file=file)
    return pa.table(found).to_batches()


def _ids(column: pa.ChunkedArray, *, file: InputFile, role: str) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_integer(column.type):
        return column.cast(pa.string())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise UserError(f"{file}: the {role} ids must be integers or text, got {column.type}")
    text = column.cast(pa.string())
    is_blank = pc.equal(pc.utf8_trim_whitespace(text), "")
    if pc.any(is_blank).as_py():
        raise UserError(f"{file}, row {_first(is_blank) + 1}: the {role} id must not be blank")
    return text


def _numbers(column: pa.ChunkedArray, *, file: InputFile) -> pa.ChunkedArray:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        raise UserError(f"{file}: the ratings must be numbers, got {column.type}")
    rating = column.cast(pa.float64(), safe=False).cast(pa.float32(), safe=False)
    finite = pc.is_finite(rating)
    if not pc.all(finite).as_py():
        row = _first(pc.invert(finite))
        raise UserError(f"{file}, row {row + 1}: the rating must be finite, got {column[row].as_py()}")
    return rating


def _times(column: pa.ChunkedArray, *, file: InputFile) -> pa.ChunkedArray:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        written = type_of_timestamp(column[0].as_py(), place=f"{file}, row 1")
        try:
            return column.cast(written)
        except pa.ArrowInvalid as error:
            raise UserError(
                f"{file}: a timestamp is not written like the first: {' '.join(str(error).split())}"
            ) from error
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return column.cast(DATES[1] if getattr(column.type, "tz", None) else DATES[0], safe=False)
    if pa.types.is_integer(column.type):
        return column.cast(pa.float64() if pa.types.is_uint64(column.type) else pa.int64(), safe=False)
    if pa.types.is_floating(column.type):
        if not pc.all(pc.is_finite(column)).as_py():
            row = _first(pc.invert(pc.is_finite(column)))
            raise UserError(f"{file}, row {row + 1}: the timestamp must be finite, got {column[row].as_py()}")
        return column
    raise UserError(f"{file}: the timestamps must be times, numbers or ISO dates, got {column.type}")


def _first(mask: pa.ChunkedArray) -> int:
    return int(pc.index(mask, True).as_py())
