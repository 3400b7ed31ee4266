"""Tables of cells read in blocks."""

import gzip
import json
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pytest

from ratinglab.errors import UserError
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_tables import open_text_table

COMMA = TextDialect(",", "utf-8", key_prefix="")
FRAME = pd.DataFrame({"u": [f"u{row}" for row in range(10)], "n": range(10)})


def opened(path, content=None, *, dialect=COMMA, header=True):
    if content is not None:
        path.write_bytes(content)
    return open_text_table(InputFile(path), replace(dialect, has_header=header))


WRITERS = {
    "text": lambda path: FRAME.to_csv(path, index=False),
    "gz": lambda path: path.write_bytes(gzip.compress(FRAME.to_csv(index=False).encode())),
    "json": lambda path: FRAME.to_json(path, orient="records", lines=True),
    "parquet": lambda path: FRAME.to_parquet(path, index=False, row_group_size=3),
    "categories": lambda path: FRAME.astype({"u": "category"}).to_parquet(path, row_group_size=3),
    "arrow": lambda path: pyarrow.feather.write_feather(FRAME, path, chunksize=7),
    "orc": lambda path: FRAME.to_orc(path),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_blocks_hold_all_rows_in_order(tmp_path, write):
    write(tmp_path / "t")
    table = opened(tmp_path / "t")
    blocks = list(table.blocks(4))
    assert all(4 <= len(block.content) < 8 for block in blocks[:-1])
    assert len(blocks) > 1
    assert [text for block in blocks for text in block.column("u", key="u")] == FRAME["u"].tolist()
    assert [text for block in blocks for text in block.column("n", key="n")] == [str(row) for row in range(10)]
    assert [row for block in blocks for row in block.source_row] == list(range(10))
    assert all(block.content.schema == table.schema for block in blocks)
    assert not any(pa.types.is_dictionary(kind) for kind in table.schema.types)


@pytest.mark.parametrize(("kind", "place"), [("text", "line 9"), ("parquet", "row 8"), ("json", "row 8")])
def test_error_in_a_later_block_names_the_place(tmp_path, kind, place, monkeypatch):
    monkeypatch.setattr("test_text_tables.FRAME", FRAME.assign(u=[*FRAME["u"][:7], " ", *FRAME["u"][8:]]))
    WRITERS[kind](tmp_path / "t")
    with pytest.raises(UserError, match=f"t, {place}, column u: the user id must not be blank"):
        [block.ids("u", key="u", side="user") for block in opened(tmp_path / "t").blocks(3)]


def test_ids_are_stripped_and_encoded(tmp_path):
    (block,) = opened(tmp_path / "t", b"u,n\n a,1\nb ,2\na,3\n").blocks(9)
    ids = block.ids("u", key="u", side="user")
    assert (ids.to_pylist(), ids.dictionary.to_pylist()) == (["a", "b", "a"], ["a", "b"])


def test_error_for_a_fractional_id_names_the_row(tmp_path):
    pd.DataFrame({"u": [1.0, 2.5, 2.5]}).to_parquet(tmp_path / "t")
    with pytest.raises(UserError, match=r"row 2, column u: the user id must be an integer or text, got 2\.5"):
        open_text_table(InputFile(tmp_path / "t"), COMMA).read().ids("u", key="u", side="user")


def test_table_without_rows_has_one_empty_block(tmp_path):
    FRAME[:0].to_parquet(tmp_path / "t")
    assert [len(block.content) for block in opened(tmp_path / "t").blocks(3)] == [0]


def test_quotation_marks_that_are_text_are_read_in_blocks(tmp_path):
    rows = b"".join(b'5" disk %d,%d\n' % (row, row) for row in range(10))
    table = opened(tmp_path / "t", b"u,n\n" + rows)
    assert [note for note in table.notes if "read as text" in note]
    assert [text for block in table.blocks(4) for text in block.column("u", key="u")][9] == '5" disk 9'


def test_error_for_a_ragged_row_far_from_the_start_names_the_line(tmp_path):
    rows = b"".join(b"user%d,%d\n" % (row, row) for row in range(200_000))  # several of pyarrow's blocks
    with pytest.raises(UserError, match=r"t, line 200002: a row must have 2 columns, got 1$"):
        opened(tmp_path / "t", b"u,n\n" + rows + b"last\n")


def test_json_lines_whose_types_change_are_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("ratinglab.formats.columnar.JSON_OPTIONS", pa.json.ReadOptions(block_size=200))
    rows = [{"u": str(row), "n": row if row < 90 else row + 0.5, "day": "2020-01-01"} for row in range(100)]
    table = opened(tmp_path / "t", "\n".join(map(json.dumps, rows)).encode())
    blocks = list(table.blocks(30))
    assert [text for block in blocks for text in block.column("n", key="n")][89:91] == ["89", "90.5"]
    assert str(table.schema.field("day").type) == "string"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ('"5"', "7", "line 3: 'u' must be text, as in line 2, got 7"),
        ("5", '"7"', "line 3: 'u' must be a number, as in line 2, got \"7\""),
        ("5", "[7]", r"line 3: 'u' must be a number, as in line 2, got \[7\]"),
        ("true", "5", "line 3: 'u' must be true or false, as in line 2, got 5"),
        ('{"a": 1}', '"x"', "line 3: 'u' must be an object, as in line 2, got \"x\""),
    ],
)
def test_json_value_of_another_kind_is_named_with_its_line(tmp_path, first, second, message):
    lines = f'{{"u": null}}\n{{"u": {first}}}\n{{"u": {second}}}\n'
    (tmp_path / "t").write_text(lines)
    with pytest.raises(UserError, match=f"t, {message}$"):
        open_text_table(InputFile(tmp_path / "t"), TextDialect(",", "utf-8")).read()


def test_dates_in_json_lines_stay_text(tmp_path):
    table = opened(tmp_path / "t", b'{"u": "2012-01-01"}\n' * 9)
    assert str(table.schema.field("u").type) == "string"
    assert [block.column("u", key="u")[0] for block in table.blocks(5)] == ["2012-01-01"] * 2


def test_damaged_file_is_one_line(tmp_path):
    FRAME.to_parquet(tmp_path / "t", row_group_size=3)
    content = bytearray((tmp_path / "t").read_bytes())
    content[4:60] = b"\xff" * 56
    with pytest.raises(UserError, match="t is damaged or cut off") as error:
        opened(tmp_path / "t", bytes(content)).read()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["user_id,item_id\n", "user_id,item_id\r\n", "user_id,item_id\n\n"])
def test_header_without_rows_is_one_line(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=r"t\.csv has no rows, only a header"):
        open_text_table(InputFile(tmp_path / "t.csv"), TextDialect(",", "utf-8")).read()


def test_views_of_text_and_repeated_columns_in_arrow_files(tmp_path):
    views = pa.table({"id": pa.array(["a", "b"], pa.string_view())})
    with pa.ipc.new_file(str(tmp_path / "t.arrow"), views.schema) as writer:
        writer.write_table(views)
    read = open_text_table(InputFile(tmp_path / "t.arrow"), TextDialect(",", "utf-8")).read()
    assert read.content.schema.types == [pa.string()]
    twice = pa.table([[1], [2]], names=["id", "id"])
    with pa.ipc.new_file(str(tmp_path / "u.arrow"), twice.schema) as writer:
        writer.write_table(twice)
    with pytest.raises(UserError, match=r"u\.arrow has 2 columns named 'id'"):
        open_text_table(InputFile(tmp_path / "u.arrow"), TextDialect(",", "utf-8")).read()


@pytest.mark.parametrize("kind", ["JSON Lines", "Arrow"])
def test_name_of_a_column_that_is_not_text_is_one_line(tmp_path, kind):
    if kind == "Arrow":
        FRAME.rename(columns={FRAME.columns[1]: "note"}).to_feather(tmp_path / "t", compression="uncompressed")
        content = (tmp_path / "t").read_bytes()
    else:
        content = b'{"u": 1}\n{"u": 2, "note": 3}\n'
    with pytest.raises(UserError, match=r"t: the name of a column is not UTF-8 text, got n\\x8cte$"):
        opened(tmp_path / "t", content.replace(b"note", b"n\x8cte"))
