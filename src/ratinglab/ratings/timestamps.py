"""Times of ratings: Unix time in seconds, milliseconds, microseconds or nanoseconds, or ISO dates."""

import math
import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ratinglab.errors import UserError

UNITS = ((1e11, 1000.0), (1e14, 1.0), (1e17, 1e-3), (np.inf, 1e-6))
"""Upper bounds of Unix times in s, ms, µs and ns (each bound is the year 5138), with the factor to ms."""
DATES = (pa.timestamp("us"), pa.timestamp("us", "UTC"))
"""ISO dates without and with a time zone."""
FIRST, LAST = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999 in milliseconds."""


def type_of_timestamp(text: str, *, place: str) -> pa.DataType:
    """Infer the type of a column's timestamps from the first one.

    Raises:
        UserError: it is neither a number nor an ISO date.
    """
    text = text.strip()
    for written, pattern in ((pa.int64(), r"-?\d{1,18}"), (pa.float64(), r"[+-]?\d+\.?\d*([eE][+-]?\d+)?")):
        if re.fullmatch(pattern, text, flags=re.ASCII):
            return written
    for written in DATES:
        if is_written_as(text, written):
            return written
    raise UserError(
        f"{place}: the timestamp must be Unix time or an ISO date such as 2026-11-24 or 2026-11-24T10:15:00Z, "
        f"got {text!r}"
    )


def milliseconds(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    """Convert a column of timestamps: (N,) int64 milliseconds since 1970 in UTC, with notes.

    The largest value determines the unit of Unix times. A note reports values that seem to be in another unit.
    """
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_numpy(), []
    least, most = pc.min_max(column).as_py().values()
    unit = next(unit for unit in UNITS if max(abs(least), abs(most)) < unit[0])
    time = np.concatenate([chunk.to_numpy() for chunk in column.chunks])
    if not pa.types.is_integer(column.type):
        time = np.round(np.clip(time * unit[1], FIRST - 1, LAST + 1)).astype(np.int64)
    elif unit[1] >= 1:
        time *= int(unit[1])
    else:
        time //= round(1 / unit[1])
    return time, _of_another_unit(column, unit, least=least)


def times_of_texts(texts: list[str], *, place: Callable[[int], str]) -> NDArray[np.datetime64]:
    """Parse times written as text, all in the format of the first one: (N,) datetime64[ms] in UTC.

    Args:
        texts: texts without surrounding white space.
        place: returns the place of a text, counted from 0, for messages.

    Raises:
        UserError: a text is not a time, or not in the format of the first one.
    """
    if not texts:
        return np.empty(0, dtype="datetime64[ms]")
    written = type_of_timestamp(texts[0], place=place(0))
    try:
        column = pa.chunked_array([pa.array(texts).cast(written)])
    except pa.ArrowInvalid:
        column = None
    if column is None or (pa.types.is_floating(written) and not pc.all(pc.is_finite(column)).as_py()):
        wrong = next(number for number, text in enumerate(texts) if not is_written_as(text, written))
        rule = "written like the first one" if column is None else "finite"
        raise UserError(f"{place(wrong)}: a time must be {rule}, got {texts[wrong]!r}")
    time, _ = milliseconds(column)
    check_years(time, places=lambda rows: [place(row) for row in rows])
    return time.astype("datetime64[ms]")


def is_written_as(text: str, written: pa.DataType) -> bool:
    """Return whether a text is a time of that type, and finite."""
    try:
        (time,) = pa.array([text]).cast(written)
    except pa.ArrowInvalid:
        return False
    return not pa.types.is_floating(written) or math.isfinite(time.as_py())


def check_years(time: NDArray[np.int64], *, places: Callable[[list[int]], list[str]]) -> None:
    """Raise UserError for a time outside the years 1 to 9999.

    Args:
        time: (N,) milliseconds since 1970.
        places: returns the file and line of rows, for messages.
    """
    if time.min() < FIRST or time.max() > LAST:
        row = int(np.argmax((time < FIRST) | (time > LAST)))
        raise UserError(f"{places([row])[0]}: every timestamp must be in the years 1 to 9999")


def _of_another_unit(column: pa.ChunkedArray, unit: tuple[float, float], *, least: float) -> list[str]:
    """Make a note on values too small for the column's unit, which would place them around 1970."""
    smaller = UNITS[: UNITS.index(unit)]
    if not smaller or least >= smaller[-1][0]:
        return []
    bound = pa.scalar(smaller[-1][0], type=pa.float64()).cast(column.type)
    small = pc.and_(pc.greater(column, 0), pc.less(column, bound))
    count = pc.sum(small).as_py() or 0
    if count == 0:
        return []
    return [
        f"timestamps: {count:,} of {len(column):,}, such as {column.filter(small)[0]}, seem to be in another unit than "
        f"the largest, {pc.max(column)}; all were read in the unit of the largest"
    ]
