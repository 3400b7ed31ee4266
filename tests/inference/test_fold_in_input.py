"""Given ratings and features: numbers as their file writes them."""

import numpy as np
import pandas as pd
import pytest
from equations import options_of
from run_folders import write_run_of
from tables import table_with_features

from ratinglab.errors import UserError
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_tables import TextTable, open_text_table
from ratinglab.inference.fold_in_input import read_given_data
from ratinglab.inference.folded_in import FoldedIn
from ratinglab.inference.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("given") / "run"
    write_run_of(folder, options_of("biased_mf", user_features=["age"]), table_with_features())
    return Run.load(folder)


def table(path, content: str, *, decimal: str) -> TextTable:
    """Read a table from a file with semicolons."""
    path.write_text(content)
    return open_text_table(InputFile(path), TextDialect(";", "utf-8", decimal=decimal)).read()


def test_ratings_and_features_can_have_a_decimal_comma(run, tmp_path):
    ratings = table(tmp_path / "ratings", "user_id;item_id;rating\nann;7;4,5\nbob;8;3\n", decimal=",")
    users = table(tmp_path / "users", "user_id;age\nann;0,5\n", decimal=",")
    folded = FoldedIn(run, read_given_data(run.tables, ratings=ratings, users=users))
    frame = pd.DataFrame({"user_id": ["ann", "bob"], "item_id": [7, 8], "rating": [4.5, 3.0]})
    expected = run.fold_in(frame, users=pd.DataFrame({"user_id": ["ann"], "age": [0.5]}))
    pairs = {"item_ids": [1, 1], "user_ids": ["ann", "bob"]}
    np.testing.assert_array_equal(folded.predict(**pairs), expected.predict(**pairs))


COMMA_HINT = "; if the comma is the decimal point, set data.decimal=comma"
POINT_HINT = "; data.decimal=comma is set; if the point is the decimal point, set data.decimal=point"


@pytest.mark.parametrize(
    ("rating", "decimal", "hint"),
    [("4,5", ".", COMMA_HINT), ("4.5", ",", POINT_HINT), ("", ".", ""), ("nan", ".", ""), ("1_0", ".", "")],
)
def test_rating_that_is_no_number_is_named_with_its_line(run, tmp_path, rating, decimal, hint):
    ratings = table(tmp_path / "ratings", f"user_id;item_id;rating\nann;7;4\nbob;8;{rating}\n", decimal=decimal)
    with pytest.raises(
        UserError, match=rf"ratings, line 3, column rating: the rating of '8' must be a number, got '{rating}'{hint}$"
    ):
        read_given_data(run.tables, ratings=ratings)


@pytest.mark.parametrize(("age", "decimal", "hint"), [("0,5", ".", COMMA_HINT), ("0.5", ",", POINT_HINT)])
def test_feature_with_the_other_decimal_point_gets_a_hint(run, tmp_path, age, decimal, hint):
    users = table(tmp_path / "users", f"user_id;age\nann;{age}\n", decimal=decimal)
    with pytest.raises(UserError, match=rf"users, line 2, column age: the value .*, got '{age}'{hint}$"):
        FoldedIn(run, read_given_data(run.tables, users=users))


def test_rating_in_a_data_frame_gets_no_hint_on_options_of_files(run):
    with pytest.raises(UserError, match=r"the rating of '8' must be a number, got '4,5'$"):
        run.fold_in(pd.DataFrame({"user_id": ["bob"], "item_id": [8], "rating": ["4,5"]}))
