"""Times of ratings: Unix time in several units, dates, or a given format."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.formats.numbers import is_number

UNITS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
"""Factors from units of Unix time to milliseconds."""
BOUNDS = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": np.inf}
"""Upper bounds of Unix times by unit, each in the year 5138."""
DATES = (pa.timestamp("us"), pa.timestamp("us", "UTC"))
"""Types of ISO dates without and with a time zone."""
INTEGER_DATES = {
    14: ("yyyymmddhhmmss", "%Y%m%d%H%M%S"),
    12: ("yyyymmddhhmm", "%Y%m%d%H%M"),
    8: ("yyyymmdd", "%Y%m%d"),
    6: ("yyyymm", "%Y%m"),
    4: ("yyyy", "%Y"),
}
"""Forms of dates that are written as integers, and their strptime patterns, by the number of digits."""
DATE_PATTERNS = [
    f"{date}{time}"
    for date in "%d/%m/%Y %m/%d/%Y %d.%m.%Y %d-%m-%Y %m-%d-%Y %Y/%m/%d %Y.%m.%d %d/%m/%y %m/%d/%y".split()
    for time in ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
] + [
    *("%m %d, %Y", "%B %d, %Y", "%b %d, %Y", "%d %B %Y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d %B, %Y"),
    *("%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z"),
]
"""Patterns of dates other than ISO that are recognized."""
EARLIEST, LATEST = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999 in milliseconds."""
LIKELY_YEARS = (631_152_000_000, 4_102_444_800_000)
"""The years 1990 to 2099 in milliseconds, outside which times of ratings are unlikely."""


@dataclass(frozen=True)
class TimeFormat:
    """Format of a column of times.

    Attributes:
        type: pyarrow's type to parse the text: int64 or float64 for Unix times, a timestamp for ISO dates, or a string
            for times that `parsed_times` parses.
        pattern: value of data.timestamp_format: a unit of Unix time, or a strptime pattern; None: detected.
        key: key of the pattern in messages.
    """

    type: pa.DataType
    pattern: str | None = None
    key: str = "data.timestamp_format"

    @property
    def rule(self) -> str:
        """The text that completes `the timestamp must be …`."""
        if self.pattern is not None and self.pattern not in UNITS:
            return f"written as {self.pattern!r} ({self.key})"
        is_date = pa.types.is_timestamp(self.type) or pa.types.is_string(self.type)
        return "an ISO date, as in the first row" if is_date else "Unix time, as in the first row"

    @property
    def any_dates(self) -> "TimeFormat":
        """The format that reads ISO dates of any form, if this one reads ISO dates; else this one."""
        return replace(self, type=pa.string()) if pa.types.is_timestamp(self.type) else self


def format_of_times(
    text: str, pattern: str | None, *, place: str, decimal: str = ".", key: str = "data.timestamp_format"
) -> TimeFormat:
    """Detect the format of a column of times from the first one, at `place`; for the pattern, see `TimeFormat`.

    Raises:
        UserError: the text is neither a number nor an ISO date, or does not match the pattern.
    """
    time_format = _format_of(text, pattern, decimal=decimal, key=key)
    if time_format is not None:
        return time_format
    if pattern is not None:
        rule = f"Unix time ({key})" if pattern in UNITS else TimeFormat(pa.string(), pattern, key).rule
        raise UserError(f"{place}: the timestamp must be {rule}, got {text.strip()!r}")
    patterns = " or ".join(map(repr, date_patterns([text])))
    advice = f"{key}={patterns} reads it" if patterns else f"for another format, set {key}, such as '%d.%m.%Y'"
    raise UserError(
        f"{place}: the timestamp must be Unix time or an ISO date such as 2026-11-24 or 2026-11-24T10:15:00Z, "
        f"got {text.strip()!r}; {advice}"
    )


def _format_of(
    text: str, pattern: str | None, *, decimal: str = ".", key: str = "data.timestamp_format"
) -> TimeFormat | None:
    """Detect the format of a time, as `format_of_times` does; None if it has none."""
    text = text.strip()
    if pattern is None or pattern in UNITS:
        if re.fullmatch(r"-?\d{1,18}", text, flags=re.ASCII):
            return TimeFormat(pa.int64(), pattern, key)
        if is_number(text, decimal=decimal):
            return TimeFormat(pa.float64(), pattern, key)
    kinds = () if pattern in UNITS else (*(DATES if pattern is None else ()), pa.string())
    formats = (TimeFormat(kind, pattern, key) for kind in kinds)
    return next((time_format for time_format in formats if matches_format(text, time_format)), None)


def date_patterns(texts: list[str]) -> list[str]:
    """List the patterns among DATE_PATTERNS that read all of these times."""
    return [pattern for pattern in DATE_PATTERNS if are_times(texts, pattern)]


def are_times(texts: list[str], pattern: str | None) -> bool:
    """Return whether a pattern reads all of these texts; for the pattern, see `TimeFormat`."""
    time_format = _format_of(texts[0], pattern)
    return time_format is not None and column_of_times(pa.chunked_array([texts], pa.string()), time_format) is not None


def parsed_times(texts: pa.Array, pattern: str | None) -> pa.Array:
    """Parse times in a strptime pattern or, without one, ISO dates of any precision. Times without a zone are in UTC.

    Raises:
        ArrowInvalid: a text is not such a time.
    """
    texts = pc.utf8_trim_whitespace(texts)
    if pattern is not None:
        if pc.any(
            pc.match_substring_regex(texts, r"(?i)^(now|today)$")
        ).as_py():  # pandas would read these as the current time
            raise pa.ArrowInvalid("a time is not a date")
        parsed = pd.to_datetime(texts.to_pandas(), format=pattern, utc=True, errors="coerce")
        if parsed.isna().any():
            raise pa.ArrowInvalid(f"a time is not written as {pattern}")
        return pa.array(parsed.dt.as_unit("ms").dt.tz_localize(None)).cast(pa.timestamp("ms"))
    texts = pc.replace_substring_regex(texts, r"(\.\d{6})\d+", r"\1")  # pyarrow reads at most microseconds
    texts = pc.replace_substring_regex(texts, r" ?(UTC|GMT)$", "Z")
    has_zone = pc.match_substring_regex(texts, r":.*(Z|[+-]\d\d(:?\d\d)?)$")
    naive, utc = (
        texts.filter(mask).cast(kind) for mask, kind in zip((pc.invert(has_zone), has_zone), DATES, strict=True)
    )
    time = np.empty(len(texts), dtype=np.int64)
    for mask, times in ((pc.invert(has_zone), naive), (has_zone, utc)):
        time[mask.to_numpy(zero_copy_only=False)] = times.cast(pa.int64()).to_numpy() // 1000
    return pa.array(time).cast(pa.timestamp("ms"))


def matches_format(text: str, time_format: TimeFormat, *, decimal: str = ".") -> bool:
    """Return whether a text is a finite time in a format."""
    if pa.types.is_floating(time_format.type):
        text = text.replace(decimal, ".")
    try:
        column = pa.array([text])
        parsed = (
            parsed_times(column, time_format.pattern)
            if pa.types.is_string(time_format.type)
            else column.cast(time_format.type)
        )
    except (pa.ArrowInvalid, ValueError):
        return False
    return not pa.types.is_floating(time_format.type) or math.isfinite(parsed[0].as_py())


def milliseconds(column: pa.ChunkedArray, pattern: str | None) -> tuple[NDArray[np.int64], list[str]]:
    """Convert a column of times: (N,) int64 milliseconds since 1970 in UTC, with notes.

    Without a pattern, integers are read as dates if all of them are valid dates such as 20060131. Otherwise the largest
    value determines the unit of Unix times, and a note reports values that seem to be in another unit.

    Args:
        column: timestamps, integers or floats.

    Raises:
        ArrowInvalid: a number does not match the pattern.
    """
    if pattern is not None and pattern not in UNITS and not pa.types.is_timestamp(column.type):
        column = pa.chunked_array([parsed_times(chunk.cast(pa.string()), pattern) for chunk in column.chunks])
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_numpy(), []
    time = np.concatenate([chunk.to_numpy() for chunk in column.chunks])
    if pattern is None:
        dates = _dates_of(time)
        if dates is not None:
            day = np.datetime64(int(dates[0]), "ms").astype("datetime64[D]")
            form, _ = INTEGER_DATES[len(str(int(time[0])))]
            return dates, [f"timestamps: read as {form} dates; {time[0]:.0f} is {day}"]
    least, most = pc.min_max(column).as_py().values()
    unit = pattern or _unit_of(max(abs(least), abs(most)))
    factor = UNITS[unit]
    if not pa.types.is_integer(column.type):
        time = np.round(np.clip(time * factor, EARLIEST - 1, LATEST + 1)).astype(np.int64)
    elif factor >= 1:
        np.clip(time, (EARLIEST - 1) // int(factor), (LATEST + 1) // int(factor) + 1, out=time)
        time *= int(factor)
    else:
        time //= round(1 / factor)
    return time, [] if pattern else _note_on_mixed_units(column, unit, least=least)


def _dates_of(number: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Convert integers in a form of INTEGER_DATES: (N,) int64 milliseconds; None unless all are dates of 1900–2099."""
    digits = len(str(abs(int(number[0])))) if math.isfinite(number[0]) else 0
    unit = 10 ** (digits - 4) if digits in INTEGER_DATES else 0
    if unit == 0 or number.min() < 1900 * unit or number.max() >= 2100 * unit or (number % 1 != 0).any():
        return None
    rest = number.astype(np.int64) * 10 ** (14 - digits)
    parts = []
    for size in (10**10, 10**8, 10**6, 10**4, 100, 1):
        part, rest = np.divmod(rest, size)
        parts.append(part)
    year, month, day, hour, minute, second = parts
    month, day = (np.maximum(part, 1) if digits <= least else part for part, least in ((month, 4), (day, 6)))
    if (month < 1).any() or (month > 12).any() or (hour > 23).any() or (minute > 59).any() or (second > 60).any():
        return None
    first = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    date = first.astype("datetime64[D]") + (day - 1)
    if (date.astype("datetime64[M]") != first).any():
        return None
    return date.astype("datetime64[ms]").astype(np.int64) + ((hour * 60 + minute) * 60 + second) * 1000


def times_of_texts(
    texts: list[str], *, pattern: str | None, place: Callable[[int], str], first: str | None = None
) -> NDArray[np.datetime64]:
    """Parse times written as text, all in the format of the first one: (N,) datetime64[ms] in UTC.

    Args:
        texts: texts without surrounding white space.
        place: returns the place of a text, counted from 0, for messages.
        first: first time of the column, if it is not the first of these texts.

    Raises:
        UserError: a text is not a time, or not in the format of the first one.
    """
    if not texts:
        return np.empty(0, dtype="datetime64[ms]")
    time_format = format_of_times(first or texts[0], pattern, place=place(0), key="timestamp_format")
    array = pa.chunked_array([pa.array(texts, pa.string())])
    column = column_of_times(array, time_format)
    if column is None or (pa.types.is_floating(column.type) and not pc.all(pc.is_finite(column)).as_py()):
        wrong = next(number for number, text in enumerate(texts) if not matches_format(text, time_format.any_dates))
        rule = "written like the first one" if column is None else "finite"
        raise UserError(f"{place(wrong)}: a time must be {rule}, got {texts[wrong]!r}")
    time, _ = milliseconds(column, pattern)
    check_years(time, places=lambda rows: [place(row) for row in rows])
    return time.astype("datetime64[ms]")


def pattern_of_times(texts: list[str]) -> str | None:
    """Return the timestamp_format of valid times: a unit, or a pattern of integer dates; None for ISO dates."""
    time_format = format_of_times(texts[0], None, place="")
    if not (pa.types.is_integer(time_format.type) or pa.types.is_floating(time_format.type)):
        return None
    number = np.array(texts, dtype=np.float64)
    if _dates_of(number) is not None:
        return INTEGER_DATES[len(str(int(number[0])))][1]
    return _unit_of(float(np.abs(number).max()))


def _unit_of(largest: float) -> str:
    """Return the unit of Unix times by the largest absolute value."""
    return next(unit for unit, bound in BOUNDS.items() if largest < bound)


def column_of_times(texts: pa.ChunkedArray, time_format: TimeFormat) -> pa.ChunkedArray | None:
    """Parse a column of texts in a format, ISO dates in any form; None if a text does not match it."""
    try:
        if not pa.types.is_string(time_format.type):
            return texts.cast(time_format.type)
        return pa.chunked_array([parsed_times(chunk, time_format.pattern) for chunk in texts.chunks])
    except pa.ArrowInvalid:
        return None if time_format.any_dates == time_format else column_of_times(texts, time_format.any_dates)


def check_years(time: NDArray[np.int64], *, places: Callable[[list[int]], list[str]]) -> None:
    """Raise UserError, with its place, for a time outside the years 1 to 9999: (N,) milliseconds since 1970."""
    if time.min() < EARLIEST or time.max() > LATEST:
        row = int(np.argmax((time < EARLIEST) | (time > LATEST)))
        raise UserError(f"{places([row])[0]}: every timestamp must be in the years 1 to 9999")


def note_on_unusual(time: NDArray[np.int64]) -> list[str]:
    """Make a note on times before 1990 or after 2099: (N,) milliseconds since 1970."""
    if time.min() >= LIKELY_YEARS[0] and time.max() < LIKELY_YEARS[1]:
        return []
    unusual = time[(time < LIKELY_YEARS[0]) | (time >= LIKELY_YEARS[1])]
    extremes = int(unusual.min()), int(unusual.max())
    examples = dict.fromkeys(str(np.datetime64(time_ms // 1000, "s")) for time_ms in extremes)
    return [
        f"timestamps: {len(unusual):,} of {len(time):,} are before 1990 or after 2099, such as "
        f"{' and '.join(examples)}; if they are in another format, set data.timestamp_format"
    ]


def _note_on_mixed_units(column: pa.ChunkedArray, unit: str, *, least: float) -> list[str]:
    """Make a note on values that are too small for the column's unit, and so would be times around 1970."""
    smaller = list(BOUNDS.values())[: list(BOUNDS).index(unit)]
    if not smaller or least >= smaller[-1]:
        return []
    bound = pa.scalar(smaller[-1], type=pa.float64()).cast(column.type)
    small = pc.and_(pc.greater(column, 0), pc.less(column, bound))
    count = pc.sum(small).as_py() or 0
    if count == 0:
        return []
    return [
        f"timestamps: {count:,} of {len(column):,}, such as {column.filter(small)[0]}, seem to be in another unit than "
        f"the largest, {pc.max(column)}; all were read in the unit of the largest"
    ]
