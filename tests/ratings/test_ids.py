import numpy as np
import pytest

from ratinglab.ratings.ids import UNKNOWN, IdMap, sorted_ids


def texts(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


def test_plain_integers_are_integers_in_numeric_order():
    ids, index = sorted_ids(texts("10", "9", "-1"))
    assert ids.are_integers
    assert ids.ids.tolist() == [-1, 9, 10]
    assert index.tolist() == [2, 1, 0]


@pytest.mark.parametrize("text", ["007", "1e5", "1_000", "+3", "a", "9223372036854775808", "1.0"])
def test_one_text_that_is_no_plain_integer_makes_all_ids_text(text):
    ids, index = sorted_ids(texts("10", text))
    assert not ids.are_integers
    assert [ids.ids[i] for i in index] == ["10", text]


def test_white_space_is_no_part_of_an_id():
    ids, index = sorted_ids(texts("1", " 1", "2 "))
    assert ids.ids.tolist() == [1, 2]
    assert index.tolist() == [0, 0, 1]


def test_an_integer_and_its_text_find_the_same_id():
    for ids in (IdMap([42, 7]), IdMap(["42", "7"])):
        assert ids.index_of([42]).tolist() == [0]
        assert ids.index_of(["7"]).tolist() == [1]
        assert ids.index_of(np.array([7, 42])).tolist() == [1, 0]


def test_what_is_not_there_is_unknown():
    assert IdMap([1, 2]).index_of(["3", "01", "x"]).tolist() == [UNKNOWN] * 3


def test_reordered_moves_the_ids():
    assert IdMap([5, 6, 7]).reordered(np.array([2, 0, 1])).ids.tolist() == [7, 5, 6]
