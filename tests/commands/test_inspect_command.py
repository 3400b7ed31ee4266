"""Summary of a table by inspect_data.py."""

import gzip
import re
import shlex
from pathlib import Path

import pytest
from conftest import REAL_DATA
from documented import options_of

from ratinglab.commands.inspect_command import inspect_data, train_command
from ratinglab.errors import UserError
from ratinglab.reading.source_rows import SourceRows

FILE = "user,item,stars,when,x\n1,a,1,2020-01-01,\n1,b,5,2020-02-01,\n2,a,4.5,2021-01-01,\n 2,c,4.5,2021-01-01,\n"
ARGUMENTS = ["data=csv", "data.path=r.csv.gz", "data.columns.user=user", "data.columns.item=item",
             "data.columns.rating=stars", "data.columns.timestamp=when"]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Make a folder with a small compressed file of ratings."""
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress(FILE.encode()))
    return tmp_path


def test_ranges_of_the_histogram_hold_equally_many_scores(command, tmp_path):
    rows = "".join(f"{score},{score},{score}\n" for score in range(1, 101))
    (tmp_path / "scores.csv").write_text("user_id,item_id,rating\n" + rows)
    shown = command(tmp_path, "inspect_data", "scores.csv").stdout
    ranges = re.findall(r"^ *(\d+ to \d+) +(\d+) +5.0%", shown, flags=re.MULTILINE)
    assert ranges == [(f"{low} to {low + 4}", "5") for low in range(1, 101, 5)]


def test_inspect_data_summarizes_a_file(command, folder):
    lines = command(folder, "inspect_data", *ARGUMENTS).stdout.splitlines()
    assert lines[0] == "r.csv.gz: 4 ratings of 2 users over 3 items, density 66.67%"
    assert lines[1] == "ids        users are integers from 1 to 2; items are text, such as 'a'"
    assert lines[2] == "ratings    from 1 to 5; mean 3.75, standard deviation 1.60"
    assert lines[3] == "time       2020-01-01 00:00 to 2021-01-01 00:00 UTC"
    assert re.fullmatch(r" {11}times [0-9a-f]{32}", lines[5])
    assert lines[6].startswith("note: read 1 user id as another id, since only white space differs")
    histogram = [line.split() for line in lines[9:12]]
    assert [row[:3] for row in histogram] == [["1", "1", "25.0%"], ["4.5", "2", "50.0%"], ["5", "1", "25.0%"]]
    assert [len(row[3]) for row in histogram] == [20, 40, 20]
    assert lines[-3].split() == ["of", "a", "user", "2", "2", "2", "2", "2", "2", "2"]
    assert lines[-2].split() == ["of", "an", "item", "1", "1", "1", "1", "2", "2", "2"]


def test_command_that_inspect_data_prints_trains_on_the_file(command, folder):
    (folder / "my ratings.txt").write_text(
        "# exported\n"
        + "".join(f"{n % 9};i {n};{n % 5},5;{n % 28 + 1}/01/2006\n" for n in range(90))
        + "8;i 89;1,5;30/01/2006\n"
    )
    line = command(folder, "inspect_data", "my ratings.txt").stdout.splitlines()[-1]
    assert line.startswith("train      python ")
    _, script, *overrides = shlex.split(line.removeprefix("train      "))
    assert Path(script).name == "train.py"
    assert overrides == [
        "data=csv",
        "data.path='my ratings.txt'",
        "data.duplicates=last",
        "data.separator=semicolon",
        "data.header=false",
        "data.decimal=comma",
        "data.comment='#'",
        "data.columns.user=1",
        "data.columns.item=2",
        "data.columns.rating=3",
        "data.columns.timestamp=4",
        "data.timestamp_format='%d/%m/%Y'",
        "recipe=best",
    ]
    shown = command(folder, "train", *overrides, "trainer.max_epochs=2", "optimizer.burn_in=1", "logger=none").stdout
    assert "data       my ratings.txt: 90 ratings of 9 users over 90 items" in shown


def test_command_that_inspect_data_prints_reads_titles_in_the_file_of_ratings(command, folder):
    rows = [f"{n % 9},i{n % 7},Film {n % 7},{n % 5}" for n in range(60)]
    (folder / "titled.csv").write_text("\n".join(["user,item,title,rating", *rows[:55]]))
    lines = command(folder, "inspect_data", "titled.csv").stdout.splitlines()
    assert "titles     of 7 items" in lines
    assert " data.items.path=titled.csv data.items.item=item data.items.title=title " in lines[-1]


def test_titles_of_reviews_are_not_read_as_titles_of_items(command, folder):
    rows = [f"{n},{n},Film {n},3" for n in range(1100)]
    (folder / "reviews.csv").write_text("\n".join(["user,item,title,rating", *rows, "0,5,Great!,4"]))
    lines = command(folder, "inspect_data", "reviews.csv").stdout.splitlines()
    (note,) = [line for line in lines if line.startswith("note: column title")]
    assert "was not read as titles: " in note
    assert note.endswith("reviews.csv, line 1102, column title: item 5 has an earlier row with another value")
    assert "data.items" not in lines[-1]


@pytest.fixture
def inspect(tmp_path, capsys):
    """Write a file and return the lines that inspect_data prints on it: inspect(content)."""

    def inspect_content(content):
        (tmp_path / "r.csv").write_text(content)
        options = options_of("inspect_data", f"data.path={tmp_path / 'r.csv'}", "data.cache=null")
        inspect_data(options, lambda: options.data)
        return capsys.readouterr().out.splitlines()

    return inspect_content


@pytest.mark.parametrize(("exponent", "mean", "deviation"), [("e30", "3e+30", "2e+30"), ("e-30", "3e-30", "2e-30")])
def test_means_of_any_size_are_short(inspect, exponent, mean, deviation):
    lines = inspect(f"user,item,rating\n1,a,1{exponent}\n2,b,5{exponent}\n")
    assert lines[2].endswith(f"; mean {mean}, standard deviation {deviation}")


def test_file_without_a_column_of_users_gives_a_note(inspect):
    lines = inspect("Date,Name,Year,Rating\n2006-01-31,Heat,2000,4\n2006-02-01,Alien,2000,5\n")
    assert lines[0] == "r.csv: 2 ratings of 1 user over 2 items, density 100.00%"
    assert "note: column Year names only one user: if it does not hold the users, the file has no users" in lines


def test_repeated_pairs_are_merged_without_a_look_at_the_notes(tmp_path, monkeypatch, capsys):
    (tmp_path / "r.csv").write_text("user_id,item_id,rating\n1,a,5\n2,a,4\n1,a,3\n1,b,1\n")
    monkeypatch.setattr(SourceRows, "with_notes", lambda rows, *_: rows)
    options = options_of("inspect_data", f"data.path={tmp_path / 'r.csv'}", "data.cache=null")
    inspect_data(options, lambda: options.data)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("r.csv: 3 ratings of 2 users over 2 items")
    assert " data.duplicates=last " in lines[-1]


def test_faulty_data_are_loaded_once(monkeypatch):
    loads = []

    def load(data):
        loads.append(data)
        raise UserError("no connection")

    options = options_of("inspect_data", "data=movielens_100k")
    monkeypatch.setattr(type(options.data), "load", load)
    with pytest.raises(UserError, match=r"^no connection$"):
        inspect_data(options, lambda: options.data)
    assert len(loads) == 1


def test_command_repeats_paths_names_of_columns_and_what_differs_from_the_defaults():
    tables = ["data.users.path=u.csv", "data.items.path=i.csv"]
    defaults = options_of("inspect_data", "data.path=r.csv", *tables).data
    data = options_of("inspect_data", "data.path=r.csv", *tables, "data.users.quote=none", "data.min_rating=2").data
    assert train_command(data, defaults, num_ratings=1).endswith(
        "train data=csv data.path=r.csv data.min_rating=2.0 data.columns.user=user_id data.columns.item=item_id "
        "data.columns.rating=rating data.users.quote=none data.users.path=u.csv data.users.user=user_id "
        "data.items.path=i.csv data.items.item=item_id data.items.title=title recipe=best"
    )
    for num_ratings, recipe in ((10**6, "best"), (10**6 + 1, "biased_mf_gibbs"), (5 * 10**6 + 1, "fast")):
        assert train_command(data, defaults, num_ratings=num_ratings).endswith(f" recipe={recipe}")


def test_inspect_data_summarizes_user_and_item_columns(command, folder):
    (folder / "users.csv").write_text("user_id,age,town\n1,30,Oslo\n2,,Rome|Oslo\n")
    (folder / "items.csv").write_text(
        "item_id,title,genres,year\na,A,x|y,1990\nb,B,(no genres listed),2000\nc,C,p|q|r|s|t|u|x,\n"
    )
    tables = [
        "data.users.path=users.csv",
        "data.users.numeric=[age]",
        "data.items.path=items.csv",
        "data.items.numeric=[year]",
    ]
    lines = command(folder, "inspect_data", *ARGUMENTS, *tables).stdout.splitlines()
    assert lines[4:11] == [
        "titles     of 3 items",
        "users      age: numbers from 30 to 30, 1 distinct; unknown 1",
        "           age_group: 1 category: 30 1; unknown 1",
        "           town: 2 categories: Oslo 2, Rome 1",
        "items      genres: 8 categories: x 2, y 1, p 1, q 1, r 1, s 1, …; unknown 1",
        "           year: numbers from 1990 to 2000, 2 distinct; unknown 1",
        "           year_group: 2 categories: 1990 1, 2000 1; unknown 1",
    ]


def test_many_rating_values_are_shown_in_ranges(command, folder):
    (folder / "fine.csv").write_text("".join(f"{n},{n},{n / 10}\n" for n in range(200)))
    positions = [f"data.columns.{role}={number}" for number, role in enumerate(("user", "item", "rating"), start=1)]
    shown = command(folder, "inspect_data", "data=csv", "data.path=fine.csv", "data.header=false", *positions).stdout
    assert sum("█" in line for line in shown.splitlines()) == 20


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_inspect_data_writes_a_figure(command, folder, ending, start):
    outcome = command(folder, "inspect_data", *ARGUMENTS, f"figure=my figure.{ending}")
    assert outcome.stdout.splitlines()[-2] == f"figure     my figure.{ending}"
    assert (folder / f"my figure.{ending}").read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure=x.jpg"], "figure must end with one of .png, .pdf, .svg, got x.jpg"),
        (["figure=nowhere/x.png"], "figure: there is no folder nowhere"),
        (["data.columns.user=stars"], "data.columns.user and data.columns.rating must be different columns, got stars"),
        (["data.scale.lowest=2"], "r.csv.gz, line 2: the rating 1 is outside data.scale, 2 to 5; rows outside"),
        (
            ["data.min_ratings_per_item=3"],
            "data.min_ratings_per_user=0 and data.min_ratings_per_item=3 leave no rating",
        ),
        (["-m", "data.batch_size=1,2"], "inspect_data does not support sweeps: leave out -m"),
    ],
)
def test_mistake_gives_a_one_line_error_and_no_files(command, folder, arguments, message):
    flags, rest = ([argument for argument in arguments if (argument[0] == "-") == is_flag] for is_flag in (True, False))
    outcome = command(folder, "inspect_data", *flags, *ARGUMENTS, *rest, status=2)
    assert outcome.stderr.startswith(f"error: {message}")
    assert outcome.stderr.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["r.csv.gz"]


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"no real ratings in {REAL_DATA}")
def test_inspect_data_summarizes_movielens_100k(command, tmp_path):
    root = f"data.root={REAL_DATA / 'ml-100k'}"
    shown = command(tmp_path, "inspect_data", "data=movielens_100k", root).stdout
    assert "100,000 ratings of 943 users over 1,682 items, density 6.30%" in shown
    assert "time       1997-09-20 03:05 to 1998-04-22 23:10 UTC" in shown
    protocol = options_of("train", "protocol=movielens_u1").protocol
    assert f"digest     {protocol.data_digest}\n" in shown
    assert all(f"           {name} {digest}\n" in shown for name, digest in protocol.side_digests.items())
    assert "users      age: numbers from 7 to 73, 61 distinct\n" in shown
    assert "gender: 2 categories: M 670, F 273\n" in shown
    assert "items      genres: 19 categories: Drama 725, Comedy 505, Action 251" in shown


def test_ratings_and_titles_of_unknown_names_need_no_settings(command, folder):
    rows = [f"k{n % 9};{n // 3};{n % 5 + 1};{n % 28 + 1:02}.10.2008 03:52\n" for n in range(90)]
    (folder / "n.csv").write_text("".join(["Kunde;Film Nr;Note;Datum\n", *rows]))
    (folder / "filme.csv").write_text("Nr;Titel;Genre\n" + "".join(f"{n};Film {n};x|y\n" for n in range(30)))
    line = command(folder, "inspect_data", "n.csv", "data.items.path=filme.csv").stdout.splitlines()[-1]
    assert line.endswith(
        "train.py data=csv data.path=n.csv data.separator=semicolon data.columns.user=Kunde "
        "\"data.columns.item='Film Nr'\" data.columns.rating=Note data.columns.timestamp=Datum "
        "\"data.timestamp_format='%d.%m.%Y %H:%M'\" data.items.separator=semicolon data.items.path=filme.csv "
        "data.items.item=Nr data.items.title=Titel recipe=best"
    )
