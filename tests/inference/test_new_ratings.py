"""Given ratings and features: numbers as their file writes them."""

import pytest

from ratinglab.errors import UserError
from ratinglab.formats.inputs import InputFile
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_tables import read_text_table
from ratinglab.inference.new_ratings import DEFAULT_COLUMNS, read_fold_in_input


def read(tmp_path, ratings: str, users: str | None = None, *, decimal: str):
    """Read given ratings and features of users from files with semicolons."""
    tables = []
    for name, content in (("ratings", ratings), ("users", users)):
        if content is not None:
            (tmp_path / name).write_text(content)
            dialect = TextDialect(";", "utf-8", decimal=decimal)
            tables.append(read_text_table(InputFile(tmp_path / name), dialect))
    tables += [None] * (2 - len(tables))
    return read_fold_in_input(*tables, None, find_columns=lambda names: DEFAULT_COLUMNS, keys=("users", "items"))


def test_ratings_and_features_can_have_a_decimal_comma(tmp_path):
    given = read(tmp_path, "user_id;item_id;rating\nann;7;4,5\nbob;8;3\n", "user_id;age\nann;30,5\n", decimal=",")
    assert given.ratings.rating.tolist() == [4.5, 3.0]
    assert (given.users.cells, given.users.decimal) == ({"age": ["30,5"]}, ",")


@pytest.mark.parametrize(("rating", "decimal"), [("4,5", "."), ("4.5", ","), ("", "."), ("nan", "."), ("1_0", ".")])
def test_rating_that_is_no_number_is_named_with_its_line(tmp_path, rating, decimal):
    with pytest.raises(
        UserError, match=rf"ratings, line 3, column rating: the rating must be a number, got '{rating}'$"
    ):
        read(tmp_path, f"user_id;item_id;rating\nann;7;4\nbob;8;{rating}\n", decimal=decimal)
