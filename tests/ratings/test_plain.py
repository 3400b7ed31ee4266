"""The compiled reader: what it reads is right, and what it does not know is left to the general reader."""

import numpy as np
import pyarrow as pa
import pytest

from ratinglab.ratings import plain
from ratinglab.ratings.faults import Layout
from ratinglab.ratings.inputs import InputFile, TextForm


@pytest.fixture
def read(tmp_path):
    """Write a file of item, note, rating, user and, where wished, time, and read it."""

    def read_content(content: str | bytes, *, separator=",", header_lines=0, timestamp=False):
        path = tmp_path / "ratings.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        layout = Layout(
            form=TextForm(separator, "utf-8"), header_lines=header_lines, num_columns=5 if timestamp else 4, item=0,
            rating=2, user=3, timestamp=4 if timestamp else None, timestamp_type=pa.int64() if timestamp else None,
        )  # fmt: skip
        return plain.read_plain(InputFile(path), layout)

    return read_content


@pytest.mark.parametrize("piece", [1, 5, 14, 1 << 20])
@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("7,x,3.5,1\n0,,-2,2147483647\n8,é,.25,3\n".replace(",.25", ",0.25"), {}),
        ("7,x,3.5,1\n0,,-2,2147483647\n8,é,0.25,3", {}),
        ("7,x,3.5,1\r\n0,,-2,2147483647\r\n8,é,0.25,3\r\n", {}),
        ("i|n|r|u\r\n7|x|3.5|1\n0||-2.0|2147483647\n8|é|0.250000|3", {"separator": "|", "header_lines": 1}),
        (b"7\t\xff\t3.5\t1\n0\t\t-2\t2147483647\n8\ta,b\t0.25\t3\n", {"separator": "\t"}),
    ],
)
def test_plain_files_are_read(read, monkeypatch, piece, content, options):
    monkeypatch.setattr(plain, "PIECE", piece)
    columns = read(content, **options)
    assert columns.user.tolist() == [1, 2**31 - 1, 3]
    assert columns.item.tolist() == [7, 0, 8]
    assert columns.rating.tolist() == [3.5, -2.0, 0.25]
    assert columns.timestamp is None


def test_times_are_read_as_they_are_written(read):
    columns = read(f"1,x,2,3,0\n1,x,2,3,{10**18 - 1}\n", timestamp=True)
    assert columns.timestamp.tolist() == [0, 10**18 - 1]


@pytest.mark.parametrize(
    "row",
    [
        "1,x,2", "1,x,2,3,4", "", "1,x,2,", ",x,2,3", "1,x,,3", "a,x,2,3", "1,x,a,3", "-1,x,2,3", "+1,x,2,3",
        "01,x,2,3", "1,x,2,003", "1,x,02,3", "1,x,2.,3", "1,x,.5,3", "1,x,2e1,3", "1,x,+2,3", "1,x,--2,3", "1,x,-,3",
        "1,x,1.2345678,3", "1,x,12345678,3", "1,x,nan,3", "1 ,x,2,3", "1,x, 2,3", '1,"x",2,3', '"1",x,2,3',
        "2147483648,x,2,3", "1,x,2,9999999999999999999999", "1,x\r,2,3", "1,x,2\r,3", "1,x,1.2.3,3",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_that_is_not_plain_is_left_to_the_general_reader(read, row, place):
    rows = ["5,x,1.5,6", "7,x,2.5,8"]
    assert read("\n".join([*rows, ""])) is not None
    rows.insert(place, row)
    assert read("\n".join([*rows, ""])) is None


@pytest.mark.parametrize("separator", ["-", "."])
def test_a_separator_that_could_be_part_of_a_number_is_left_to_the_general_reader(read, separator):
    assert read(separator.join(["1", "x", "2", "3"]) + "\n", separator=separator) is None


def test_zero_keeps_its_sign(read):
    rating = read("1,x,-0,1\n2,x,-0.0,1\n3,x,0,1\n4,x,2,1\n").rating
    assert np.signbit(rating).tolist() == [True, True, False, False]


@pytest.mark.parametrize("digits", range(1, 8))
def test_a_rating_is_rounded_as_its_decimal_text(read, digits):
    random = np.random.default_rng(digits)
    numbers = random.integers(10 ** (digits - 1), 10**digits, 200)
    texts = [f"{number / 10**digits:.{digits}f}" for number in numbers if digits < 7]
    texts += [str(number) for number in numbers]
    columns = read("".join(f"1,x,{text},1\n" for text in texts))
    assert columns.rating.tolist() == [float(np.float32(text)) for text in texts]


@pytest.mark.parametrize("header", [b"i,n,r,u\r", b"\ri,n,r,u\n"])
def test_a_header_that_ends_otherwise_is_left_to_the_general_reader(read, header):
    lines = header.count(b"\r") + header.count(b"\n")
    assert read(header + b"7,x,3.5,1\n8,x,1,2\n", header_lines=lines) is None


@pytest.mark.parametrize("change", [b"", b"7,x,3.5,1\n", b"7,x,3.5,1\n8,x,1,2\n9,x,1,2\n7,x,3.5,1\n8,x,1,2\n9,x,1,2\n"])
def test_a_file_that_changes_meanwhile_is_refused(read, tmp_path, monkeypatch, change):
    count = plain._count_lines

    def count_and_change(content):
        counted = count(content)
        (tmp_path / "ratings.csv").write_bytes(change)
        return counted

    monkeypatch.setattr(plain, "_count_lines", count_and_change)
    columns = read("7,x,3.5,1\n8,x,1,2\n9,x,1,2\n")
    assert columns is None or columns.item.tolist() == [7, 8, 9]


def test_no_row_is_written_behind_those_that_were_counted():
    user, item = np.full(3, -1, dtype=np.int32), np.full(3, -1, dtype=np.int32)
    content = np.frombuffer(b"1,2,3\n4,5,6\n7,8,9\n\n", dtype=np.uint8)
    roles = np.array([plain.USER, plain.ITEM, plain.RATING])
    columns = user, item, np.zeros(3, dtype=np.float32), np.empty(0, dtype=np.int64)
    assert plain._parse(content, ord(","), roles, *columns, 0, 2) == plain.REFUSED
    assert user.tolist() == [1, 4, -1]
    assert plain._parse(content, ord(","), roles, *columns, 0, 3) == 3
