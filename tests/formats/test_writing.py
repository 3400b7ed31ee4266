"""Tables written in blocks, in the format of their extension, completely or not at all."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ratinglab.errors import UserError
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_tables import open_text_table
from ratinglab.formats.writing import CSV, check_output_format, keeps_input_dialect, write_table

TABLE = pa.table(
    {
        "id": ["a", "b,c", 'd"e', "", "g\\h"],
        "number": pa.array([9007199254740993, None, 3, 4, 5]),
        "prediction": pa.array([3.7, np.nan, 4, 1e-7, 2.5], pa.float32(), from_pandas=True),
    }
)
AS_TEXT = [["a", "b,c", 'd"e', "", "g\\h"], ["9007199254740993", "", "3", "4", "5"], ["3.7", "", "4", "1e-7", "2.5"]]


def written(folder, name, *, dialect=CSV, header=True):
    """Write the table in two blocks and read the bytes."""
    write_table(folder / name, TABLE.schema, [TABLE[:2], TABLE[2:]], dialect=dialect, header=header)
    assert [path.name for path in folder.iterdir()] == [name]
    return (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "dialect", "types"),
    [
        ("t.csv", CSV, None),
        ("T.CSV.GZ", CSV, None),
        ("t.tsv.xz", TextDialect("\t", "utf-8"), None),
        ("t.dat.bz2", TextDialect(";", "utf-16"), None),
        ("t", TextDialect("|", "latin-1", has_escapes=True), None),
        ("t.jsonl", CSV, ["string", "int64", "double"]),
        ("t.ndjson.zst", CSV, ["string", "int64", "double"]),
        ("t.parquet", CSV, ["string", "int64", "float"]),
        ("t.arrow", CSV, ["string", "int64", "float"]),
        ("t.feather", CSV, ["string", "int64", "float"]),
    ],
)
def test_each_format_reads_back(tmp_path, name, dialect, types):
    written(tmp_path, name, dialect=dialect)
    table = open_text_table(InputFile(tmp_path / name), dialect).read()
    assert table.names == TABLE.column_names
    assert [str(kind) for kind in table.content.schema.types] == (types or ["string"] * 3)
    found = [table.column(column, key="x") for column in table.names]
    if types is not None and types[2] == "double":  # JSON shows all decimals
        found[2][3] = f"{float(found[2][3]):.0e}".replace("e-07", "e-7")
    assert found == AS_TEXT


@pytest.mark.parametrize(
    "dialect",
    [
        TextDialect(",", "utf-8", has_quotes=False, has_escapes=True),
        TextDialect(",", "utf-8", comment="#"),
        TextDialect("::", "utf-8", has_quotes=False, has_escapes=False),
    ],
)
def test_cells_that_a_dialect_would_read_otherwise_come_back(tmp_path, dialect):
    texts = (
        ["a,b", "#c", "x\\y", "plain"] if not dialect.is_quoted and dialect.has_escapes else ["#c", "a#b", "plain", "d"]
    )
    table = pa.table({"id": texts, "other": texts})
    write_table(tmp_path / "t.txt", table.schema, [table], dialect=dialect)
    read = open_text_table(InputFile(tmp_path / "t.txt"), dialect).read()
    assert [read.column(name, key="x") for name in read.names] == [texts, texts]


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n"])
def test_cell_with_a_line_break_stays_one_cell(tmp_path, line_break):
    texts = [f"two{line_break}lines", "one line"]
    table = pa.table({"id": texts, "other": ["1", "2"]})
    write_table(tmp_path / "t.csv", table.schema, [table])
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["id", "other"], [texts[0], "1"], [texts[1], "2"]]


def test_json_lines_keep_times_whole(tmp_path):
    time = pa.array([1_000_000_000_123_456_789], pa.timestamp("ns"))
    table = pa.table({"time": time, "day": time.cast(pa.date32(), safe=False)})
    write_table(tmp_path / "t.jsonl", table.schema, [table])
    assert "2001-09-09 01:46:40.123456789" in (tmp_path / "t.jsonl").read_text()
    assert '"day":"2001-09-09"' in (tmp_path / "t.jsonl").read_text()


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_floats_of_16_bits_are_written(tmp_path, name):
    table = pa.table({"n": pa.array(np.array([1.5, 2, -0.25], np.float16))})
    write_table(tmp_path / name, table.schema, [table])
    assert open_text_table(InputFile(tmp_path / name), CSV).read().column("n", key="x") == ["1.5", "2", "-0.25"]


def test_type_that_a_format_lacks_is_one_line(tmp_path):
    table = pa.table({"id": pa.array([pa.MonthDayNano([1, 2, 3])])})
    with pytest.raises(UserError, match=r"output: a column of the input cannot be written to .*t.csv: "):
        write_table(tmp_path / "t.csv", table.schema, [table])
    assert list(tmp_path.iterdir()) == []


def test_text_is_quoted_only_where_needed(tmp_path):
    rows = written(tmp_path, "t.csv").decode()
    assert rows == 'id,number,prediction\na,9007199254740993,3.7\n"b,c",,\n"d""e",3,4\n,4,1e-7\ng\\h,5,2.5\n'


def test_text_keeps_the_dialect(tmp_path):
    dialect = TextDialect("spaces", "utf-16", has_quotes=False, decimal=",")
    content = written(tmp_path, "t.txt", dialect=dialect, header=False)
    assert content.decode("utf-16").startswith("a 9007199254740993 3,7\nb,c  \n")
    assert content.count(b"\xff\xfe") == 1


def test_json_has_null_for_nan_and_infinity(tmp_path):
    table = pa.table({"x": [np.nan, np.inf], "y": pa.array([0.1, None], pa.float32())})
    write_table(tmp_path / "t.jsonl", table.schema, [table])
    assert (tmp_path / "t.jsonl").read_text() == '{"x":null,"y":0.1}\n{"x":null,"y":null}\n'


@pytest.mark.parametrize("name", ["t.csv.gz", "t.jsonl", "t.parquet", "t.arrow"])
def test_fault_in_a_later_block_leaves_the_old_file_and_nothing_else(tmp_path, name):
    def blocks():
        yield TABLE
        raise UserError("row 6 is bad")

    (tmp_path / name).write_text("old")
    with pytest.raises(UserError, match="row 6 is bad"):
        write_table(tmp_path / name, TABLE.schema, blocks())
    assert (tmp_path / name).read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_table_without_rows_has_its_header(tmp_path):
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        write_table(tmp_path / name, TABLE.schema, [TABLE[:0]])
    assert (tmp_path / "t.csv").read_text() == "id,number,prediction\n"
    assert (tmp_path / "t.jsonl").read_text() == ""
    assert open_text_table(InputFile(tmp_path / "t.parquet"), CSV).read().names == TABLE.column_names


@pytest.mark.parametrize(
    ("output", "source", "kept"),
    [
        ("o.csv", "i.csv", True),
        ("o.txt", "i.csv", True),
        ("o", "i.csv", True),
        ("o.csv.gz", "i.CSV", True),
        ("o.csv", "i.csv.gz", True),
        ("o.csv", "a.zip/i.csv", True),
        ("o.csv", "i.tsv", False),
        ("o.csv", "i.txt", False),
        ("o.tsv", "i.csv", False),
    ],
)
def test_text_keeps_the_dialect_of_the_input_unless_the_extension_names_another(output, source, kept):
    assert keeps_input_dialect(Path(output), InputFile(Path(source))) == kept


@pytest.mark.parametrize(("name", "separator"), [("o.tsv", "\t"), ("o.csv", ","), ("o.txt", ","), ("o", ",")])
def test_extension_decides_the_dialect(tmp_path, name, separator):
    assert separator.join(TABLE.column_names).encode() in written(tmp_path, name, dialect=None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "o.xlsx",
            r"output: \.xlsx cannot be written, only \.csv, .*, \.feather, and text with \.gz, .* or \.zst; got o",
        ),
        ("o.JSON", r"; got o\.JSON; did you mean \.jsonl\?$"),
        ("o.h5.gz", r"output: \.h5 cannot be written"),
        ("o.zip", r"output: \.zip cannot be written"),
        ("o.parquet.gz", r"^output: \.gz compresses only text and JSON Lines, got o\.parquet\.gz$"),
    ],
)
def test_unsupported_format_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        check_output_format(Path(name))


@pytest.mark.parametrize("name", ["o.csv", "o", "o.dat.gz", "u1.test", "/dev/stdout", "o.2026.parquet"])
def test_supported_format_passes(name):
    check_output_format(Path(name))
