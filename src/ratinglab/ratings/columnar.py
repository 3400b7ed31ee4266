"""Tables in Parquet, Arrow, ORC and JSON Lines: ratings, and cells as text."""

import codecs
import json
import math
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.orc
import pyarrow.parquet

from ratinglab.errors import UserError, did_you_mean
from ratinglab.ratings.formats import Format
from ratinglab.ratings.inputs import BlockStream, Columns, InputFile
from ratinglab.ratings.layouts import check_distinct, listed
from ratinglab.ratings.row_reader import EmptyFileError
from ratinglab.ratings.text_dialects import whole_lines
from ratinglab.ratings.timestamps import DATES, TimeFormat, column_of_times, format_of_times, matches_format

LARGEST_WHOLE = 2.0**53
"""Bound below which every integer is a float64."""
JSON_BLOCK = 16 << 20
"""Bytes of JSON Lines parsed at once; a line must be shorter."""


def read_columnar(
    file: InputFile, kind: Format, columns: Columns, *, timestamp_format: str | None
) -> list[pa.RecordBatch]:
    """Read the columns user and item as text, rating as float32 and, if there is one, timestamp.

    Raises:
        UserError: the file, a column or a cell is invalid; the message names the row, from 1.
    """
    wanted = {role: name for role, name in columns._asdict().items() if name is not None}
    check_distinct(wanted)
    names = column_names(file, kind)
    for role, name in wanted.items():
        check_column(names, name, key=f"data.columns.{role}", file=file)
    table = _read(file, kind, list(wanted.values()), floats={columns.rating})
    if len(table) == 0:
        raise EmptyFileError(f"{file} has no ratings")
    for number, name in enumerate(table.column_names):
        table = table.set_column(number, name, _plain(table[name]))
        if table[name].null_count > 0:
            raise UserError(f"{file}, row {_first(pc.is_null(table[name])) + 1}: {name!r} must not be null")
    found = {
        "user": _ids(table[columns.user], file=file, role="user"),
        "item": _ids(table[columns.item], file=file, role="item"),
        "rating": _numbers(table[columns.rating], file=file),
    }
    if columns.timestamp is not None:
        found["timestamp"] = _times(table[columns.timestamp], timestamp_format, file=file)
    return pa.table(found).to_batches()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decode a dictionary, and convert other layouts of text to the usual one."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column


def check_column(names: list[str], name: str, *, key: str, file: InputFile) -> None:
    """Raise UserError unless exactly one column has a name."""
    if name not in names:
        raise UserError(f"{key}: {file} has no column {name!r}; it has {listed(names)}{did_you_mean(name, names)}")
    if names.count(name) > 1:
        raise UserError(f"{key}: {file} has {names.count(name)} columns named {name!r}")


def column_names(file: InputFile, kind: Format) -> list[str]:
    """List the columns: of JSON Lines, the keys of the first object.

    Raises:
        UserError: the file is damaged.
    """
    try:
        if kind is Format.JSON_LINES:
            return list(_first_object(file))
        if kind is Format.PARQUET:
            names: list[str] = pyarrow.parquet.read_schema(file.opened()).names
        elif kind is Format.ORC:
            names = pyarrow.orc.ORCFile(file.opened()).schema.names
        else:
            names = pa.ipc.open_file(file.opened()).schema.names
        return names
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} is damaged or cut off: {' '.join(str(error).split())}") from error


def _read(file: InputFile, kind: Format, names: list[str], *, floats: Collection[str] = ()) -> pa.Table:
    """Read columns by name; of JSON Lines, all numbers in the columns `floats` as float64."""
    if kind is Format.JSON_LINES:
        return _read_json_lines(file, names, floats)
    try:
        if kind is Format.PARQUET:
            return pyarrow.parquet.read_table(file.opened(), columns=names)
        if kind is Format.ORC:
            return pyarrow.orc.ORCFile(file.opened()).read(columns=names)
        return pa.ipc.open_file(file.opened()).read_all().select(names)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} is damaged or cut off: {' '.join(str(error).split())}") from error


def _read_json_lines(file: InputFile, names: list[str], floats: Collection[str]) -> pa.Table:
    """Read keys of JSON objects, one object per line, with the types of the first one."""
    first = _first_object(file)
    types = {name: _type_of(first[name], name=name, file=file) for name in names}
    types |= {name: pa.float64() for name in floats if types[name] == pa.int64()}
    schema = pa.schema(list(types.items()))
    try:
        batches = pyarrow.json.open_json(
            BlockStream(file.blocks()),
            read_options=pyarrow.json.ReadOptions(block_size=JSON_BLOCK),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        table = pa.Table.from_batches(batches, schema)
        if all(column.null_count == 0 for column in table.columns):
            return table
        reason = "a value is missing"
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())
    raise _json_fault(file, schema, otherwise=reason)


def _type_of(value: Any, *, name: str, file: InputFile) -> pa.DataType:
    if isinstance(value, str):
        return pa.string()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return pa.int64() if isinstance(value, int) else pa.float64()
    raise UserError(f"{file}, line 1: {name!r} must be text or a number, got {json.dumps(value)[:40]}")


def _json_fault(file: InputFile, schema: pa.Schema, *, otherwise: str) -> UserError:
    """Make the error for the first line that is not an object, lacks a key, or has a value of the wrong type."""
    kinds = {pa.string(): (str, "text"), pa.int64(): (int, "an int64"), pa.float64(): (int | float, "a number")}
    for number, line in _json_lines(file):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            return UserError(f"{file}, line {number}: each line must be a JSON object ({error})")
        if not isinstance(row, dict):
            return UserError(f"{file}, line {number}: each line must be a JSON object")
        for field in schema:
            cls, wanted = kinds[field.type]
            if field.name not in row:
                return UserError(f"{file}, line {number}: the key {field.name!r} is missing")
            value = row[field.name]
            is_large = field.type == pa.int64() and isinstance(value, int) and not -(2**63) <= value < 2**63
            if not isinstance(value, cls) or isinstance(value, bool) or is_large:
                shown = json.dumps(value)[:40]
                return UserError(f"{file}, line {number}: {field.name!r} must be {wanted}, as in line 1, got {shown}")
    return UserError(f"{file} cannot be read: {otherwise}")


def _first_object(file: InputFile) -> dict[str, Any]:
    number, line = next(_json_lines(file))
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}, line {number}: each line must be a JSON object ({error})") from error
    assert isinstance(found, dict), "format_of detects JSON Lines by the first object"
    return found


def _json_lines(file: InputFile) -> Iterator[tuple[int, bytes]]:
    """Yield lines that are not empty, with their numbers."""
    lines = (line for block in whole_lines(file.blocks()) for line in block.removesuffix(b"\n").split(b"\n"))
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line.removeprefix(codecs.BOM_UTF8)


def read_typed(file: InputFile, kind: Format) -> pa.Table:
    """Read a whole table. Texts of JSON Lines stay texts, also those that look like dates.

    Raises:
        UserError: the file is damaged or is not a table.
    """
    if kind is not Format.JSON_LINES:
        return _read(file, kind, column_names(file, kind))
    return _read_any_json(lambda: BlockStream(file.blocks()), file)


def _read_any_json(opened: Callable[[], Any], file: InputFile) -> pa.Table:
    """Read all keys of JSON objects, from a stream that can be opened twice."""
    options = pyarrow.json.ReadOptions(block_size=JSON_BLOCK)
    try:
        found = pyarrow.json.read_json(opened(), options)
        dates = [pa.field(field.name, pa.string()) for field in found.schema if pa.types.is_timestamp(field.type)]
        if dates:  # as text: pyarrow would read "2012", a title, as a date
            texts = pyarrow.json.ParseOptions(explicit_schema=pa.schema(dates))
            found = pyarrow.json.read_json(opened(), options, texts)
        return found
    except pa.ArrowInvalid as error:
        raise _json_fault(file, pa.schema([]), otherwise=" ".join(str(error).split())) from error


def read_start(file: InputFile, kind: Format, num_rows: int) -> pa.Table:
    """Read the first `num_rows` rows.

    Raises:
        UserError: the file is damaged or is not a table.
    """
    if kind is not Format.JSON_LINES:
        return read_typed(file, kind).slice(0, num_rows)
    lines = b"\n".join(line for _, line in islice(_json_lines(file), num_rows))
    return _read_any_json(lambda: pa.BufferReader(lines), file)


def as_text(column: pa.ChunkedArray) -> list[str]:
    """Convert a column to text: lists of texts are joined by `|`, and a missing value is empty."""
    if pa.types.is_nested(column.type):
        return [_nested_text(value) for value in column.to_pylist()]
    if pa.types.is_floating(column.type):
        return [_float_text(value) for value in column.to_pylist()]
    column = column.cast(pa.string() if not pa.types.is_binary(column.type) else pa.binary())
    try:
        texts: list[str] = column.cast(pa.string()).fill_null("").to_pylist()
    except (pa.ArrowInvalid, UnicodeDecodeError):
        bytes_of = column.cast(pa.binary()).fill_null(b"").to_pylist()
        texts = [each.decode("utf-8", "backslashreplace") for each in bytes_of]
    return texts


def _float_text(value: float | None) -> str:
    """Format a float; a whole number as an integer, as which ids are read."""
    if value is None or math.isnan(value):
        return ""
    return str(int(value)) if abs(value) < LARGEST_WHOLE and value.is_integer() else repr(value)


def _nested_text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return "|".join(value)
    return "" if value is None else json.dumps(value, default=str)


def _ids(column: pa.ChunkedArray, *, file: InputFile, role: str) -> pa.ChunkedArray:
    if pa.types.is_floating(column.type):  # pandas turns integers into floats where some were missing
        column = column.cast(pa.float64())
        is_whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), LARGEST_WHOLE))
        if not pc.all(is_whole).as_py():
            row = _first(pc.invert(is_whole))
            found = column[row].as_py()
            raise UserError(f"{file}, row {row + 1}: the {role} id must be an integer or text, got {found}")
        column = column.cast(pa.int64())
    if pa.types.is_integer(column.type):
        return column.cast(pa.string())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise UserError(f"{file}: the {role} ids must be integers or text, got {column.type}")
    text = column.cast(pa.string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid as error:
        raise UserError(f"{file}: the {role} ids are not UTF-8 text") from error
    is_blank = pc.equal(pc.utf8_trim_whitespace(text), "")
    if pc.any(is_blank).as_py():
        raise UserError(f"{file}, row {_first(is_blank) + 1}: the {role} id must not be blank")
    return text


def _numbers(column: pa.ChunkedArray, *, file: InputFile) -> pa.ChunkedArray:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts, column = column, _parsed_numbers(column)
        if column.null_count > 0:
            row = _first(pc.is_null(column))
            raise UserError(f"{file}, row {row + 1}: the rating must be a number, got {texts[row].as_py()!r}")
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        raise UserError(f"{file}: the ratings must be numbers, got {column.type}")
    rating = column.cast(pa.float64(), safe=False).cast(pa.float32(), safe=False)
    finite = pc.is_finite(rating)
    if not pc.all(finite).as_py():
        row = _first(pc.invert(finite))
        raise UserError(f"{file}, row {row + 1}: the rating must be finite, got {column[row].as_py()}")
    return rating


def _parsed_numbers(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Parse texts as float64; null where a text is not a number."""
    texts = pc.utf8_trim_whitespace(texts.cast(pa.string()))
    is_number = pc.match_substring_regex(texts, r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$")
    return pc.if_else(is_number, texts, None).cast(pa.float64())


def _times(column: pa.ChunkedArray, pattern: str | None, *, file: InputFile) -> pa.ChunkedArray:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = column.cast(pa.string())
        time_format = format_of_times(texts[0].as_py(), pattern, place=f"{file}, row 1")
        any_dates = TimeFormat(pa.string(), pattern) if pa.types.is_timestamp(time_format.type) else time_format
        parsed = column_of_times(texts, time_format) or column_of_times(texts, any_dates)
        if parsed is None:
            row = next(row for row, text in enumerate(texts) if not matches_format(text.as_py(), any_dates))
            found = texts[row].as_py()
            raise UserError(f"{file}, row {row + 1}: the timestamp must be {time_format.rule}, got {found!r}")
        column = parsed
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return column.cast(DATES[1] if getattr(column.type, "tz", None) else DATES[0], safe=False)
    if pa.types.is_integer(column.type):
        return column.cast(pa.float64() if pa.types.is_uint64(column.type) else pa.int64(), safe=False)
    if pa.types.is_floating(column.type):
        if not pc.all(pc.is_finite(column)).as_py():
            row = _first(pc.invert(pc.is_finite(column)))
            raise UserError(f"{file}, row {row + 1}: the timestamp must be finite, got {column[row].as_py()}")
        return column
    raise UserError(f"{file}: the timestamps must be dates, numbers or text, got {column.type}")


def _first(mask: pa.ChunkedArray) -> int:
    return int(pc.index(mask, True).as_py())
