"""Tables in Parquet, Arrow, ORC and JSON Lines, and their ratings."""

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.orc
import pyarrow.parquet

from ratinglab.errors import UserError
from ratinglab.formats.detection import Format, detect_format
from ratinglab.formats.inputs import BlockStream, EmptyFileError, InputFile
from ratinglab.formats.layouts import find_column_positions
from ratinglab.formats.literals import is_number
from ratinglab.formats.text_dialects import regroup_by_lines
from ratinglab.formats.text_options import ColumnOptions
from ratinglab.formats.timestamps import TimeFormat, detect_time_format, is_time, parse_time_column

INTEGER_BOUND = 2.0**53
"""Bound below which float64 represents every integer exactly."""
ReadBatches = Callable[[list[str] | None], Iterator[pa.RecordBatch]]
"""Function that reads a table, or at least the named columns of it, in batches."""
CheckRows = Callable[..., None]
"""`_check_rows` for the rows of a batch."""
JSON_OPTIONS = pyarrow.json.ReadOptions(block_size=16 << 20)
"""Bytes of JSON Lines parsed at once, which limit the length of a line."""


def read_columnar(
    file: InputFile, columns: ColumnOptions, *, timestamp_format: str | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield batches of user and item (int64 or text), rating (float32) and, if the options name it, timestamp.

    Raises:
        UserError: a column is missing, or a cell is invalid; the message gives its row, counted from 1.
    """
    num_rows, time_format = 0, None
    for batch in filter(len, _rating_batches(file, columns)):
        check = partial(_check_rows, file=file, first_row=num_rows)
        converted = {}
        for role, name in columns.by_role().items():
            column = batch[name]
            check(pc.is_null(column), f"{name!r} must not be null")
            if role == "timestamp":
                if time_format is None and _is_text(column):
                    key = "data.timestamp_format" if file.frame is None else "timestamp_format"
                    text, place = column[0].as_py(), file.place_of_row(0)
                    time_format = detect_time_format(text, timestamp_format, place=place, key=key)
                converted[role] = _convert_times(column, time_format, file=file, check=check)
            elif role == "rating":
                converted[role] = _convert_ratings(column, file=file, check=check)
            else:
                converted[role] = _convert_ids(column, file=file, role=role, check=check)
        num_rows += len(batch)
        yield pa.record_batch(converted)
    if num_rows == 0:
        raise EmptyFileError(f"{file} has no ratings")


def _rating_batches(file: InputFile, columns: ColumnOptions) -> Iterator[pa.RecordBatch]:
    """Check that the columns exist, and yield their batches in the types of the file."""
    names = list(columns.by_role().values())
    if detect_format(file) is Format.JSON_LINES:
        first = _read_first_object(file)
        find_column_positions(list(first), columns, file=file, has_header=None)
        yield from _json_rating_batches(file, {name: first[name] for name in names}, rating=columns.rating)
    else:
        schema, read_batches = open_batches(file)
        find_column_positions(schema.names, columns, file=file, has_header=None)
        yield from read_batches(names)


def _check_rows(
    is_wrong: pa.Array, rule: str, *, file: InputFile, first_row: int, values: pa.Array | None = None
) -> None:
    """Raise UserError for the first wrong row, if any, of a batch that begins at `first_row`, counted from 0.

    The message has its value if `values` are given.
    """
    row = pc.index(is_wrong, True).as_py()
    if row >= 0:
        value = None if values is None else values[row].as_py()
        got = "" if values is None else f", got {value!r}{hint_on_decimal_comma(value, file)}"
        raise UserError(f"{file.place_of_row(first_row + row)}: {rule}{got}")


def hint_on_decimal_comma(cell: object, file: InputFile) -> str:
    """Return how to read a number with a decimal comma, as in 2,5, into a pandas frame, or "" for any other cell."""
    has_comma = isinstance(cell, str) and "," in cell and is_number(cell.strip(), decimal=",")
    return '; pd.read_csv(…, decimal=",") reads a decimal comma' if has_comma and file.labels is not None else ""


def _check_names(schema: pa.Schema, file: InputFile) -> None:
    """Raise UserError if the name of a column is not UTF-8 text, which pyarrow finds only when it is used."""
    try:
        _ = schema.names
    except UnicodeDecodeError as error:
        name = error.object.decode("utf-8", "backslashreplace")
        raise UserError(f"{file}: the name of a column is not UTF-8 text, got {name}") from error


def _json_rating_batches(file: InputFile, first: dict[str, Any], *, rating: str) -> Iterator[pa.RecordBatch]:
    """Yield the values of the keys of `first`, in its types. Ratings may mix integers and floats."""
    types = {name: _json_type(value, name=name, file=file) for name, value in first.items()}
    if types[rating] == pa.int64():
        types[rating] = pa.float64()
    schema = pa.schema(list(types.items()))
    try:
        for batch in pyarrow.json.open_json(
            BlockStream(file.blocks()), JSON_OPTIONS, _parse_options(schema, other_keys="ignore")
        ):
            if any(column.null_count > 0 for column in batch.columns):
                raise _json_fault(file, schema, fallback="a value is missing")
            yield batch
    except pa.ArrowInvalid as error:
        raise _json_fault(file, schema, fallback=" ".join(str(error).split())) from error


def _json_type(value: Any, *, name: str, file: InputFile) -> pa.DataType:
    if isinstance(value, str):
        return pa.string()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return pa.int64() if isinstance(value, int) else pa.float64()
    raise UserError(f"{file}, line 1: {name!r} must be text or a number, got {json.dumps(value)[:40]}")


def _json_fault(file: InputFile, schema: pa.Schema, *, fallback: str) -> UserError:
    """Make the error for the first line that is not an object, is missing a key, or has a value of the wrong type.

    If there is no such line, the message gives `fallback` as the reason.
    """
    kinds = {pa.string(): (str, "text"), pa.int64(): (int, "a 64-bit integer"), pa.float64(): (int | float, "a number")}
    for number, line in _json_lines(file):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            return UserError(f"{file}, line {number}: each line must be a JSON object ({error})")
        if not isinstance(row, dict):
            return UserError(f"{file}, line {number}: each line must be a JSON object")
        for field in schema:
            cls, rule = kinds[field.type]
            if field.name not in row:
                return UserError(f"{file}, line {number}: the key {field.name!r} is missing")
            value = row[field.name]
            is_too_large = field.type == pa.int64() and isinstance(value, int) and not -(2**63) <= value < 2**63
            if not isinstance(value, cls) or isinstance(value, bool) or is_too_large:
                got = json.dumps(value)[:40]
                return UserError(f"{file}, line {number}: {field.name!r} must be {rule}, as in line 1, got {got}")
    return UserError(f"{file} cannot be read: {fallback}")


def _read_first_object(file: InputFile) -> dict[str, Any]:
    """Read the first line. A key that only the second line has gets the value "", so that reading reports the fault."""
    try:
        rows = [json.loads(line) for _, line in islice(_json_lines(file), 2)]
        return dict.fromkeys(rows[-1], "") | rows[0]
    except (TypeError, ValueError, RecursionError) as error:
        raise _json_fault(file, pa.schema([]), fallback=str(error)) from error


def _json_lines(file: InputFile) -> Iterator[tuple[int, bytes]]:
    """Yield the number, counted from 1, and the text of each line that is not blank."""
    lines = (line for block in regroup_by_lines(file.blocks()) for line in block.removesuffix(b"\n").split(b"\n"))
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line.removeprefix(codecs.BOM_UTF8)


def open_batches(file: InputFile) -> tuple[pa.Schema, Callable[[list[str]], Iterator[pa.RecordBatch]]]:
    """Return the schema of a table, and a function that reads the named columns in batches.

    Decodes dictionaries. Text in JSON Lines stays text even if it looks like a date. JSON Lines are read once to find
    the types, and held in memory if the values of a key change type after the first 16 MiB.

    Raises:
        UserError: the file is damaged or is not a table. The returned function also raises it.
    """
    file_format = detect_format(file)
    is_json = file_format is Format.JSON_LINES
    schema, read = _open_json_table(file) if is_json else _open_binary_table(file, file_format)
    _check_names(schema, file)

    def read_batches(names: list[str]) -> Iterator[pa.RecordBatch]:
        wanted = pa.schema([plain.field(name) for name in names], plain.metadata)
        with _report_damage(file):
            batches = read(None if names == plain.names else names)
            yield from (batch.select(names).cast(wanted) for batch in batches)

    plain = pa.schema([field.with_type(_plain_type(field.type)) for field in schema], schema.metadata)
    return plain, read_batches


def _plain_type(data_type: pa.DataType) -> pa.DataType:
    """Replace the type of a dictionary by that of its values, and views by plain text or binary.

    An Arrow file cannot change its dictionary between batches, and pandas crashes on views of text.
    """
    data_type = data_type.value_type if pa.types.is_dictionary(data_type) else data_type
    return {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(data_type, data_type)


@contextmanager
def _report_damage(file: InputFile) -> Iterator[None]:
    """Raise UserError in place of pyarrow's exceptions for a damaged file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} is damaged or cut off: {' '.join(str(error).split())}") from error


def _open_binary_table(file: InputFile, file_format: Format) -> tuple[pa.Schema, ReadBatches]:
    """Return the schema of a data frame or a Parquet, Arrow or ORC file, and a function that reads it."""
    frame = file.frame
    if frame is not None:
        return frame.schema, lambda _: iter(frame.to_batches())
    with _report_damage(file):
        if file_format is Format.PARQUET:
            parquet = pyarrow.parquet.ParquetFile(file.open())
            return parquet.schema_arrow, lambda names: parquet.iter_batches(columns=names)
        if file_format is Format.ORC:
            orc = pyarrow.orc.ORCFile(file.open())
            return orc.schema, lambda names: (orc.read_stripe(number, names) for number in range(orc.nstripes))
        arrow = pa.ipc.open_file(file.open())
        return arrow.schema, lambda _: map(arrow.get_batch, range(arrow.num_record_batches))


def _open_json_table(file: InputFile) -> tuple[pa.Schema, ReadBatches]:
    """Return the schema of JSON Lines, and a function that reads them. Reads the whole file to find the types."""

    def open_stream(types: pa.Schema) -> Any:
        return pyarrow.json.open_json(BlockStream(file.blocks()), JSON_OPTIONS, _parse_options(types))

    try:
        types = _dates_to_text(open_stream(pa.schema([])).schema)
        schema = open_stream(types).schema
        for _ in open_stream(types):
            pass
        return schema, lambda _: open_stream(types)
    except pa.ArrowInvalid:  # the values of a key change type, which only `read_json` accepts
        pass
    try:
        table = pyarrow.json.read_json(BlockStream(file.blocks()), JSON_OPTIONS)
        _check_names(table.schema, file)
        if len(types := _dates_to_text(table.schema)) > 0:
            table = pyarrow.json.read_json(BlockStream(file.blocks()), JSON_OPTIONS, _parse_options(types))
        return table.schema, lambda _: iter(table.to_batches())
    except pa.ArrowInvalid as error:
        fault = _find_changed_kind(file)
        raise fault or _json_fault(file, pa.schema([]), fallback=" ".join(str(error).split())) from error


def _find_changed_kind(file: InputFile) -> UserError | None:
    """Make the error for the first value of another kind, such as text, than the first value of its key.

    Returns None if there is no such value, or a line before it is not an object.
    """
    first: dict[str, tuple[str, int]] = {}
    kinds = {str: "text", int: "a number", float: "a number", bool: "true or false", list: "a list", dict: "an object"}
    with suppress(ValueError, RecursionError, AttributeError):  # `_json_fault` describes such a line
        for number, line in _json_lines(file):
            for name, value in json.loads(line).items():
                kind = kinds.get(type(value), "null")
                first_kind, first_number = first.setdefault(name, (kind, number)) if value is not None else (kind, 0)
                if kind != first_kind:
                    rule = f"must be {first_kind}, as in line {first_number}"
                    return UserError(f"{file}, line {number}: {name!r} {rule}, got {json.dumps(value)[:40]}")
    return None


def _dates_to_text(schema: pa.Schema) -> pa.Schema:
    """Return the fields that pyarrow would read as dates, such as the title "2012", with the type text."""
    return pa.schema([pa.field(field.name, pa.string()) for field in schema if pa.types.is_timestamp(field.type)])


def _parse_options(types: pa.Schema, *, other_keys: str = "infer") -> pyarrow.json.ParseOptions:
    """Make options for keys of known types. Other keys are ignored ("ignore"), or their types are inferred."""
    schema = types if len(types) > 0 else None
    return pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=other_keys)


def column_to_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert a column to text. Lists of texts are joined by `|`; missing values become empty."""
    if pa.types.is_nested(column.type):
        return _text_array(map(_format_nested, column.to_pylist()))
    if pa.types.is_floating(column.type):
        return _format_floats(column)
    column = column.cast(pa.string() if not pa.types.is_binary(column.type) else pa.binary())
    try:
        return column.cast(pa.string()).fill_null("")
    except pa.ArrowInvalid:
        cells = column.cast(pa.binary()).fill_null(b"").to_pylist()
        return _text_array(cell.decode("utf-8", "backslashreplace") for cell in cells)


def _text_array(texts: Iterable[str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(list(texts), pa.string())])


def _format_floats(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Format floats. Writes whole numbers as integers, which ids are."""
    if pa.types.is_float16(column.type):  # pyarrow computes nothing in this type
        column = column.cast(pa.float32())
    column = pc.if_else(pc.is_nan(column), None, column)
    is_whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), INTEGER_BOUND))
    whole = pc.if_else(is_whole, column, None).cast(pa.int64())
    return pc.coalesce(whole.cast(pa.string()), column.cast(pa.string())).fill_null("")


def _format_nested(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(element, str) for element in value):
        return "|".join(value)
    return "" if value is None else json.dumps(value, default=str)


def _convert_ids(column: pa.Array, *, file: InputFile, role: str, check: CheckRows) -> pa.Array:
    if pa.types.is_floating(column.type):  # pandas turns integers into floats where some were missing
        column = column.cast(pa.float64())
        is_whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), INTEGER_BOUND))
        check(pc.invert(is_whole), f"the {role} id must be an integer or text", values=column)
        column = column.cast(pa.int64())
    if pa.types.is_integer(column.type):
        return column.cast(pa.string() if pa.types.is_uint64(column.type) else pa.int64())
    if not _is_text(column):
        raise UserError(f"{file}: the {role} ids must be integers or text, got {column.type}")
    text = column.cast(pa.string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid as error:
        raise UserError(f"{file}: the {role} ids are not UTF-8 text") from error
    check(pc.equal(pc.utf8_trim_whitespace(text), ""), f"the {role} id must not be blank")
    return text


def _convert_ratings(column: pa.Array, *, file: InputFile, check: CheckRows) -> pa.Array:
    if _is_text(column):
        texts, stripped = column, pc.utf8_trim_whitespace(column.cast(pa.string()))
        is_number = pc.match_substring_regex(stripped, r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$")
        column = pc.if_else(is_number, stripped, None).cast(pa.float64())
        check(pc.is_null(column), "the rating must be a number", values=texts)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        raise UserError(f"{file}: the ratings must be numbers, got {column.type}")
    rating = column.cast(pa.float64(), safe=False).cast(pa.float32(), safe=False)
    check(pc.invert(pc.is_finite(rating)), "the rating must be finite", values=column)
    return rating


def _convert_times(column: pa.Array, time_format: TimeFormat | None, *, file: InputFile, check: CheckRows) -> pa.Array:
    """Convert timestamps to dates in UTC, integers or floats. Texts are parsed in `time_format`."""
    if time_format is not None:
        texts = column.cast(pa.string())
        column = parse_time_column(texts, time_format)
        if column is None:
            is_wrong = pa.array([not is_time(text.as_py(), time_format.any_dates) for text in texts])
            check(is_wrong, f"the timestamp must be {time_format.rule}", values=texts)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        zone = getattr(column.type, "tz", None)
        return column.cast(pa.timestamp("us", zone), safe=False).cast(pa.timestamp("us"))
    if pa.types.is_integer(column.type):
        return column.cast(pa.float64() if pa.types.is_uint64(column.type) else pa.int64(), safe=False)
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
        check(pc.invert(pc.is_finite(column)), "the timestamp must be finite", values=column)
        return column
    raise UserError(f"{file}: the timestamps must be dates, numbers or text, got {column.type}")


def _is_text(column: pa.Array) -> bool:
    return pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
