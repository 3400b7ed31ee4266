"""Dialects of delimited text: quotes, escapes, decimal commas, comments, byte-order marks and Excel's `sep=`."""

import gzip
from dataclasses import replace

import pytest
from tables import csv_options, rows_of

from ratinglab.errors import UserError
from ratinglab.formats import inputs, rows_by_pyarrow
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.layouts import Layout
from ratinglab.formats.quotes import QuoteScan
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_options import Decimal, Escape, Quote
from ratinglab.formats.text_tables import open_text_table

HEADER = "user_id,item_id,rating,note\n"
AS_TEXT = "quotation marks were read as text, as with data.quote=none"


@pytest.fixture
def read(tmp_path):
    """Write a file and read it: read(content, **options)."""

    def read_content(content, **options):
        (tmp_path / "ratings.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return csv_options(str(tmp_path / "ratings.csv"), **options).load()

    return read_content


@pytest.mark.parametrize(
    "note",
    ['"weird al" y', "5'2\" tall", '"opened', 'closed"', '"', '""opened', '"a ""b" c', '"a"b"', "it's"],
)
@pytest.mark.parametrize("separator", ["tab", "semicolon"])
def test_stray_quotes_in_an_unused_column_are_harmless(read, note, separator):
    rows = [f"u,i{number},{number},{note if number == 1 else 'x'}" for number in range(4)]
    content = (HEADER + "\n".join(rows)).replace(",", {"tab": "\t", "semicolon": ";"}[separator])
    assert rows_of(read(content, separator=separator)) == [("u", f"i{number}", number) for number in range(4)]


def test_quotes_inside_an_id_are_text(read):
    table = read('user_id\titem_id\trating\nu\t"weird al" y\t3\nu\tother\t4\n', separator="tab")
    assert rows_of(table) == [("u", '"weird al" y', 3.0), ("u", "other", 4.0)]


def test_quote_none_keeps_quotation_marks(read):
    table = read('user_id,item_id,rating\n"u",i,3\n"v",j,4\n', quote=Quote.none)
    assert table.user_ids.ids.tolist() == ['"u"', '"v"']
    assert table.notes == ()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("note", ['"a{}b"', '"{}"', '"a ""quoted"", and{}{}more"', '"first, second{}third"'])
def test_quoted_cell_of_an_unused_column_may_span_lines(read, note, end):
    rows = ["1,1,3,x", f"1,2,4,{note.format(end, end)}", "2,1,5,y"]
    content = HEADER + end.join(rows) + end
    table = read(content)
    assert rows_of(table) == [(1, 1, 3.0), (1, 2, 4.0), (2, 1, 5.0)]
    assert table.notes == ()
    line = 6 + note.count("{}") - 1
    with pytest.raises(UserError, match=f"line {line}: the rating must be a number, got 'bad'"):
        read(content + f"3,3,bad,z{end}")


def test_repeated_pair_after_a_multiline_cell_is_reported_with_its_line(read):
    with pytest.raises(UserError, match=r"line 4, user 1 and item 1 as in .*, line 2\)"):
        read(HEADER + '1,1,3,"a\nb"\n1,1,4,c\n')


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('1,"2\n3",4,x\n2,2,5,"y, z"\n', r"line 2: the item id must be on one line, got '2\\n3'; replace its line"),
        ('1,"2\n3,4,x\n2,2,5,y\n', "line 2: a quoted cell must end on the line it starts on; if quotation marks"),
        ('1,m1,4,"x, y"\n2, "m1",3,z\n', "line 3: quotation marks must enclose the whole item, got  .m1."),
        ('1,1,3,"a\nb"\n2,2,4,"c, d\n3,3,5,e\n', "line 4: a quoted cell spans lines that look like rows"),
        ('1,2,3,"x, y\n2,2,4,z"\n3,3,5,"w, v"\n', "line 2: a quoted cell spans lines that look like rows; if quot"),
        (
            '1,"\\"034",3,"x, y"\n2,2,4,z\n',
            r"line 2: quotation marks must enclose the whole item, got .*data.escape",
        ),
    ],
)
def test_quotes_that_may_hide_rows_are_refused(read, rows, message):
    with pytest.raises(UserError, match=message):
        read(HEADER + rows)


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_text_over_several_lines_in_the_first_column_is_read(read, packed):
    content = 'review,user_id,item_id,rating\n"one\ntwo",1,1,3\nb,1,2,4\n"\nc, d\n\ne",2,1,5\n"x\ny",2,2,1\n'
    table = read(packed(content.encode()))
    assert rows_of(table) == [(1, 1, 3.0), (1, 2, 4.0), (2, 1, 5.0), (2, 2, 1.0)]
    assert table.notes == ()
    for joined in ('"a,1,3,5\nb",1,4,5\n', '"a\nb,1,3,5\nc",1,4,5\n'):
        with pytest.raises(UserError, match="line 11: a quoted cell spans lines that look like rows; if quotation"):
            read(packed((content + joined + "z,3,3,3\n").encode()))


def test_backslash_escapes_a_quotation_mark(read):
    content = '"user_id";"item_id";"rating"\n"1";"\\"034";"7"\n"2";"\\034";"8"\n"3";"a\\\\b;c";"9"\n'
    table = read(content, separator="semicolon", escape=Escape.backslash)
    assert rows_of(table) == [(1, '"034', 7.0), (2, "034", 8.0), (3, "a\\b;c", 9.0)]


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_decimal_comma_is_read_in_ratings_and_times(read, packed):
    content = "user_id;item_id;rating;time\n1;1;3,5;900000000,5\n1;2;-4;900000001,25\n"
    columns = ("user_id", "item_id", "rating", "time")
    table = read(packed(content.encode()), separator="semicolon", decimal=Decimal.comma, columns=columns)
    assert rows_of(table) == [(1, 1, 3.5, 900_000_000_500), (1, 2, -4.0, 900_000_001_250)]
    hint = "data.decimal=comma is set; if the point is the decimal point, set data.decimal=point"
    with pytest.raises(UserError, match=rf"line 4: the rating must be a number, got '4\.5'; {hint}$"):
        read(content + "1;3;4.5;900000001\n", separator="semicolon", decimal=Decimal.comma, columns=columns)


def test_decimal_comma_is_suggested(read):
    with pytest.raises(UserError, match=r"got '3,5'; if the comma is the decimal point, set data.decimal=comma$"):
        read("user_id;item_id;rating\n1;1;3,5\n", separator="semicolon")


@pytest.mark.parametrize("rating", ["1,350", "1,350,000.5"])
def test_commas_that_may_separate_thousands_get_a_hint(read, rating):
    with pytest.raises(UserError, match=rf"got '{rating}'; .*if it separates thousands, remove it$"):
        read(f"user_id;item_id;rating\n1;1;{rating}\n", separator="semicolon")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_comment_may_begin_after_any_line_end(read, end, mark):
    lines = [f"{mark}# a", HEADER.strip(), "1,1,3,x", "#2,2,5,y", "2,1,4,# z", ""]
    assert rows_of(read(end.join(lines), comment="#")) == [(1, 1, 3.0), (2, 1, 4.0)]


@pytest.mark.parametrize("comment", ["#", "%", "//"])
def test_comments_are_skipped_and_lines_keep_their_numbers(read, comment):
    content = f'{comment} "made" by hand\n{HEADER}1,1,3,x\n{comment}1,2,4,y\n2,2,4,a # b\n'
    assert rows_of(read(content, comment=comment)) == [(1, 1, 3.0), (2, 2, 4.0)]
    with pytest.raises(UserError, match="line 6: the rating must be a number, got 'bad'"):
        read(content + "3,3,bad,z\n", comment=comment)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_mark_sets_the_encoding(read, encoding):
    assert rows_of(read("user_id,item_id,rating\né,1,3\nü,2,4\n".encode(encoding))) == [("é", 1, 3.0), ("ü", 2, 4.0)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("header", [True, False])
def test_excel_separator_line_is_used(read, encoding, header):
    names = "user_id;item_id;rating\r\n" if header else ""
    columns = ("user_id", "item_id", "rating") if header else ("1", "2", "3")
    content = f"sep=;\r\n{names}1;1;3\r\n1;2;4\r\n"
    assert rows_of(read(content.encode(encoding), header=header, columns=columns)) == [(1, 1, 3.0), (1, 2, 4.0)]
    with pytest.raises(UserError, match=rf"line {5 if header else 4}: a row must have 3 columns, got 1"):
        read((content + "bad\r\n").encode(encoding), header=header, columns=columns)


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (HEADER.encode() + b"1,1,3,x\n", "utf-16", "is not utf-16 text but may be utf-8: is data.encoding right"),
        (HEADER.encode("utf-16-le"), "utf-8", "seems to be UTF-16 text: set data.encoding=utf-16-le or utf-16-be"),
        (HEADER.encode() + b"1,\xe9,3,x\n", "ascii", "the item id is not UTF-8 text, got '.'; is data.encoding right"),
    ],
)
def test_wrong_encoding_is_reported_in_one_line(read, content, encoding, message):
    with pytest.raises(UserError, match=message):
        read(content, encoding=encoding)


def test_header_false_is_suggested_if_the_first_line_is_a_row(read):
    with pytest.raises(UserError, match=r"it has A1, B2, 5.0, 1; if these are values, set data.header=false and"):
        read("A1,B2,5.0,1\nA2,B3,4.0,2\n")


def test_numeric_header_gives_a_note(read):
    table = read("1,2,3\n1,3,4\n2,2,5\n", columns=("1", "2", "3"))
    assert len(table.ratings) == 2
    assert table.notes[0].endswith(
        "ratings.csv: the header is 1, 2, 3; if it is a row of ratings, set data.header=false"
    )


def test_user_item_matrix_is_recognized(read):
    row = ",".join(["7", *(["99", "-3.5"] * 12)])
    with pytest.raises(
        UserError, match=r"ratings.csv looks like a matrix with one row per user and one column per item: reshape"
    ):
        read(f"{row}\n{row.replace('3.5', '4')}\n", header=False, columns=("1", "2", "3"))


TWO_COLUMNS = Layout(TextDialect(",", "utf-8"), header_lines=0, names=["1", "2"])


@pytest.mark.parametrize(
    ("text", "is_regular", "spans_lines"),
    [
        ("a,b\nc,d\n", True, False),
        ('"a","b"\n"c",d', True, False),
        ('"a ""b""","c"\n', True, False),
        ('"a\nb",c\n', True, True),
        ('"a" b,c\n', False, False),
        ('a "b",c\n', False, False),
        ('"a,b\n', False, True),
        ('"","""",""\n', True, False),
    ],
)
def test_quote_scan_checks_marks(text, is_regular, spans_lines):
    scan = QuoteScan(TWO_COLUMNS)
    scan.add(text.encode())
    assert (scan.any_quotes, scan.is_regular) == ('"' in text, is_regular)
    assert not is_regular or scan.spans_lines == spans_lines


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\x0c", "\x1c"])
def test_odd_line_ends_of_unicode_end_no_line(read, odd):
    table = read(HEADER + f'1,1,5,"a{odd}b, c"\n2,2,1,"x\ny"\n3,3,4,"d, ""e"" f" g\n'[:-3] + "\n")
    assert len(table.ratings) == 3


def test_marks_behind_a_header_that_ends_with_a_carriage_return_are_checked(read):
    table = read('user_id,item_id,rating\r""28,0,3.5\r\n28,1,5.0\r\n')
    assert table.user_ids.ids.tolist() == ['""28', "28"]


@pytest.mark.parametrize(
    ("text", "may_join"),
    [
        ('"a\n1,2\n3",4\n', True),
        ('1,"Foo\n2,Bar"\n', True),
        ('"a\nb\nc",4\n', False),
        ('"a\nb",4\n1,2\n', False),  # the text is in the first column
        ('"a, b\nc",4\n1,2\n', True),
        ('"a\n1,2,3\n4",5\n', False),
        ('"a\n\n1,2",3\n', False),
    ],
)
def test_quote_scan_finds_lines_that_look_like_rows(text, may_join):
    scan = QuoteScan(TWO_COLUMNS)
    scan.add(text.encode())
    assert (scan.is_regular, scan.spans_lines, scan.may_join_rows) == (True, True, may_join)


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_fault_behind_many_quoted_rows_is_reported_with_its_line(read, packed):
    rows = "".join(f'{n % 977},{n},{1 + n % 5},"a, {n}"\n' for n in range(60_000))
    with pytest.raises(UserError, match=r"line 60002: the rating must be a number, got 'bad'"):
        read(packed((HEADER + rows + "1,2,bad,x\n").encode()))
    many_lines = rows.replace('"a, 5"', '"a,\n5"')
    with pytest.raises(UserError, match=r"line 60003: the rating must be a number, got 'bad'"):
        read(packed((HEADER + many_lines + "1,2,bad,x\n").encode()))


def test_row_of_the_wrong_width_is_named_though_cells_may_span_lines(read):
    rows = '1,1,1,"two\nlines"\n2,1,3,"two\nlines",x\n'
    with pytest.raises(UserError, match="line 4: a row must have 4 columns, got 5"):
        read(HEADER + rows)


def test_mark_that_is_never_closed_gets_the_hint_on_quotes(read):
    rows = '1,100,"two\nlines",1\n' + "".join(f"{row},7,x,1\n" for row in range(2, 9))
    with pytest.raises(UserError, match=r"line 11: a quoted cell must end on the line it starts on; .*quote=none"):
        read(f'user_id,item_id,note,rating\n{rows}40,2,"Hello,3\n40,3,x,4\n')


def test_quote_scan_pairs_escapes():
    scan = QuoteScan(replace(TWO_COLUMNS, dialect=TextDialect(",", "utf-8", has_escapes=True)))
    scan.add(b'1,a\\\\\\"b\n')
    assert (scan.any_quotes, scan.is_regular) == (False, True)


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_escaped_marks_do_not_end_a_block_within_a_cell(read, monkeypatch, packed):
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 64)
    rows = "".join(f'{row},{row},{1 + row % 5},"a \\" b\nc, d"\n' for row in range(50))
    table = read(packed((HEADER + rows).encode()), escape=Escape.backslash)
    assert table.user_ids.ids.tolist() == list(range(50))


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
@pytest.mark.parametrize("size", [16, 17, 23, 64])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_cells_of_many_lines_are_never_cut(read, monkeypatch, packed, size, newline):
    monkeypatch.setattr(inputs, "BLOCK_BYTES", size)
    monkeypatch.setattr(rows_by_pyarrow, "MAX_BLOCK_BYTES", 2 * size)
    note = "a line\n" * 30
    rows = "".join(f'{row},{row},{1 + row % 5},"{note}"\n' for row in range(30))
    table = read(packed((HEADER + rows).replace("\n", newline).encode()))
    assert table.user_ids.ids.tolist() == list(range(30))


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
@pytest.mark.parametrize("size", [16, 17, 23, 64])
def test_escaped_line_ends_do_not_end_a_block(read, monkeypatch, packed, size):
    monkeypatch.setattr(inputs, "BLOCK_BYTES", size)
    rows = "".join(f"{row},{row},{1 + row % 5},a\\\nb\\, c\\\nd\n" for row in range(30))
    table = read(packed((HEADER + rows).encode()), escape=Escape.backslash)
    assert table.user_ids.ids.tolist() == list(range(30))


def test_row_without_an_end_is_cut_and_refused_in_one_short_line(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 64)
    monkeypatch.setattr(rows_by_pyarrow, "MAX_BLOCK_BYTES", 128)
    monkeypatch.setattr(rows_by_pyarrow, "MAX_ROW_BYTES", 256)
    path = tmp_path / "items.csv"
    path.write_text('item_id,title\n1,"never closed' + "".join(f"\n{row},text" for row in range(2, 60)) + '\n60,"x"\n')
    with pytest.raises(UserError, match='quotation marks must enclose the whole cell, got "never closed; ') as caught:
        open_text_table(InputFile(path), TextDialect(",", "utf-8", key_prefix="data.items.")).read()
    assert "\n" not in str(caught.value)
