"""Formats detected by content: supported ones give equal rows, all others a one-line error with advice."""

import gzip
import io
import json
import pickle
import sqlite3
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pytest
from tables import NO_ITEMS, csv_options, rows_of

from ratinglab.datasets.guessed_layout import guess_layout
from ratinglab.errors import UserError
from ratinglab.formats import columnar, text_tables
from ratinglab.formats.inputs import BlockStream, InputFile
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_tables import open_text_table

FRAME = pd.DataFrame(
    {"user_id": [7, 5, 7], "item_id": ["b", "a", "a"], "rating": [3.5, 1, 2], "time": [9e8, 9e8, 9.1e8]}
)
EXPECTED = [(7, "b", 3.5), (5, "a", 1.0), (7, "a", 2.0)]


def json_lines(frame=FRAME):
    return frame.to_json(orient="records", lines=True).encode()


def written(write):
    """Return the bytes that a function writes into a stream."""
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def zipped(**members):
    def write(stream):
        with zipfile.ZipFile(stream, "w") as archive:
            for name, content in members.items():
                archive.writestr(name.replace("__", "/").replace("_DOT_", "."), content)

    return written(write)


def tarred():
    def write(stream):
        with tarfile.open(fileobj=stream, mode="w:gz") as archive:
            archive.addfile(tarfile.TarInfo("ratings.csv"))

    return written(write)


def sqlite(tmp_path):
    with sqlite3.connect(tmp_path / "base") as base:
        base.execute("create table ratings (user)")
    return (tmp_path / "base").read_bytes()


@pytest.fixture
def read(tmp_path):
    """Write a file and read it: read(content, **options)."""

    def read_content(content, *, name="ratings", **options):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return csv_options(str(tmp_path / name), **options).load()

    return read_content


@pytest.mark.parametrize("packed", [bytes, gzip.compress, lambda content: zipped(part=content)], ids=["", "gz", "zip"])
@pytest.mark.parametrize(
    "content",
    [
        json_lines(),
        b"\xef\xbb\xbf" + json_lines().replace(b"\n", b"\r\n\n"),
        json_lines(FRAME.assign(rating=["3.5", "1", " 2 "])),
        json_lines(FRAME.assign(nested=[{"a": [1, {"b": None}]}] * 3, rating=[3.5, 1, 2])),
        written(FRAME.to_parquet),
        written(lambda stream: pyarrow.feather.write_feather(FRAME, stream)),
        written(lambda stream: pyarrow.orc.write_table(pa.Table.from_pandas(FRAME), stream)),
        written(FRAME.assign(user_id=[7.0, 5.0, 7.0]).to_parquet),
    ],
    ids=["JSON", "JSON of Windows", "text numbers", "nested", "Parquet", "Feather", "ORC", "float ids"],
)
def test_typed_formats_give_equal_rows(read, content, packed):
    assert rows_of(read(packed(content))) == EXPECTED
    times = read(packed(content), columns=("user_id", "item_id", "rating", "time")).timestamp
    assert times.tolist() == [900_000_000_000, 900_000_000_000, 910_000_000_000]


def test_floats_of_16_bits_are_read(tmp_path):
    columns = ("user_id", "item_id", "rating", "time")
    frame = FRAME.assign(time=[8.0, 0.0, 16.0]).astype({"user_id": "float16", "rating": "float16", "time": "float16"})
    frame.to_parquet(tmp_path / "ratings.parquet")
    options = csv_options(str(tmp_path / "ratings.parquet"), columns=columns)
    assert guess_layout(options)[0].columns == options.columns
    assert [row[:3] for row in rows_of(options.load())] == EXPECTED


def test_integers_and_fractions_may_mix_in_json_ratings(read):
    rows = [{"user_id": "u", "item_id": number, "rating": rating} for number, rating in enumerate([5, 4.5, 3])]
    assert read("\n".join(map(json.dumps, rows))).ratings.rating.tolist() == [5, 4.5, 3]


LINE = '{"user_id": "u", "item_id": 1, "rating": 5}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LINE + '{"user_id": "v", "item_id": 2}\n', "line 2: the key 'rating' is missing"),
        ('{"user_id": "v", "item_id": 2}\n' + LINE, "line 1: the key 'rating' is missing"),
        (LINE + "5\n", "line 2: each line must be a JSON object"),
        (LINE + '\n{"user_id": 3, "item_id": 2, "rating": 4}\n', "line 3: 'user_id' must be text, as in line 1, got 3"),
        (LINE + '{"user_id": "v", "item_id": 2, "rating": "x"}\n', "line 2: 'rating' must be a number, .* got \"x\""),
        (LINE + '{"user_id": "v", "item_id": 2, "rating": null}\n', "line 2: 'rating' must be a number, .* got null"),
        (LINE + '{"user_id": "v", "item_id":\n', "line 2: each line must be a JSON object"),
        (
            LINE.replace("user_id", "user"),
            "data.columns.user: .* has no column 'user_id'; it has user, item_id, rating",
        ),
        (
            '{"user_id": {"$oid": "1"}, "item_id": 1, "rating": 5}\n',
            "line 1: 'user_id' must be text or a number, got {",
        ),
        (
            LINE.replace('"u"', "1") + '{"user_id": 9223372036854775808, "item_id": 2, "rating": 4}',
            "line 2: 'user_id' must be a 64-bit integer, as in line 1, got 9223372036854775808",
        ),
        (
            '{"user_id": ' + "[" * 100_000 + "]" * 100_000 + "}",
            "line 1: each line must be a JSON object|cannot be read",
        ),
        ('{\n"user_id": "u"\n}\n', "line 1: each line must be a JSON object"),
    ],
)
def test_faulty_json_line_is_named(read, content, message):
    with pytest.raises(UserError, match=message) as error:
        read(content)
    assert "\n" not in str(error.value)


UNSUPPORTED = [
    (zipped(xl__workbook_DOT_xml="x"), "is an Excel workbook: save the sheet as CSV and use that file"),
    (zipped(META__=""), "holds no file|is damaged"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "is an Excel workbook"),
    (written(lambda stream: FRAME.to_stata(stream)), "is a Stata file: .*pandas.read_stata"),
    (tarred(), "is a tar archive: unpack it with tar xf and use the ratings file in it"),
    (pickle.dumps(FRAME), "is a Python pickle: save it as CSV or Parquet"),
    (gzip.compress(pickle.dumps(FRAME)), "is a Python pickle"),
    (gzip.compress(gzip.compress(b"1,2,3")), "is compressed twice: decompress it once"),
    (written(lambda stream: np.save(stream, np.zeros((2, 3)))), "is a NumPy array"),
    (written(lambda stream: np.savez(stream, a=np.zeros(3))), "is a NumPy array"),
    (np.random.default_rng(0).bytes(3000), "is neither text nor Parquet, Arrow or ORC: save it as CSV"),
    (b"\x89HDF\r\n\x1a\n" + bytes(9), "is an HDF5 file: .*pandas.read_hdf"),
    (b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "is a MATLAB file"),
    (b"$FL2@(#) SPSS DATA FILE", "is an SPSS file"),
    (gzip.compress(b"RDX3\nX\n\x00\x00\x00\x03"), "is an R data file"),
    (b"Obj\x01\x04\x16avro.schema", "is an Avro file"),
    (b"%PDF-1.7", "is a PDF document"),
    (b"7z\xbc\xaf\x27\x1c\x00", "is an archive: unpack it"),
    ("<!DOCTYPE html>\n<html>", "is a web page: download the file that it links to"),
    ('<?xml version="1.0"?>', "is an XML file"),
    ('[{"user_id": 1}]', "is a JSON array: write it as JSON Lines, one object per line"),
    ("{'reviewerID': 'A', 'asin': 'B'}\n", "is a file of Python dictionaries: write it as JSON Lines"),
    ("version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer, not the file itself: fetch it"),
    ("@relation ratings\n@attribute user numeric\n", "is an ARFF file"),
    ("%%MatrixMarket matrix coordinate real general\n3 3 2\n1 1 5\n", "is a Matrix Market file"),
    ("5 0:1 12:1\n4 1:1 12:1\n", "is a libFM or LIBSVM file: write one rating per row"),
    ("1:\n30878,4,2005-12-26\n", "is in the Netflix Prize format, .*awk"),
    ("product/productId: B001\nreview/userId: A3\n", "is a file with one field per line"),
]


@pytest.mark.parametrize(("content", "message"), UNSUPPORTED, ids=[message for _, message in UNSUPPORTED])
def test_unsupported_format_is_named_with_advice(read, tmp_path, content, message):
    for options in ({}, {"header": False, "columns": ("1", "2", "3"), "separator": "spaces"}):
        with pytest.raises(UserError, match=rf"ratings(/\S+)? {message}") as error:
            read(content, **options)
        assert "\n" not in str(error.value)
    (tmp_path / "good.csv").write_text("user_id,item_id,rating\n1,2,3\n1,3,4\n")
    titles = replace(NO_ITEMS, path=str(tmp_path / "ratings"))
    with pytest.raises(UserError, match=rf"ratings(/\S+)? {message}"):
        csv_options(str(tmp_path / "good.csv"), items=titles).load()


def test_sqlite_database_is_named(read, tmp_path):
    with pytest.raises(UserError, match="is a SQLite database: export its table of ratings as CSV"):
        read(sqlite(tmp_path))


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_folder_of_spark_part_files_is_read(tmp_path, suffix):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "_SUCCESS").write_text("")
    (folder / f".part-00000-c000.{suffix}.crc").write_text("crc")
    for number, rows in enumerate((FRAME[:2], FRAME[2:2], FRAME[2:])):
        path = folder / f"part-0000{number}-c000.{suffix}"
        rows.to_parquet(path) if suffix == "parquet" else rows.to_csv(path, index=False)
    table = csv_options(str(folder)).load()
    assert rows_of(table) == EXPECTED
    assert table.notes == (f"found no ratings in 1 of 3 files, such as {folder}/part-00001-c000.{suffix}",)
    assert [source.stop for source in table.sources] == [2, 3]


def test_folder_that_is_not_one_table_is_refused_with_its_files(tmp_path):
    for name in ("movies.csv", "ratings.csv"):
        (tmp_path / name).write_text("x")
    with pytest.raises(
        UserError,
        match=r"data.path must be a file, a pattern or a folder in which all names begin with part- or end with "
        r".parquet, got the folder .*; it holds movies.csv, ratings.csv$",
    ):
        csv_options(str(tmp_path)).load()
    with pytest.raises(UserError, match=r"data.items.path must be a file, got the folder"):
        csv_options(str(tmp_path / "ratings.csv"), items=replace(NO_ITEMS, path=str(tmp_path))).load()


def test_folder_of_files_that_split_writes_is_read(tmp_path):
    (tmp_path / "part-aa.csv").write_text("user_id,item_id,rating\n7,b,3.5\n")
    (tmp_path / "part-ab.csv").write_text("user_id,item_id,rating\n5,a,1\n7,a,2\n")
    assert rows_of(csv_options(str(tmp_path)).load()) == EXPECTED


def test_several_files_can_be_listed(tmp_path):
    (tmp_path / "a.csv").write_text("user_id,item_id,rating\n7,b,3.5\n")
    (tmp_path / "b.json").write_bytes(json_lines(FRAME[1:]))
    table = csv_options([str(tmp_path / "a.csv"), str(tmp_path / "b.json")]).load()
    assert rows_of(table) == EXPECTED
    assert table.name == "a.csv and 1 more"
    with pytest.raises(UserError, match=r"data.path must name at least one file$"):
        csv_options([]).load()


def test_files_without_any_ratings_are_refused(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("user_id,item_id,rating\n")
    with pytest.raises(UserError, match=r"data.path: none of the 2 files has ratings; the first is .*a.csv"):
        csv_options(str(tmp_path / "*.csv")).load()


@pytest.mark.parametrize("write", [lambda frame, path: path.write_bytes(json_lines(frame)), pd.DataFrame.to_parquet])
def test_titles_can_be_read_from_typed_formats(tmp_path, read, write):
    items = pd.DataFrame(
        {"item_id": ["b", "a"], "title": ["Heat", None], "genres": [["x", "y"], []], "year": [1995, None]}
    )
    write(items, tmp_path / "items")
    titles = replace(NO_ITEMS, path=str(tmp_path / "items"), numeric=["year"])
    table = read("user_id,item_id,rating\n7,b,3.5\n5,a,1\n", items=titles)
    assert table.titles.tolist() == ["", "Heat"]
    assert table.item_columns["genres"].tolist() == ["", "x|y"]
    assert table.item_columns["year"].tolist() == [pytest.approx(np.nan, nan_ok=True), 1995]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.0, 1e16], r"row 2, column item_id: the item id must be an integer or text, got 1e\+16"),
        ([1.0, 2.5], "row 2, column item_id: the item id must be an integer or text, got 2.5"),
        ([1.0, None], "row 2, column item_id: the item id must not be blank"),
        ([1.0, 2.0], None),
    ],
)
def test_ids_of_titles_may_be_floats_if_they_are_whole(tmp_path, read, ids, message):
    pd.DataFrame({"item_id": ids, "title": ["A", "B"]}).to_parquet(tmp_path / "items")
    ratings, titles = "user_id,item_id,rating\n7,1,3.5\n5,2,1\n", replace(NO_ITEMS, path=str(tmp_path / "items"))
    if message is None:
        assert read(ratings, items=titles).titles.tolist() == ["A", "B"]
    else:
        with pytest.raises(UserError, match=message):
            read(ratings, items=titles)


def test_titles_can_lack_a_header(tmp_path, read):
    (tmp_path / "movies.dat").write_bytes("1::Amélie::Drama\n2::Heat::Crime|Drama\n".encode("latin-1"))
    titles = replace(
        NO_ITEMS,
        path=str(tmp_path / "movies.dat"),
        header=False,
        separator="double_colon",
        encoding="latin-1",
        item="1",
        title="2",
    )
    table = read("user_id,item_id,rating\n7,1,3.5\n5,2,1\n", items=titles)
    assert table.titles.tolist() == ["Amélie", "Heat"]
    assert table.item_columns["3"].tolist() == ["Drama", "Crime|Drama"]
    with pytest.raises(
        UserError, match=r"data.items.item must be a column's position from 1 to 3 \(data.items.header=f"
    ):
        read("user_id,item_id,rating\n7,1,3.5\n5,2,1\n", items=replace(titles, item="item_id"))


def test_titles_of_few_rated_items_give_a_note(tmp_path, read):
    (tmp_path / "items.csv").write_text("item_id,title\n1,Heat\n9,Alien\n")
    ratings = "user_id,item_id,rating\n" + "".join(f"7,{item},{item}\n" for item in range(1, 6))
    assert read(ratings, items=replace(NO_ITEMS, path=str(tmp_path / "items.csv"))).notes == (
        "data.items.path has rows for only 1 of the 5 items with ratings (not for '2'); it has 2 rows, including '9', "
        "which has no ratings",
    )


def test_block_stream_reads_all_bytes_by_default():
    stream = BlockStream(iter([b"12", b"345", b"6"]))
    assert stream.read(1) == b"1"
    assert stream.read() == b"23456"
    assert stream.read() == b""


def test_names_that_begin_like_signatures_are_text(read):
    for name in ("ORCID", "PAR1S", "ARROW1", "BZhang", "fea1b2", "RDX3"):
        assert len(read(f"{name},item_id,rating\n1,2,3\n2,3,4\n", columns=(name, "item_id", "rating")).ratings) == 2


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.0, 1e20], "row 2: the user id must be an integer or text, got 1e\\+20"),
        ([1.0, float("inf")], "row 2: the user id must be an integer or text, got inf"),
        ([True, False], "the user ids must be integers or text, got bool"),
        ([b"\xff", b"a"], "the user ids must be integers or text, got binary"),
    ],
)
def test_ids_that_are_no_ids_are_refused(read, tmp_path, ids, message):
    pd.DataFrame({"user_id": ids, "item_id": [1, 2], "rating": [1, 2]}).to_parquet(tmp_path / "odd")
    with pytest.raises(UserError, match=message):
        csv_options(str(tmp_path / "odd")).load()


def test_text_ids_that_are_not_utf_8_are_refused(read):
    with pytest.raises(UserError, match=r"the user ids are not UTF-8 text|cannot be read"):
        read(2 * LINE.encode() + b'{"user_id": "\xff", "item_id": 2, "rating": 3}\n')


def test_json_titles_that_look_like_dates_stay_titles(tmp_path, read):
    (tmp_path / "items").write_text('{"item_id": 1, "title": "2012-12-12"}\n{"item_id": 2, "title": "1917-01-01"}\n')
    table = read("user_id,item_id,rating\n7,1,3.5\n5,2,1\n", items=replace(NO_ITEMS, path=str(tmp_path / "items")))
    assert table.titles.tolist() == ["2012-12-12", "1917-01-01"]


@pytest.mark.parametrize(
    ("content", "titles", "message"),
    [
        ('1,"A"\n2,The "B"\n', ["A", 'The "B"'], None),
        ('1,The "B"\n2,A "C\n', ['The "B"', 'A "C'], None),
        ('1,"weird al" y\n2,B\n', ['"weird al" y', "B"], None),
        ('1,"a\nb"\n2,B\n', ["a\nb", "B"], None),
        ('"1"2,A\n"3","B"\n', None, 'line 2: quotation marks must enclose the whole cell, got "1"2; if a backslash'),
        ('1,"A"\n2,"The "B""\n', None, 'line 3: quotation marks must enclose the whole cell, got "The "B"";'),
        ("1,A\n1.0,B\n", None, "line 3, column title: item 1 has an earlier row with another value"),
    ],
)
def test_irregular_quotes_in_titles_change_no_cell(tmp_path, read, content, titles, message):
    (tmp_path / "items.csv").write_text("item_id,title\n" + content)
    options = {"items": replace(NO_ITEMS, path=str(tmp_path / "items.csv"))}
    ratings = "user_id,item_id,rating\n7,1,3.5\n5,2,1\n"
    if titles is None:
        with pytest.raises(UserError, match=message):
            read(ratings, **options)
    else:
        assert read(ratings, **options).titles.tolist() == titles


def test_lines_of_a_quoted_title_that_look_like_rows_are_rows(tmp_path, read):
    (tmp_path / "items.csv").write_text('item_id,title\n1,"a\n2,b"\n3,c\n')
    table = read("user_id,item_id,rating\n7,1,3.5\n5,2,1\n", items=replace(NO_ITEMS, path=str(tmp_path / "items.csv")))
    assert table.titles.tolist() == ['"a', 'b"']
    assert table.notes[0].endswith("quotation marks were read as text, as with data.items.quote=none")


def test_folder_of_files_whose_names_only_begin_with_part_is_refused(tmp_path):
    for name in ("participants.csv", "parties.csv"):
        (tmp_path / name).write_text("user_id,item_id,rating\n1,2,3\n")
    with pytest.raises(UserError, match="must be a file, a pattern or a folder"):
        csv_options(str(tmp_path)).load()


@pytest.mark.parametrize(("num_rows", "batches"), [(5, 1), (10, 1), (11, 2), (100, 3)])
def test_start_of_a_columnar_file_is_read_without_its_rest(tmp_path, monkeypatch, num_rows, batches):
    path, read, table = tmp_path / "r.arrow", [], pa.table({"user_id": range(30)})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    open_batches = columnar.open_batches

    def counted(file):
        schema, rest = open_batches(file)
        return schema, lambda names: (read.append(batch) or batch for batch in rest(names))

    monkeypatch.setattr(text_tables, "open_batches", counted)
    start = next(open_text_table(InputFile(path), TextDialect(",", "utf-8")).blocks(num_rows))
    assert start.content["user_id"].to_pylist()[:num_rows] == list(range(min(num_rows, 30)))
    assert len(read) == batches
