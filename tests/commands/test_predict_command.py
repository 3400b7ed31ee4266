"""Predictions for files of pairs: formats, blocks, the basis of each prediction, and faults."""

import re

import numpy as np
import pandas as pd
import pytest
from documented import options_of
from equations import options_of as equation_options
from run_folders import PROVENANCE, write_run_of
from tables import table_with_features

from ratinglab.commands import predict_command
from ratinglab.errors import UserError
from ratinglab.inference.run import Run

PAIRS = pd.DataFrame({"user_id": [1, 99, 2, 98, 3, 4, 5], "item_id": [1, 2, 77, 78, 3, 4, 5]})
BASIS = ["known", "user_unknown", "item_unknown", "both_unknown", "known", "known", "known"]


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Return a function that writes and loads a run of a model, with changes to its provenance."""

    def write(model: str, **provenance) -> Run:
        folder = tmp_path_factory.mktemp("predicting") / "run"
        provenance = PROVENANCE | provenance
        write_run_of(folder, equation_options(model), table_with_features(), provenance=provenance)
        return Run.load(folder)

    return write


@pytest.fixture(scope="module")
def run(write) -> Run:
    return write("biased_mf")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder, three pairs at a time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predict_command, "BLOCK_ROWS", 3)
    return tmp_path


def predict(run, *arguments):
    predict_command.predict(options_of("predict", f"run={run.folder}", *arguments))


READ = {
    "csv": lambda path: pd.read_csv(path),
    "tsv": lambda path: pd.read_csv(path, sep="\t"),
    "jsonl": lambda path: pd.read_json(path, lines=True),
    "parquet": pd.read_parquet,
    "feather": pd.read_feather,
    "csv.gz": lambda path: pd.read_csv(path),
    "jsonl.bz2": lambda path: pd.read_json(path, lines=True),
}
WRITE = {
    "csv": lambda path: PAIRS.to_csv(path, index=False),
    "jsonl": lambda path: PAIRS.to_json(path, orient="records", lines=True),
    "parquet": lambda path: PAIRS.to_parquet(path, index=False),
}


@pytest.mark.parametrize("output", READ)
@pytest.mark.parametrize("source", WRITE)
def test_every_format_gives_the_same_predictions(run, here, source, output):
    WRITE[source](here / f"in.{source}")
    predict(run, f"input=in.{source}", f"output=out.{output}")
    found = READ[output](here / f"out.{output}")
    assert found[["user_id", "item_id"]].astype(int).equals(PAIRS)
    assert found["basis"].tolist() == BASIS
    expected = run.predict(PAIRS["user_id"], PAIRS["item_id"])
    assert found["prediction"].to_numpy(np.float32).tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert {path.name for path in here.iterdir()} == {f"in.{source}", f"out.{output}"}


@pytest.fixture(scope="module")
def other_names(write) -> Run:
    """Make a run whose data had other names of columns."""
    return write("biased_mf", columns={"user": "userId", "item": "movieId", "rating": "stars"})


def test_existing_output_survives_a_faulty_input(run, here):
    (here / "in.csv").write_text("item_id,user_id\n7,42\n8\n")
    (here / "out.csv").write_text("good")
    with pytest.raises(UserError, match=r"^in\.csv, line 3: a row must have 2 columns, got 1$"):
        predict(run, "input=in.csv", "output=out.csv")
    assert (here / "out.csv").read_text() == "good"
    assert {path.name for path in here.iterdir()} == {"in.csv", "out.csv"}


def test_columns_may_have_the_names_of_the_runs_own_data(other_names, here):
    own = {"user_id": "userId", "item_id": "movieId"}
    PAIRS.rename(columns=own).to_csv(here / "own.csv", index=False)
    PAIRS.assign(userId=1, movieId=1).to_csv(here / "both.csv", index=False)
    PAIRS.to_csv(here / "in.csv", index=False)
    for name in ("own", "both", "in"):  # in a file with both, the default names count
        predict(other_names, f"input={name}.csv", f"output=of-{name}.csv")
    expected = pd.read_csv("of-in.csv")
    assert expected["basis"].tolist() == BASIS
    pd.testing.assert_frame_equal(
        pd.read_csv("of-own.csv").rename(columns=dict(zip(own.values(), own, strict=True))), expected
    )
    pd.testing.assert_series_equal(pd.read_csv("of-both.csv")["prediction"], expected["prediction"])
    (here / "ratings.csv").write_text("userId,movieId,stars\nann,1,5\n")
    (here / "ann.csv").write_text("userId,movieId\nann,2\n")
    predict(other_names, "input=ann.csv", "output=of-ann.csv", "ratings=ratings.csv")
    assert pd.read_csv("of-ann.csv")["basis"].tolist() == ["folded_in"]


def test_only_missing_names_come_from_the_runs_own_data(other_names, here):
    (here / "in.csv").write_text("userId,item\n1,2\n")
    predict(other_names, "input=in.csv", "output=out.csv", "columns.item=item")
    with pytest.raises(UserError, match=r"^columns\.item: in\.csv has no column 'item_id'; it has userId, item"):
        predict(other_names, "input=in.csv")
    with pytest.raises(UserError, match=r"^columns\.user: in\.csv has no column 'usr'; it has userId, item"):
        predict(other_names, "input=in.csv", "columns.user=usr", "columns.item=item")


def test_notes_count_the_pairs_of_all_blocks(run, here, capsys):
    WRITE["csv"](here / "in.csv")
    predict(run, "input=in.csv", "output=out.csv")
    assert capsys.readouterr().out.splitlines() == [
        "7 predictions in out.csv",
        "note: the bias baseline predicts 2 pairs: the user has no training ratings",
        "note: the bias baseline predicts 2 pairs: the item has no training ratings",
    ]


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (",5", "in.csv, line 9, column user_id: the user id must not be blank"),
        ("5, ", "in.csv, line 9, column item_id: the item id must not be blank"),
        ("5", "in.csv, line 9: a row must have 2 columns, got 1"),
    ],
)
@pytest.mark.parametrize("output", ["out.csv", "out.parquet", "out.jsonl.gz"])
def test_fault_in_the_last_row_leaves_the_old_output(run, here, last, message, output):
    (here / "in.csv").write_text(PAIRS.to_csv(index=False) + last + "\n")
    (here / output).write_text("old")
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        predict(run, "input=in.csv", f"output={output}")
    assert (here / output).read_text() == "old"
    assert {path.name for path in here.iterdir()} == {"in.csv", output}


@pytest.mark.parametrize("name", ["prediction", "basis"])
def test_input_with_a_column_of_the_output_is_refused(run, here, name):
    PAIRS.assign(**{name: 1}).to_parquet(here / "in.parquet")
    with pytest.raises(UserError, match=f"^in.parquet already has a column '{name}'$"):
        predict(run, "input=in.parquet", "output=out.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["output=out.xlsx"], r"^output: \.xlsx cannot be written, only"),
        (["output=in.csv"], r"^output must differ from the input file, got in\.csv$"),
        (["output=no/out.csv"], r"^output: there is no folder no$"),
        (
            ["output=out.csv", "columns.user=usr_id"],
            r"^columns\.user: in\.csv has no column 'usr_id'; .*mean user_id\?$",
        ),
        (["output=out.csv", "columns.timestamp=at"], r"^columns\.timestamp: in\.csv has no column 'at'"),
    ],
)
def test_mistake_is_a_one_line_error_and_leaves_no_files(run, here, arguments, message):
    WRITE["csv"](here / "in.csv")
    with pytest.raises(UserError, match=message) as error:
        predict(run, "input=in.csv", *arguments)
    assert "\n" not in str(error.value)
    assert [path.name for path in here.iterdir()] == ["in.csv"]


def test_no_pairs_give_an_empty_table(run, here):
    PAIRS[:0].to_parquet(here / "in.parquet")
    predict(run, "input=in.parquet", "output=out.parquet")
    assert list(pd.read_parquet(here / "out.parquet")) == ["user_id", "item_id", "prediction", "basis"]


def test_output_in_another_text_format_keeps_the_cells(run, here):
    (here / "in.tsv").write_text('user_id\titem_id\tnote\n1\t1\ta,b\n2\t2\t"c ""d"\n')
    predict(run, "input=in.tsv", "output=out.csv", "separator=tab")
    lines = (here / "out.csv").read_text().splitlines()
    assert [line.rsplit(",", 2)[0] for line in lines] == ["user_id,item_id,note", '1,1,"a,b"', '2,2,"c ""d"']


@pytest.mark.parametrize("separator", [";", "\t", "|", "::"])
def test_separator_of_the_header_is_detected_and_kept(run, here, separator):
    WRITE["csv"](here / "in.csv")
    predict(run, "input=in.csv", "output=comma.csv")
    (here / "in.txt").write_text((here / "in.csv").read_text().replace(",", separator))
    predict(run, "input=in.txt", "output=out.txt")
    assert (here / "out.txt").read_text() == (here / "comma.csv").read_text().replace(",", separator)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user_id item_id\n1 2\n", "it has user_id item_id; separator=spaces splits it"),
        ("user_id;item|id\n1;2\n", "it has user_id;item|id; is separator right?"),
    ],
)
def test_separator_that_may_be_part_of_a_name_is_not_detected(run, here, content, message):
    (here / "in.csv").write_text(content)
    with pytest.raises(UserError, match=re.escape(f"columns.item: in.csv has no column 'item_id'; {message}") + "$"):
        predict(run, "input=in.csv")


@pytest.fixture(scope="module")
def timed(write) -> Run:
    return write("timesvdpp")


@pytest.mark.parametrize(
    "texts",
    [
        ["100000000000", "86400000", "0", "0", "86400000", "86400000", "5"],  # milliseconds, by the first block
        ["20000101", "20000102", "20000101", "19000101", "20000101", "20000101", "20991231"],
        ["2000-01-01", "1970-01-02", "1970-01-01", "1970-01-01 12:00", "1970-01-02T01:00Z", "1970-01-02", "1970-01-01"],
    ],
)
def test_times_have_one_format_in_all_blocks(timed, here, texts):
    PAIRS.assign(at=texts).to_csv(here / "in.csv", index=False)
    predict(timed, "input=in.csv", "output=out.parquet", "columns.timestamp=at")
    unit = {"1": "ms"}.get(texts[0][0])
    times = pd.to_datetime(
        pd.Series(texts, dtype=object if unit is None else "int64"),
        unit=unit,
        utc=True,
        format="mixed" if unit is None else None,
    )
    expected = timed.predict(PAIRS["user_id"], PAIRS["item_id"], times=times.dt.tz_localize(None).to_numpy())
    assert pd.read_parquet(here / "out.parquet")["prediction"].tolist() == expected.tolist()


@pytest.fixture(scope="module")
def timed_by_days(write) -> Run:
    """Make a run whose data had the timestamps in a column `Datum`, day first."""
    return write("timesvdpp", columns={"timestamp": "Datum"}, timestamp_format="%d.%m.%Y")


def test_times_may_have_the_column_and_the_format_of_the_runs_own_data(timed_by_days, here, capsys):
    days = ["01.02.1970", "02.01.1970", "03.01.1970", "02.01.1970", "01.01.1970", "05.01.1970", "01.01.1970"]
    PAIRS.assign(Datum=days).to_csv(here / "in.csv", index=False)
    times = pd.to_datetime(pd.Series(days), format="%d.%m.%Y").to_numpy()
    expected = timed_by_days.predict(PAIRS["user_id"], PAIRS["item_id"], times=times).tolist()
    note = "note: predicted for the timestamps in the column Datum, named as in the training data"
    for argument, is_noted in (("columns.timestamp=null", True), ("columns.timestamp=Datum", False)):
        predict(timed_by_days, "input=in.csv", "output=out.parquet", argument)
        assert pd.read_parquet(here / "out.parquet")["prediction"].tolist() == expected
        assert (note in capsys.readouterr().out.splitlines()) is is_noted
    with pytest.raises(UserError, match=r"^in\.csv, line 2, column Datum: the timestamp must be written as '%d/%m/%Y'"):
        predict(timed_by_days, "input=in.csv", "timestamp_format='%d/%m/%Y'")


def test_pairs_without_times_are_predicted_for_the_last_day(timed_by_days, here, capsys):
    PAIRS.to_csv(here / "in.csv", index=False)
    predict(timed_by_days, "input=in.csv", "output=out.parquet")
    expected = timed_by_days.predict(PAIRS["user_id"], PAIRS["item_id"]).tolist()
    assert pd.read_parquet(here / "out.parquet")["prediction"].tolist() == expected
    assert "note: no timestamps: predicted for each user's last training day" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["2000-01-01"] * 6 + ["946684800"], "line 8, column at: the timestamp must be written like the first one"),
        (["1970-01-02", "soon"], "line 3, column at: the timestamp must be written like the first one"),
        (["soon"], "line 2, column at: the timestamp must be Unix time or an ISO date"),
        (["3.5", "inf"], "line 3, column at: the timestamp must be finite, got 'inf'"),
        (["3.5", "nan"], "line 3, column at: the timestamp must be finite, got 'nan'"),
    ],
)
def test_error_for_a_time_in_another_format_names_its_line(timed, here, texts, message):
    PAIRS[: len(texts)].assign(at=texts).to_csv(here / "in.csv", index=False)
    with pytest.raises(UserError, match=f"^in.csv, {message}"):
        predict(timed, "input=in.csv", "output=out.csv", "columns.timestamp=at")
    assert [path.name for path in here.iterdir()] == ["in.csv"]


def test_pairs_of_users_folded_in_and_of_others_are_predicted(run, here, capsys):
    (here / "new.csv").write_text("user_id,item_id,rating\nann,0,5\nann,3,1\n")
    (here / "pairs.csv").write_text("user_id,item_id\nann,1\n2,1\nnobody,1\n")
    predict(run, "ratings=new.csv", "input=pairs.csv", "output=out.csv")
    found = pd.read_csv("out.csv")
    folded = run.fold_in({0: 5, 3: 1})
    assert found["basis"].tolist() == ["folded_in", "known", "user_unknown"]
    expected = [*folded.predict([1]), *run.predict([2, 99], [1, 1])]
    np.testing.assert_allclose(found["prediction"], expected, atol=1e-5)
    assert found["standard_deviation"].isna().tolist() == [False, True, True]


def test_items_of_one_new_user_need_no_user(run, here):
    (here / "items.csv").write_text("item_id\n1\n2\n")
    predict(run, "ratings='{0: 5, 3: 1}'", "input=items.csv", "output=out.csv")
    np.testing.assert_allclose(
        pd.read_csv("out.csv")["prediction"], run.fold_in({0: 5, 3: 1}).predict([1, 2]), atol=1e-5
    )


def test_pairs_with_users_need_ratings_with_users(run, here):
    (here / "pairs.csv").write_text("user_id,item_id\n2,1\n")
    with pytest.raises(UserError, match=r"has a column 'user_id', but the ratings belong to a single new user"):
        predict(run, "ratings='{0: 5}'", "input=pairs.csv", "output=out.csv")
    assert not (here / "out.csv").exists()


def test_predictions_are_printed_without_an_output(run, here, capsys):
    (here / "pairs.csv").write_text("user_id,item_id,rating\n1,1,4.5\n99,2,3\n")
    predict(run, "input=pairs.csv")
    header, *rows, note = capsys.readouterr().out.splitlines()
    assert header.split() == ["user_id", "item_id", "rating", "prediction", "basis"]
    first, second = run.predict([1, 99], [1, 2])
    assert rows[0].split() == ["1", "1", "4.5", f"{first:.2f}", "known"]
    assert rows[1].split() == ["99", "2", "3", f"{second:.2f}", "user_unknown"]
    assert note == "note: the bias baseline predicts 1 pair: the user has no training ratings"
    assert [path.name for path in here.iterdir()] == ["pairs.csv"]


def test_first_predictions_are_printed_with_the_number_of_others(run, here, capsys, monkeypatch):
    WRITE["csv"](here / "in.csv")
    monkeypatch.setattr(predict_command, "MAX_PRINTED", 2)
    predict(run, "input=in.csv")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["1", "99"]
    assert lines[3] == "note: 5 more pairs: set output=FILE to write all of them"
    assert "note: the bias baseline predicts 2 pairs: the user has no training ratings" in lines


def test_standard_deviations_are_printed_where_there_are_any(run, here, capsys):
    (here / "items.csv").write_text("item_id\n1\n404\n")
    predict(run, "ratings='{0: 5, 3: 1}'", "input=items.csv")
    header, first, second, explained, *_ = capsys.readouterr().out.splitlines()
    assert header.split() == ["item_id", "prediction", "±", "basis"]
    table = run.fold_in({0: 5, 3: 1}).predict_table([1])
    assert first.split() == ["1", *(f"{table[name][0]:.2f}" for name in table.columns[:2]), "folded_in"]
    assert second.split()[-1] == "item_unknown"
    assert len(second.split()) == 3
    assert explained == "±: standard deviation of the rating around its prediction"


def test_pairs_without_a_header_have_the_columns_of_the_data(write, here):
    run = write("biased_mf", columns={"user": "2", "item": "1", "rating": "3"})
    (here / "pairs.csv").write_text("7,1\n8,2\n")
    predict(run, "input=pairs.csv", "header=false", "output=out.csv")
    shown = pd.read_csv("out.csv", header=None)
    assert shown[2].to_numpy(np.float32) == pytest.approx(run.predict([1, 2], [7, 8]))
    PAIRS.to_csv("named.csv", index=False)
    predict(run, "input=named.csv", "output=named.parquet")
    assert pd.read_parquet("named.parquet")["basis"].tolist() == BASIS
