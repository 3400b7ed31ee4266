"""Ids: integers and text, lookups, and notes on similar ids."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ratinglab.errors import UserError
from ratinglab.ratings.ids import MAX_COMPARED_IDS, UNKNOWN, IdMap, index_column, parse_ids


def indexed(*chunks: list[str]) -> tuple[IdMap, list[int]]:
    """Index a column that is read in chunks; return the ids and the index of each row."""
    ids, index, _ = index_column([parse_ids(pa.array(chunk)) for chunk in chunks], side="user")
    return ids, index.tolist()


def test_plain_integers_are_sorted_numerically():
    ids, index = indexed(["10", "9"], ["-1", "10"])
    assert ids.are_integers
    assert ids.ids.tolist() == [-1, 9, 10]
    assert index == [2, 1, 0, 2]


def test_parts_may_have_integers_of_32_and_64_bits():
    ids, index = indexed(["-2147483648"], ["-2147483649", "-2147483648"])
    assert ids.ids.tolist() == [-2147483649, -2147483648]
    assert index == [1, 0, 1]


@pytest.mark.parametrize("is_writable", [True, False])
def test_index_takes_the_place_of_writable_ids(is_writable):
    ids = np.array([30, -10, 30, 20], dtype=np.int32)
    ids.flags.writeable = is_writable
    _, index, _ = index_column([ids], side="item")
    assert index.tolist() == [2, 0, 2, 1]
    assert (index is ids) == is_writable
    assert ids.tolist() == ([2, 0, 2, 1] if is_writable else [30, -10, 30, 20])


@pytest.mark.parametrize(
    "text",
    "007 00 -0 -07 0x1F 0x3b9aca00 0xfffffffffffffff +3 1e5 1_000 1.5 a －1 9223372036854775808".split(),
)
def test_one_non_integer_makes_all_ids_text(text):
    ids, index = indexed(["10"], [text])
    assert not ids.are_integers
    assert [ids.ids[i] for i in index] == ["10", text]


@pytest.mark.parametrize(
    ("first", "second"), [(["7.0", "8.0"], ["9.0"]), (["7.", "8"], ["9.00"]), (["7"], ["8.0", "-9.0"])]
)
def test_whole_numbers_with_a_decimal_point_are_integers(first, second):
    ids, _, notes = index_column([parse_ids(pa.array(part)) for part in (first, second)], side="user")
    assert ids.are_integers
    assert sorted(map(abs, ids.ids)) == [7, 8, 9]
    assert len(notes) == 1
    assert notes[0].endswith("were read as integers")


ALIKE = "apart from another id, although only case or accent encoding differs"
MISSING = "user ids that look like missing values, kept as ids"


@pytest.mark.parametrize(
    ("ids", "notes"),
    [
        (["NULL", "a"], [f"{MISSING}: 'NULL'"]),
        (["nan", "N/A", "a"], [f"{MISSING}: 'N/A', 'nan'"]),
        (["caf\u00e9", "cafe\u0301"], [f"kept 1 user id {ALIKE}, such as 'cafe\\u0301' and 'caf\\xe9'"]),
        (["Bob", "bob", "BOB"], [f"kept 2 user ids {ALIKE}, such as 'BOB' and 'Bob'"]),
        (["None", "none"], [f"kept 1 user id {ALIKE}, such as 'None' and 'none'", f"{MISSING}: 'None', 'none'"]),
        (["Bob", "Alice"], []),
    ],
)
def test_suspect_text_ids_give_a_note_with_an_example(ids, notes):
    assert index_column([parse_ids(pa.array(ids))], side="user")[2] == notes


@pytest.mark.parametrize("number", [0.5, 2.0**53, -(2.0**60), float("inf")])
def test_float_that_may_not_be_the_id_is_refused(number):
    with pytest.raises(UserError, match=r"an id must be an integer or text, got .* at position 1"):
        IdMap([1, 2**53]).index_of([1.0, number])


def test_exact_text_id_wins_over_a_whole_number():
    ids = IdMap(["7", "7.0", "8", "x"])
    assert ids.index_of(["7.0", "8.0", "7", "x", "9.0"]).tolist() == [1, 2, 0, 3, -1]
    assert ids.index_of([7.0, 8.0]).tolist() == [0, 2]


def test_white_space_around_ids_is_stripped():
    ids, index = indexed(["1", " 1"], ["2 "])
    assert ids.ids.tolist() == [1, 2]
    assert index == [0, 0, 1]


def test_text_ids_are_sorted_by_code_point():
    ids, index = indexed(["é", "z"], ["Z", "a", "é"])
    assert ids.ids.tolist() == ["Z", "a", "z", "é"]
    assert index == [3, 2, 0, 1, 3]


def test_integers_across_the_int64_range_stay_integers():
    ids, index = indexed(["9223372036854775807", "-9223372036854775808"], ["5"])
    assert ids.ids.tolist() == [-(2**63), 5, 2**63 - 1]
    assert index == [2, 0, 1]


def test_integer_and_its_text_find_the_same_id():
    for ids in (IdMap([42, 7]), IdMap(["42", "7"])):
        assert ids.index_of([42]).tolist() == [0]
        assert ids.index_of(["7"]).tolist() == [1]
        assert ids.index_of(np.array([7, 42])).tolist() == [1, 0]


def test_missing_ids_have_the_unknown_index():
    assert IdMap([1, 2]).index_of(["3", "01", "x"]).tolist() == [UNKNOWN] * 3


def test_reordered_permutes_the_ids():
    assert IdMap([5, 6, 7]).reordered(np.array([2, 0, 1])).ids.tolist() == [7, 5, 6]


def test_categories_are_looked_up_like_their_values():
    ids = IdMap([3, 5, 7])
    wanted = ["7", "x", "3.0", "7"]
    assert ids.index_of(pd.Series(wanted, dtype="category")).tolist() == ids.index_of(wanted).tolist() == [2, -1, 0, 2]
    with pytest.raises(UserError, match="an id must not be missing"):
        ids.index_of(pd.Series(["7", None], dtype="category"))


def test_nearest_id_is_one_of_the_first():
    ids = IdMap(["u10", "tt999", "tt9999"])
    assert ids.did_you_mean("tt99999", among=2) == "; did you mean tt999?"
    assert ids.did_you_mean("tt99999", among=3) == "; did you mean tt9999?"
    assert ids.did_you_mean("abc", among=3) == ""


def test_no_integer_is_suggested_for_another():
    assert IdMap([41, 411, 4112]).did_you_mean(4111, among=3) == ""
    assert IdMap([41, 411]).did_you_mean("0041", among=2) == "; did you mean 41?"
    assert IdMap(["001", "002"]).did_you_mean(2, among=2) == "; did you mean 002?"
    assert IdMap(["41", "411", "x"]).did_you_mean("4111", among=3) == "; did you mean 411?"


@pytest.mark.parametrize("unknown", ["u1999999", "u19999x", "u19999"])
def test_nearest_of_many_ids_is_found_among_few(unknown, monkeypatch):
    """Ids of the same length, or one character longer or shorter, are compared."""
    ids, compared = IdMap([f"u{number}" for number in range(199_900, 400_000)]), []
    monkeypatch.setattr("ratinglab.ratings.ids.did_you_mean", lambda name, texts: compared.extend(texts) or "")
    ids.did_you_mean(unknown, among=len(ids))
    assert "u199999" in compared
    assert len(compared) <= MAX_COMPARED_IDS
