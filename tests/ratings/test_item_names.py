"""Items found by their ids or titles."""

import numpy as np
import pytest

from ratinglab.errors import UserError
from ratinglab.ratings import item_names
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.item_names import ItemNames

TITLES = [
    "Toy Story (1995)",  # id 10
    "Matrix, The (1999)",
    "Amelie (Fabuleux destin d'Amélie Poulain, Le) (2001)",
    "Hamlet (1996)",
    "Hamlet (2000)",
    "HAMLET (2000)",
    "Avventura, L' (1960)",  # id 16
    "Postman, The (Postino, Il) (1994)",
    "Straße, Die (1923)",
    "",
    "300",  # id 20
    "Schindler's List (1993)",
    "Heat",
    "11",
    "Monty Python and the Holy Grail (1975)",
]
NAMES = ItemNames(IdMap(np.arange(10, 10 + len(TITLES))), np.array(TITLES, dtype=object))


def find(*names, items=NAMES):
    return items.find(names, place=lambda row: f"name {row}").tolist()


def message(name, items=NAMES) -> str:
    with pytest.raises(UserError) as error:
        find("10", name, items=items)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        (11, "Matrix, The (1999)"),
        (11.0, "Matrix, The (1999)"),
        ("11.0", "Matrix, The (1999)"),
        ("11", "Matrix, The (1999)"),  # an id comes before a title
        ("300", "300"),
        ("Toy Story (1995)", "Toy Story (1995)"),
        ("HAMLET (2000)", "HAMLET (2000)"),  # the exact title comes before one in another case
        ("hamlet (1996)", "Hamlet (1996)"),
        (" toy  STORY (1995)\n", "Toy Story (1995)"),
        ("The Matrix (1999)", "Matrix, The (1999)"),
        ("matrix, the (1999)", "Matrix, The (1999)"),
        ("l'avventura (1960)", "Avventura, L' (1960)"),
        ("L’Avventura (1960)", "Avventura, L' (1960)"),
        ("the postman (postino, il) (1994)", "Postman, The (Postino, Il) (1994)"),
        ("Die STRASSE (1923)", "Straße, Die (1923)"),
        ("amelie (fabuleux destin d'Ame\u0301lie Poulain, Le) (2001)", TITLES[2]),
        ("Toy Story", "Toy Story (1995)"),
        ("the matrix", "Matrix, The (1999)"),
        ("Schindler’s list", "Schindler's List (1993)"),
        ("amelie", TITLES[2]),
        ("the postman", "Postman, The (Postino, Il) (1994)"),
        ("heat", "Heat"),
    ],
)
def test_item_is_found_by_its_id_or_title(name, title):
    assert find(name) == [TITLES.index(title)]


def test_several_names_keep_their_order():
    assert find("heat", 10, "Toy Story", "10") == [12, 0, 0, 0]
    assert find() == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "hamlet (2000)",
            "2 items have the title 'hamlet (2000)': Hamlet (2000) (id 14) and HAMLET (2000) (id 15); give the id",
        ),
        (
            "Hamlet",
            "3 items have the title 'Hamlet': Hamlet (1996) (id 13), Hamlet (2000) (id 14) and HAMLET (2000) (id 15); "
            "give the id",
        ),
        ("Toy Stroy", "no item has the id or the title 'Toy Stroy'; did you mean Toy Story (1995)?"),
        ("Toy Stroy (1995)", "no item has the id or the title 'Toy Stroy (1995)'; did you mean Toy Story (1995)?"),
        ("Toy Story (1996)", "no item has the id or the title 'Toy Story (1996)'; did you mean Toy Story (1995)?"),
        ("matrix", "no item has the id or the title 'matrix'; did you mean Matrix, The (1999)?"),
        ("holy grail", f"no item has the id or the title 'holy grail'; did you mean {TITLES[-1]}?"),
        ("oly", "no item has the id or the title 'oly'"),
        ("", "no item has the id or the title ''"),
        ("199", "no item has the id or the title '199'"),
        (199, "no item has the id '199'"),
        (10.5, "no item has the id '10.5'"),
        (True, "no item has the id 'True'"),
        (None, "an item's id or title must not be missing, got None"),
        (np.nan, "an item's id or title must not be missing, got nan"),
    ],
)
def test_name_of_no_or_several_items_is_a_one_line_error(name, expected):
    assert message(name) == f"name 1: {expected}"


def test_at_most_three_items_are_listed():
    items = ItemNames(IdMap(["a", "b", "c", "d", "10"]), np.array(["X"] * 4 + [""], dtype=object))
    listed = "X (id a), X (id b), X (id c) and 1 more"
    assert message("x", items) == f"name 1: 4 items have the title 'x': {listed}; give the id"


def test_items_without_titles_are_found_by_id_only():
    items = ItemNames(IdMap(["tt0114709", "10"]), None)
    assert find("tt0114709", items=items) == [0]
    assert message("tt011470", items) == "name 1: no item has the id 'tt011470'; did you mean tt0114709?"
    assert message("Toy Story", items) == "name 1: no item has the id 'Toy Story' (this run has no titles)"
    assert message("199", items) == "name 1: no item has the id '199'"


def test_nearest_of_many_titles_is_found_among_few(monkeypatch):
    random = np.random.default_rng(0)
    letters = random.integers(ord("a"), ord("z"), (100_000, 20), dtype=np.uint32)
    titles = np.append([f"{text[:9]} {text[9:]} (1990)" for text in letters.view("U20")[:, 0]], "Toy Story (1995)")
    items = ItemNames(IdMap(np.arange(len(titles))), titles.astype(object))
    assert find("toy story", items=items) == [100_000]
    assert message("Toy Stroy", items).endswith("; did you mean Toy Story (1995)?")
    compared: list[str] = []
    monkeypatch.setattr(item_names, "get_close_matches", lambda _, titles, n: compared.extend(titles) or [])
    message("Toy Stroy", items)
    assert len(compared) == item_names.MAX_COMPARED_TITLES
