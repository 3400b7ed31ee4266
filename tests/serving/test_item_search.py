"""Search for items by title and id."""

import numpy as np
import pytest

pytest.importorskip("fastapi")

from served_run import TITLES, write_served_run

from ratinglab.runs.run import Run
from ratinglab.serving.item_search import ItemSearch
from ratinglab.serving.service import rating_scale


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run.load(write_served_run(tmp_path_factory.mktemp("runs") / "run"))


@pytest.fixture(scope="module")
def search(run):
    return ItemSearch(run, spread=np.ones(run.record.num_items))


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("alien", ["Alien (1979)", "Aliens (1986)"]),
        ("ALIENS", ["Aliens (1986)"]),
        ("the matrix", ["Matrix, The (1999)"]),
        ("matrix the", ["Matrix, The (1999)"]),
        ("amelie", ["Amélie (2001)"]),
        ("amélie 2001", ["Amélie (2001)"]),
        ("trek contact", ["Star Trek: First Contact (1996)"]),
        ("star", ["Star Wars (1977)", "Star Trek: First Contact (1996)", "Stargate (1994)"]),
        ("war sta", ["Star Wars (1977)"]),
        ("rgate", ["Stargate (1994)"]),
        ("10", ["Part 10 of a film with a long title (2003)"]),
        ("id 7", []),
        ("1996", ["Hamlet (1996)", "Star Trek: First Contact (1996)"]),
        ("nothing of the kind", []),
    ],
)
def test_best_match_comes_first_then_the_most_rated(run, search, query, titles):
    found = search.find(query)
    count = run.train_counts[1]
    if query in ("star", "alien", "1996"):  # equal matches in the order of their numbers of ratings
        titles = sorted(titles, key=lambda title: -count[TITLES.index(title)])
    assert [TITLES[item] for item in found] == titles


def test_id_comes_before_titles_that_have_its_digits(search):
    assert search.find(" 7 ")[0] == 7  # Star Wars; others are of 1979 and 1977


@pytest.mark.parametrize("query", ["", "  ", "!?"])
def test_query_without_words_finds_all_items_with_many_and_differing_ratings_first(run, query):
    spread = np.arange(run.record.num_items, dtype=float)
    found = ItemSearch(run, spread=spread).find(query)
    worth = run.train_counts[1][: run.record.num_items] * spread
    assert (np.diff(worth[found]) <= 0).all()
    assert len(found) == run.record.num_items


def test_ids_are_searched_without_titles(tmp_path):
    run = Run.load(write_served_run(tmp_path / "run", has_titles=False))
    found = ItemSearch(run, spread=np.ones(run.record.num_items)).find("1")
    assert found[0] == 1
    assert set(found) == {1, *range(10, 20)}


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
    found = rating_scale(np.array(list(levels) * 2, dtype=np.float32), scale=scale)
    assert (found.lowest, found.highest, found.step) == pytest.approx(expected, abs=1e-6)
