"""Reading of ratings: equal rows from every file format, and one-line errors with their location."""

import bz2
import gzip
import lzma
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from tables import NO_ITEMS, csv_options, rows_of

from ratinglab.datasets.sources import ScaleOptions
from ratinglab.errors import UserError
from ratinglab.formats import inputs
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import Layout
from ratinglab.formats.rows_by_pyarrow import read_row_blocks
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.options import check_options
from ratinglab.reading.cleaning_options import Duplicates


@pytest.fixture
def read(tmp_path):
    """Write a file and read it: read(content, **options)."""

    def read_content(content: str | bytes, *, name: str = "ratings.csv", **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return csv_options(**{"path": str(path), **options}).load()

    return read_content


PLAIN = "user_id,item_id,rating\n7,b,3.5\n5,a,1\n7,a,2\n"
EXPECTED = [(7, "b", 3.5), (5, "a", 1.0), (7, "a", 2.0)]
HEADERLESS = {"header": False, "columns": ("1", "2", "3")}


def test_columns_are_recorded_by_name_or_position():
    assert csv_options(columns=("u", "i", "r")).column_names() == {"user": "u", "item": "i", "rating": "r"}
    assert csv_options(**HEADERLESS).column_names() == {"user": "1", "item": "2", "rating": "3"}


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("content", "options"),
    [
        pytest.param(PLAIN, {}, id="comma"),
        pytest.param("item_id,extra,rating,user_id\nb,x,3.5,7\na,,1,5\na,z,2,7\n", {}, id="extra columns"),
        pytest.param(PLAIN.replace(",", "\t"), {"separator": "tab"}, id="tab"),
        pytest.param(PLAIN.replace(",", ";"), {"separator": "semicolon"}, id="semicolon"),
        pytest.param(PLAIN.replace(",", "|"), {"separator": "pipe"}, id="pipe"),
        pytest.param(PLAIN.replace(",", "::"), {"separator": "double_colon"}, id="double_colon"),
        pytest.param("user_id item_id\trating\n  7   b 3.5 \n5 a  1\n7\ta\t2\n", {"separator": "spaces"}, id="spaces"),
        pytest.param("7 b 3.5\r\n5 a 1 \r\n7 a 2\r\n", {"separator": "spaces", **HEADERLESS}, id="spaces CRLF"),
        pytest.param(PLAIN.replace(",", "||"), {"separator": "||"}, id="any text"),
        pytest.param(PLAIN.replace(",", "^"), {"separator": "^"}, id="any character"),
        pytest.param("3.5,7,b\n1,5,a\n2,7,a\n", {"header": False, "columns": ("2", "3", "1")}, id="no header"),
        pytest.param("\ufeff" + PLAIN.replace("\n", "\r\n"), {}, id="BOM and CRLF"),
        pytest.param('"user_id","item_id","rating"\n"7","b","3.5"\n5,"a",1\n7,a,2', {}, id="quoted"),
        pytest.param("\nuser_id, item_id, rating\n\n7, b, 3.5\n5, a, 1\n\n7 ,a ,2\n\n", {}, id="blanks"),
        pytest.param(
            'user_id,note,item_id,rating\n7,"a, and ""quotes""",b,3.5\n5,,a,1\n7,,a,2\n', {}, id="quotes in a cell"
        ),
        pytest.param(PLAIN.replace("b", '"b').replace(",", "::"), {"separator": "::"}, id="quote is text with ::"),
        pytest.param(PLAIN.encode("utf-16"), {"encoding": "utf-16"}, id="utf-16"),
        pytest.param(gzip.compress(PLAIN.encode()), {}, id="gzip, by its content and not its name"),
        pytest.param(bz2.compress(PLAIN.encode()), {}, id="bzip2"),
        pytest.param(lzma.compress(PLAIN.encode()), {}, id="xz"),
        pytest.param(bz2.compress(PLAIN[:30].encode()) + bz2.compress(PLAIN[30:].encode()), {}, id="two of bzip2"),
        pytest.param(
            lzma.compress(PLAIN[:30].encode()) + bytes(8) + lzma.compress(PLAIN[30:].encode()), {}, id="two of xz"
        ),
        pytest.param(bz2.compress(PLAIN.encode()) + bz2.compress(b"") + bytes(3), {}, id="nothing behind bzip2"),
        pytest.param(PLAIN.replace(",", "→"), {"separator": "→"}, id="a character beyond ASCII"),
        pytest.param(zstd(PLAIN.encode()), {}, id="zstd"),
        pytest.param(
            gzip.compress(PLAIN.replace(",", "::").encode("utf-16")),
            {"encoding": "utf-16", "separator": "::"},
            id="all at once",
        ),
    ],
)
def test_every_file_format_gives_equal_rows(read, content, options):
    expected = [
        (user, item.replace("b", '"b') if b'"b::' in str(content).encode() else item, rating)
        for user, item, rating in EXPECTED
    ]
    assert rows_of(read(content, **options)) == expected


def test_latin_1_file_is_read_with_its_encoding(read):
    table = read("user_id,item_id,rating\n1,Amélie,3\n2,Hôtel,4\n".encode("latin-1"), encoding="latin-1")
    assert rows_of(table) == [(1, "Amélie", 3.0), (2, "Hôtel", 4.0)]


@pytest.mark.parametrize("size", range(3, 10))
@pytest.mark.parametrize("separator", [",", "::"])
@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_separator_across_a_block_boundary_is_found(read, monkeypatch, packed, separator, size):
    monkeypatch.setattr("ratinglab.formats.inputs.BLOCK_BYTES", size)
    content = packed(PLAIN.replace(",", separator).encode("utf-16"))
    assert rows_of(read(content, separator=separator, encoding="utf-16")) == EXPECTED


def test_file_format_does_not_depend_on_the_file_name(read):
    assert rows_of(read(PLAIN, name="ratings.csv.gz")) == EXPECTED


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_many_blank_lines_between_rows_are_skipped(read, packed):
    first, *rest = PLAIN.splitlines(keepends=True)
    content = first + ("\n" * (3 * inputs.BLOCK_BYTES)).join(rest)
    assert rows_of(read(packed(content.encode()))) == EXPECTED


@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd])
def test_file_name_need_not_be_utf_8(read, packed):
    assert rows_of(read(packed(PLAIN.encode()), name=os.fsdecode(b"ratings-\xff"))) == EXPECTED


@pytest.mark.parametrize(("odd", "ids"), [("007", "text"), ("0x1F", "text"), (" 7", "integers"), ("u7", "text")])
@pytest.mark.parametrize("row", [0, 1, 15_000, 39_999])
def test_odd_id_far_into_a_file_is_kept_as_written(read, odd, ids, row):
    users = [str(1_000_000 + user) for user in range(40_000)]
    users[row] = odd
    table = read("".join(f"{user},{item},{item % 5}\n" for item, user in enumerate(users)), **HEADERLESS)
    found = table.user_ids.ids[table.ratings.user]
    assert table.user_ids.are_integers == (ids == "integers")
    assert list(map(str, found)) == [user.strip() for user in users]


def test_zero_keeps_its_sign(read):
    rating = read("1,1,-0\n2,1,-0.0\n3,1,0\n4,1,2\n", **HEADERLESS).ratings.rating
    assert np.signbit(rating).tolist() == [True, True, False, False]


@pytest.mark.parametrize("digits", range(1, 8))
def test_rating_is_the_float32_nearest_to_its_decimal_text(read, digits):
    numbers = np.random.default_rng(digits).integers(10 ** (digits - 1), 10**digits, 200)
    texts = [*map(str, numbers), *(f"{number / 10**digits:.{digits}f}" for number in numbers)]
    table = read("".join(f"1,{item},{text}\n" for item, text in enumerate(texts)), **HEADERLESS)
    assert table.ratings.rating.tolist() == [float(np.float32(text)) for text in texts]


def test_zip_archive_of_one_file_is_read_as_that_file(tmp_path, read):
    path = tmp_path / "ratings.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/", "")
        archive.writestr("folder/ratings.csv", PLAIN)
        archive.writestr("__MACOSX/folder/._ratings.csv", "x")
    assert rows_of(csv_options(path=str(path)).load()) == EXPECTED
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "x")
    with pytest.raises(UserError, match=r"must hold one file, it holds 2: folder/ratings.csv, notes.txt"):
        csv_options(path=str(path)).load()


@pytest.mark.parametrize("folders", [[], ["folder/"]])
def test_zip_archive_without_a_file_is_refused(tmp_path, folders):
    with zipfile.ZipFile(tmp_path / "ratings.zip", "w") as archive:
        for folder in folders:
            archive.writestr(folder, "")
    with pytest.raises(UserError, match=r"ratings.zip holds no file$"):
        csv_options(path=str(tmp_path / "ratings.zip")).load()


FRAME = pd.DataFrame({"user_id": [7, 5, 7], "item_id": ["b", "a", "a"], "rating": [3.5, 1, 2], "extra": [None, 1, "x"]})


@pytest.mark.parametrize(
    "frame",
    [
        FRAME.drop(columns="extra"),
        FRAME.astype({"extra": "str", "user_id": "str"}),
        FRAME.drop(columns="extra").astype({"user_id": "int16", "item_id": "category", "rating": "float32"}),
    ],
    ids=["plain", "text and an extra column", "small types"],
)
def test_parquet_gives_equal_rows(tmp_path, frame):
    frame.to_parquet(tmp_path / "ratings.parquet")
    assert rows_of(csv_options(path=str(tmp_path / "ratings.parquet")).load()) == EXPECTED


def test_several_files_are_joined_in_order_of_their_names(tmp_path):
    (tmp_path / "r-2.csv").write_text("rating,user_id,item_id\n2,7,a\n")
    (tmp_path / "r-1.csv.gz").write_bytes(gzip.compress(b"user_id,item_id,rating\n7,b,3.5\n5,a,1\n"))
    (tmp_path / "other.csv").write_text("x")
    table = csv_options(path=str(tmp_path / "r-*")).load()
    assert rows_of(table) == EXPECTED
    assert [(source.name.rpartition("/")[2], source.stop) for source in table.sources] == [
        ("r-1.csv.gz", 2),
        ("r-2.csv", 3),
    ]
    (tmp_path / "r-3.csv").write_text("user_id,item_id,rating\n1,b,4\n1,a,x\n")
    with pytest.raises(UserError, match=r"r-3.csv, line 3: the rating must be a number, got 'x'"):
        csv_options(path=str(tmp_path / "r-*")).load()
    with pytest.raises(UserError, match=r"data.path: no file matches .*nothing-\*"):
        csv_options(path=str(tmp_path / "nothing-*")).load()


def test_file_borders_are_updated_when_rows_are_dropped(tmp_path):
    (tmp_path / "r-1.csv").write_text("user_id,item_id,rating\n7,b,3\n5,a,1\n7,a,2\n")
    (tmp_path / "r-2.csv").write_text("user_id,item_id,rating\n7,b,4\n7,c,5\n5,a,2\n")
    table = csv_options(path=str(tmp_path / "r-*"), duplicates=Duplicates.last).load()
    assert rows_of(table) == [(7, "a", 2.0), (7, "b", 4.0), (7, "c", 5.0), (5, "a", 2.0)]
    assert [source.stop for source in table.sources] == [1, 4]
    table = csv_options(path=str(tmp_path / "r-*"), duplicates=Duplicates.mean, min_ratings_per_user=2).load()
    assert rows_of(table) == [(7, "a", 2.0), (7, "b", 3.5), (7, "c", 5.0)]
    assert [source.stop for source in table.sources] == [1, 3]


def test_text_and_parquet_files_are_joined(tmp_path):
    (tmp_path / "r-1.csv").write_text("user_id,item_id,rating\n7,b,3.5\n5,a,1\n")
    FRAME.iloc[2:].drop(columns="extra").to_parquet(tmp_path / "r-2.parquet")
    assert rows_of(csv_options(path=str(tmp_path / "r-*")).load()) == EXPECTED


@pytest.mark.parametrize(
    "written",
    [
        ("1500000000", "1500000001", "-5"),
        ("1500000000000", "1500000001000", "-5000"),
        ("1500000000000000", "1500000001000000", "-5000000"),
        ("1500000000000000000", "1500000001000000000", "-5000000000"),
        ("1500000000.0", "1500000001", "-5e0"),
        ("2017-07-14T02:40:00", "2017-07-14 02:40:01", "1969-12-31T23:59:55"),
        ("2017-07-14T04:40:00+02:00", "2017-07-14T02:40:01Z", "1969-12-31T23:59:55Z"),
        ("2017-07-14T02:40:00.000", "2017-07-14T02:40:01.000000", "1969-12-31T23:59:55"),
    ],
)
def test_times_can_be_unix_times_of_any_unit_or_dates(read, written):
    content = "user_id,item_id,rating,time\n" + "".join(f"1,{n},{n},{text}\n" for n, text in enumerate(written))
    table = read(content, columns=("user_id", "item_id", "rating", "time"))
    assert table.timestamp.tolist() == [1_500_000_000_000, 1_500_000_001_000, -5_000]


def test_unit_of_unix_times_is_inferred_from_their_size(read):
    for unit, digits in ((1000, 0), (1, 3), (1e-3, 6), (1e-6, 9)):
        for seconds in (320_000_000, 4_000_000_000):  # of 1980 and 2096
            content = f"user_id,item_id,rating,time\n1,1,1,{seconds * 10**digits}\n1,2,2,0\n"
            table = read(content, columns=("user_id", "item_id", "rating", "time"))
            assert table.timestamp.tolist() == [seconds * 1000, 0], unit


@pytest.mark.parametrize("unit", ["s", "ms", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_parquet_times_are_converted_to_utc(tmp_path, unit, zone):
    time = pd.Series(pd.to_datetime(["2017-07-14T02:40", "2020-01-01T00:00", "1970-01-01T00:00"])).dt.as_unit(unit)
    FRAME.drop(columns="extra").assign(time=time if zone is None else time.dt.tz_localize(zone)).to_parquet(
        tmp_path / "r.parquet"
    )
    table = csv_options(path=str(tmp_path / "r.parquet"), columns=("user_id", "item_id", "rating", "time")).load()
    assert table.timestamp[0] == 1_500_000_000_000 - (0 if zone is None else 7_200_000)


def test_indices_do_not_depend_on_the_order_of_rows(read):
    lines = ["7,b,3.5", "5,a,1", "7,a,2"]
    tables = [read("\n".join(["user_id,item_id,rating", *some])) for some in (lines, lines[::-1])]
    assert tables[0].user_ids.ids.tolist() == tables[1].user_ids.ids.tolist() == [5, 7]
    assert tables[0].digest != tables[1].digest


HEADER = "user_id,item_id,rating\n1,2,3\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("user_id,item_id,rating\n", "has no ratings, only a header"),
        ("user_id,item_id,rating", "has no ratings, only a header"),
        (HEADER + "1,3,abc\n", "line 3: the rating must be a number, got 'abc'"),
        (HEADER + "1,3,\n", "line 3: the rating must be a number, got ''"),
        (HEADER + "1,3,1_0\n", "line 3: the rating must be a number, got '1_0'"),
        (HEADER + "1,3,nan\n", "line 3: the rating must be finite, got 'nan'"),
        (HEADER + "1,3,-inf\n", "line 3: the rating must be finite, got '-inf'"),
        (HEADER + "1,3,1e99\n", "line 3: the rating must be finite, got '1e99'"),
        (HEADER + ",3,4\n", "line 3: the user id must not be blank"),
        (HEADER + "1,  ,4\n", "line 3: the item id must not be blank"),
        (
            HEADER + "u,i,3\n1\x002,3,4\n",
            r"line 4: the user id must not have a NUL character, got '1\x002': is the file damaged, or UTF-16?",
        ),
        (HEADER + "1,3,4,5\n", "line 3: a row must have 3 columns, got 4"),
        (HEADER + "1,3\n", "line 3: a row must have 3 columns, got 2"),
        (HEADER + '1,3,"4\n1,4,5"\n', "line 3: a quoted cell must end on the line it starts on"),
        (HEADER + "\n\n1,3,x\n", "line 5: the rating must be a number, got 'x'"),
        (
            HEADER.encode() + b"1,\xff,3\n",
            "line 3: the item id is not UTF-8 text, got '�'; is data.encoding right?",
        ),
        (HEADER, "the only rating is 3 (to 7 digits): there is nothing to predict"),
        (HEADER + "1,3,3\n", "every rating is 3 (to 7 digits): there is nothing to predict; is data.columns.rating"),
        (HEADER.replace("3", "1000000001") + "1,3,1000000005\n", "every rating is 1e+09 (to 7 digits): there"),
        ('"user_id\n",item_id,rating\n1,2,3\n', "line 1: a quoted cell must end on the line it starts on"),
        (HEADER + '"1,3,4\n1,4,5\n', "line 3: a quoted cell must end on the line it starts on"),
        ("user,item_id,rating\n1,2,3\n", "has no column 'user_id'; it has user, item_id, rating"),
        ("user_id,item_id,rating,rating\n1,2,3,4\n", "has 2 columns named 'rating'"),
        ("user_id;item_id;rating\n1;2;3\n", "it has user_id;item_id;rating; data.separator=semicolon splits it"),
        ("user_id item_id rating\n1 2 3\n", "it has user_id item_id rating; data.separator=spaces splits it"),
        ("user_id;item_id|rating\n1;2|3\n", "it has user_id;item_id|rating; is data.separator right?"),
        ("1,2,3\n1,3,4\n", "it has 1, 2, 3; if these are values, set data.header=false and give columns by position"),
        (gzip.compress(HEADER.encode() * 999)[:-9], "is damaged or cut off: Compressed file ended"),
        (bz2.compress(HEADER.encode())[:-9], "is damaged or cut off"),
        (lzma.compress(HEADER.encode())[:-9], "is damaged or cut off"),
        (zstd(HEADER.encode() * 9_999)[:-9], "is damaged or cut off"),
        (b"PK\x03\x04 is no archive", "is damaged or cut off: File is not a zip file"),
        (b"PAR1\x00 is no table", "is damaged or cut off"),
    ],
)
def test_invalid_file_is_reported_with_its_line(read, content, message):
    with pytest.raises(UserError) as error:
        read(content)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user_id", [1, None, 3], "row 2: 'user_id' must not be null"),
        ("user_id", ["1", " ", "3"], "row 2: the user id must not be blank"),
        ("user_id", [1, 2.5, 3], "row 2: the user id must be an integer or text, got 2.5"),
        ("rating", [1, 2, float("inf")], "row 3: the rating must be finite, got inf"),
        ("rating", ["1", "x", "3"], "row 2: the rating must be a number, got 'x'"),
        ("rating", [True, False, True], "the ratings must be numbers, got bool"),
        ("ratin", [1, 2, 3], "data.columns.rating: .* has no column 'rating'; it has .*; did you mean ratin?"),
    ],
)
def test_invalid_parquet_file_is_reported_with_its_row(tmp_path, column, values, message):
    frame = FRAME.drop(columns=["rating", "extra"] if column == "ratin" else "extra").assign(**{column: values})
    frame.to_parquet(tmp_path / "ratings.parquet")
    with pytest.raises(UserError, match=f"ratings.parquet.*{message}|{message}"):
        csv_options(path=str(tmp_path / "ratings.parquet")).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"separator": "comm"}, r"data.separator must be one of comma, .*, got 'comm'; did you mean comma\?"),
        ({"separator": ""}, "data.separator must be one of comma"),
        ({"encoding": "utf-9"}, "data.encoding: there is no encoding 'utf-9'"),
        ({"encoding": "undefined"}, "data.encoding: there is no encoding 'undefined'"),
        ({"scale": ScaleOptions(lowest=None, highest=float("nan"))}, "data.scale.highest must be finite, got nan"),
        ({"encoding": "hex"}, "data.encoding: there is no encoding 'hex'"),
        (
            {"scale": ScaleOptions(lowest=5, highest=1)},
            "data.scale.highest must be above data.scale.lowest, got 1 and 5",
        ),
        ({"min_ratings_per_user": -1}, "data.min_ratings_per_user must be at least 0, got -1"),
    ],
)
def test_invalid_options_are_refused_before_a_file_is_read(options, message):
    with pytest.raises(UserError, match=message):
        check_options(csv_options(**options), prefix="data.")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("yesterday", "1", "line 2: the timestamp must be Unix time or an ISO date .* got 'yesterday'"),
        ("1500000000", "2017-07-14", "line 3: the timestamp must be Unix time, as in the first row, got '2017-07-14'"),
        (
            "2017-07-14",
            "1500000000",
            "line 3: the timestamp must be an ISO date, as in the first row, got '1500000000'",
        ),
        ("2017-07-14", "13/02/2020", "line 3: the timestamp must be an ISO date, .* got '13/02/2020'$"),
        ("1.5", "nan", "line 3: the timestamp must be Unix time, as in the first row, got 'nan'"),
        ("1.5", "inf", "line 3: the timestamp must be Unix time, as in the first row, got 'inf'"),
        ("1500000000", "", "line 3: the timestamp must be Unix time, as in the first row, got ''"),
        ("15\xb400", "5", "line 2: the timestamp must be Unix time or an ISO date .* got '15�00'"),
        ("5", "15\xb400", "line 3: the timestamp must be Unix time, as in the first row, got '15�00'"),
    ],
)
def test_invalid_time_is_reported_with_its_line(read, first, second, message):
    with pytest.raises(UserError, match=message):
        read(
            f"user_id,item_id,rating,time\n1,1,1,{first}\n1,2,2,{second}\n".encode("latin-1"),
            columns=("user_id", "item_id", "rating", "time"),
        )


def test_text_in_another_encoding_is_reported_with_its_line(read):
    content = PLAIN.encode("utf-16")[:-1]
    with pytest.raises(UserError, match=r"ratings.csv, line 4: not utf-16 text"):
        read(content, encoding="utf-16")


def test_invalid_rating_far_into_a_large_file_is_found(read):
    many = "".join(f"{n % 999},{n},{n % 5}\n" for n in range(200_000))
    with pytest.raises(UserError, match="line 200002: the rating must be a number, got 'oops'"):
        read("user_id,item_id,rating\n" + many + "1,2,oops\n")


@pytest.mark.parametrize("size", [1, 2, 3, 8, 1 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_stray_quotation_mark_in_another_column_joins_no_rows(read, monkeypatch, end, size):
    monkeypatch.setattr("ratinglab.formats.inputs.BLOCK_BYTES", size)
    rows = "".join(f"{row},1,{row},{mark}{end}" for row, mark in enumerate(["x", '"a', "y", 'b"', "z"]))
    table = read(f"user_id,item_id,rating,note{end}" + rows)
    assert table.ratings.rating.tolist() == [0, 1, 2, 3, 4]
    assert "quotation marks were read as text, as with data.quote=none" in table.notes[0]


@pytest.mark.parametrize("packed", [bz2.compress, lzma.compress, gzip.compress])
def test_damaged_second_compressed_stream_is_refused(read, packed):
    second = bytearray(packed(b"5,a,1\n7,a,2\n"))
    second[1] ^= 1
    with pytest.raises(UserError, match="is damaged or cut off"):
        read(packed(b"user_id,item_id,rating\n7,b,3.5\n") + bytes(second))


def test_scale_is_compared_in_the_precision_of_ratings(read):
    table = read("user_id,item_id,rating\n1,1,.7\n1,2,4.9\n", scale=ScaleOptions(lowest=0.7, highest=4.9))
    assert table.scale == pytest.approx((0.7, 4.9))


def test_unreadable_file_is_reported(tmp_path):
    path = tmp_path / "ratings.csv"
    path.symlink_to("/proc/self/mem")
    if not path.is_file():
        pytest.skip("no file here that cannot be read")
    with pytest.raises(UserError, match=r"ratings.csv cannot be read: Input/output error"):
        csv_options(path=str(path)).load()


def test_one_parquet_column_cannot_have_two_roles(tmp_path):
    FRAME.drop(columns="extra").to_parquet(tmp_path / "r.parquet")
    message = "data.columns.user and data.columns.item must be different columns, got user_id for both"
    with pytest.raises(UserError, match=message):
        csv_options(path=str(tmp_path / "r.parquet"), columns=("user_id", "user_id", "rating")).load()


def test_one_column_cannot_have_two_roles(read):
    message = r"data.columns.user and data.columns.item must be different columns, got user_id"
    with pytest.raises(UserError, match=message):
        read(HEADER, columns=("user_id", "user_id", "rating"))


def test_column_positions_start_at_one(read):
    with pytest.raises(UserError, match=r"data.columns.user must be a column's position from 1 to 3 .*, got '0'"):
        read("1,2,3\n", header=False, columns=("0", "1", "2"))


def test_a_single_column_without_a_header_suggests_the_separator(read):
    message = r"must be a column's position from 1 to 1 \(data.header=false\), got '2'; is data.separator right\?$"
    with pytest.raises(UserError, match=message):
        read("1;2;3\n", header=False, columns=("1", "2", "3"))


def test_missing_file_is_reported_with_the_nearest_name(tmp_path, read):
    (tmp_path / "ratings.csv").write_text(HEADER)
    with pytest.raises(UserError, match=r"there is no file .*rating.csv; did you mean ratings.csv\?"):
        csv_options(path=str(tmp_path / "rating.csv")).load()


ITEMS = 'movieId,title,genres\n3,"Amélie, or: ""so""",Comedy|Romance\n99,Never rated,y\n2,Heat,\n'


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_titles_and_genres_are_matched_by_item_id(tmp_path, read, encoding):
    path = tmp_path / "items.csv"
    path.write_bytes(ITEMS.encode(encoding))
    titles = {**vars(NO_ITEMS), "path": str(path), "item": "movieId", "encoding": encoding}
    table = read("user_id,item_id,rating\n1,2,3\n1,3,4\n1,4,5\n", items=type(NO_ITEMS)(**titles))
    assert dict(zip(table.item_ids.ids, table.titles, strict=True)) == {2: "Heat", 3: 'Amélie, or: "so"', 4: ""}
    assert table.item_columns["genres"].tolist() == ["", "Comedy|Romance", ""]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("item_id,title\n2,A\n2,B\n", "line 3, column title: item 2 has an earlier row with another value"),
        ("item_id,title\n2,A\n\n,B\n", "line 4, column item_id: the item id must not be blank"),
        ("item,title\n2,A\n", "data.items.item: .* has no column 'item_id'; it has item, title; did you mean"),
        ('item_id,title\n2,"A\n3,"B, or"\n', "line 2: a quoted cell must end on the line it starts on"),
        ("item_id,title\n2,A,B\n", "line 2: a row must have 2 columns, got 3"),
        (b"item_id,t\xe9tle\n2,A\n", "data.items.title: .* has no column 'title'; it has item_id, t�tle"),
        (b"item_id,title\n2,A\n3,\xe9\n", "line 3: '�' is not UTF-8 text; is data.items.encoding right"),
    ],
)
def test_invalid_titles_file_is_refused(tmp_path, read, content, message):
    path = tmp_path / "items.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        read(HEADER, items=type(NO_ITEMS)(**{**vars(NO_ITEMS), "path": str(path)}))


def test_scale_is_inferred_from_the_data_unless_set(read):
    content = "user_id,item_id,rating\n1,1,-10\n1,2,7.5\n"
    found, fixed = read(content), read(content, scale=ScaleOptions(lowest=None, highest=10))
    assert (found.scale, found.configured_scale) == ((-10, 7.5), (None, None))
    assert (fixed.scale, fixed.configured_scale) == ((-10, 10), (None, 10))
    message = r"line 3: the rating 7.5 is outside data.scale, -10 to 5; rows outside it in total: 1 of 2"
    with pytest.raises(UserError, match=message):
        read(content, scale=ScaleOptions(lowest=-10, highest=5))


TWICE = (
    "user_id,item_id,rating,time\n1,1,2,900000005\n\n1,2,4,900000006\n1,1,3,900000007\n2,1,1,900000008\n"
    "1,1,5,900000009\n"
)


def test_repeated_pairs_are_refused_with_their_lines(read):
    with pytest.raises(
        UserError, match=r"rows that repeat .*: 2 \(.*ratings.csv, line 5, user 1 and item 1 as in .*, line 2; "
    ):
        read(TWICE)


@pytest.mark.parametrize(("policy", "rating"), [("last", 5.0), ("mean", 10 / 3)])
def test_repeated_pairs_are_merged_by_the_duplicates_policy(read, policy, rating):
    table = read(TWICE, duplicates=Duplicates[policy], columns=("user_id", "item_id", "rating", "time"))
    assert rows_of(table) == [
        (1, 2, 4.0, 900_000_006_000),
        (2, 1, 1.0, 900_000_008_000),
        (1, 1, pytest.approx(rating), 900_000_009_000),
    ]
    assert table.notes == (f"data.duplicates={policy} merged 2 rows into other rows of the same user and item",)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_repeated_pair_is_found_anywhere_in_the_file(read, monkeypatch, chunk, is_sorted):
    monkeypatch.setattr("ratinglab.reading.cleaning.PIECE_ROWS", chunk)
    rows = [(user, item, (user + item) % 5) for user in range(6) for item in (3, 1, 2)]
    rows = rows if is_sorted else sorted(rows, key=lambda row: row[1])
    lines = [f"{user},{item},{rating}\n" for user, item, rating in rows]
    assert len(read("".join(lines), **HEADERLESS).ratings) == 18
    for at in range(len(lines)):
        with pytest.raises(UserError, match="rows that repeat an earlier row's user and item: 1 "):
            read("".join([*lines[: at + 1], *lines[at:]]), **HEADERLESS)


def test_core_has_enough_ratings_for_each_user_and_item(read):
    # dropping item 9 leaves user 3 with too few, and that leaves item 8 with too few
    lines = ["1,1,1", "1,2,2", "2,1,3", "2,2,4", "3,8,5", "3,9,1", "1,8,2"]
    table = read("\n".join(lines), **HEADERLESS, min_ratings_per_user=2, min_ratings_per_item=2)
    assert rows_of(table) == [(1, 1, 1.0), (1, 2, 2.0), (2, 1, 3.0), (2, 2, 4.0)]
    assert table.notes[0].startswith("dropped 3 ratings, 1 user and 2 items with fewer ratings than")
    assert (table.num_users, table.num_items) == (2, 2)
    with pytest.raises(UserError, match=r"data.min_ratings_per_user=9 and data.min_ratings_per_item=0 leave no rating"):
        read("\n".join(lines), **HEADERLESS, min_ratings_per_user=9)


def test_low_ratings_are_dropped_before_users_are_counted_and_the_scale_stays(read):
    # user 2 has two ratings, but only one of at least 4; a later low rating replaces the high one of user 3
    lines = ["1,1,5", "1,2,4", "1,3,1", "2,1,4", "2,2,3", "3,1,5", "3,2,5", "3,2,2"]
    given = HEADERLESS | {"min_rating": 4.0, "min_ratings_per_user": 2, "duplicates": Duplicates.last}
    table = read("\n".join(lines), **given)
    assert rows_of(table) == [(1, 1, 5.0), (1, 2, 4.0)]
    assert table.configured_scale == table.scale == (1.0, 5.0)
    assert "data.min_rating=4 dropped 3 of 7 rows" in table.notes
    with pytest.raises(UserError, match=r"ratings.csv: data.min_rating=6 leaves no rating$"):
        read("\n".join(lines), **given | {"min_rating": 6.0})


@pytest.mark.parametrize(
    ("ids", "note"),
    [
        (["1", " 1", "x"], "read 1 user id as another id, since only white space differs"),
        (["7", "007", "x"], "kept 1 user id apart from another id, although only the spelling of a number differs"),
        (["+7", "7", "x"], "kept 1 user id apart from another id, although only the spelling of a number differs"),
        (["7.0", "7", "x"], "kept 1 user id apart from another id, although only the spelling of a number differs"),
        (["7", "8", "9"], None),
    ],
)
def test_nearly_equal_ids_give_a_note(read, ids, note):
    notes = read("".join(f"{user},{item},{item}\n" for item, user in enumerate(ids)), **HEADERLESS).notes
    assert len(notes) == (note is not None)
    assert all(found.startswith(note) for found in notes)


def test_indices_are_int32_and_ratings_float32(read):
    ratings = read(PLAIN).ratings
    assert (ratings.user.dtype, ratings.item.dtype, ratings.rating.dtype) == (np.int32, np.int32, np.float32)


def test_unix_times_of_mixed_units_give_a_note(read):
    header, columns = "user_id,item_id,rating,time\n", ("user_id", "item_id", "rating", "time")
    mixed = read(header + "1,1,1,881250949\n1,2,2,0\n2,1,1,881250949000\n", columns=columns)
    assert mixed.notes[:1] == (
        "timestamps: 1 of 3, such as 881250949, seem to be in a different unit from the largest, 881250949000; all "
        "were read in the unit of the largest",
    )
    assert read(header + "1,1,1,0\n1,2,2,881250949\n", columns=columns).notes == (
        "timestamps: 1 of 2 are before 1990 or after 2099, such as 1970-01-01T00:00:00; if they are in another format, "
        "set data.timestamp_format",
    )


@pytest.mark.parametrize(("first", "second"), [("5", "-99999999999"), ("5.5", "1e300"), ("5.5", "-1e300")])
def test_time_outside_the_years_1_to_9999_is_reported_with_its_line(read, first, second):
    content = f"user_id,item_id,rating,time\n1,1,1,{first}\n1,2,2,{second}\n"
    columns = ("user_id", "item_id", "rating", "time")
    with pytest.raises(UserError, match=r"ratings.csv, line 3: every timestamp must be in the years 1 to 9999"):
        read(content, columns=columns)


def test_parquet_integers_beyond_int64_are_read(tmp_path):
    path = tmp_path / "ratings.parquet"
    huge = np.array([5, 2**64 - 1], dtype=np.uint64)
    pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "rating": huge, "time": huge}).to_parquet(path)
    assert csv_options(path=str(path)).load().ratings.rating.tolist() == [5, float(np.float32(2**64))]
    columns = ("user_id", "item_id", "rating", "time")
    assert csv_options(path=str(path), columns=columns).load().timestamp.tolist() == [0, 18_446_744_073_710]


def test_duplicate_parquet_column_is_refused(tmp_path):
    path = tmp_path / "ratings.parquet"
    columns = [pa.array([1, 2])] * 4
    pa.parquet.write_table(pa.Table.from_arrays(columns, names=["user_id", "item_id", "rating", "rating"]), path)
    with pytest.raises(UserError, match=r"data.columns.rating: .* has 2 columns named 'rating'$"):
        csv_options(path=str(path)).load()


@pytest.mark.parametrize(("separator", "between"), [("spaces", " "), ("double_colon", "::")])
def test_file_with_the_internal_separator_character_is_refused(read, separator, between):
    content = PLAIN.replace(",", between)
    with pytest.raises(UserError, match=r"ratings.csv contains the control character 0x1F, which is not"):
        read(content.replace("7", "\x1f7"), separator=separator)


def test_member_of_a_zip_archive_can_be_given_as_a_path(tmp_path, read):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("sub/ratings.csv", PLAIN)
        archive.writestr("items.csv", "item_id,title\nb,Heat\n")
    titles = replace(NO_ITEMS, path=str(tmp_path / "all.zip/items.csv"))
    table = csv_options(path=str(tmp_path / "all.zip/sub/ratings.csv"), items=titles).load()
    assert rows_of(table) == EXPECTED
    assert table.titles.tolist() == ["", "Heat"]
    with pytest.raises(UserError, match=r"all.zip has no items; it has items.csv, sub/ratings.csv$"):
        csv_options(path=str(tmp_path / "all.zip/items")).load()
    with pytest.raises(
        UserError, match=r"must hold one file, it holds 2: .*; name one, as in .*all.zip/sub/ratings.csv"
    ):
        csv_options(path=str(tmp_path / "all.zip")).load()


def test_titles_without_any_rated_item_give_a_note(tmp_path, read):
    (tmp_path / "items.csv").write_text("item_id,title\n1,Heat\n2,Alien\n")
    table = read(PLAIN, items=replace(NO_ITEMS, path=str(tmp_path / "items.csv")))
    assert table.notes == (
        "data.items.path has rows for none of the 2 items with ratings (not for 'a'); it has 2 rows, including '1', "
        "which has no ratings",
    )


def test_pair_repeated_across_files_is_reported_with_both_lines(tmp_path):
    for name, rows in (("1.csv", "1,1,1\n2,2,3\n"), ("2.csv", "3,3,5\n2,2,4\n1,1,2\n")):
        (tmp_path / name).write_text("user_id,item_id,rating\n" + rows)
    with pytest.raises(UserError, match=(
        r": 2 \(.*2.csv, line 3, user 2 and item 2 as in .*1.csv, line 3; "
        r".*2.csv, line 4, user 1 and item 1 as in .*1.csv, line 2\)"
    )):  # fmt: skip
        csv_options(path=str(tmp_path / "*.csv")).load()


@pytest.mark.parametrize("policy", [Duplicates.last, Duplicates.mean])
def test_pairs_merged_across_files_are_counted(tmp_path, policy):
    for name, rows in (("1.csv", "1,1,1\n1,1,2\n2,2,3\n"), ("2.csv", "2,2,4\n3,3,5\n")):
        (tmp_path / name).write_text("user_id,item_id,rating\n" + rows)
    table = csv_options(path=str(tmp_path / "*.csv"), duplicates=policy).load()
    assert (len(table.ratings), table.merged_across_files) == (3, 1)
    assert [source.stop for source in table.sources] == [1, 3]
    assert csv_options(path=str(tmp_path / "1.csv"), duplicates=policy).load().merged_across_files == 0


def large(rows, *, newline="\n", change=lambda lines: None):
    """Make a file of about 100 bytes per row."""
    lines = ["user_id,item_id,rating,note", *(f"{row % 977},{row},{1 + row % 5},{'x' * 80}" for row in range(rows))]
    change(lines)
    return newline.join(lines) + newline


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_file_of_several_blocks_gives_all_rows_in_order(read, monkeypatch, newline):
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 100_000)
    table = read(large(5_000, newline=newline))
    assert table.ratings.item.tolist() == list(range(5_000))
    assert table.ratings.rating.tolist() == [1.0 + row % 5 for row in range(5_000)]


def test_header_that_seems_to_end_after_some_rows_loses_none(read, monkeypatch):
    rows = large(100, newline="\r")
    # the first block ends where a row ends
    monkeypatch.setattr(inputs, "BLOCK_BYTES", len("\r".join(rows.split("\r")[:50])) + 1)
    assert len(read(rows).ratings) == 100


@pytest.mark.parametrize(
    ("row", "text", "message"),
    [
        (3_000, "1,2", "line 3001: a row must have 4 columns, got 2"),
        (4_999, "1,2,good,x", "line 5000: the rating must be a number, got 'good'"),
        (2_500, "1,2,inf,x", "line 2501: the rating must be finite, got 'inf'"),
        (2_500, '"1,2,3,x', "line 2501: .*"),
    ],
)
@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_fault_in_a_late_block_is_reported_with_its_line(read, monkeypatch, row, text, message, packed):
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 10_000)
    with pytest.raises(UserError, match=f"{message}$"):
        read(packed(large(5_000, change=lambda lines: lines.__setitem__(row, text)).encode()))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_blocks_are_whole_rows_after_the_header(tmp_path, monkeypatch, newline):
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 1_000)
    multiline = f'1,2,3,"two{newline}lines"'
    text = large(100, newline=newline, change=lambda lines: lines.__setitem__(slice(20, 40), [multiline] * 20))
    (tmp_path / "ratings.csv").write_bytes(text.encode())
    layout = Layout(TextDialect(",", "utf-8"), header_lines=1, names=text.split(newline)[0].split(","))
    blocks = list(read_row_blocks(InputFile(tmp_path / "ratings.csv"), layout))
    assert len(blocks) > 3
    assert b"".join(blocks).decode() == text.split(newline, 1)[1]
    assert all(block.endswith(newline.encode()) and block.count(b'"') % 2 == 0 for block in blocks)


def test_quotation_marks_that_would_merge_rows_of_a_block_are_text(read, monkeypatch):
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 100_000)

    def mark(lines):
        lines[2_500], lines[2_502] = '1,2,3,"x', '1,3,4,x"'

    table = read(large(5_000, change=mark))
    assert len(table.ratings) == 5_000
    assert "quotation marks were read as text" in table.notes[0]


def test_byte_order_mark_at_the_start_of_a_block_stays_in_the_id(read):
    table = read("user_id,item_id,rating\n\ufeff7,1,3\n8,2,4\n")
    assert table.user_ids.ids.tolist() == ["8", "\ufeff7"]


@pytest.mark.parametrize("kind", ["pipe", "device", "stdin"])
def test_pipe_or_device_is_named_as_such(tmp_path, kind):
    path = {"pipe": tmp_path / "pipe", "device": Path("/dev/null"), "stdin": Path("-")}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    rule = "data.path must be a file that can be read twice"
    message = f"{rule}, got the pipe or device {path}; save its content to a file first"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        csv_options(str(path)).load()


@pytest.mark.parametrize("write", ["text", "parquet"])
def test_all_missing_columns_are_named_at_once(tmp_path, write):
    path, frame = tmp_path / "t", pd.DataFrame({"user": [1, 2], "movie": [3, 4], "stars": [5.0, 4.0]})
    frame.to_csv(path, index=False) if write == "text" else frame.to_parquet(path)
    with pytest.raises(UserError) as error:
        csv_options(str(path), columns=("usr", "movei", "stars")).load()
    assert str(error.value) == (
        f"{path} is missing 2 columns: data.columns.user='usr' (did you mean user?), data.columns.item='movei' (did "
        "you mean movie?); it has user, movie, stars"
    )
