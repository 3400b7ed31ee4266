"""Guess of a file's layout, on the published layouts of public data sets and on files that people have."""

from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa
import pytest
from published_layouts import LAYOUTS
from tables import csv_options, rows_of

from ratinglab.datasets.guessed_layout import guess_layout
from ratinglab.errors import UserError
from ratinglab.formats.text_options import Decimal
from ratinglab.reading.cleaning_options import Duplicates

HAS_BLANK_USERS = "BeerAdvocate (data.world, Kaggle)"
READABLE = [layout for layout in LAYOUTS if layout.columns is not None]


@pytest.fixture
def guessed(tmp_path):
    """Write a file and guess its layout: guessed(content, **options)."""

    def guess_content(content, *, name="ratings", **changed):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        options, notes = guess_layout(csv_options(str(tmp_path / name), duplicates=Duplicates.last, **changed))
        return SimpleNamespace(options=options, notes=notes)

    return guess_content


@pytest.mark.parametrize("layout", READABLE, ids=lambda layout: layout.name)
def test_published_layout_is_guessed(guessed, layout):
    columns = guessed(layout.content, name=layout.file_name).options.columns
    assert list(columns.by_role().values()) == layout.columns.split()


@pytest.mark.parametrize(
    "layout", [layout for layout in READABLE if layout.name != HAS_BLANK_USERS], ids=lambda layout: layout.name
)
def test_published_layout_is_read_as_guessed(guessed, layout):
    table = guessed(layout.content, name=layout.file_name).options.load()
    user_id, item_id, rating = layout.first_row
    first = [row[:3] for row in rows_of(table) if (str(row[0]), str(row[1])) == (user_id, item_id)]
    repeats = layout.name.startswith("Steam")  # a row for the purchase and one for the hours
    assert [value for *_, value in first] == [pytest.approx(87.0 if repeats else rating)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Netflix Prize (Kaggle)", "is in the Netflix Prize format, .*: put the id into each row, for example"),
        ("Jester 1 (its worksheet as CSV)", "looks like a matrix with one row per user and one column per item"),
        ("Amazon Fine Foods (SNAP)", "is a file with one field per line: convert it to one rating per row"),
    ],
)
def test_published_layout_without_one_rating_per_row_is_refused(guessed, name, message):
    (layout,) = (layout for layout in LAYOUTS if layout.name == name)
    with pytest.raises(UserError, match=message):
        guessed(layout.content)


def columns_of(found):
    columns = found.options.columns
    return columns.user, columns.item, columns.rating, columns.timestamp


def test_semicolons_and_decimal_commas_are_told_apart(guessed):
    found = guessed("user;movie;stars\n1;2;3,5\n2;3;4,0\n")
    assert (found.options.separator, found.options.decimal.name) == ("semicolon", "comma")
    assert rows_of(found.options.load()) == [(1, 2, 3.5), (2, 3, 4.0)]


@pytest.mark.parametrize(
    "content",
    [
        'user,item,rating\n1,2,"1,350"\n2,3,450\n3,4,"12,250"\n',
        'user,item,rating\nu,i,"1,350,000.5"\nv,j,450\n',
        'k1,a,"1,350"\nk2,b,450\nk3,c,900\n',
    ],
)
def test_thousands_separators_are_not_guessed_as_decimal_commas(guessed, content):
    with pytest.raises(UserError, match=r"the rating 1,350.* looks like a number with a thousands separator; remove"):
        guessed(content)


@pytest.mark.parametrize("rating", ["0,350", "1,35", "1,3500"])
def test_one_decimal_comma_that_separates_no_thousands_decides_for_all(guessed, rating):
    options = guessed(f"user;item;rating\n1;2;2,350\n2;3;{rating}\n").options
    assert options.decimal.name == "comma"
    assert rows_of(options.load())[0] == (1, 2, pytest.approx(2.35))


def test_decimal_comma_that_the_user_sets_is_kept(guessed):
    options = guessed("user;item;rating\n1;2;1,350\n2;3;450\n", decimal=Decimal.comma).options
    assert rows_of(options.load()) == [(1, 2, pytest.approx(1.35)), (2, 3, 450.0)]


def test_thousands_in_another_column_are_not_the_ratings(guessed):
    options = guessed('user,item,rating,votes\n1,2,3,"1,350"\n2,3,4,900\n').options
    assert (options.columns.rating, options.decimal.name) == ("rating", "point")


def test_points_that_may_separate_thousands_give_a_note(guessed):
    content = "user;item;rating\n1;2;1.350\n2;3;450\n"
    (note,) = guessed(content).notes
    assert note.startswith("the rating 1.350 was read as a decimal; if it has a thousands separator")
    assert guessed(content.replace("450", "4.5")).notes == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,10,4.5\n", "has only one row$"),
        ("user,item,rating\n", "has no ratings, only a header$"),
        ("user,item,rating\nu,i,\nv,j,NULL\nw,j,5\n", "has no column in which most cells are numbers"),
        ("user,item,opinion\nu,i,good\nv,j,bad\n", "has no column in which most cells are numbers"),
    ],
)
def test_file_without_ratings_below_a_header_is_refused_by_what_it_lacks(guessed, content, message):
    with pytest.raises(UserError, match=message):
        guessed(content)


def test_columns_that_the_user_names_are_kept(guessed):
    content = "a,b,rating,stars\nu,x,1,5\nv,y,2,4\n"
    advice = "set data.columns.user and data.columns.item to two of a, b, stars"
    with pytest.raises(UserError, match=f"ratings: found separator=comma, rating=rating; {advice}$"):
        guessed(content)
    assert columns_of(guessed(content, columns=("a", "b", "stars"))) == ("a", "b", "stars", None)


def test_two_columns_besides_rating_and_dates_are_users_and_items(guessed):
    content = ";Kunde;Film Nr;Note;Datum\n0;k1;7;3,5;15.10.2008 03:52\n1;k1;8;4;28.12.2002 22:04\n"
    found = guessed(content)
    assert columns_of(found) == ("Kunde", "Film Nr", "Note", "Datum")
    assert found.options.timestamp_format == "%d.%m.%Y %H:%M"
    assert found.notes == (
        "columns guessed by their cells and their order: user=Kunde, item=Film Nr, rating=Note, timestamp=Datum",
    )
    assert guessed(content, columns=("Kunde", "Film Nr", "Note", "Datum")).notes == ()


def test_users_and_items_keep_their_order_in_rows_of_one_user(guessed):
    assert columns_of(guessed("Kunde,Werk,Note\nk1,7,3\nk1,8,4\nk1,9,4\n")) == ("Kunde", "Werk", "Note", None)
    assert columns_of(guessed("k1,7,3\nk1,8,4\nk1,9,4\n")) == ("1", "2", "3", None)


def test_dates_are_left_to_the_user_if_two_columns_hold_some(guessed):
    found = guessed("user,item,rating,first,last\n1,1,1,2006-01-31,2006-02-01\n1,2,2,2006-01-31,2006-02-02\n")
    assert columns_of(found) == ("user", "item", "rating", None)


@pytest.fixture
def with_tables(guessed, tmp_path):
    """Guess the layout of ratings with tables of users and items: with_tables(users=content, items=content)."""

    def guess_tables(content="user,item,rating\nk1,7,3\nk2,8,4\n", **tables):
        options = csv_options("unused")
        for name, table in tables.items():
            (tmp_path / name).write_text(table, encoding="latin-1")
            options = replace(options, **{name: replace(getattr(options, name), path=str(tmp_path / name))})
        return guessed(content, users=options.users, items=options.items)

    return guess_tables


def test_separators_ids_and_titles_of_tables_are_guessed(with_tables):
    found = with_tables(users="Alter\tKürzel\n30\tk2\n40\tk1\n", items="Nr;Titel;Genre\n8;A, B;x\n7;C;x\n9;D;y\n")
    users, items = found.options.users, found.options.items
    assert (users.separator, users.user, users.encoding) == ("tab", "Kürzel", "latin-1")
    assert (items.separator, items.item, items.title) == ("semicolon", "Nr", "Titel")
    assert "read as latin-1; set data.users.encoding for another encoding" in found.notes[0]
    table = found.options.load()
    assert table.titles.tolist() == ["C", "A, B"]
    assert table.user_columns["Alter"].tolist() == ["40", "30"]


TITLED = "user,item,Movie Title,stars\nk1,7,Heat,3\nk2,8,Alien,4\nk2,7,Heat,5\n"


def test_titles_in_the_file_of_ratings_are_guessed(guessed):
    found = guessed(TITLED.replace(",", ";"))
    items = found.options.items
    assert (items.path, items.separator) == (found.options.path[0], "semicolon")
    assert (items.item, items.title) == ("item", "Movie Title")
    assert found.options.load().titles.tolist() == ["Heat", "Alien"]
    assert guess_layout(replace(found.options))[0] == found.options


@pytest.mark.parametrize(
    "content",
    [
        TITLED.replace("Heat,5", "Cold,5"),  # two titles of one item, as in reviews
        TITLED.replace("Movie Title", "review"),
        TITLED.replace("item", "Nr"),  # the titles are the items
        TITLED.partition("\n")[2],
    ],
)
def test_other_texts_in_the_file_of_ratings_are_not_guessed_as_titles(guessed, content):
    assert guessed(content).options.items.path is None


def test_columns_of_users_and_items_in_the_file_of_ratings_are_guessed(with_tables, tmp_path):
    options = csv_options(str(tmp_path / "ratings"))
    users, items = (replace(table, path=str(tmp_path / "ratings")) for table in (options.users, options.items))
    (tmp_path / "ratings").write_text(TITLED.replace("Movie Title", "name"))
    found, _ = guess_layout(replace(options, users=users, items=items))
    assert (found.users.user, found.items.item, found.items.title) == ("user", "item", "name")


def test_titles_without_a_known_name_are_distinct_texts(with_tables):
    items = with_tables(items="1994|7|x|Lost Moon\n1990|8|x|Iron Rain\n1990|9|y|Old Tea\n").options.items
    assert (items.separator, items.header, items.item, items.title) == ("pipe", False, "2", "4")


def test_items_have_no_titles_if_no_column_seems_to_hold_them(with_tables):
    found = with_tables(items="item,genre\n7,x\n8,x\n9,x\n")
    assert (found.options.items.item, found.options.items.title) == ("item", None)
    (note,) = found.notes
    assert note.endswith("items seems to hold titles; to read one as titles, set data.items.title")


def test_titles_that_the_user_excludes_are_not_guessed(guessed, tmp_path):
    items = replace(csv_options().items, title=None)
    assert guessed(TITLED, items=items).options.items.path is None
    found = guessed(TITLED, items=replace(items, path=str(tmp_path / "ratings")))
    assert (found.options.items.title, found.notes) == (None, ())


def test_names_in_a_table_that_the_user_gives_are_kept(with_tables):
    found = with_tables(items="item_id,title,name,code\n7,A,C,7\n8,B,D,8\n").options.items
    assert (found.item, found.title) == ("item_id", "title")


def test_error_lists_what_is_missing_in_every_file(with_tables):
    with pytest.raises(UserError) as caught:
        with_tables("a,b,rating,x\nk1,7,3,1\nk2,8,4,1\n", items="Nr;Titel;Genre\n8;A;x\n7;C;x\n")
    first, _, second = str(caught.value).partition("; ")[2].partition("; ")
    assert first == "set data.columns.user and data.columns.item to two of a, b, x"
    assert second.endswith("items: found separator=semicolon, title=Titel; set data.items.item to one of Nr, Genre")


def test_only_column_of_a_table_is_named_alone(with_tables):
    with pytest.raises(UserError, match=r"set data.users.user to number$"):
        with_tables(users="number\n7\n8\n9\n")


def test_ids_of_a_table_that_lacks_most_of_the_rated_items_are_not_guessed(with_tables):
    reason = "no column has most of the item ids in the ratings, such as '7'"
    with pytest.raises(UserError, match=f"found separator=comma; {reason}; set data.items.item to one of Nr, Genre$"):
        with_tables(items="Nr,Genre\n1,x\n2,x\n3,y\n")


@pytest.mark.parametrize(("rated", "listed"), [("7", "7.0"), ("7.0", "7")])
def test_ids_of_a_table_are_compared_with_the_rated_items_as_whole_numbers(with_tables, rated, listed):
    found = with_tables(f"user,item,rating\nk1,{rated},3\nk2,{rated},4\n", items=f"Nr;Titel\n{listed};A\n9;B\n")
    assert found.options.items.item == "Nr"
    assert found.options.load().titles.tolist() == ["A"]


def test_column_named_when_holds_times(guessed):
    found = guessed("user;film;stars;when\n1;2;3;964982703\n2;3;4;964981247\n")
    assert columns_of(found) == ("user", "film", "stars", "when")
    assert found.options.load().timestamp is not None


def test_own_ratings_and_dates_are_preferred_in_an_export_of_imdb(guessed):
    header = "User,Const,Your Rating,Date Rated,Title,IMDb Rating,Year,Genres"
    found = guessed(f"{header}\nu1,tt1,4,2020-01-31,Heat,8.3,1995,Crime\nu2,tt2,9,2020-02-01,Alien,8.5,1979,Horror\n")
    assert columns_of(found) == ("User", "Const", "Your Rating", "Date Rated")
    assert found.options.items.title == "Title"


def test_own_ratings_are_preferred_to_a_column_named_rating(guessed):
    assert columns_of(guessed("user,film,Rating,My Rating\n1,2,3.1,4\n2,3,4.2,5\n"))[2] == "My Rating"


def test_year_is_no_timestamp(guessed):
    assert columns_of(guessed("user,film,stars,year\n1,2,3,1995\n2,3,4,1979\n"))[3] is None


def test_addresses_of_films_are_preferred_to_names_that_films_share(guessed):
    header = "User,Date,Name,Year,Letterboxd URI,Rating"
    found = guessed(f"{header}\nu1,2020-01-31,Heat,1995,b/1,4\nu2,2020-02-01,Heat,1986,b/2,3\n")
    assert columns_of(found) == ("User", "Letterboxd URI", "Rating", "Date")
    assert found.options.items.title == "Name"


def test_authors_of_books_are_no_users(guessed):
    header = "Book Id,Title,Author,My Rating,Average Rating,Date Added"
    with pytest.raises(UserError, match=r"set data.columns.user to one of Title, Author, Average Rating$"):
        guessed(f"{header}\n1,Dune,Frank Herbert,4,4.3,2020/01/31\n2,Emma,Jane Austen,5,4.1,2020/02/01\n")


def test_separator_that_the_user_names_is_kept(guessed):
    assert guessed("1^2^3\n2^3^4\n", separator="^").options.separator == "^"


@pytest.mark.parametrize(
    ("dates", "pattern"),
    [
        (("31/01/2006", "01/02/2006"), "%d/%m/%Y"),
        (("01/31/2006", "02/01/2006"), "%m/%d/%Y"),
        (("31.01.2006 10:15", "01.02.2006 09:00"), "%d.%m.%Y %H:%M"),
        (("20060131", "20060201"), None),
        (("2006-01-31", "2006-02-01"), None),
        (("2006-01-31T00:00:00Z", "2006-02-01 01:02:03.123456789"), None),
    ],
)
def test_date_format_is_guessed(guessed, dates, pattern):
    found = guessed("user,item,rating,date\n" + "".join(f"1,{n},{n},{date}\n" for n, date in enumerate(dates)))
    assert columns_of(found) == ("user", "item", "rating", "date")
    assert found.options.timestamp_format == pattern
    days = found.options.load().timestamp // 86_400_000
    assert days.tolist() == [13_179, 13_180]


def test_ambiguous_dates_are_left_to_the_user(guessed):
    content = "user,item,rating,date\n1,1,1,01/02/2006\n1,2,2,03/04/2006\n"
    for options in ({}, {"columns": ("user", "item", "rating", "date")}):
        found = guessed(content, **options)
        assert found.options.columns.timestamp is None
        assert found.notes == (
            "the format of the timestamps in column date cannot be guessed; to read them, set "
            "data.columns.timestamp=date and data.timestamp_format",
        )
    found = guessed(content, columns=("user", "item", "rating", "date"), timestamp_format="%d/%m/%Y")
    assert columns_of(found)[3] == "date"


@pytest.mark.parametrize("missing", ["", "NaT", "null"])
def test_row_without_a_timestamp_is_named(guessed, missing):
    found = guessed(f"user,item,rating,time\n1,1,1,2006-01-31\n1,2,2,{missing}\n1,3,3,2006-01-31\n")
    assert found.options.columns.timestamp is None
    assert found.notes == (f"the timestamps in column time are not read, because row 2 has none, got {missing!r}",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("user;item;rating\n1;2;3\n2;3\n", "line 3: a row must have 3 columns, got 2"),
        ("My films\n\nuser,item,rating\n1,2,3\n", "line 1: a row must have 3 columns, got 1; remove the lines before"),
        ("user,item,rating\n1,'2, 3',3\n2,'3, 4',4\n", "line 1: a row must have 4 columns, got 3; if single quotes"),
    ],
)
def test_fault_in_the_first_rows_is_named(guessed, content, message):
    with pytest.raises(UserError, match=f"ratings,? {message}"):
        guessed(content)


@pytest.mark.parametrize("names", ["reviewer;film;stars", "reviewer;film;sterne"])
@pytest.mark.parametrize("prefix", ["", "u"])
@pytest.mark.parametrize("point", [".", ","])
@pytest.mark.parametrize("cell", ["five", ""])
@pytest.mark.parametrize("step", [20, 3])
def test_cell_without_a_number_does_not_hide_the_column_of_ratings(guessed, names, prefix, point, cell, step):
    ratings = [cell if row % step == 2 else f"{row % 5}{point}5" for row in range(20)]
    rows = [f"{prefix}{row};{prefix}{row + 1};{rating}" for row, rating in enumerate(ratings)]
    found = guessed("\n".join([names, *rows]) + "\n").options
    assert [*found.columns.by_role().values()] == names.split(";")
    with pytest.raises(UserError, match=f"ratings, line 4: the rating must be a number, got '{cell}'"):
        found.load()


def test_column_of_numbers_is_the_ratings_rather_than_one_with_errors(guessed):
    rows = [f"{row};{row + 1};{'x' if row == 7 else row % 5};{row % 3}" for row in range(20)]
    assert guessed("\n".join(["user;item;stars;score", *rows]) + "\n").options.columns.rating == "score"


def test_columns_without_names_give_a_note(guessed):
    note = "columns guessed by their cells and their order: user=1, item=2, rating=3"
    assert guessed("k1,7,3\nk1,8,4\nk2,9,4\n").notes == (note,)


def test_file_of_two_columns_is_refused(guessed):
    with pytest.raises(UserError, match="has only the columns user and item: ratings need a user, an item"):
        guessed("user,item\n1,2\n3,4\n")


def test_pairs_of_a_separator_are_no_known_separator(guessed):
    with pytest.raises(UserError, match="no known separator splits its rows into three or more columns"):
        guessed("user||item||rating\n1||2||3\n2||3||4\n")


def test_blanks_that_split_few_rows_are_no_separators(guessed):
    with pytest.raises(UserError, match="no known separator splits its rows into three or more columns"):
        guessed("user^title^rating\n1^The Big Heat^3\n2^Alien^4\n3^The Thin Man^4\n4^It^1\n5^Rear Window^5\n")


@pytest.mark.parametrize("layout", READABLE[:8], ids=lambda layout: layout.name)
def test_guess_is_idempotent(guessed, layout):
    found = guessed(layout.content).options
    assert guess_layout(replace(found))[0] == found


def test_ids_that_begin_like_comments_are_rows(guessed):
    found = guessed("#u1,m1,4\n#u2,m2,5\nu3,m1,3\n")
    assert found.options.comment is None
    assert len(found.options.load().ratings) == 3


@pytest.mark.parametrize("start", ["# exported\n", "#\n", "## a, b, c\n", "% a b c\n%% d\n"])
def test_comments_before_the_rows_are_guessed(guessed, start):
    found = guessed(start + "1,2,3\n2,3,4\n")
    assert found.options.comment == start[0]
    assert rows_of(found.options.load()) == [(1, 2, 3.0), (2, 3, 4.0)]


@pytest.mark.parametrize("given", ["utf-8", "utf-16-le"])
def test_encoding_is_kept_if_the_text_is_in_it(guessed, given):
    content = "user,item,rating\né,1,3\nè,2,4\n".encode(given)
    found = guessed(content, encoding=given)
    assert (found.options.encoding, found.notes) == (given, ())


def test_text_in_another_encoding_is_read_as_latin_1_with_a_note(guessed):
    found = guessed("user,item,rating\né,1,3\nè,2,4\n".encode("latin-1"))
    assert found.options.encoding == "latin-1"
    assert found.notes[0].endswith("is not UTF-8 text: read as latin-1; set data.encoding for another encoding")


def test_printable_characters_of_windows_are_read_as_cp1252(guessed):
    content = "user,item,rating\né,It’s,3\nè,2,4\n".encode("cp1252")
    assert guessed(content).options.encoding == "cp1252"
    late = content + b"1,2,3\n" * 20_000 + "1,€,3\n".encode("cp1252")
    assert guessed(late.replace("’".encode("cp1252"), b"")).options.encoding == "cp1252"
    assert guessed(content + b"1,\x81,3\n").options.encoding == "latin-1"


def test_backslash_at_the_end_of_a_cell_is_not_an_escape(guessed):
    found = guessed('user,item,rating,path\n1,2,3,"C:\\x, 5\\"\n2,3,4,D\n')
    assert found.options.escape.name == "none"
    assert rows_of(found.options.load()) == [(1, 2, 3.0), (2, 3, 4.0)]


def test_zone_of_a_late_row_is_read(guessed):
    times = ["2020-01-02"] * 25 + ["2020-01-02T10:00:00Z"]
    found = guessed("user,item,rating,time\n" + "".join(f"1,{n},{n},{time}\n" for n, time in enumerate(times)))
    assert columns_of(found)[3] == "time"


def test_columns_of_one_name_are_an_error(guessed):
    table = pa.table([[1, 2], [3, 4], [5, 4], [1, 1]], names=["user", "item", "rating", "rating"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(UserError, match="ratings has 2 columns named 'rating'"):
        guessed(sink.getvalue().to_pybytes())
