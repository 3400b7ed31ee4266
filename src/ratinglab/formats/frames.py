"""Data frames, converted to Arrow tables and read like files.

Messages count their rows from 1, as in files, and add the index of a pandas frame.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.formats.columnar import hint_on_decimal_comma, read_columnar
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.text_options import ColumnOptions
from ratinglab.formats.timestamps import to_milliseconds


class ArrowTable(Protocol):
    """A table that exports its columns as Arrow data, such as a Polars or pyarrow table."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


MAX_SHOWN = 80
"""Number of characters of a cell in a message."""
Frame = pd.DataFrame | Mapping[str, Any] | ArrowTable
"""A data frame of pandas or another library, or arrays by column name."""


class Frames(NamedTuple):
    """Tables of ratings, users and items passed from Python. A table that is in a file or missing is None."""

    ratings: Frame | None = None
    users: Frame | None = None
    items: Frame | None = None


def read_frame(
    frame: Frame, columns: ColumnOptions, *, timestamp_format: str | None = None
) -> tuple["pd.Series[str]", "pd.Series[str]", NDArray[np.float32], NDArray[np.datetime64] | None]:
    """Read and check the ratings of a data frame.

    `timestamp_format` is a unit of Unix time or a strptime pattern. With None, the format is detected.

    Returns:
        user ids and item ids, (N,) categories of text; ratings, (N,) float32; and timestamps, (N,) datetime64[ms], or
        None if the options name no column of them.

    Raises:
        UserError: a column is missing, or a cell is invalid.
    """
    file = frame_file(frame, name="ratings", columns=columns.by_role().values())
    table = pa.Table.from_batches(read_columnar(file, columns, timestamp_format=timestamp_format))
    times = None
    if columns.timestamp is not None:
        column = table["timestamp"].to_numpy().copy()
        milliseconds, _ = to_milliseconds(column, timestamp_format, file=file, key="timestamp_format")
        times = milliseconds.astype("datetime64[ms]")
    user_ids, item_ids = (table[side].cast(pa.string()).dictionary_encode().to_pandas() for side in ("user", "item"))
    return user_ids, item_ids, table["rating"].to_numpy().copy(), times  # torch wants writable arrays


def make_reusable(frame: Frame, *, name: str) -> Frame:
    """Return a frame that can be read several times. Reads a stream of Arrow data into memory.

    Raises:
        UserError: the stream is no table. The message calls it `name`.
    """
    is_kept = isinstance(frame, pd.DataFrame | pd.Series | Mapping) or not hasattr(frame, "__arrow_c_stream__")
    return frame if is_kept else _read_stream(frame, name=name)


def _read_stream(frame: Any, *, name: str) -> pa.Table:
    try:
        return pa.table(frame)
    except (pa.ArrowException, ValueError) as error:
        raise UserError(f"{name} cannot be read as a table: {' '.join(str(error).split())}") from error


def column_names(frame: Frame, *, name: str) -> list[str]:
    """List the columns of a frame. Consumes a stream of Arrow data: see `make_reusable`.

    Raises:
        UserError: it is no frame. The message calls it `name`.
    """
    return [column_name for column_name, _ in _columns_of(frame, name=name)]


def frame_file(frame: Frame, *, name: str, columns: Collection[str] | None = None) -> InputFile:
    """Convert a data frame to an Arrow table. Messages call the frame `name`.

    Columns outside `columns` become null, so their types need not exist in Arrow. With None, converts all.

    Raises:
        UserError: a column has values of several types, or of a type that does not exist in Arrow.
    """
    file = InputFile(Path(name), labels=frame.index if isinstance(frame, pd.DataFrame) else None)
    names, arrays = list[str](), list[Any]()
    for column_name, values in _columns_of(frame, name=name):
        # later checks and their messages need the names of all columns
        names.append(column_name)
        is_read = columns is None or column_name in columns
        arrays.append(_to_arrow(values, name=column_name, file=file) if is_read else None)
    num_rows = next((len(array) for array in arrays if array is not None), 0)
    try:
        table = pa.table([pa.nulls(num_rows) if array is None else array for array in arrays], names=names)
    except (pa.ArrowException, ValueError) as error:
        raise UserError(f"{name}: {' '.join(str(error).split())}") from error
    return replace(file, frame=table)


def _columns_of(frame: Frame, *, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(frame, pd.DataFrame):
        for position, column_name in enumerate(frame.columns):
            yield str(column_name), frame.iloc[:, position]
    elif isinstance(frame, Mapping):
        yield from ((str(column_name), values) for column_name, values in frame.items())
    elif isinstance(frame, np.ndarray) and frame.dtype.names is not None:
        yield from ((column_name, frame[column_name]) for column_name in frame.dtype.names)
    elif hasattr(frame, "__arrow_c_stream__") and not isinstance(frame, pd.Series):
        table = _read_stream(frame, name=name)
        yield from zip(table.column_names, table.columns, strict=True)
    else:
        raise UserError(f"{name} must be a data frame, arrays by column name, or a path, got {type(frame).__name__}")


def _is_number(cell: object) -> bool:
    return isinstance(cell, Real) and not isinstance(cell, bool)


def _is_text_or_integer(cell: object) -> bool:
    return isinstance(cell, str | Integral) and not isinstance(cell, bool)


def _to_arrow(values: Any, *, name: str, file: InputFile) -> pa.Array | pa.ChunkedArray:
    """Convert the column `name` to Arrow. NaN, None and NaT become missing values.

    Raises:
        UserError: the values have several types, a type that does not exist in Arrow, or more than one dimension.
    """
    place = f"{file}, column {name!r}"
    if isinstance(values, pa.ChunkedArray) and pa.types.is_dictionary(values.type):
        if pa.types.is_string_view(values.type.value_type):  # exported by Polars; Arrow cannot decode it
            decoded = [chunk.dictionary.cast(pa.string()).take(chunk.indices) for chunk in values.chunks]
            return pa.chunked_array(decoded, pa.string())
        return values
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if np.ndim(values) != 1:
        raise UserError(f"{place} must have one dimension, got {np.ndim(values)}")
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError, OverflowError) as error:
        cells = pd.Series(values, dtype=object).reset_index(drop=True)
        if cells.dropna().map(_is_text_or_integer).all():  # pandas reads ids into such columns
            return pa.array(cells.map(str, na_action="ignore"), pa.string(), from_pandas=True)
        _check_kinds(cells, name=name, file=file)
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"{place} cannot be read: {reason}") from error


def _check_kinds(cells: "pd.Series[Any]", *, name: str, file: InputFile) -> None:
    """Raise UserError for the first value of the column `name` that does not fit its first value.

    A number fits a number, text and integers fit text, and otherwise the type must be the same.
    """
    known_rows = np.flatnonzero(cells.notna()).tolist()
    first = cells[known_rows[0]]

    def fits(cell: object) -> bool:
        if isinstance(first, str):
            return _is_text_or_integer(cell)
        return _is_number(cell) if _is_number(first) else type(cell) is type(first)

    for row in known_rows:
        cell = cells[row]
        if not fits(cell):
            place = f"{file.place_of_row(row)}, column {name!r}"
            hint = hint_on_decimal_comma(first, file) or hint_on_decimal_comma(cell, file)
            raise UserError(
                f"{place}: the value must have the type of the first, {_show(first)}, got {_show(cell)}{hint}"
            )


def _show(cell: object) -> str:
    """Show a cell in a message, on one line."""
    text = " ".join(str(cell).split())[:MAX_SHOWN]
    return repr(text) if isinstance(cell, str) else text
