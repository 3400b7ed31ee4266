"""Recommendations for one user, the users in a file, or all users; candidates from a file or by genre."""

import numpy as np
import pandas as pd
import pytest
import torch
from documented import options_of
from equations import options_of as equation_options
from fits import SPLIT
from run_folders import PROVENANCE, edit_record, write_run_of, write_weights
from tables import table_of, table_with_features

from ratinglab.commands.recommend_command import recommend as recommend_command
from ratinglab.errors import UserError
from ratinglab.inference.run import Run
from ratinglab.splits.split import TEST


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Make a run in which user 30 and item 20 have no training ratings."""
    table, folder = table_with_features(), tmp_path_factory.mktemp("recommending") / "run"
    columns = [
        np.append(column, new) for column, new in zip(table.ratings.columns().values(), (30, 20, 3), strict=True)
    ]
    held_out = np.argmax(SPLIT.apply(table_of(*columns)).part == TEST)
    for column in columns:
        column[[held_out, -1]] = column[[-1, held_out]]
    titles = np.array([f"title {number}" for number in range(21)], dtype=object)
    item_columns = {"genres": np.append(table.item_columns["genres"], "x"), "year": np.arange(21.0)}
    table = table_of(*columns, titles=titles, item_columns=item_columns)
    predictor = write_run_of(folder, equation_options("biased_mf"), table)
    predictor.baseline.item_bias[:-1] = torch.randn(20, generator=torch.Generator().manual_seed(0))
    write_weights(folder, {f"predictor.{name}": weight for name, weight in predictor.state_dict().items()})
    return Run.load(folder)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recommend(run, *arguments):
    recommend_command(options_of("recommend", f"run={run.folder}", *arguments))


def test_the_last_user_and_item_have_no_training_ratings(run):
    assert run.record.num_users == 30
    assert not run.tables.are_users_trained([30])[0]
    assert not run.tables.are_items_trained([20])[0]


READ = {
    "csv": pd.read_csv,
    "tsv.gz": lambda path: pd.read_csv(path, sep="\t"),
    "jsonl": lambda path: pd.read_json(path, lines=True),
    "parquet": pd.read_parquet,
    "arrow": pd.read_feather,
    "txt": pd.read_csv,
}


@pytest.mark.parametrize("extension", READ)
def test_every_format_holds_the_same_recommendations(run, here, capsys, extension):
    recommend(run, f"output=out.{extension}", "k=3")
    expected = run.recommend_to_all(k=3).rename(columns={"rating": "prediction"})
    found = READ[extension](here / f"out.{extension}")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-5)
    assert capsys.readouterr().out.splitlines() == [
        f"90 recommendations for 30 users in out.{extension}",
        "note: skipped 1 user without training ratings; unknown=baseline recommends the bias baseline's list",
    ]


def test_baseline_for_unknown_users_covers_all_users(run, here, capsys):
    recommend(run, "output=out.csv", "k=2", "unknown=baseline", "ranking.by=prediction")
    found = pd.read_csv(here / "out.csv")
    popular = run.predictor.baseline.item_bias[:-1].argsort(descending=True, stable=True)[:2]
    assert found.loc[found["user_id"] == 30, "item_id"].tolist() == run.item_ids.ids[popular].tolist()
    assert capsys.readouterr().out == (
        "62 recommendations for 31 users in out.csv\n"
        "note: 1 user without training ratings got the bias baseline's list\n"
    )


def test_users_without_a_list_are_counted(run, here, capsys):
    pd.DataFrame({"user_id": [0, 1]}).to_csv("users.csv", index=False)
    seen, others = (set(run.rated_highest(user_id, k=99)["item_id"]) for user_id in (1, 0))
    items = [item for item in run.item_ids.ids if item in seen - others]
    pd.DataFrame({"item_id": items}).to_csv("items.csv", index=False)
    recommend(run, "users=users.csv", "items=items.csv", "output=out.csv", "k=2")
    assert "note: skipped 1 user, for whom no candidates are left\n" in capsys.readouterr().out


@pytest.mark.parametrize("user", ["9999", "30"])
def test_unknown_user_is_an_error(run, here, user):
    for output in ([], ["output=out.csv"]):
        with pytest.raises(UserError) as error:
            recommend(run, f"user={user}", *output)
        rule = "has no training ratings; unknown=baseline recommends the bias baseline's list"
        assert str(error.value) == f"user: '{user}' {rule}"
    assert list(here.iterdir()) == []


def test_unknown_user_gets_the_baseline_ranking_on_request(run, capsys):
    recommend(run, "user=9999", "unknown=baseline", "k=2")
    note, title, *rows = capsys.readouterr().out.splitlines()
    instead = "gets the bias baseline's list, as all such users"
    assert note == f"note: user 9999 has no training ratings and {instead}"
    assert title == "recommended to user 9999, by expected gain: interest times probability of a rating of at least 4"
    assert [row.split()[1] for row in rows[1:]] == run.recommend(9999, k=2, unknown="baseline")["item_id"].astype(
        str
    ).tolist()


def test_users_of_a_file_keep_their_order(run, here, capsys):
    (here / "users.csv").write_text("name;user_id\na;7\nb;3\nc;7\n")
    recommend(run, "users=users.csv", "output=out.csv", "k=2")
    found = pd.read_csv(here / "out.csv")
    assert found["user_id"].tolist() == [7, 7, 3, 3]
    assert found["item_id"].tolist() == [*run.recommend(7, k=2)["item_id"], *run.recommend(3, k=2)["item_id"]]
    assert capsys.readouterr().out == "4 recommendations for 2 users in out.csv\n"


def test_error_for_an_unknown_user_of_a_file_names_the_line(run, here):
    (here / "users.csv").write_text("user_id\n7\n229\n")
    with pytest.raises(UserError) as error:
        recommend(run, "users=users.csv", "output=out.csv")
    rule = "has no training ratings; unknown=baseline recommends the bias baseline's list"
    assert str(error.value) == f"users.csv, line 3, column user_id: '229' {rule}"
    recommend(run, "users=users.csv", "output=out.csv", "k=2", "unknown=baseline")
    assert pd.read_csv(here / "out.csv")["user_id"].tolist() == [7, 7, 229, 229]


INPUTS = {
    "users": 'user_id,size\n1,5" wide\n2,',
    "items": 'item_id,size\n1,5" wide\n2,',
    "ratings": 'user_id,item_id,rating,size\n1,2,3,5" wide\n2,2,3,',
}


@pytest.mark.parametrize("key", INPUTS)
def test_notes_on_a_file_are_printed(run, here, capsys, key):
    (here / "input.csv").write_text(INPUTS[key])
    recommend(run, f"{key}=input.csv", "k=2", "output=out.csv")
    lines = capsys.readouterr().out.splitlines()
    assert "note: input.csv: quotation marks were read as text, as with quote=none" in lines, lines


def test_items_of_a_file_are_the_candidates(run, here, capsys):
    pd.DataFrame({"id": [3, 4, 5, 20, 404]}).to_parquet(here / "items.parquet")
    recommend(run, "items=items.parquet", "columns.item=id", "output=out.csv", "exclude_seen=false")
    assert set(pd.read_csv(here / "out.csv")["item_id"]) == {3, 4, 5}
    note = "note: skipped 2 of the 5 items in items.parquet, such as 20: they have no training ratings"
    assert note in capsys.readouterr().out.splitlines()


def test_genres_choose_the_candidates(run, here):
    genres = pd.read_parquet(run.folder / "items.parquet").set_index("item_id")["feature/genres"]
    recommend(run, "genres=[z,y]", "output=out.csv", "exclude_seen=false", "k=20")
    wanted = {item for item, text in genres.items() if {"y", "z"} & set(text.split("|"))}
    assert set(pd.read_csv(here / "out.csv")["item_id"]) == wanted
    some = sorted(wanted)[0], min(set(genres.index[:20]) - wanted)
    pd.DataFrame({"item_id": some}).to_csv(here / "items.csv", index=False)
    recommend(run, "genres=y", "items=items.csv", "output=out.csv", "exclude_seen=false")
    assert set(pd.read_csv(here / "out.csv")["item_id"]) == {some[0]}


def test_seen_items_are_listed_on_request(run, here, capsys):
    everything = run.recommend(7, k=99, exclude_seen=False)
    assert sorted(everything["item_id"]) == list(range(20))
    assert set(run.recommend(7, k=99)["item_id"]) < set(range(20))
    recommend(run, "user=7", "exclude_seen=false", "k=20", "output=out.csv")
    everything.insert(0, "user_id", 7)
    pd.testing.assert_frame_equal(pd.read_csv(here / "out.csv"), everything, check_dtype=False, rtol=1e-5)
    assert "only" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["genres=[zz]"], r"^genres: no item has the genre 'zz'; did you mean z\?$"),
        (
            ["genres=[x]", "columns.genres=genre"],
            r"has no item categories 'genre', only genres; did you mean genres\?$",
        ),
        (["genres=[x]", "columns.genres=year"], r"has no item categories 'year', only genres"),
        (["users=users.csv", "user=7"], r"^set user=ID or users=FILE, not both$"),
        (["users=user.csv"], r"^users: there is no file user\.csv; did you mean users\.csv\?$"),
        (["users=users.csv", "columns.user=usr"], r"^columns\.user: users\.csv has no column 'usr'; it has user_id"),
        (["items=users.csv"], r"^columns\.item: users\.csv has no column 'item_id'"),
        (["items=users.csv", "columns.item=user_id"], r"^items: no item in users\.csv has training ratings$"),
        (["users=users.csv", "output=users.csv"], r"^output must differ from the input file, got users\.csv$"),
        (["output=out.h5"], r"^output: \.h5 cannot be written"),
        (["ranking.threshold=6"], r"^ranking\.threshold must be at most 5, the highest rating, got 6$"),
        (
            ["ranking.by=lower_bound"],
            r"^ranking\.by=lower_bound needs .* or folded-in users; got a run of optimizer=adam$",
        ),
        (["k=21"], r"^k must be at most 20, the number of items, got 21$"),
        (["unknown=popular"], r"^unknown must be one of error, baseline, got popular$"),
    ],
)
def test_mistake_is_a_one_line_error_and_leaves_no_files(run, here, arguments, message):
    (here / "users.csv").write_text("user_id\n99\n")
    output = [] if any(argument.startswith("output=") for argument in arguments) else ["output=out.csv"]
    with pytest.raises(UserError, match=message) as error:
        recommend(run, *output, *arguments)
    assert "\n" not in str(error.value)
    assert [path.name for path in here.iterdir()] == ["users.csv"]


def test_users_of_a_file_need_an_output(run, here):
    (here / "users.csv").write_text("user_id\n7\n3\n7\n")
    with pytest.raises(UserError, match=r"^set output=FILE to recommend to 2 users, or user=ID for a single one$"):
        recommend(run, "users=users.csv")


def test_user_given_as_a_file_of_users_is_a_mistake(run, here):
    with pytest.raises(UserError, match=r"^users: there is no file 42; user=42 names one user$"):
        recommend(run, "users=42")
    with pytest.raises(UserError, match=r"^users: there is no file none\.csv$"):
        recommend(run, "users=none.csv")


def test_genres_need_a_table_of_items(tmp_path):
    table = table_of([0, 0, 1, 1, 2, 2] * 2, [*range(6), *range(3, 9)], [1, 2, 3, 4, 5, 1] * 2)
    write_run_of(tmp_path / "run", equation_options("mf"), table)
    with pytest.raises(UserError, match=r"categories 'genres', since its data had none \(data\.items\.path\)$"):
        Run.load(tmp_path / "run").tables.items_with_genres(["Comedy"])


def test_python_takes_the_same_arguments(run):
    several = run.recommend_to_all(k=2, user_ids=["7", 7, 3], candidates=[1, "2", 3, 404], exclude_seen=False)
    assert several["user_id"].tolist() == [7, 7, 7, 7, 3, 3]
    alone = run.recommend(3, k=2, candidates=[1, 2, 3], exclude_seen=False)
    assert several["item_id"].tolist()[4:] == alone["item_id"].tolist()
    assert (
        run.recommend(3, k=9, candidates=run.tables.items_with_genres(["y"]), exclude_seen=False)["item_id"]
        .isin(run.tables.items_with_genres(["y"]))
        .all()
    )
    assert set(run.recommend_to_all(k=1)["user_id"]) == set(range(30))
    assert set(run.recommend_to_all(k=1, unknown="baseline")["user_id"]) == set(range(31))
    with_unknown = run.recommend_to_all(k=1, user_ids=[7, "nobody"], unknown="baseline")
    assert with_unknown["user_id"].tolist() == ["7", "nobody"]


def test_lists_from_python_have_ten_items_by_default(run):
    assert len(run.recommend(7, exclude_seen=False)) == 10
    assert len(run.recommend_to_all(user_ids=[7], exclude_seen=False)) == 10
    assert len(run.similar(run.item_ids.ids[0])) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"user_ids": [7, 229]},
            r"^user_ids: '229' has no training ratings; unknown=baseline recommends the bias baseline's list$",
        ),
        ({"candidates": ["a"]}, r"^candidates: no item has training ratings among 1 id, such as 'a'$"),
        ({"candidates": np.array([True, False])}, r"^candidates must be a list of ids, got array"),
        ({"threshold": "4"}, r"^threshold must be a finite number, got '4'$"),
        ({"threshold": True}, r"^threshold must be a finite number, got True$"),
        ({"threshold": 99}, r"^threshold must be at most 5, the highest rating, got 99$"),
        ({"exclude_seen": "no"}, r"^exclude_seen must be True or False, got 'no'$"),
        ({"unknown": "mean"}, r"^unknown must be one of error, baseline, got 'mean'$"),
        (
            {"unknown": "base_line"},
            r"^unknown must be one of error, baseline, got 'base_line'; did you mean baseline\?$",
        ),
        ({"k": 0}, r"^k must be at least 1, got 0$"),
        ({"k": "3"}, r"^k must be an integer, got '3'$"),
        ({"k": True}, r"^k must be an integer, got True$"),
    ],
)
def test_python_refuses_mistakes(run, arguments, message):
    with pytest.raises(UserError, match=message):
        run.recommend_to_all(**{"k": 1} | arguments)
    if "user_ids" not in arguments:
        with pytest.raises(UserError, match=message):
            run.recommend(7, **{"k": 1} | arguments)


def test_new_user_of_typed_ratings_gets_a_list_with_reasons(run, capsys):
    recommend(run, "ratings='{0: 5, title 3: 1}'", "k=2", "why=true")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "highest ratings of the new user"
    assert lines[1].split() == ["item_id", "title", "rating"]
    assert lines[-6].startswith("recommended to the new user, by expected gain: interest times probability of a ")
    assert lines[-5].split() == ["rank", "item_id", "title", "prediction", "±", "why"]
    assert "title 0 5: " in lines[-3]
    assert "title 3 1: " in lines[-3]
    assert lines[-2] == "±: standard deviation of the rating around its prediction"
    fixed = "with item weights and noise fixed"
    assert lines[-1] == f"why: the ratings that change the prediction most, and by how much, {fixed}"


def test_users_of_a_file_of_ratings_get_lists(run, here, capsys):
    (here / "new.csv").write_text("user_id,item_id,rating\nann,0,5\nbob,3,1\n")
    recommend(run, "ratings=new.csv", "output=lists.csv", "k=2", "why=true")
    listed = pd.read_csv("lists.csv")
    columns = ["user_id", "rank", "item_id", "title", "prediction", "standard_deviation", "why"]
    assert list(listed.columns) == columns
    assert listed["user_id"].tolist() == ["ann", "ann", "bob", "bob"]
    pd.testing.assert_series_equal(
        listed["prediction"][:2], run.fold_in({0: 5}).recommend(k=2)["prediction"].astype(float), check_names=False
    )
    assert capsys.readouterr().out.startswith("4 recommendations for 2 users in lists.csv")
    with pytest.raises(UserError, match="set output=FILE to recommend to 2 users, or user=ID for a single one"):
        recommend(run, "ratings=new.csv")
    recommend(run, "ratings=new.csv", "user=ann", "k=1")
    assert "recommended to user ann" in capsys.readouterr().out


def test_reasons_for_a_known_user_are_those_of_explain(run, capsys):
    recommend(run, "user=1", "k=1", "why=true")
    line = capsys.readouterr().out.splitlines()[-2]
    item = run.recommend(1, k=1)["item_id"][0]
    top = run.explain(1, [item], k=1).iloc[0]
    assert f"{top.rated_title} {top.rating:g}: {top.change:+.2f}" in line


def test_changes_that_round_to_0_are_no_reasons(run, here, monkeypatch):
    first, second, third = run.recommend(1, k=3)["item_id"]
    changes = pd.DataFrame(
        {
            "item_id": [first, first, first, second, second],
            "rated_item_id": [1, 2, 3, 1, 2],
            "rated_title": ["A", "B", "C", "A", "B"],
            "rating": [5.0, 2.0, 3.5, 5.0, 2.0],
            "change": [0.214, -0.006, 0.0049, 0.0012, -0.0049],
        }
    )
    monkeypatch.setattr(Run, "explain_list", lambda *_, **__: changes)
    recommend(run, "user=1", "output=list.csv", "k=3", "why=true")
    shown = pd.read_csv("list.csv").set_index("item_id")["why"].fillna("")
    assert shown.to_dict() == {first: "because of A 5: +0.21; despite B 2: -0.01", second: "", third: ""}


def test_reasons_tell_ratings_that_raised_a_prediction_from_those_that_lowered_it(run, here):
    """A reason's words give its sign, and a change that rounds to 0 is none."""
    ratings = {item: (1, 5)[item % 2] for item in range(12)}
    typed = ", ".join(f"{item}: {rating}" for item, rating in ratings.items())
    recommend(run, f"ratings='{{{typed}}}'", "output=lists.csv", "k=8", "why=true")
    shown = pd.read_csv("lists.csv").set_index("item_id")["why"].fillna("")
    folded, words = run.fold_in(ratings), set[str]()
    for item_id, text in shown.items():
        signs = {"because of": [], "despite": []}
        for row in folded.explain([item_id], k=3).itertuples():
            if abs(row.change) >= 0.005:
                word = "because of" if row.change > 0 else "despite"
                signs[word].append(f"{row.rated_title} {row.rating:g}: {row.change:+.2f}")
        words |= {word for word, reasons in signs.items() if reasons}
        assert text == "; ".join(f"{word} {'; '.join(reasons)}" for word, reasons in signs.items() if reasons)
    assert words == {"because of", "despite"}


def test_files_may_have_the_column_names_of_the_runs_own_data(tmp_path, capsys):
    provenance = PROVENANCE | {"columns": {"user": "userId", "item": "movieId", "rating": "stars"}}
    write_run_of(tmp_path / "run", equation_options("biased_mf"), table_with_features(), provenance=provenance)
    run = Run.load(tmp_path / "run")
    (tmp_path / "users.csv").write_text("userId\n3\n1\n")
    (tmp_path / "items.csv").write_text("movieId\n4\n5\n6\n")
    recommend(run, "users=users.csv", "items=items.csv", "output=lists.csv", "k=1", "exclude_seen=false")
    expected = run.recommend_to_all(k=1, user_ids=[3, 1], candidates=[4, 5, 6], exclude_seen=False)
    listed = pd.read_csv("lists.csv")
    assert listed[["user_id", "item_id"]].to_numpy().tolist() == expected[["user_id", "item_id"]].to_numpy().tolist()
    (tmp_path / "new.csv").write_text("userId,movieId,stars\nann,0,5\nbob,3,1\n")
    recommend(run, "ratings=new.csv", "output=lists.csv", "k=1")
    assert pd.read_csv("lists.csv")["user_id"].tolist() == ["ann", "bob"]
    new = pd.read_csv("new.csv")
    assert run.fold_in(new).folded_user_ids == ["ann", "bob"]
    edit_record(tmp_path / "run", provenance=PROVENANCE | {"columns": {"user": "usr"}})
    with pytest.raises(UserError, match=r"^columns\.user: users\.csv has no column 'user_id'; it has userId"):
        recommend(run, "users=users.csv", "output=lists.csv")


def test_users_and_ratings_exclude_each_other(run, here):
    (here / "users.csv").write_text("user_id\n1\n")
    with pytest.raises(UserError, match="leave out users: with ratings or features"):
        recommend(run, "users=users.csv", "ratings=new.csv", "output=lists.csv")


@pytest.mark.parametrize("key", ["ratings", "user_features", "item_features"])
def test_output_does_not_replace_a_file_of_ratings_or_features(run, here, key):
    (here / "mine.csv").write_text("user_id,item_id,rating\nann,0,5\n")
    with pytest.raises(UserError, match="output"):
        recommend(run, f"{key}=mine.csv", "output=mine.csv")
    assert (here / "mine.csv").read_text() == "user_id,item_id,rating\nann,0,5\n"


def test_reasons_for_a_known_user_leave_out_new_items(run, here, capsys):
    (here / "new.csv").write_text("user_id,item_id,rating\n2,777,5\n")
    recommend(run, "ratings=new.csv", "user=1", "k=21", "why=true")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[1:2] == ["777"]]
    assert ": " not in line


def test_list_of_the_bias_baseline_has_no_deviation(run, here, capsys):
    recommend(run, "ratings='{0: 5}'", "user=1", "k=1", "why=true")
    assert "nan" not in capsys.readouterr().out
    (here / "new.csv").write_text("user_id,item_id,rating\nann,0,5\n")
    recommend(run, "ratings=new.csv", "user=nobody", "unknown=baseline", "k=1")
    assert "nan" not in capsys.readouterr().out


def test_candidates_may_be_new_items(run, here, capsys):
    (here / "new.csv").write_text("user_id,item_id,rating\n2,777,5\n")
    (here / "items.csv").write_text("item_id\n777\n")
    recommend(run, "ratings=new.csv", "items=items.csv", "user=1")
    out = capsys.readouterr().out
    assert "left out" not in out
    assert out.splitlines()[-3].split()[:2] == ["1", "777"]
