"""Times of ratings: Unix time in seconds, milliseconds, microseconds or nanoseconds, or ISO dates."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ratinglab.errors import UserError

UNITS = ((1e11, 1000.0), (1e14, 1.0), (1e17, 1e-3), (np.inf, 1e-6))
"""Below which size a Unix time is in seconds, ms, µs or ns (each bound is the year 5138), and the factor to ms."""
DATES = (pa.timestamp("us"), pa.timestamp("us", "UTC"))
"""ISO dates without and with a time zone."""


def type_of_timestamp(text: str, *, place: str) -> pa.DataType:
    """What the timestamps of a column are written as, by the first one.

    Raises:
        UserError: neither a number nor an ISO date.
    """
    text = text.strip()
    for written, pattern in ((pa.int64(), r"[+-]?\d{1,18}"), (pa.float64(), r"[+-]?\d+\.?\d*([eE][+-]?\d+)?")):
        if re.fullmatch(pattern, text, flags=re.ASCII):
            return written
    for written in DATES:
        try:
            pa.array([text]).cast(written)
        except pa.ArrowInvalid:
            continue
        return written
    raise UserError(
        f"{place}: the timestamp must be Unix time or an ISO date such as 2026-11-24 or 2026-11-24T10:15:00Z, "
        f"got {text!r}"
    )


def milliseconds(columns: list[pa.ChunkedArray]) -> NDArray[np.int64]:
    """Columns of timestamps as one: (N,) int64 milliseconds since 1970 in UTC.

    Unix time is in the unit that its largest value in the column suggests.
    """
    time = np.empty(sum(len(column) for column in columns), dtype=np.int64)
    start = 0
    for column in columns:
        factor = _factor(column)
        for chunk in column.chunks:
            _write_milliseconds(chunk, factor, out=time[start : start + len(chunk)])
            start += len(chunk)
    return time


def _factor(column: pa.ChunkedArray) -> float | None:
    """What a column's numbers are multiplied with to be milliseconds; None: they are dates."""
    if pa.types.is_timestamp(column.type):
        return None
    bounds = pc.min_max(column).as_py()
    largest = max((abs(bound) for bound in bounds.values() if bound is not None), default=0)
    return next(factor for bound, factor in UNITS if largest < bound)


def _write_milliseconds(chunk: pa.Array, factor: float | None, *, out: NDArray[np.int64]) -> None:
    if factor is None:
        out[:] = chunk.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_numpy()
    elif not pa.types.is_integer(chunk.type):
        out[:] = np.round(chunk.to_numpy() * factor)
    elif factor >= 1:
        np.multiply(chunk.to_numpy(), int(factor), out=out)
    else:
        np.floor_divide(chunk.to_numpy(), round(1 / factor), out=out)
