"""Timestamps of ratings: Unix time in several units, dates, or a given format."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.formats.literals import is_number

MILLISECONDS_PER_UNIT = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
"""Milliseconds per unit of Unix time."""
UNIT_BOUNDS = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": np.inf}
"""Upper bounds of Unix time by unit, each in the year 5138."""
ISO_DATE_TYPES = (pa.timestamp("us"), pa.timestamp("us", "UTC"))
"""Types of ISO dates without and with a time zone."""
INTEGER_DATES = {
    14: ("yyyymmddhhmmss", "%Y%m%d%H%M%S"),
    12: ("yyyymmddhhmm", "%Y%m%d%H%M"),
    8: ("yyyymmdd", "%Y%m%d"),
    6: ("yyyymm", "%Y%m"),
    4: ("yyyy", "%Y"),
}
"""Names and strptime patterns of dates that are written as integers, by their number of digits."""
DATE_PATTERNS = [
    f"{date}{time}"
    for date in "%d/%m/%Y %m/%d/%Y %d.%m.%Y %d-%m-%Y %m-%d-%Y %Y/%m/%d %Y.%m.%d %d/%m/%y %m/%d/%y".split()
    for time in ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
] + [
    *("%m %d, %Y", "%B %d, %Y", "%b %d, %Y", "%d %B %Y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d %B, %Y"),
    *("%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z"),
]
"""Patterns of non-ISO dates that messages suggest."""
EARLIEST_MS, LATEST_MS = -62_135_596_800_000, 253_402_300_799_999
"""First and last millisecond of the years 1 to 9999, since 1970."""
TEXTS_AT_ONCE = 1 << 17
"""Number of integers that are converted to text at once, to parse them in a pattern."""
LIKELY_TIMES_MS = (631_152_000_000, 4_102_444_800_000)
"""Start of 1990 and end of 2099 in milliseconds since 1970. Few ratings have timestamps outside this range."""


@dataclass(frozen=True)
class TimeFormat:
    """Format of a timestamp column.

    Attributes:
        type: pyarrow's type to parse the text: int64 or float64 for Unix time, a timestamp for ISO dates, or a string
            for dates that `parse_times` parses.
        pattern: value of data.timestamp_format: a unit of Unix time, or a strptime pattern. None if it is detected.
        key: key of the pattern in messages.
    """

    type: pa.DataType
    pattern: str | None = None
    key: str = "data.timestamp_format"

    @property
    def rule(self) -> str:
        """The text that completes `the timestamp must be …`."""
        if self.pattern is not None and self.pattern not in MILLISECONDS_PER_UNIT:
            return f"written as {self.pattern!r} ({self.key})"
        is_date = pa.types.is_timestamp(self.type) or pa.types.is_string(self.type)
        return "an ISO date, as in the first row" if is_date else "Unix time, as in the first row"

    @property
    def any_dates(self) -> "TimeFormat":
        """This format or, if it covers only the ISO dates that pyarrow parses, the format that covers all ISO dates."""
        return replace(self, type=pa.string()) if pa.types.is_timestamp(self.type) else self


def detect_time_format(
    text: str, pattern: str | None, *, place: str, decimal: str = ".", key: str = "data.timestamp_format"
) -> TimeFormat:
    """Detect the format of a timestamp column from its first text; `TimeFormat` explains `pattern` and `key`.

    Raises:
        UserError: the text is neither a number nor an ISO date, or does not match the pattern.
    """
    time_format = _match_time_format(text, pattern, decimal=decimal, key=key)
    if time_format is not None:
        return time_format
    if pattern is not None:
        rule = f"Unix time ({key})" if pattern in MILLISECONDS_PER_UNIT else TimeFormat(pa.string(), pattern, key).rule
        raise UserError(f"{place}: the timestamp must be {rule}, got {text.strip()!r}{suggest_pattern(text, key=key)}")
    advice = suggest_pattern(text, key=key) or f"; for another format, set {key}, such as '%d.%m.%Y'"
    raise UserError(
        f"{place}: the timestamp must be Unix time or an ISO date such as 2026-11-24 or 2026-11-24T10:15:00Z, "
        f"got {text.strip()!r}{advice}"
    )


def _match_time_format(
    text: str, pattern: str | None, *, decimal: str = ".", key: str = "data.timestamp_format"
) -> TimeFormat | None:
    """Detect the format like `detect_time_format`. Return None if the text is not a timestamp."""
    text = text.strip()
    if pattern is None or pattern in MILLISECONDS_PER_UNIT:
        if re.fullmatch(r"-?\d{1,18}", text, flags=re.ASCII):
            return TimeFormat(pa.int64(), pattern, key)
        if is_number(text, decimal=decimal):
            return TimeFormat(pa.float64(), pattern, key)
    types = () if pattern in MILLISECONDS_PER_UNIT else (*(ISO_DATE_TYPES if pattern is None else ()), pa.string())
    formats = (TimeFormat(data_type, pattern, key) for data_type in types)
    return next((time_format for time_format in formats if is_time(text, time_format)), None)


def suggest_pattern(text: str, *, key: str) -> str:
    """Return `; KEY=PATTERN reads it` with the patterns among DATE_PATTERNS that read a timestamp, or "" if none do."""
    patterns = find_date_patterns([text])
    return f"; {key}={' or '.join(map(repr, patterns))} reads it" if patterns else ""


def find_date_patterns(texts: list[str]) -> list[str]:
    """List the patterns among DATE_PATTERNS that read all of these timestamps."""
    return [pattern for pattern in DATE_PATTERNS if are_times(texts, pattern)]


def are_times(texts: list[str], pattern: str | None) -> bool:
    """Return whether a pattern of `TimeFormat` reads all of these texts."""
    time_format = _match_time_format(texts[0], pattern)
    return time_format is not None and parse_time_column(pa.array(texts, pa.string()), time_format) is not None


def parse_times(texts: pa.Array, pattern: str | None) -> pa.Array:
    """Parse dates in a strptime pattern or, if it is None, ISO dates of any precision.

    Returns timestamps in milliseconds, UTC. Dates without a zone count as UTC.

    Raises:
        ArrowInvalid: a text is not such a date.
    """
    texts = pc.utf8_trim_whitespace(texts)
    if pattern is not None:
        # pandas would read these as the current time
        if pc.any(pc.match_substring_regex(texts, r"(?i)^(now|today)$")).as_py():
            raise pa.ArrowInvalid("a timestamp is not a date")
        parsed = pd.to_datetime(texts.to_pandas(), format=pattern, utc=True, errors="coerce")
        if parsed.isna().any():
            raise pa.ArrowInvalid(f"a timestamp is not written as {pattern}")
        return pa.array(parsed.dt.as_unit("ms").dt.tz_localize(None)).cast(pa.timestamp("ms"))
    texts = pc.replace_substring_regex(texts, r"(\.\d{6})\d+", r"\1")  # pyarrow reads at most microseconds
    texts = pc.replace_substring_regex(texts, r" ?(UTC|GMT)$", "Z")
    has_zone = pc.match_substring_regex(texts, r":.*(Z|[+-]\d\d(:?\d\d)?)$")
    time = np.empty(len(texts), dtype=np.int64)
    for mask, data_type in zip((pc.invert(has_zone), has_zone), ISO_DATE_TYPES, strict=True):
        microseconds = texts.filter(mask).cast(data_type).cast(pa.int64()).to_numpy()
        time[mask.to_numpy(zero_copy_only=False)] = microseconds // 1000
    return pa.array(time).cast(pa.timestamp("ms"))


def is_time(text: str, time_format: TimeFormat, *, decimal: str = ".") -> bool:
    """Return whether a text is a finite timestamp in a format."""
    is_float = pa.types.is_floating(time_format.type)
    parsed = _parse_exactly(pa.array([text.replace(decimal, ".") if is_float else text]), time_format)
    return parsed is not None and not (is_float and not math.isfinite(parsed[0].as_py()))


def to_milliseconds(
    time: NDArray[Any], pattern: str | None, *, file: object, key: str
) -> tuple[NDArray[np.int64], list[str]]:
    """Convert timestamps to milliseconds since 1970 in UTC, (N,) int64, and make notes on doubtful ones.

    Without a pattern, integers are read as dates if all of them are valid dates such as 20060131. Otherwise the largest
    value determines the unit of Unix time, and a note reports values that seem to be in another unit.

    Args:
        time: timestamps, (N,) datetime64, int64 or float64. Unix time in integers is converted in place.
        pattern: see `TimeFormat`.
        file, key: the file of the column and the key of the pattern, for the error.

    Raises:
        UserError: a number does not match the pattern.
    """
    if pattern is not None and pattern not in MILLISECONDS_PER_UNIT and time.dtype.kind != "M":
        try:
            slices = (time[start : start + TEXTS_AT_ONCE] for start in range(0, len(time), TEXTS_AT_ONCE))
            parsed = [parse_times(pa.array(part).cast(pa.string()), pattern).to_numpy() for part in slices]
            time = np.concatenate(parsed)
        except pa.ArrowInvalid as error:
            raise UserError(f"{file}: every timestamp must be written as {pattern!r} ({key})") from error
    if time.dtype.kind == "M":
        return time.astype("datetime64[ms]", copy=False).view(np.int64), []
    if pattern is None:
        dates = _parse_integer_dates(time)
        if dates is not None:
            day = np.datetime64(int(dates[0]), "ms").astype("datetime64[D]")
            form, _ = INTEGER_DATES[len(str(int(time[0])))]
            return dates, [f"timestamps: read as {form} dates; {time[0]:.0f} is {day}"]
    unit = pattern or _guess_unit(max(abs(float(time.min())), abs(float(time.max()))))
    notes = [] if pattern else _note_mixed_units(time, unit)
    factor = MILLISECONDS_PER_UNIT[unit]
    if time.dtype.kind == "f":
        time = np.round(np.clip(time * factor, EARLIEST_MS - 1, LATEST_MS + 1)).astype(np.int64)
    elif factor >= 1:
        np.clip(time, (EARLIEST_MS - 1) // int(factor), (LATEST_MS + 1) // int(factor) + 1, out=time)
        time *= int(factor)
    else:
        time //= round(1 / factor)
    return time, notes


def _parse_integer_dates(number: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Convert numbers such as 20060131 to milliseconds, (N,) int64, if all of them are dates of 1900 to 2099."""
    digits = len(str(abs(int(number[0])))) if math.isfinite(number[0]) else 0
    year_unit = 10 ** (digits - 4) if digits in INTEGER_DATES else 0
    if year_unit == 0 or number.min() < 1900 * year_unit or number.max() >= 2100 * year_unit or (number % 1 != 0).any():
        return None
    rest = number.astype(np.int64) * 10 ** (14 - digits)
    fields = []
    for unit in (10**10, 10**8, 10**6, 10**4, 100, 1):
        value, rest = np.divmod(rest, unit)
        fields.append(value)
    year, month, day, hour, minute, second = fields
    month = np.maximum(month, 1) if digits == 4 else month
    day = np.maximum(day, 1) if digits <= 6 else day
    if (month < 1).any() or (month > 12).any() or (hour > 23).any() or (minute > 59).any() or (second > 60).any():
        return None
    first_day = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    date = first_day.astype("datetime64[D]") + (day - 1)
    if (date.astype("datetime64[M]") != first_day).any():  # such as February 30
        return None
    return date.astype("datetime64[ms]").astype(np.int64) + ((hour * 60 + minute) * 60 + second) * 1000


def parse_times_to_numpy(
    texts: list[str], *, pattern: str | None, place: Callable[[int], str], first: str | None = None
) -> NDArray[np.datetime64]:
    """Parse timestamps written as text, all in the format of the first one: (N,) datetime64[ms] in UTC.

    Args:
        texts: texts without surrounding white space.
        pattern: see `TimeFormat`.
        place: returns the place of a text, counted from 0, for messages.
        first: first text of the column, by default the first of these texts.

    Raises:
        UserError: a text is not a timestamp, or not in the format of the first one.
    """
    if not texts:
        return np.empty(0, dtype="datetime64[ms]")
    time_format = detect_time_format(first or texts[0], pattern, place=place(0), key="timestamp_format")
    column = parse_time_column(pa.array(texts, pa.string()), time_format)
    if column is None or (pa.types.is_floating(column.type) and not pc.all(pc.is_finite(column)).as_py()):
        wrong = next(row for row, text in enumerate(texts) if not is_time(text, time_format.any_dates))
        rule = "written like the first one" if column is None else "finite"
        raise UserError(f"{place(wrong)}: the timestamp must be {rule}, got {texts[wrong]!r}")
    time, _ = to_milliseconds(column.to_numpy().copy(), pattern, file=place(0), key="timestamp_format")
    check_years(time, places=lambda rows: [place(row) for row in rows])
    return time.astype("datetime64[ms]")


def detect_timestamp_format(texts: list[str]) -> str | None:
    """Detect the timestamp_format of valid timestamps: a unit, a pattern of integer dates, or None for ISO dates."""
    time_format = detect_time_format(texts[0], None, place="")
    if not (pa.types.is_integer(time_format.type) or pa.types.is_floating(time_format.type)):
        return None
    numbers = np.array(texts, dtype=np.float64)
    if _parse_integer_dates(numbers) is not None:
        _, pattern = INTEGER_DATES[len(str(int(numbers[0])))]
        return pattern
    return _guess_unit(float(np.abs(numbers).max()))


def _guess_unit(largest: float) -> str:
    return next(unit for unit, bound in UNIT_BOUNDS.items() if largest < bound)


def parse_time_column(texts: pa.StringArray, time_format: TimeFormat) -> pa.Array | None:
    """Parse a column of texts in a format, or as ISO dates in several forms. Returns None if a text does not match."""
    parsed = _parse_exactly(texts, time_format)
    if parsed is None and time_format.any_dates != time_format:
        return _parse_exactly(texts, time_format.any_dates)
    return parsed


def _parse_exactly(texts: pa.StringArray, time_format: TimeFormat) -> pa.Array | None:
    try:
        if pa.types.is_string(time_format.type):
            return parse_times(texts, time_format.pattern)
        return texts.cast(time_format.type)
    except ValueError:  # also ArrowInvalid
        return None


def check_years(time: NDArray[np.int64], *, places: Callable[[list[int]], list[str]]) -> None:
    """Raise UserError, with its place, for a timestamp outside the years 1 to 9999: (N,) milliseconds since 1970."""
    if time.min() < EARLIEST_MS or time.max() > LATEST_MS:
        row = int(np.argmax((time < EARLIEST_MS) | (time > LATEST_MS)))
        raise UserError(f"{places([row])[0]}: every timestamp must be in the years 1 to 9999")


def note_unusual_times(time: NDArray[np.int64]) -> list[str]:
    """Make a note on timestamps before 1990 or after 2099. time: (N,) milliseconds since 1970."""
    if time.min() >= LIKELY_TIMES_MS[0] and time.max() < LIKELY_TIMES_MS[1]:
        return []
    unusual = time[(time < LIKELY_TIMES_MS[0]) | (time >= LIKELY_TIMES_MS[1])]
    extremes = int(unusual.min()), int(unusual.max())
    examples = dict.fromkeys(str(np.datetime64(time_ms // 1000, "s")) for time_ms in extremes)
    return [
        f"timestamps: {len(unusual):,} of {len(time):,} are before 1990 or after 2099, such as "
        f"{' and '.join(examples)}; if they are in another format, set data.timestamp_format"
    ]


def _note_mixed_units(time: NDArray[np.int64] | NDArray[np.float64], unit: str) -> list[str]:
    """Make a note on values so small that they are probably in another unit."""
    bounds = list(UNIT_BOUNDS.values())[: list(UNIT_BOUNDS).index(unit)]
    if not bounds or time.min() >= bounds[-1]:
        return []
    small = time[(time > 0) & (time < bounds[-1])]
    if len(small) == 0:
        return []
    return [
        f"timestamps: {len(small):,} of {len(time):,}, such as {small[0]}, seem to be in a different "
        f"unit from the largest, {time.max()}; all were read in the unit of the largest"
    ]
