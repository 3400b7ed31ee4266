"""Items similar to one item: the table, the file, and mistakes."""

import numpy as np
import pandas as pd
import pytest
import torch
from documented import options_of
from equations import options_of as equation_options
from fits import SPLIT
from run_folders import write_run_of, write_weights
from tables import table_of

from ratinglab.commands.similar_command import find_similar
from ratinglab.errors import UserError
from ratinglab.inference.recommender import SHORT_LIST
from ratinglab.inference.run import Run
from ratinglab.models.factors import Factors, SideFactors
from ratinglab.splits.split import TEST

NUM_USERS, NUM_ITEMS = 30, 20
TITLES = [f"Film {number}, The ({1980 + number})" for number in range(NUM_ITEMS)] + ["New, Untrained (2020)"]
TITLES[3], TITLES[4] = "Hamlet (1996)", "Hamlet (2000)"


def write_run(folder, name, **changed) -> Run:
    """Write a run in which item 20 has no training ratings; a run of samples has two."""
    random = np.random.default_rng(0)
    user, item = np.divmod(np.flatnonzero(random.random(NUM_USERS * NUM_ITEMS) < 0.5), NUM_ITEMS)
    columns = [np.append(user, 0), np.append(item, NUM_ITEMS), random.integers(1, 6, len(user) + 1)]
    held_out = np.argmax(SPLIT.apply(table_of(*columns)).part == TEST)
    for column in columns:
        column[[held_out, -1]] = column[[-1, held_out]]
    genres = np.array(["x", "x|y", "z"] * 7, dtype=object)
    table = table_of(*columns, titles=np.array(TITLES, dtype=object), item_columns={"genres": genres})
    predictor = write_run_of(folder, equation_options(name), table, **changed)
    if changed.get("is_sampled"):
        for seed in range(2):
            draws = torch.Generator().manual_seed(seed)
            counts = NUM_USERS, NUM_ITEMS
            factors, biases = ([torch.randn(count, dim, generator=draws) for count in counts] for dim in (2, 1))
            sides = map(SideFactors, factors, biases, map(torch.ones, counts))
            predictor.model.samples.append(Factors(*sides, mean=float(predictor.model.equation.rating_mean)))
        write_weights(folder, {f"predictor.{key}": weight for key, weight in predictor.state_dict().items()})
    return Run.load(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return write_run(tmp_path_factory.mktemp("similar") / "run", "biased_mf", is_sampled=True)


@pytest.fixture(scope="module")
def point(tmp_path_factory) -> Run:
    return write_run(tmp_path_factory.mktemp("similar") / "run", "biased_mf")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def similar(run, *arguments):
    find_similar(options_of("similar", f"run={run.folder}", *arguments))


def test_all_other_trained_items_are_ranked(run):
    found = run.similar("the film 7", k=99)
    assert found["rank"].tolist() == list(range(1, NUM_ITEMS))
    assert sorted(found["item_id"]) == [item for item in range(NUM_ITEMS) if item != 7]
    assert found["title"].tolist() == [TITLES[item] for item in found["item_id"]]
    assert found["similarity"].is_monotonic_decreasing
    assert run.similar(7, k=4).equals(found.head(4))


def test_shared_raters_have_training_ratings_of_both(run):
    user, item = run.part("train").user, run.part("train").item
    raters = [set(user[item == each]) for each in range(NUM_ITEMS)]
    found = run.similar(7, k=99)
    index = run.item_ids.index_of(found["item_id"])
    assert found["shared_raters"].tolist() == [len(raters[each] & raters[7]) for each in index]


def test_only_samples_have_a_standard_deviation(run, point):
    assert list(point.similar(0, k=1)) == ["rank", "item_id", "title", "similarity", "shared_raters"]
    assert list(run.similar(0, k=1)) == [
        "rank", "item_id", "title", "similarity", "standard_deviation", "shared_raters",
    ]  # fmt: skip
    assert (run.similar(0, k=99)["standard_deviation"] > 0).all()


def test_item_is_never_similar_to_itself(run):
    assert run.similar(7, k=9, candidates=[7, "3", 3, 20])["item_id"].tolist() == [3]
    assert len(run.similar(7, k=9, candidates=[7])) == 0


def test_command_prints_the_item_and_an_aligned_table(run, point, capsys):
    similar(run, "item='Film 7, The'", "k=2")
    title, head, first, _, *explained = capsys.readouterr().out.splitlines()
    found = run.similar(7, k=2).loc[0]
    assert title == f"similar to {TITLES[7]} (id 7), which has {run.tables.train_counts[1][7]} training ratings"
    assert head.split() == ["rank", "item_id", "title", "similarity", "±", "shared_raters"]
    assert first.split()[-3:-1] == [f"{found[name]:.2f}" for name in ("similarity", "standard_deviation")]
    assert explained == [
        "±: standard deviation of the similarity over the samples",
        "similarity: cosine of the items' factors, lowered for items with few shared raters",
    ]
    similar(point, "item=7", "k=20", "genres=[z]")
    *table, note = capsys.readouterr().out.splitlines()
    assert not any("±" in line for line in table)
    assert note == "note: only 6 of the 20 requested items: no more candidates"


def test_more_items_than_there_are_is_a_mistake_unless_k_is_the_default(run):
    for root, of in (("similar", "item=7"), ("recommend", "user=7")):
        assert options_of(root, "run=x", of).k == SHORT_LIST
    with pytest.raises(UserError, match=r"^k must be at most \d+, the number of items, got 100000$"):
        similar(run, "item=7", "k=100000")


@pytest.mark.parametrize(("extension", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_file_holds_the_same_items(run, here, capsys, extension, read):
    similar(run, "item=7", f"output=out.{extension}", "genres=[x,z]", "k=3")
    expected = run.similar(7, k=3, candidates=run.tables.items_with_genres(["x", "z"]))
    pd.testing.assert_frame_equal(read(here / f"out.{extension}"), expected, check_dtype=False, rtol=1e-5)
    assert capsys.readouterr().out.startswith(f"3 items similar to {TITLES[7]} (id 7) in out.{extension}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["item=Flim 7"], f"item: no item has the id or the title 'Flim 7'; did you mean {TITLES[7]}?"),
        (
            ["item=hamlet"],
            "item: 2 items have the title 'hamlet': Hamlet (1996) (id 3) and Hamlet (2000) (id 4); give the id",
        ),
        (["item=20"], "item: New, Untrained (2020) (id 20) has no training ratings, so it has no factors"),
        (["item=' '"], "item must not be blank"),
        (["item=null"], "item must not be null"),
        (["item=7", "k=0"], "k must be at least 1, got 0"),
        (["item=7", "genres=[q]"], "genres: no item has the genre 'q'"),
        (["item=7", "output=no/out.csv"], "output: there is no folder no"),
    ],
)
def test_mistake_is_a_one_line_error_and_leaves_no_files(run, here, arguments, message):
    (here / "out.csv").write_text("kept")
    with pytest.raises(UserError) as error:
        similar(run, "output=out.csv", *arguments)
    assert str(error.value) == message
    assert [(path.name, path.read_text()) for path in here.iterdir()] == [("out.csv", "kept")]


def test_model_without_factors_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^run: bias has no factors, so it finds no similar items$"):
        write_run(tmp_path / "run", "bias").similar(7, k=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"item": [7]}, r"^item must be one id or title, got \[7\]$"),
        ({"item": None}, r"^item: an item's id or title must not be missing, got None$"),
        ({"k": 0}, r"^k must be at least 1, got 0$"),
        ({"candidates": [20]}, r"^candidates: no item has training ratings among 1 id, such as '20'$"),
    ],
)
def test_python_refuses_mistakes(run, arguments, message):
    with pytest.raises(UserError, match=message):
        run.similar(**{"item": 7, "k": 1} | arguments)


def test_title_with_a_comma_is_not_a_sweep(command, run, here):
    outcome = command(here, "similar", f"{run.folder}", "item=film 7, THE", "k=1")
    assert outcome.stdout.startswith(f"similar to {TITLES[7]} (id 7), which has ")
    refused = command(here, "similar", f"run={run.folder}", "item=Film 99, The", status=2)
    assert refused.stderr.startswith("error: item: no item has the id or the title 'Film 99, The'; did you mean ")
    assert list(here.iterdir()) == []
