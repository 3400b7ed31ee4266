"""Tables of users and items: columns matched by id, and one-line errors with their location."""

import io
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tables import NO_ITEMS, NO_USERS, csv_options

from ratinglab.errors import UserError
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.text_options import Decimal
from ratinglab.formats.text_tables import open_text_table
from ratinglab.options import check_options
from ratinglab.reading.feature_tables import quantile_groups
from ratinglab.reading.repeated_rows import read_distinct_rows

RATINGS = "user_id,item_id,rating\n7,b,3.5\n5,a,1\n9,a,2\n"


@pytest.fixture
def load(tmp_path):
    """Read three ratings with a table of users or items: load(users=…, items=…, **options of that table)."""

    def read(*, users: str | None = None, items: str | None = None, encoding="utf-8", **options):
        (tmp_path / "ratings.csv").write_text(RATINGS)
        tables = {}
        for name, content, without in (("users", users, NO_USERS), ("items", items, NO_ITEMS)):
            if content is not None:
                (tmp_path / f"{name}.csv").write_bytes(content.encode(encoding))
                changed = {"path": str(tmp_path / f"{name}.csv"), "encoding": encoding, **options}
                tables[name] = replace(without, **changed)
        return csv_options(path=str(tmp_path / "ratings.csv"), **tables).load()

    return read


def plain(columns) -> dict[str, list]:
    """Convert columns to lists, with None for NaN."""
    return {name: [None if value != value else value for value in column] for name, column in columns.items()}


def test_user_columns_are_matched_by_user_id(load):
    users = "user_id,age,gender,likes\n9,40,F,\n 5 , 20.5 ,é, a|b \n1,99,M,c\n"
    for encoding in ("utf-8", "latin-1"):
        table = load(users=users, numeric=["age"], encoding=encoding)
        assert plain(table.user_columns) == {  # of users 5, 7, 9; user 1 has rated nothing, user 7 has no row
            "age": [20.5, None, 40.0],
            "age_group": ["20.5", "", "40"],
            "gender": ["é", "", "F"],
            "likes": ["a|b", "", ""],
        }
        assert table.item_columns == {}
        assert table.notes == ()
        assert table.user_columns["age"].dtype == np.float64


def test_numbers_can_have_a_decimal_comma(load):
    options = {"numeric": ["age"], "separator": "semicolon", "decimal": Decimal.comma}
    table = load(users="user_id;age\n9;40\n5;20,5\n", **options)
    assert plain(table.user_columns)["age"] == [20.5, None, 40.0]
    with pytest.raises(
        UserError, match=r"line 2, column age: the value must be .* got '20\.5'; data.users.decimal=comma is set;"
    ):
        load(users="user_id;age\n5;20.5\n", **options)


def test_item_columns_are_matched_by_item_id(load):
    table = load(items="year;item_id;title;genres\n1995;b;Heat;(no genres listed)\n;a;Alien;Horror|Sci-Fi\n",
                 numeric=["year"], separator="semicolon")  # fmt: skip
    assert table.titles.tolist() == ["Alien", "Heat"]
    assert plain(table.item_columns) == {
        "year": [None, 1995.0],
        "year_group": ["", "1995"],
        "genres": ["Horror|Sci-Fi", ""],
    }


def test_column_without_a_name_is_ignored(load):
    assert plain(load(users=",user_id,town\n0,5,Oslo\n").user_columns) == {"town": ["Oslo", "", ""]}


def test_column_of_the_file_takes_precedence_over_a_derived_group(load):
    table = load(users="user_id,age_group,age\n5,old,70\n", numeric=["age"])
    assert plain(table.user_columns) == {"age_group": ["old", "", ""], "age": [70.0, None, None]}


def test_groups_have_similar_sizes():
    numbers = np.array([*range(40, 20, -1), np.nan], dtype=np.float64)  # 21 to 40, each once
    groups = quantile_groups(numbers).tolist()
    assert groups[:4] == ["39–40", "39–40", "37–38", "37–38"]
    assert groups[-3:] == ["21–22", "21–22", ""]
    assert len(set(groups)) == 11


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1, 1, 1, 1, 1, 1, 1, 2, 3], ["1"] * 7 + ["2", "3"]),  # equal values stay together
        (range(1, 6), ["1", "2", "3", "4", "5"]),
        (range(15), [*("0", "1–2", "1–2", "3", "4–5", "4–5", "6", "7–8", "7–8", "9", "10–11", "10–11"),
                     *("12", "13–14", "13–14")]),
        ([0.5, -2, 0.25], ["0.5", "-2", "0.25"]),
        ([1234567.25, 1234567.5], ["1234567.25", "1234567.5"]),
        ([4, 4, np.nan], ["4", "4", ""]),
        ([np.nan, np.nan], ["", ""]),
        ([], []),
    ],
)  # fmt: skip
def test_groups_keep_equal_values_together(numbers, expected):
    assert quantile_groups(np.array(numbers, dtype=np.float64)).tolist() == expected


def test_groups_are_formed_from_users_with_ratings_only(load):
    strangers = "".join(f"{number},{number}\n" for number in range(100, 200))
    table = load(users=f"user_id,age\n5,20\n7,30\n9,40\n{strangers}", numeric=["age"])
    assert table.user_columns["age_group"].tolist() == ["20", "30", "40"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("user_id,age\n7,1\n7,2\n", {}, r"users.csv, line 3, column age: user 7 has an earlier row with another v"),
        ("user,age\n7,1\n", {}, r"^data.users.user: .*users.csv has no column 'user_id'; it has user, age; did you"),
        ('user_id,age\n7,"1\n5,"2,"\n', {}, r"users.csv, line 2: a quoted cell must end on the line it "),
        ("user_id,age\n7,1,2\n", {}, r"users.csv, line 2: a row must have 2 columns, got 3"),
        (
            "user_id;age\n7;1\n8;2,5\n",
            {},
            r"line 3: a row must have 1 column, as the first line has, got 2; is data.users.separator right\?$",
        ),
        ("user_id,age,age\n7,1,2\n", {}, r"users.csv has 2 columns named 'age'$"),
        ("", {}, r"users.csv is empty$"),
        ("user_id\n7\n", {}, r"users.csv has no column besides user_id: it has no features$"),
        ("user_id,age\n7,1\n", {"numeric": ["agee"]}, r"^data.users.numeric: .* has no column 'agee'; .*mean age\?$"),
        ("user_id,age\n7,1\n", {"numeric": ["user_id"]}, r"^data.users.numeric: the column user_id holds user ids"),
        ("user_id,age\n7,1\n", {"path": "nowhere.csv"}, r"^data.users.path: there is no file nowhere.csv"),
        (
            "user_id,age\n7,1\n\n5,x\n",
            {"numeric": ["age"]},
            r"users.csv, line 4, column age: the value must be a finite number \(data.users.numeric\), got 'x'$",
        ),
    ],
)  # fmt: skip
def test_invalid_users_table_is_refused(load, content, options, message):
    with pytest.raises(UserError, match=message):
        load(users=content, **options)


@pytest.mark.parametrize("rows_at_once", [1, 2, 10])
def test_only_distinct_rows_stay_in_memory(tmp_path, monkeypatch, rows_at_once):
    monkeypatch.setattr("ratinglab.reading.repeated_rows.ROWS_AT_ONCE", rows_at_once)
    path = tmp_path / "ratings.csv"
    path.write_text("user_id,item_id,title\n1,a,Alien\n2,a,Alien\n3,b,Heat\n4,a,Alien\n")
    table = open_text_table(InputFile(path), csv_options(path=str(path)).dialect())
    rows, ignored = read_distinct_rows(table, id_name="item_id", ignored=["user_id"], fixed=None)
    assert (len(rows.content), ignored) == (2, {"user_id"})


def test_file_of_ratings_without_a_column_of_users_is_refused(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("user_id,item_id,rating,review\n5,1,3,good\n5,2,4,bad\n7,1,2,good\n")
    with pytest.raises(UserError, match=r"ratings.csv has no column with one value per user: it has no features$"):
        csv_options(path=str(path), users=replace(NO_USERS, path=str(path))).load()


@pytest.mark.parametrize("text", ["1_0", "inf", "nan", "1e999", "٣", "3 4"])
def test_number_must_be_finite_and_plain(load, text):
    with pytest.raises(
        UserError, match=rf"users.csv, line 2, column age: the value must be a finite number .*, got '{text}'$"
    ):
        load(users=f"user_id,age\n7,{text}\n", numeric=["age"])


def test_invalid_item_number_is_reported_with_its_line(load):
    with pytest.raises(UserError, match=r"items.csv, line 2, column year: .* \(data.items.numeric\), got '19x'$"):
        load(items="item_id,title,year\nb,Heat,19x\n", numeric=["year"])


def test_users_table_without_any_rated_user_gives_a_note(load):
    table = load(users="user_id,age\n1,20\n2,30\n")
    assert table.notes == (
        "data.users.path has rows for none of the 3 users with ratings (not for '5'); it has 2 rows, including '1', "
        "which has no ratings",
    )


def test_users_can_be_read_from_a_zip_archive(tmp_path, load):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("sub/users.csv", "user_id,gender\n7,F\n")
    table = load(users="", path=str(tmp_path / "all.zip/sub/users.csv"))
    assert table.user_columns["gender"].tolist() == ["", "F", ""]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"separator": "komma"}, r"^data.users.separator must be one of comma, .*, got 'komma'; did you mean comma\?$"),
        ({"encoding": "utf-9"}, r"^data.users.encoding: there is no encoding 'utf-9'$"),
    ],
)
def test_invalid_options_of_users_are_refused(changed, message):
    with pytest.raises(UserError, match=message):
        check_options(csv_options(users=replace(NO_USERS, **changed)), "data.")


RATINGS_WITH_TITLES = (
    "user_id,item_id,title,rating,review,genre,age\n"
    "7,b,Heat,3.5,good,x,30\n"
    "5,a,Alien,1,bad,y|z,20\n"
    '9,a, Alien ,2,"so, so",y|z,40\n'
    "5,b,Heat,4,,x,20\n"
)


@pytest.fixture
def load_one_file(tmp_path):
    """Read one file as ratings and as items, and as users if it has `numeric` columns of users."""

    def read(content, *, suffix="csv", numeric=()):
        path = tmp_path / f"ratings.{suffix}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        users = replace(NO_USERS, path=str(path), numeric=[*numeric]) if numeric else NO_USERS
        return csv_options(path=str(path), users=users, items=replace(NO_ITEMS, path=str(path))).load()

    return read


def test_titles_and_features_are_read_from_the_file_of_ratings(load_one_file, monkeypatch):
    for num_rows in (1, 2, 1000):  # rows per block
        monkeypatch.setattr("ratinglab.reading.repeated_rows.ROWS_AT_ONCE", num_rows)
        table = load_one_file(RATINGS_WITH_TITLES, numeric=["age"])
        assert len(table.ratings) == 4
        assert table.titles.tolist() == ["Alien", "Heat"]
        assert plain(table.item_columns) == {"genre": ["y|z", "x"]}
        assert plain(table.user_columns) == {"age": [20.0, 30.0, 40.0], "age_group": ["20", "30", "40"]}
        assert table.notes == (
            "data.items.path: columns that differ between rows of one item are not features: review, age",
            "data.users.path: columns that differ between rows of one user are not features: title, review, genre",
        )


def test_titles_are_read_from_a_parquet_file_of_ratings(load_one_file):
    frame = pd.read_csv(io.StringIO(RATINGS_WITH_TITLES)).drop(columns=["review", "age"])
    frame["genre"] = frame["genre"].str.split("|")
    table = load_one_file(frame.to_parquet(), suffix="parquet")
    assert table.titles.tolist() == ["Alien", "Heat"]
    assert plain(table.item_columns) == {"genre": ["y|z", "x"]}


def test_two_titles_of_one_item_in_the_file_of_ratings_are_an_error(load_one_file):
    rows = "user_id,item_id,title,rating\n1,1,A,1\n1,2,B,2\n2,1,A,3\n3,1.0,C,3\n4,1,D,3\n"
    with pytest.raises(UserError, match=r"csv, line 5, column title: item 1 has an earlier row with another value$"):
        load_one_file(rows)
    with pytest.raises(
        UserError, match=r"^data.items.item: .* has no column 'item_id'; it has user_id, item, title, rating"
    ):
        load_one_file(rows.replace("item_id", "item"))


def test_equal_rows_of_a_table_count_once(load):
    table = load(items="item_id,title,genres\na,Alien,x\nb,Heat,y\na,Alien,x\na , Alien,x\n")
    assert table.titles.tolist() == ["Alien", "Heat"]
    assert table.notes == ()
    assert plain(load(users="user_id,age\n7,30\n7.0,30\n5,20\n").user_columns) == {"age": ["20", "30", ""]}
    with pytest.raises(UserError, match=r"items.csv, line 4, column genres: item a has an earlier row with another"):
        load(items="item_id,title,genres\na,Alien,x\nb,Heat,y\na,Alien,z\n")
