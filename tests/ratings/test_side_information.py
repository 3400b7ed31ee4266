"""Side information: what an equation needs, its digest, and its order in a split_ratings."""

from dataclasses import replace

import numpy as np
import pytest
from tables import NO_SIDE_INFORMATION, table_of, table_with_features

from ratinglab.errors import UserError
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.ratings.side_information import (
    Information,
    Needs,
    SideInformation,
    check_feature,
    encode_categories,
    feature_digest,
    parse_new_values,
    standardize,
)
from ratinglab.ratings.table import MILLISECONDS_PER_DAY
from ratinglab.splits.split import TEST, TRAIN, VALIDATION, Split
from ratinglab.splits.split_ratings import make_split_ratings


def texts(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


USERS = {
    "age": np.array([30.0, np.nan, 20.0]),
    "age_group": texts("30", "", "20"),
    "gender": texts("F", "M", ""),
    "occupation": texts("", "", ""),
}
ITEMS = {"genres": texts("Comedy|Drama", "")}
DAY = MILLISECONDS_PER_DAY


def table(*, timestamp=(-1, DAY - 1, DAY, 3 * DAY), titles=("A", "B"), **columns):
    """Make a table in which users 0, 1, 2, 0 rate items 0, 1, 0, 1, one row at each of the times."""
    return table_of(
        [0, 1, 2, 0], [0, 1, 0, 1], [1, 2, 3, 4],
        timestamp=timestamp,
        titles=None if titles is None else texts(*titles),
        **{"user_columns": USERS, "item_columns": ITEMS, **columns},
    )  # fmt: skip


def test_side_information_holds_only_what_the_equation_needs():
    found = table().side_information(
        Needs(days=True, user_features=("gender", "age"), item_features=("genres",)), needed_by="model=x"
    )
    assert (found.day.tolist(), found.day.dtype) == ([-1, 0, 1, 3], np.int32)
    assert list(found.user_features) == ["gender", "age"]
    assert found.user_features["gender"].tolist() == ["F", "M", ""]
    assert found.item_features["genres"].tolist() == ["Comedy|Drama", ""]
    for needs in (Needs(), Needs(interactions=True)):
        bare = table(timestamp=None, titles=None, user_columns={}, item_columns={})
        assert bare.side_information(needs, needed_by="model=x") == NO_SIDE_INFORMATION


@pytest.mark.parametrize(
    ("changed", "needs", "message"),
    [
        (
            {"timestamp": None},
            Needs(days=True),
            "model=x needs timestamps: set data.columns.timestamp to their column",
        ),
        (
            {},
            Needs(user_features=("agegroup",)),
            "model.user_features: data.users.path has no column agegroup; it has age, age_group, gender, "
            "occupation; did you mean age_group?",
        ),
        (
            {},
            Needs(item_features=("genre",)),
            "model.item_features: data.items.path has no column genre; it has genres; did you mean genres?",
        ),
        (
            {"item_columns": {}},
            Needs(item_features=("genres",)),
            "model.item_features: data.items.path has no column genres; it has only ids and titles",
        ),
        (
            {"user_columns": {}},
            Needs(user_features=("age", "gender")),
            "model.user_features=[age,gender] needs a table of users: set data.users.path to its file",
        ),
        (
            {"titles": None, "item_columns": {}},
            Needs(item_features=("genres",)),
            "model.item_features=[genres] needs a table of items: set data.items.path to its file",
        ),
        (
            {},
            Needs(user_features=("age", "occupation")),
            "model.user_features: the column occupation in data.users.path is empty for every user",
        ),
        (
            {"item_columns": {"year": np.array([np.nan, np.nan])}},
            Needs(item_features=("year",)),
            "model.item_features: the column year in data.items.path is empty for every item",
        ),
        (
            {"item_columns": {"genres": texts("(no genres listed)", "")}},
            Needs(item_features=("genres",)),
            "model.item_features: the column genres in data.items.path is empty for every item",
        ),
        (
            {},
            Needs(user_features=("age", "age")),
            "model.user_features must name each column once, got age 2 times",
        ),
    ],
)
def test_missing_side_information_gives_a_one_line_error(changed, needs, message):
    with pytest.raises(UserError) as error:
        table(**changed).side_information(needs, needed_by="model=x")
    assert str(error.value) == message


WHOLE = SideInformation(
    day=np.array([1, 2], dtype=np.int32),
    user_features={"age": np.array([30.0, np.nan]), "gender": texts("F", "M")},
    item_features={"genres": texts("a|b", "")},
)


@pytest.mark.parametrize(
    "changed",
    [
        {"day": None},
        {"day": np.array([1, 3], dtype=np.int32)},
        {"user_features": {}},
        {"user_features": WHOLE.user_features | {"age": np.array([30.0, 0.0])}},
        {"user_features": WHOLE.user_features | {"age": np.array([30.000001, np.nan])}},
        {"user_features": WHOLE.user_features | {"age": texts("30.0", "nan")}},
        {"user_features": WHOLE.user_features | {"gender": texts("M", "F")}},
        {"user_features": {"years": WHOLE.user_features["age"], "gender": WHOLE.user_features["gender"]}},
        {"item_features": {"genres": texts("a|b", "c")}},
        {"item_features": {"genres": texts("a|b\n", "")}},
        {"user_features": WHOLE.user_features | WHOLE.item_features, "item_features": {}},
    ],
    ids=str,
)
def test_digest_changes_with_every_part(changed):
    assert replace(WHOLE, **changed).digest() != WHOLE.digest()


def test_digest_is_equal_for_equal_side_information():
    again = SideInformation(
        day=np.array([1, 2], dtype=np.int32),
        user_features={"gender": texts("F", "M"), "age": np.array([30.0, -np.nan])},
        item_features={"genres": texts("a|b", "")},
    )
    assert again.digest() == WHOLE.digest() == "9c8367bf9f199021be92392c62d79feb"
    assert NO_SIDE_INFORMATION.digest() is None


def test_split_ratings_reorder_side_information_to_its_own_indices():
    part = np.array([TEST, TRAIN, TRAIN, TEST])  # only user 0 has no training rows
    whole = table()
    found = whole.side_information(
        Needs(days=True, user_features=("age", "gender"), item_features=("genres",)), needed_by="model=x"
    )
    split_ratings = make_split_ratings(whole, Split(part=part, identity="x"), found)
    assert split_ratings.user_order.tolist() == [1, 2, 0]
    assert split_ratings.side_information.user_features["gender"].tolist() == ["M", "", "F"]
    assert np.array_equal(split_ratings.side_information.user_features["age"], [np.nan, 20, 30], equal_nan=True)
    assert split_ratings.side_information.item_features["genres"].tolist() == ["Comedy|Drama", ""]
    assert split_ratings.copy_rows(TRAIN).day.tolist() == [0, 1]
    assert split_ratings.copy_rows(TEST).day.tolist() == [-1, 3]
    ((all_rows, parts),) = split_ratings.blocks()
    assert all_rows.day.tolist() == split_ratings.side_information.day.tolist() == [-1, 0, 1, 3]
    assert parts.tolist() == part.tolist()
    assert split_ratings.copy_rows(VALIDATION).day.tolist() == []
    without = make_split_ratings(whole, Split(part=part, identity="x"), NO_SIDE_INFORMATION)
    ((all_rows, _),) = without.blocks()
    assert without.copy_rows(TRAIN).day is all_rows.day is None


def test_categories_are_pairs_sorted_by_row_then_name():
    genres = texts("Drama|Comedy", "", "(no genres listed)", "Action|Drama|Drama", " Comedy |")
    row, column, names = encode_categories(genres)
    assert names == ["Action", "Comedy", "Drama"]
    assert (row.dtype, column.dtype) == (np.int32, np.int32)
    assert list(zip(row.tolist(), column.tolist(), strict=True)) == [(0, 1), (0, 2), (3, 0), (3, 2), (4, 1)]
    row, column, names = encode_categories(texts("", ""))
    assert (row.tolist(), column.tolist(), names) == ([], [], [])


def test_standardized_uses_known_numbers_only():
    column = np.array([1.0, np.nan, 5.0, 3.0, 3.0])
    found = standardize(column, column)
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx([-(2**0.5), 0, 2**0.5, 0, 0])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([30, np.nan, 30], r"^model.user_features: age must vary, got 30 in every row with training ratings$"),
        ([np.nan, np.nan], r"^model.user_features: age is unknown in every row with training ratings$"),
        ([1.7e308, 1.6e308], r"^model.user_features: age cannot be standardized: its values lie from 1.6e"),
    ],
)
def test_constant_unknown_or_extreme_numbers_are_refused(column, message):
    with pytest.raises(UserError, match=message):
        check_feature(np.array(column, dtype=np.float64), name="model.user_features: age")


DECIMAL_COMMA = TextDialect(";", "utf-8", decimal=",")


def read_new(cells, trained, **options):
    return parse_new_values(cells, trained, place=lambda row: f"row {row}", **options)


def test_new_values_find_their_categories_and_numbers():
    genres = np.array(["x|y", "z"], dtype=object)
    assert read_new(["z", "y|x", ""], genres).tolist() == ["z", "x|y", ""]
    np.testing.assert_array_equal(read_new(["1.5", "", "-2e1"], np.array([1.0, 2.0])), [1.5, np.nan, -20.0])


def test_new_numbers_can_have_a_decimal_comma():
    assert read_new(["1,5", "2"], np.array([1.0, 2.0]), dialect=DECIMAL_COMMA).tolist() == [1.5, 2.0]
    groups = np.array(["7–21", "22–25"], dtype=object)
    assert read_new(["21,4", "21,6"], groups, dialect=DECIMAL_COMMA).tolist() == ["7–21", "22–25"]
    with pytest.raises(UserError, match=r"row 0: the value must be a finite .* got '1\.5'; data.decimal=comma is set;"):
        read_new(["1.5"], np.array([1.0, 2.0]), dialect=DECIMAL_COMMA)


def test_new_numbers_find_the_nearest_of_the_groups():
    groups = np.array(["7–21", "22–25", "40"], dtype=object)
    assert read_new(["24", "3", "31", "99", "22–25"], groups).tolist() == ["22–25", "7–21", "22–25", "40", "22–25"]


@pytest.mark.parametrize(
    ("cell", "trained", "message"),
    [
        ("w", ["x|y", "z"], "row 0: 'w' does not occur in training"),
        ("comedi", ["Comedy"], "did you mean Comedy"),
        ("99999", ["12345", "54321"], "row 0: '99999' does not occur in training"),  # postal codes are not groups
    ],
)
def test_unknown_category_is_a_one_line_error(cell, trained, message):
    with pytest.raises(UserError, match=message):
        read_new([cell], np.array(trained, dtype=object))


@pytest.mark.parametrize("cell", ["x", "nan", "1_000", "inf", "1e300", "1e999"])
def test_new_number_must_be_finite(cell):
    with pytest.raises(UserError, match="row 0: the value must be a finite number"):
        read_new([cell], np.array([1.0, 2.0]))


def test_feature_digest_covers_values_and_their_order():
    digests = [
        feature_digest(column)
        for column in (
            texts("a|b", "c"), texts("c", "a|b"), texts("a", "b|c"), texts("a|b", ""), texts("1", "2"),
            np.array([1.0, 2.0]), np.array([1.0, np.nan]), np.array([np.nan, 1.0]),
        )
    ]  # fmt: skip
    assert len(set(digests)) == len(digests)
    assert feature_digest(texts("b|a", " c|")) == digests[0]
    assert feature_digest(np.array([1.0, -np.nan])) == digests[6]


def test_table_digests_the_times_and_columns_that_are_needed():
    whole = table_with_features()
    needs = Needs(days=True, user_features=("age",), item_features=("genres",))
    digests = whole.side_digests(needs)
    assert list(digests) == ["times", "user_features.age", "item_features.genres"]
    assert whole.side_digests(Needs(interactions=True)) == {}
    assert replace(whole, timestamp=whole.timestamp + 1).side_digests(needs)["times"] != digests["times"]
    other = replace(whole, item_columns={"genres": whole.item_columns["genres"][::-1]}, timestamp=whole.timestamp + 1)
    changed = {name for name, digest in other.side_digests(needs).items() if digest != digests[name]}
    assert changed == {"times", "item_features.genres"}
    assert other.digest == whole.digest, "the digest of the ratings stays"


def test_needs_name_their_information_besides_the_ratings():
    assert Needs(interactions=True).information() == []
    assert Needs(days=True, item_features=("genres",)).information() == [Information.times, Information.item_features]
    assert Needs(user_features=("age",)).information() == [Information.user_features]


def test_new_number_with_a_decimal_comma_finds_its_group():
    groups = np.array(["7–21", "22–25"], dtype=object)
    assert parse_new_values(["22,5"], groups, place=str, dialect=DECIMAL_COMMA).tolist() == ["22–25"]


def test_whole_number_with_a_decimal_point_is_the_category_without_it():
    assert read_new(["30.0", "4", ""], np.array(["30", "4"], dtype=object)).tolist() == ["30", "4", ""]
