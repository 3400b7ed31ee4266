"""Search for items by title and id."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("fastapi")

from ratinglab.ratings.ids import IdMap
from ratinglab.serving.item_search import ItemSearch
from ratinglab.serving.service import find_rating_scale, rating_deviation

COUNTS = {
    "Alien (1979)": 50, "Aliens (1986)": 90, "Alien Nation (1988)": 10, "My Alien, the Star (1990)": 99,
    "Matrix Made of the Stars (2001)": 80, "Matrix, The (1999)": 70, "Amélie (2001)": 5, "Stargate (1994)": 40,
    "Star Wars: 1979 (1977)": 95, "Wars of the Stars (2003)": 97, "A 007 film (1962)": 1,
    "Olvidados, Los (1950)": 3, "Making of Los Olvidados (2001)": 60,
}  # fmt: skip
"""Titles, each with its number of ratings. The ids are 0, 1, … in this order."""


def search_of(ids, titles, counts, *, deviation=None):
    """Prepare a search of items whose numbers of ratings are given."""
    tables = SimpleNamespace(
        record=SimpleNamespace(num_items=len(counts)),
        train_counts=(None, np.array(counts)),
        item_ids=IdMap(ids),
        titles=None if titles is None else np.array(titles, dtype=object),
    )
    return ItemSearch(tables, deviation=np.ones(len(counts)) if deviation is None else np.array(deviation))


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("alien 1979", ["Alien (1979)"]),
        ("Aliens", ["Aliens (1986)"]),
        ("amelie", ["Amélie (2001)"]),
        ("AMÉLIE", ["Amélie (2001)"]),
        ("alien", ["Alien (1979)", "Alien Nation (1988)", "Aliens (1986)", "My Alien, the Star (1990)"]),
        ("the matrix", ["Matrix, The (1999)", "Matrix Made of the Stars (2001)"]),
        ("matrix", ["Matrix, The (1999)", "Matrix Made of the Stars (2001)"]),
        ("matr", ["Matrix Made of the Stars (2001)", "Matrix, The (1999)"]),
        ("matrix, the (1999)", ["Matrix, The (1999)"]),
        ("los olvidados", ["Olvidados, Los (1950)", "Making of Los Olvidados (2001)"]),
        ("star wars", ["Star Wars: 1979 (1977)", "Wars of the Stars (2003)"]),
        ("gate", ["Stargate (1994)"]),
        ("7", ["Stargate (1994)", "Star Wars: 1979 (1977)", "Alien (1979)", "A 007 film (1962)"]),
        ("nothing of the kind", []),
    ],
)
def test_best_match_comes_first_then_the_most_rated(query, titles):
    """Exact matches, then beginnings of the title, whole words first, then of its words, then any part."""
    search = search_of(range(len(COUNTS)), list(COUNTS), list(COUNTS.values()))
    assert [list(COUNTS)[item] for item in search.find(query)] == titles


@pytest.mark.parametrize("query", ["", "  ", "!?"])
def test_query_without_words_finds_items_with_many_and_differing_ratings_first(query):
    search = search_of([7, 8, 9, 10], ["a", "b", "c", "d"], [10, 20, 40, 1], deviation=[1, 0.9, 0.3, 2])
    assert search.find(query).tolist() == [1, 2, 0, 3]


def test_deviation_is_the_standard_deviation_around_the_mean_of_each_item():
    item = np.array([0, 0, 1, 1, 1, 2, 4, 4], dtype=np.int32)
    rating = np.array([1, 5, 1, 1, 1, 5, 2, 3], dtype=np.float32)
    found = rating_deviation(item, rating, num_items=5)
    assert found.tolist() == pytest.approx([2, 0, 0, 0, 0.5])  # nobody has rated item 3


def test_ids_are_searched_without_titles():
    search = search_of(["x1", "x10", "y1", "X"], None, [1, 5, 9, 2])
    assert [search.find(query).tolist() for query in ("x1", "x", "1", "Y1", "z")] == [
        [0, 1],
        [3, 1, 0],
        [2, 1, 0],
        [2],
        [],
    ]


@pytest.mark.parametrize(
    ("levels", "scale", "expected"),
    [
        ([1, 2, 3, 4, 5], (1, 5), (1, 5, 1)),
        ([0.5, 1, 1.5, 5], (0.5, 5), (0.5, 5, 0.5)),
        ([1, 2, 5], None, (1, 5, 1)),
        (range(1, 101), (1, 100), (1, 100, 1)),
        ([-9.87, 0.31, 3.3334, 10], (-10, 10), (-10, 10, 0.2)),
        ([0.1, 0.2, 0.3, 0.4], (0.1, 0.4), (0.1, 0.4, 0.1)),
        ([3], (1, 5), (1, 5, 4)),
        ([3], None, (3, 3, 1)),
    ],
)
def test_scale_has_the_step_between_the_ratings_that_occur(levels, scale, expected):
    found = find_rating_scale(np.array(list(levels) * 2, dtype=np.float32), scale=scale)
    assert (found.lowest, found.highest, found.step) == pytest.approx(expected, abs=1e-6)
