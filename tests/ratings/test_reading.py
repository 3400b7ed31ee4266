import pytest

from ratinglab.errors import UserError
from ratinglab.ratings.sources import ColumnOptions, CsvOptions, Separator, TitleOptions
from ratinglab.ratings.table import RatingTable

NO_TITLES = TitleOptions(path=None, separator=Separator.comma, item="item_id", title="title")


@pytest.fixture
def read(tmp_path):
    """Write a file and read it: read(content, **options)."""

    def read_content(
        content: str | bytes,
        *,
        separator: Separator = Separator.comma,
        header: bool = True,
        columns: tuple[str, str, str] = ("user_id", "item_id", "rating"),
        titles: TitleOptions = NO_TITLES,
    ) -> RatingTable:
        path = tmp_path / "ratings.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        user, item, rating = columns
        return CsvOptions(
            path=str(path),
            separator=separator,
            header=header,
            columns=ColumnOptions(user=user, item=item, rating=rating),
            titles=titles,
            batch_size=1,
        ).load()

    return read_content


def rows(table: RatingTable) -> list[tuple[object, object, float]]:
    """The table's rows under their own ids."""
    ratings = table.ratings
    return [
        (table.user_ids.ids[user], table.item_ids.ids[item], float(rating))
        for user, item, rating in zip(ratings.user, ratings.item, ratings.rating, strict=True)
    ]


EXPECTED = [(7, "b", 3.5), (5, "a", 1.0), (7, "a", 2.0)]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("user_id,item_id,rating\n7,b,3.5\n5,a,1\n7,a,2\n", {}),
        ("item_id,extra,rating,user_id\nb,x,3.5,7\na,,1,5\na,z,2,7\n", {}),
        ("user_id\titem_id\trating\n7\tb\t3.5\n5\ta\t1\n7\ta\t2\n", {"separator": Separator.tab}),
        ("user_id;item_id;rating\n7;b;3.5\n5;a;1\n7;a;2\n", {"separator": Separator.semicolon}),
        ("user_id|item_id|rating\n7|b|3.5\n5|a|1\n7|a|2\n", {"separator": Separator.pipe}),
        ("3.5,7,b\n1,5,a\n2,7,a\n", {"header": False, "columns": ("2", "3", "1")}),
        ("\ufeffuser_id,item_id,rating\r\n7,b,3.5\r\n5,a,1\r\n7,a,2\r\n", {}),
        ('"user_id","item_id","rating"\n"7","b","3.5"\n5,"a",1\n7,a,2', {}),
        ("\nuser_id, item_id, rating\n\n7, b, 3.5\n5, a, 1\n\n7 ,a ,2\n\n", {}),
        ('user_id,note,item_id,rating\n7,"a, and ""quotes""",b,3.5\n5,,a,1\n7,,a,2\n', {}),
    ],
    ids=["plain", "extra", "tab", "semicolon", "pipe", "no header", "BOM CRLF", "quoted", "blank", "quotes in a cell"],
)
def test_each_form_gives_the_same_rows(read, content, options):
    assert rows(read(content, **options)) == EXPECTED


def test_the_indices_do_not_depend_on_the_order_of_the_rows(read):
    lines = ["7,b,3.5", "5,a,1", "7,a,2"]
    tables = [read("\n".join(["user_id,item_id,rating", *some])) for some in (lines, lines[::-1])]
    assert tables[0].user_ids.ids.tolist() == tables[1].user_ids.ids.tolist() == [5, 7]
    assert tables[0].digest() != tables[1].digest()


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
        (HEADER + "1,3,4,5\n", "line 3: a row must have 3 columns, got 4"),
        (HEADER + "1,3\n", "line 3: a row must have 3 columns, got 2"),
        (HEADER + '1,3,"4\n1,4,5"\n', "line 4: a quoted cell must end on the line on which it begins"),
        (HEADER + "\n\n1,3,x\n", "line 5: the rating must be a number, got 'x'"),
        (HEADER.encode() + b"1,\xff,3\n", "line 3: not UTF-8 text"),
        ("user,item_id,rating\n1,2,3\n", "has no column 'user_id'; it has user, item_id, rating"),
        ("user_id,item_id,rating,rating\n1,2,3,4\n", "has 2 columns named 'rating'"),
    ],
)
def test_each_fault_is_named_with_its_place(read, content, message):
    with pytest.raises(UserError) as error:
        read(content)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_fault_far_into_a_large_file_is_found(read):
    many = "".join(f"{n % 999},{n % 77},{n % 5}\n" for n in range(200_000))
    with pytest.raises(UserError, match="line 200002: the rating must be a number, got 'oops'"):
        read("user_id,item_id,rating\n" + many + "1,2,oops\n")


def test_a_stray_quotation_mark_costs_no_row_in_silence(read):
    rows = "".join(f"{row},1,3,{mark}\n" for row, mark in enumerate(["x", '"a', "y", 'b"', "z"]))
    with pytest.raises(UserError, match="line 5: a quoted cell must end on the line on which it begins"):
        read("user_id,item_id,rating,note\n" + rows)


def test_one_column_cannot_have_two_roles(read):
    with pytest.raises(
        UserError, match=r"data.columns.item must be another column than data.columns.user, got user_id"
    ):
        read(HEADER, columns=("user_id", "user_id", "rating"))


def test_positions_are_counted_from_one(read):
    with pytest.raises(UserError, match=r"data.columns.user must be a column's position from 1 to 3 .*, got '0'"):
        read("1,2,3\n", header=False, columns=("0", "1", "2"))


def test_a_missing_file_is_named_with_the_nearest(tmp_path, read):
    read(HEADER)
    options = CsvOptions(
        path=str(tmp_path / "rating.csv"),
        separator=Separator.comma,
        header=True,
        columns=ColumnOptions(user="user_id", item="item_id", rating="rating"),
        titles=NO_TITLES,
        batch_size=1,
    )
    with pytest.raises(UserError, match=r"there is no file .*rating.csv; did you mean ratings.csv\?"):
        options.load()


def test_titles_belong_to_their_items(tmp_path, read):
    path = tmp_path / "items.csv"
    path.write_text('movieId,title,genres\n3,"Amélie, or: ""so""",x\n99,Never rated,y\n2,Heat,z\n')
    titles = TitleOptions(path=str(path), separator=Separator.comma, item="movieId", title="title")
    table = read("user_id,item_id,rating\n1,2,3\n1,3,4\n1,4,5\n", titles=titles)
    assert dict(zip(table.item_ids.ids, table.titles, strict=True)) == {2: "Heat", 3: 'Amélie, or: "so"', 4: ""}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("item_id,title\n2,A\n2,B\n", "has more than one row for item 2"),
        ("item,title\n2,A\n", "data.titles.item: .* has no column 'item_id'; it has item, title; did you mean"),
        ("item_id,title\n2,A,B\n", "cannot be read: .*Expected 2 columns, got 3"),
    ],
)
def test_faults_of_titles_are_named(tmp_path, read, content, message):
    path = tmp_path / "items.csv"
    path.write_text(content)
    titles = TitleOptions(path=str(path), separator=Separator.comma, item="item_id", title="title")
    with pytest.raises(UserError, match=message):
        read(HEADER, titles=titles)
