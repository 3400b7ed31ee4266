"""Times in detected and in given formats, and notes on unlikely times."""

import numpy as np
import pandas as pd
import pytest
from tables import csv_options

from ratinglab.errors import UserError
from ratinglab.formats.frames import read_frame
from ratinglab.formats.text_options import ColumnOptions
from ratinglab.options import check_options

COLUMNS = ("user_id", "item_id", "rating", "time")


@pytest.fixture
def read(tmp_path):
    """Read ratings with these times, written as text or in a Parquet file: read(times, pattern)."""

    def read_times(times, pattern=None, *, parquet=False):
        frame = pd.DataFrame({"user_id": 1, "item_id": range(len(times)), "rating": range(len(times)), "time": times})
        path = tmp_path / "ratings"
        frame.to_parquet(path) if parquet else frame.to_csv(path, sep="\t", index=False)
        return csv_options(str(path), columns=COLUMNS, separator="tab", timestamp_format=pattern).load()

    return read_times


def as_milliseconds(*dates):
    return [int(np.datetime64(date, "ms").astype(np.int64)) for date in dates]


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize(
    ("times", "dates", "name"),
    [
        ([20060131, 20081231], ["2006-01-31", "2008-12-31"], "yyyymmdd dates; 20060131 is 2006-01-31"),
        ([20060131.0, 20080229.0], ["2006-01-31", "2008-02-29"], "yyyymmdd dates; 20060131 is 2006-01-31"),
        (
            [200601312359, 200602010000],
            ["2006-01-31T23:59", "2006-02-01"],
            "yyyymmddhhmm dates; 200601312359 is",
        ),
        ([20060131235960, 20060201000001], ["2006-02-01", "2006-02-01T00:00:01"], "yyyymmddhhmmss dates; 2006"),
        ([200602, 200612], ["2006-02-01", "2006-12-01"], "yyyymm dates; 200602 is 2006-02-01"),
        ([1998, 2006], ["1998-01-01", "2006-01-01"], "yyyy dates; 1998 is 1998-01-01"),
    ],
)
def test_integers_that_are_dates_are_read_as_dates(read, times, dates, name, parquet):
    table = read(times, parquet=parquet)
    assert table.timestamp.tolist() == as_milliseconds(*dates)
    assert len(table.notes) == 1
    assert table.notes[0].startswith(f"timestamps: read as {name}")


@pytest.mark.parametrize(
    "times", [[20060131, 20060132], [20060131, 20061301], [20060229, 20060301], [18991231, 20060301]]
)
def test_integers_that_are_not_all_dates_are_unix_times(read, times):
    table = read(times)
    assert table.timestamp.tolist() == [time * 1000 for time in times]
    assert table.notes[0].startswith("timestamps: 2 of 2 are before 1990 or after 2099, such as 1970-")


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize(
    ("times", "pattern", "dates"),
    [
        (["31/01/2006", "01/02/2006"], "%d/%m/%Y", ["2006-01-31", "2006-02-01"]),
        (["01 31, 2006", "12 5, 2006"], "%m %d, %Y", ["2006-01-31", "2006-12-05"]),
        (["Tue Jan 31 05:06:07 -0200 2006"] * 2, "%a %b %d %H:%M:%S %z %Y", ["2006-01-31T07:06:07"] * 2),
        (["2006-01-31 05:06:07.250", "2006-01-31 05:06:07.5"], "%Y-%m-%d %H:%M:%S.%f",
         ["2006-01-31T05:06:07.250", "2006-01-31T05:06:07.500"]),
        ([20060131, 20060201], "%Y%m%d", ["2006-01-31", "2006-02-01"]),
        ([900_000_000, 900_000_001], "s", ["1998-07-09T16:00:00", "1998-07-09T16:00:01"]),
        ([900_000_000_000, 90_000_000_000], "ms", ["1998-07-09T16:00:00", "1972-11-07T16:00:00"]),
        ([900_000_000_000_000, 900_000_000_000_001], "us", ["1998-07-09T16:00:00"] * 2),
        ([-1, 999, -1_001], "us", ["1969-12-31T23:59:59.999", "1970-01-01", "1969-12-31T23:59:59.998"]),
        ([-1, 1_700_000_000_999_999_999], "ns", ["1969-12-31T23:59:59.999", "2023-11-14T22:13:20.999"]),
    ],
)  # fmt: skip
def test_times_are_read_in_the_format_given(read, times, pattern, dates, parquet):
    assert read(times, pattern, parquet=parquet).timestamp.tolist() == as_milliseconds(*dates)


def test_frame_keeps_its_times():
    columns = {"user_id": [1, 2], "item_id": [3, 4], "rating": [5.0, 1.0]}
    seconds = np.array([1_200_000_000, 1_300_000_000])
    *_, times = read_frame({**columns, "timestamp": seconds}, ColumnOptions(*columns, "timestamp"))
    assert times.tolist() == [pd.Timestamp(second, unit="s") for second in seconds]
    assert seconds.tolist() == [1_200_000_000, 1_300_000_000]


def test_iso_dates_may_differ_in_precision_and_zone(read):
    texts = [
        "2006-01-31",
        "2006-01-31T05:06Z",
        "2006-01-31 05:06:07.123456789",
        "2006-01-31T05:06:07+02:00",
        "2006-01-31 05:06:07 UTC",
    ]
    found = read(texts).timestamp.tolist()
    assert found == as_milliseconds(
        "2006-01-31", "2006-01-31T05:06", "2006-01-31T05:06:07.123", "2006-01-31T03:06:07", "2006-01-31T05:06:07"
    )
    assert read(texts[::-1]).timestamp.tolist() == found[::-1]
    assert read(texts[2:], parquet=True).timestamp.tolist() == found[2:]


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ([0, 900_000_000], "1 of 2 are before 1990 or after 2099, such as 1970-01-01T00:00:00; if"),
        ([-5, 0], "2 of 2 are before 1990 or after 2099, such as 1969-12-31T23:59:55 and 1970-01-01T00:00:00; if"),
        (["0001-01-01", "2006-01-31"], "1 of 2 are before 1990 or after 2099, such as 0001-01-01T00:00:00; if"),
        (["2006-01-31", "9999-12-31"], "1 of 2 are before 1990 or after 2099, such as 9999-12-31T00:00:00; if"),
        ([12, 700], "2 of 2 are before 1990 or after 2099, such as 1970-01-01T00:00:12 and 1970-01-01T00:11:40; if"),
    ],
)
def test_unlikely_times_give_a_note(read, times, shown):
    (note,) = read(times).notes
    assert note.startswith(f"timestamps: {shown} they are in another format, set data.timestamp_format")


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize(
    ("times", "pattern", "message"),
    [
        (
            ["31/01/2006", "32/01/2006"],
            "%d/%m/%Y",
            r"must be written as '%d/%m/%Y' \(data.timestamp_format\), got '32/01",
        ),
        (["2006-01-31", "2006-01-32"], None, "must be an ISO date, as in the first row, got '2006-01-32'"),
        (
            ["31/01/2006"],
            None,
            "must be Unix time or an ISO date .*; data.timestamp_format='%d/%m/%Y' reads it$",
        ),
        (["01/02/2006"], None, ".*, got '01/02/2006'; data.timestamp_format='%d/%m/%Y' or '%m/%d/%Y' reads it$"),
        (["spring"], None, ".*, got 'spring'; for another format, set data.timestamp_format, such as '%d.%m.%Y'$"),
        (["2006-01-31", "now"], "%Y-%m-%d", r"must be written as '%Y-%m-%d' \(data.timestamp_format\), got 'now'"),
        (["02/13/2006"], "%d/%m/%Y", r".*, got '02/13/2006'; data.timestamp_format='%m/%d/%Y' reads it$"),
        (["2006-01-31"], "s", r"must be Unix time \(data.timestamp_format\), got '2006-01-31'"),
        (["2006-01-31"], "%d/%m/%Y", r"must be written as '%d/%m/%Y' \(data.timestamp_format\), got '2006-01-31'"),
    ],
)
def test_time_in_another_format_is_named_with_its_place(read, times, pattern, message, parquet):
    line = f"row {len(times)}" if parquet else f"line {len(times) + 1}"
    with pytest.raises(UserError, match=f"ratings, {line}: the timestamp {message}"):
        read(times, pattern, parquet=parquet)


def test_pattern_that_reads_a_late_time_is_suggested(read):
    with pytest.raises(UserError, match=r"line 3: .*, got '02/13/2006'; data.timestamp_format='%m/%d/%Y' reads it$"):
        read(["02/01/2006", "02/13/2006"], "%d/%m/%Y")


def test_numbers_in_another_format_are_refused_in_parquet(read):
    with pytest.raises(UserError, match=r"ratings: every timestamp must be written as .%Y%m%d. "):
        read([20060131, 5], "%Y%m%d", parquet=True)


@pytest.mark.parametrize("pattern", ["seconds", "yyyy", ""])
def test_format_without_a_directive_is_refused(pattern):
    with pytest.raises(UserError, match=r"data.timestamp_format must be one of s, ms, us, ns, or a pattern such as"):
        check_options(csv_options(timestamp_format=pattern), prefix="data.")


@pytest.mark.parametrize(("pattern", "directive"), [("%q", "%q"), ("%d/%m/%Q", "%Q"), ("%Y-%", "%"), ("%-d.%m", "%-")])
def test_directive_that_strptime_lacks_is_refused(pattern, directive):
    with pytest.raises(UserError, match=rf"must have only directives of strptime, such as %d; got {directive} in '"):
        check_options(csv_options(timestamp_format=pattern), prefix="data.")


@pytest.mark.parametrize("directive", "aAbBcdfGHIjmMpSuUVwWxXyYzZ%")
def test_directive_of_strptime_is_accepted(directive):
    check_options(csv_options(timestamp_format=f"%{directive}"), prefix="data.")
