"""The Python API: the same runs as on the command line, in a process left as it was."""

import gc
import inspect
import json
import logging
import logging.config
import os
import random
import re
import signal
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import OmegaConf
from pytorch_lightning import Callback, Trainer

import ratinglab
from ratinglab import api
from ratinglab.fitting.fit import Fit
from ratinglab.process import interrupts
from ratinglab.runs.hydra_files import read_config_dir
from ratinglab.training import run_trainer, training

pytestmark = pytest.mark.slow

BARE_TRAINER = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
QUICK = {"model": "biased_mf", "max_epochs": 2, "verbose": False}
TIMED = ("fit/seconds", "fit/ratings_per_second")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def frame():
    return make_frame()


def make_frame():
    """Make ratings of 30 users for 20 items, with times."""
    rows = [(user, item, 1 + (user * item + user) % 5, user * 86_400) for user in range(30) for item in range(20)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])


def train(*overrides, **settings):
    return ratinglab.train("logger=none", *overrides, **{**QUICK, **settings})


def metrics(run):
    return {tag: value for tag, value in run.metrics.items() if tag not in TIMED}


def record(run):
    """Read run.json without what depends on how the run was started."""
    content = json.loads((run.folder / "run.json").read_text())
    del content["provenance"]["command"], content["provenance"]["data"]
    return content


def test_frame_gives_the_same_run_as_its_csv_on_the_command_line(frame, tmp_path, command):
    frame.to_csv("ratings.csv", index=False)
    run = train(ratings=frame, columns={"timestamp": "timestamp"}, embedding_dim=4)
    settings = ["model=biased_mf", "model.embedding_dim=4", "trainer.max_epochs=2", "logger=none"]
    columns = ["data.columns.timestamp=timestamp"]
    same = ratinglab.load(command(tmp_path, "train", "data=csv", "data.path=ratings.csv", *columns, *settings).run)
    assert metrics(run) == metrics(same)
    files = [{path.relative_to(outcome.folder) for path in outcome.folder.rglob("*")} for outcome in (run, same)]
    assert files[0] == files[1]
    # threads differ: the tests' commands have one
    ours, theirs = (record(outcome) for outcome in (run, same))
    for content in (ours, theirs):
        del content["provenance"]["threads"], content["id"], content["started_with"]
    assert ours == theirs


BY_TIME = ("split=temporal", "data.columns.timestamp=timestamp")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Train on the frame as it is."""
    return metrics(train(*BY_TIME, f"hydra.run.dir={tmp_path_factory.mktemp('frame')}", ratings=make_frame()))


def views_in_a_dictionary(ids):
    """Encode ids as Polars exports its categories."""
    values = pa.array(ids.unique().astype(str), pa.string_view())
    return pa.DictionaryArray.from_arrays(pa.array(pd.factorize(ids)[0]), values)


@pytest.mark.parametrize(
    "convert",
    [
        lambda frame: frame.to_dict("series"),
        lambda frame: {name: frame[name].to_numpy() for name in frame},
        pa.Table.from_pandas,
        lambda frame: frame.astype({"user_id": "float64", "item_id": "category", "rating": "Float32"}),
        lambda frame: frame.astype({"user_id": str, "item_id": object}),
        lambda frame: frame.assign(timestamp=pd.to_datetime(frame["timestamp"], unit="s")),
        lambda frame: frame.assign(note=[object()] * len(frame)).set_index("note", append=True),
        lambda frame: frame.assign(other=[[1, "a"], *[{}] * (len(frame) - 1)]),
        lambda frame: frame.to_records(index=False),
        lambda frame: pa.table(frame).set_column(0, "user_id", views_in_a_dictionary(frame["user_id"])),
    ],
    ids="series arrays pyarrow categories texts datetimes index another_column structured polars_categories".split(),
)
def test_other_forms_of_the_same_ratings_give_the_same_run(frame, expected, convert):
    assert metrics(train(*BY_TIME, ratings=convert(frame))) == expected


def test_path_is_read_like_data_path(frame):
    frame.to_parquet("ratings.parquet")
    frame.to_csv("ratings.csv", index=False)
    assert metrics(train(ratings="ratings.csv")) == metrics(train(ratings=frame))
    halves = [f"{name}.csv" for name in "ab"]
    for name, rows in zip(halves, (frame[:300], frame[300:]), strict=True):
        rows.to_csv(name, index=False)
    assert metrics(train(ratings=halves)) == metrics(train(ratings="ratings.parquet"))


def test_override_with_an_odd_file_name_is_read_as_on_the_command_line(frame):
    frame.to_csv("b,c=d e.csv", index=False)
    assert metrics(train("data=csv", "data.path=b,c=d e.csv")) == metrics(train(ratings=frame))


def test_names_of_files_and_folders_may_look_like_interpolations(frame, tmp_path, monkeypatch):
    frame.to_csv("\\${seed}.csv", index=False)
    run = train(ratings="\\${seed}.csv", folder="out/ü ${x}")
    assert metrics(run) == metrics(train(ratings=frame))
    assert run.folder == tmp_path / "out" / "ü ${x}"
    monkeypatch.chdir("out")
    longer = ratinglab.train("resume=ü ${x}", "trainer.max_epochs=3", verbose=False)
    assert longer.folder == run.folder


def test_tables_of_users_and_items_give_features_and_titles(frame):
    users = pd.DataFrame({"uid": range(30), "group": ["old", "young", ""] * 10})
    items = pd.DataFrame({"iid": range(20), "title": [f"Film {item}" for item in range(20)], "genre": ["a|b"] * 20})
    columns = {"user": "uid", "item": "iid"}
    ratings = frame.rename(columns={"user_id": "uid", "item_id": "iid"})
    features = ("model.user_features=[group]", "model.item_features=[genre]")
    run = train(*features, ratings=ratings, users=users, items=items, columns=columns)
    recommended = run.recommend(3, k=20, exclude_seen=False)
    assert len(recommended) == 20
    assert recommended["title"].str.startswith("Film ").all()
    assert run.record.model_options["user_features"] == ["group"]
    untitled = train(*features, ratings=ratings, users=users, items=items[["iid", "genre"]], columns=columns)
    assert "title" not in untitled.recommend(3, k=2)
    assert metrics(untitled) == metrics(run)
    with pytest.raises(ratinglab.UserError, match=r"model.item_features=\[genre\] needs .* items: pass it as items=$"):
        train(features[1], ratings=ratings, columns=columns)


def test_items_without_titles_are_noted_if_another_column_may_hold_them(frame, capsys):
    names = pd.DataFrame({"item_id": range(20), "year": range(1980, 2000), "name": [f"Film {n}" for n in range(20)]})
    note = "note: the items have no titles: items has no column 'title'; "
    untitled = train(ratings=frame, items=names, verbose=True)
    assert f'{note}"data.items.title=NAME" names another column, such as name\n' in capsys.readouterr().out
    with pytest.raises(ratinglab.UserError, match=r"ratings: no item has the id 'Film 3' \(this run has no titles\)$"):
        untitled.fold_in({"Film 3": 5})
    for items, override in (
        (names[["item_id", "year"]], ()),
        (names, ("data.items.title=name",)),
        (names.assign(title=names["name"]), ("data.items.title=null",)),
    ):
        train(*override, ratings=frame, items=items, verbose=True)
        assert note not in capsys.readouterr().out


def test_frame_of_ratings_can_be_the_table_of_items(frame):
    ratings = frame.assign(title=[f"Film {item}" for item in frame["item_id"]])
    for items in (ratings, ratings[["item_id", "title"]]):
        recommended = train(ratings=ratings, items=items).recommend(3, k=20, exclude_seen=False)
        assert recommended["title"].tolist() == [f"Film {item}" for item in recommended["item_id"]]
    with pytest.raises(ratinglab.UserError, match=r"items, row 21 \(index 20\), column title: item 0 has an earlier"):
        train(ratings=ratings, items=ratings[["item_id"]].assign(title=range(len(ratings))))


def state():
    entries = logging.root.manager.loggerDict
    loggers = {name: entry for name, entry in entries.items() if isinstance(entry, logging.Logger)}
    loggers["root"] = logging.root
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "garbage collection": gc.get_threshold(),
        "warnings": list(warnings.filters),
        "random": (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()),
        "logging": {name: (logger.level, list(logger.handlers), logger.propagate) for name, logger in loggers.items()},
        "environment": dict(os.environ),
        "arguments": list(sys.argv),
        "path": list(sys.path),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "folder": os.getcwd(),
    }


def changes_since(before):
    """List the parts of the process's state that have changed."""
    after = state()
    return [name for name in before if after[name] != before[name]]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Train once, so that everything is imported."""
    train(f"hydra.run.dir={tmp_path_factory.mktemp('imported')}", ratings=make_frame())


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam", "seed": 4},
        {"optimizer": "block_sgd"},
        {"optimizer": "gibbs", "max_epochs": 30},
        {"optimizer": "als", "config_dir": "own"},
        {"embedding_dim": -1},
        {"columns": {"user": "nowhere"}},
    ],
    ids=str,
)
def test_calls_leave_the_process_as_it_was(frame, imported, tmp_path, settings):
    (tmp_path / "own").mkdir()
    torch.manual_seed(7)
    torch.set_num_threads(2)
    before = state()
    is_wrong = "embedding_dim" in settings or "columns" in settings
    with pytest.raises(ratinglab.UserError) if is_wrong else nullcontext():
        train("trainer.deterministic=true", ratings=frame, **settings)
    assert changes_since(before) == []


def test_run_of_a_call_records_the_folder_of_own_classes(frame):
    lab = Path(__file__).parent / "outside" / "lab"
    run = train(ratings=frame, model="dropout_mf", config_dir=lab)
    assert read_config_dir(run.folder) == str(lab)


@pytest.mark.parametrize("value", ["${nokey}", "${nores:1}", "???"])
def test_folder_that_cannot_be_resolved_is_one_line(frame, value):
    with pytest.raises(ratinglab.UserError) as error:
        train(f"hydra.run.dir={value}", ratings=frame)
    assert "\n" not in str(error.value)


def test_what_a_fit_sets_and_leaves_is_restored(frame, imported, monkeypatch):
    logger = logging.getLogger("pytorch_lightning")

    def careless(options, folder, *, command):
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        gc.set_threshold(1)
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        warnings.simplefilter("error")
        logger.setLevel(logging.CRITICAL)
        os.environ["LEFT"] = "1"
        del os.environ["PATH"]
        sys.path.append("left")
        raise ratinglab.UserError("stopped")

    torch.set_num_threads(2)
    torch.manual_seed(123)
    before = state()
    monkeypatch.setattr(api, "train_run", careless)
    with pytest.raises(ratinglab.UserError, match="stopped"):
        train(ratings=frame)
    assert changes_since(before) == []


def test_loading_leaves_the_random_state_as_it_was(frame):
    run = train(ratings=frame)
    torch.manual_seed(123)
    before = state()
    ratinglab.load(run.folder)
    assert changes_since(before) == []


@pytest.mark.parametrize(
    ("mode", "optimizer", "max_epochs"),
    [
        (torch.no_grad, "sparse_adam", 2),
        (torch.inference_mode, "adam", 2),
        (lambda: torch.set_default_dtype(torch.float64), "gibbs", 22),
    ],
    ids=["no_grad", "inference_mode", "float64"],
)
def test_modes_of_torch_change_no_result_and_remain(frame, mode, optimizer, max_epochs):
    settings = {"ratings": frame, "optimizer": optimizer, "max_epochs": max_epochs}
    expected = metrics(train(**settings))
    try:
        with mode() or nullcontext():
            before = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()
            assert metrics(train(**settings)) == expected
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()) == before
    finally:
        torch.set_default_dtype(torch.float32)


def test_calls_in_threads_run_one_by_one(frame):
    before = state()
    with ThreadPoolExecutor(3) as threads:
        runs = list(
            threads.map(lambda seed: train(ratings=frame, seed=seed, optimizer="gibbs", max_epochs=22), range(3))
        )
    for seed, run in enumerate(runs):
        assert f"seed={seed}" in json.loads((run.folder / "run.json").read_text())["provenance"]["command"]
        assert (run.folder / "train.log").read_text().count("data frame: 600 ratings") == 1
    assert set(changes_since(before)) <= {"logging"}, "loggers that imports have made"
    assert logging.getLogger("ratinglab").propagate


def test_lines_are_logged_whatever_the_caller_has_configured(frame, capsys):
    logging.config.dictConfig({"version": 1})
    logging.disable(logging.CRITICAL)
    try:
        train(ratings=frame, verbose=True)
        assert logging.getLogger("ratinglab.training.training").disabled
        assert logging.root.manager.disable == logging.CRITICAL
    finally:
        logging.disable(logging.NOTSET)
        for name, logger in logging.root.manager.loggerDict.items():
            if name.startswith(("ratinglab", "pytorch_lightning")) and isinstance(logger, logging.Logger):
                logger.disabled = False
    assert capsys.readouterr().out.count("data frame: 600 ratings") == 1


def test_trainings_in_one_process_do_not_depend_on_earlier_ones(frame):
    first = train(ratings=frame, optimizer="gibbs", seed=1, max_epochs=25)
    train(ratings=frame, optimizer="sparse_adam", seed=2)
    torch.manual_seed(5)
    np.random.seed(5)
    assert metrics(train(ratings=frame, optimizer="gibbs", seed=1, max_epochs=25)) == metrics(first)


NO_FRAME = {"user_id": [1], "item_id": [2], "rating": [3.0]}


@pytest.mark.parametrize(
    ("overrides", "settings", "message"),
    [
        ((), {"embedding_dim": -1}, "model.embedding_dim must be .*, got -1"),
        ((), {"recipe": "biased_mf_gibs"}, "unknown recipe=biased_mf_gibs: .*; did you mean biased_mf_gibbs"),
        (("model.embeding_dim=3",), {}, r"unknown key model.embeding_dim; did you mean model.embedding_dim\?"),
        (("embedding_dim",), {}, "embedding_dim: an argument must be KEY=VALUE"),
        (("data=demo",), {}, "give ratings as a keyword or the text data=NAME, not both"),
        ((), {"ratings": "nowhere.csv"}, "data.path: there is no file nowhere.csv"),
        ((), {"ratings": 7}, "ratings must be a data frame, arrays by column name, or a path, got int"),
        ((), {"ratings": None, "users": NO_FRAME}, "users= needs ratings="),
        ((), {"ratings": ""}, "data.path must be a file, a pattern or a folder in .*, got the folder "),
        ((), {"ratings": []}, "data.path must name at least one file"),
        ((), {"ratings": [NO_FRAME]}, "ratings must be a data frame, arrays by column name, or a path, got list"),
        ((), {"ratings": pd.Series([1.0])}, "ratings must be a data frame, .* got Series"),
        ((), {"ratings": NO_FRAME | {"user_id": ["a", True]}}, "row 2, column 'user_id': .*, 'a', got True$"),
        (("search=timesvdpp_gibbs", "model.embedding_dim=8"), {}, "^search=timesvdpp_gibbs needs a sweep: "),
        ((), {"ratings": NO_FRAME | {"user_id": [b"a", 1]}}, "row 2, column 'user_id': .*, b'a', got 1$"),
        (("data.path=x.csv",), {}, "give ratings as a keyword or as the text data.path=…, not both"),
        (("seed=4",), {"seed": 3}, "give seed as a keyword or as the text seed=…, not both"),
        (
            ("--config-dir=x",),
            {},
            "--config-dir=x: flags work only on the command line; use config_dir=FOLDER for --config-dir",
        ),
        ((), {"columns": {"user": "userId"}}, r"data.columns.user: ratings has no column 'userId'; it has user_id,"),
        ((), {"columns": {"user": "userId"}}, r"; columns=\{'user': NAME\} names it$"),
        (
            (),
            {"items": {"Nr": [2], "title": ["A"]}},
            r"items has no column 'item_id'; it has Nr, title; \"data.items.item=NAME\" names it$",
        ),
        (
            (),
            {"ratings": NO_FRAME | {"day": ["31.01.2006"]}, "columns": {"timestamp": "day"}},
            r"ratings, row 1: .*got '31.01.2006'; timestamp_format='%d.%m.%Y' reads it$",
        ),
        ((), {"columns": {"usr": "userId"}}, "unknown key data.columns.usr; did you mean data.columns.user"),
        ((), {"ratings": NO_FRAME | {"rating": ["x"]}}, "ratings, row 1: the rating must be a number, got 'x'"),
        (
            (),
            {"ratings": pd.DataFrame({"user_id": [1, 2], "item_id": [2, 2], "rating": [3.5, "five"]})},
            r"^ratings, row 2 \(index 1\), column 'rating': .* must have the type of the first, 3.5, got 'five'$",
        ),
        (
            (),
            {"ratings": pd.DataFrame({"user_id": ["a", 1, 2.5], "item_id": 2, "rating": 3}, index=[7, 8, 9])},
            r"^ratings, row 3 \(index 9\), column 'user_id': the value must have the type of the first, 'a', got 2.5$",
        ),
        (
            (),
            {"ratings": pd.DataFrame(NO_FRAME | {"rating": ["2,5"]})},
            r"^ratings, row 1 \(index 0\): .* got '2,5'; pd.read_csv\(…, decimal=\",\"\) reads a decimal comma$",
        ),
        (
            (),
            {"ratings": pd.DataFrame({"user_id": [1, 2], "item_id": 2, "rating": [3.5, "2,5"]}, index=[1, 2])},
            r"^ratings, row 2, column 'rating': .*, 3.5, got '2,5'; pd.read_csv\(…, decimal=\",\"\) reads a decimal",
        ),
        (
            (),
            {"ratings": pd.DataFrame({"user_id": [1, 1], "item_id": 2, "rating": [3, 4]}, index=["a", "b"])},
            r"\(ratings, row 2 \(index b\), user 1 and item 2 as in ratings, row 1 \(index a\)",
        ),
        ((), {"ratings": NO_FRAME | {"rating": [np.inf]}}, "ratings, row 1: the rating must be finite, got inf"),
        ((), {"ratings": NO_FRAME | {"user_id": [None]}}, "ratings, row 1: 'user_id' must not be null"),
        ((), {"ratings": NO_FRAME | {"user_id": [1.5]}}, "ratings, row 1: the user id must be an integer or text"),
        ((), {"ratings": NO_FRAME | {"user_id": [""]}}, "ratings, row 1: the user id must not be blank"),
        ((), {"ratings": NO_FRAME | {"user_id": [1, 2]}}, "ratings: "),
        ((), {"ratings": NO_FRAME | {"user_id": [[1, 2]]}}, "ratings, column 'user_id' must have one dimension, got 2"),
        ((), {"ratings": pd.DataFrame(NO_FRAME)[:0]}, "ratings has no ratings"),
        (
            (),
            {"ratings": {"user_id": [1, 2.5j], "item_id": [2, 2], "rating": [3, 4]}},
            "row 2, column 'user_id': the value must have the type of the first, 1, got 2.5j",
        ),
        (
            (),
            {"ratings": {"user_id": [1, 1], "item_id": [2, 2], "rating": [3, 4]}},
            r"rows that repeat an earlier row's user and item: 1 \(ratings, row 2, user 1 and item 2 as in ",
        ),
        ((), {"config_dir": "nope"}, "^config_dir: there is no folder nope$"),
        ((), {"model": "mf,nmf"}, r"^unknown model=mf,nmf: .* \(config_dir=FOLDER adds your own\)$"),
        (("seed=1,2",), {}, "^seed=1,2: several values need a sweep: sweeps run from the command line, "),
        (("seed=choice(1,2)",), {}, r"^seed=choice\(1,2\): several values need a sweep: sweeps run from the command "),
        (("search=biased_mf_gibbs",), {}, "^search=biased_mf_gibbs needs a sweep: sweeps run from the command line, "),
        ((), {"folder": "full"}, "folder must be a new or empty folder, got"),
        (("resume=full",), {"ratings": None}, "resume: .*full is not the folder of a run"),
    ],
    ids=str,
)
def test_mistake_is_a_one_line_error_and_leaves_no_files(frame, tmp_path, overrides, settings, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    keywords = {"ratings": frame, **settings}
    keywords = {name: value for name, value in keywords.items() if value is not None}
    if overrides and overrides[0].startswith("resume"):
        keywords = {}
    with pytest.raises(ratinglab.UserError, match=message) as caught:
        ratinglab.train("logger=none", *overrides, **keywords) if keywords else ratinglab.train(*overrides)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_wrong_kinds_of_arguments_are_user_errors_and_type_errors(frame):
    with pytest.raises(ratinglab.UserError, match="unexpected keyword argument 'embeding_dim'"):
        ratinglab.train(ratings=frame, embeding_dim=4)
    with pytest.raises(TypeError, match="unexpected keyword argument 'embeding_dim'; did you mean embedding_dim"):
        ratinglab.train(ratings=frame, embeding_dim=4)
    with pytest.raises(
        TypeError, match=r"arguments must be overrides.*got DataFrame; pass a data frame as ratings=frame"
    ):
        ratinglab.train(frame)
    with pytest.raises(TypeError, match="columns must be names by role"):
        ratinglab.train(ratings=frame, columns=["userId"])
    with pytest.raises(ratinglab.UserError, match="ratings cannot be read as a table: "):
        ratinglab.train(ratings=pa.chunked_array([[1, 2]]))
    with pytest.raises(TypeError, match="verbose must be True or False, got 'no'"):
        ratinglab.train(ratings=frame, verbose="no")
    assert metrics(train(ratings=frame, verbose=0)) == metrics(train(ratings=frame))


def test_ids_may_be_integers_and_texts_in_one_column(frame):
    user_id = [str(user) if user % 2 else user for user in frame["user_id"]]
    mixed = frame.assign(user_id=pd.Series(user_id, dtype=object))
    assert metrics(train(ratings=mixed)) == metrics(train(ratings=frame))
    large = frame.assign(user_id=[10**30 + user for user in frame["user_id"]])
    assert train(ratings=large).predict([10**30 + 3], [2]) == train(ratings=frame).predict([3], [2])


def test_threshold_may_be_the_highest_rating_though_float32_rounds_it_down(frame):
    run = train(ratings=frame.assign(rating=frame["rating"] * 0.14))
    assert len(run.recommend(3, k=2, threshold=0.7, exclude_seen=False)) == 2
    with pytest.raises(ratinglab.UserError, match=r"^threshold must be at most 0.7, the highest rating, got 0.75$"):
        run.recommend(3, k=2, threshold=0.75)


def test_timestamp_format_reads_dates_as_text(frame):
    columns = {"timestamp": "timestamp"}
    texts = frame.assign(timestamp=pd.to_datetime(frame["timestamp"], unit="s").dt.strftime("%d.%m.%Y"))
    run = train("split=temporal", ratings=texts, columns=columns, timestamp_format="%d.%m.%Y")
    assert metrics(run) == metrics(train("split=temporal", ratings=frame, columns=columns))


def test_none_stands_for_an_argument_left_out(frame):
    assert metrics(train(ratings=frame, recipe=None, columns=None, seed=None)) == metrics(train(ratings=frame))


def test_mistakes_hide_the_exceptions_that_they_came_from(frame):
    """A notebook would print them all above the one line that helps."""
    with pytest.raises(ratinglab.UserError) as caught:
        train(ratings=frame, recipe="none_such")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("function", [ratinglab.train, ratinglab.cross_validate, ratinglab.lightning])
def test_signature_lists_the_keywords(function):
    parameters = inspect.signature(function).parameters
    assert {"ratings", "recipe", "embedding_dim", "verbose"} <= parameters.keys()
    assert (parameters["verbose"].default, parameters["recipe"].default) == (True, None)


def test_cross_validation_trains_the_folds_of_the_split(frame):
    table = ratinglab.cross_validate("logger=none", ratings=frame, folds=3, **QUICK)
    assert table.index.tolist() == [1, 2, 3]
    second = train("split=kfold", "split.folds=3", "split.fold=2", ratings=frame)
    assert {tag: table.loc[2, tag] for tag in metrics(second)} == metrics(second)
    assert metrics(ratinglab.load(table.loc[2, "folder"])) == metrics(second)


def test_finished_folds_of_a_failed_cross_validation_are_named(frame, monkeypatch):
    folders = []

    def train_or_diverge(options, folder, *, command):
        folders.append(folder)
        if len(folders) == 2:
            raise ratinglab.RunFailedError("diverged")
        return training.train_run(options, folder, command=command)

    monkeypatch.setattr(api, "train_run", train_or_diverge)
    with pytest.raises(ratinglab.RunFailedError) as caught:
        ratinglab.cross_validate("logger=none", ratings=frame, **QUICK)
    (note,) = caught.value.__notes__
    assert note.startswith("1 of 5 folds are finished: outputs/sweeps/")


@pytest.mark.parametrize("override", ["split.fold=2", "split.folds=3", "hydra.run.dir=x"])
def test_cross_validation_sets_the_keys_of_folds(frame, override):
    with pytest.raises(ratinglab.UserError, match=f"{override.split('=')[0]} cannot be set"):
        ratinglab.cross_validate(override, ratings=frame)


def test_cross_validation_reads_a_stream_of_arrow_data_once(frame):
    stream = pa.table(frame).to_reader()
    assert len(ratinglab.cross_validate("logger=none", ratings=stream, folds=2, **QUICK)) == 2


def test_cross_validation_of_a_ranking_model_prints_its_metric(frame, capsys):
    table = ratinglab.cross_validate("logger=none", ratings=frame, recipe="ease", folds=2)
    first, _, mean = capsys.readouterr().out.splitlines()
    assert re.match(r"fold 1 of 2   test/ndcg@10 0\.\d{4}   outputs", first)
    assert mean.startswith(f"mean of 2 folds   test/ndcg@10 {table['test/ndcg@10'].mean():.4f}   outputs/sweeps/")


def test_cross_validation_lists_metrics_of_the_model_first(frame, capsys):
    table = ratinglab.cross_validate("logger=none", ratings=frame, folds=2, **QUICK)
    metrics = [f"{part}/{name}" for part in ("test", "val") for name in ("mse", "rmse", "mae")]
    assert [*table.columns[:7]] == [*metrics, "fit/seconds"]
    assert table.columns[-1] == "folder"
    assert capsys.readouterr().out == ""


def test_cross_validation_needs_a_split_with_folds(frame, tmp_path):
    with pytest.raises(ratinglab.UserError, match=r"cross_validate needs a split with folds.*got random"):
        ratinglab.cross_validate("split=random", ratings=frame)
    assert list(tmp_path.iterdir()) == []


def test_run_resumes_from_python_to_the_same_result(frame):
    whole = train(ratings=frame, max_epochs=4)
    half = train(ratings=frame, max_epochs=2)
    extended = ratinglab.train(f"resume={half.folder}", "trainer.max_epochs=4", ratings=frame, verbose=False)
    assert extended.folder == half.folder
    assert metrics(extended) == metrics(whole)


def test_run_of_several_frames_resumes_with_all_of_them(frame):
    users, items = frame[["user_id"]].drop_duplicates(), frame[["item_id"]].drop_duplicates()
    frames = {"ratings": frame, "users": users.assign(group="a"), "items": items.assign(genre="b")}
    run = train(**frames)
    resume = f"resume={run.folder}"
    with pytest.raises(ratinglab.UserError, match=r"data.users.path: .* data frame: .* ratings=frame, users=frame\)$"):
        ratinglab.train(resume, ratings=frame, verbose=False)
    with pytest.raises(ratinglab.UserError, match=r"data.items.path: .* data frame: .* ratings=frame, items=frame\)$"):
        ratinglab.train(resume, ratings=frame, users=frames["users"], verbose=False)
    extended = ratinglab.train(resume, max_epochs=4, verbose=False, **frames)
    assert metrics(extended) == metrics(train(max_epochs=4, **frames))


@pytest.mark.parametrize(
    ("compute", "fault"),
    [
        ("lambda predicted, rating: 1 / 0", r".*/faulty_metric_\d.py, line 3: ZeroDivisionError: division by zero"),
        ("lambda predicted, rating: 'high'", "must return a number, got str"),
        ("partial(lambda k, predicted, rating: 1 / 0, 2)", r".*/faulty_metric_\d.py, line 3: ZeroDivisionError: .*"),
    ],
)
def test_faulty_metric_is_found_before_the_fit(frame, tmp_path, monkeypatch, compute, fault):
    name = f"faulty_metric_{len(compute) % 10}"
    imports = "from functools import partial\nfrom ratinglab.evaluation.metrics import Metric"
    code = f"{imports}\nown = Metric('own', 'own', True, {compute})\n"
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / f"{name}.py").write_text(code)
    with pytest.raises(ratinglab.UserError, match=f"^metrics: own:? {fault}$"):
        train(f"metrics=[mse,{name}.own]", ratings=frame, config_dir=tmp_path / "lab")
    assert not (tmp_path / "outputs").exists()


class Interrupt(Callback):
    """Sends SIGINT to this process in the second epoch, once or twice."""

    times = 1

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 1:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
                time.sleep(0.01)


@pytest.mark.parametrize(("times", "done"), [(1, "after 2 of 9 epochs"), (2, "within the epoch")])
def test_ctrl_c_raises_keyboard_interrupt_and_the_run_resumes(frame, monkeypatch, times, done):
    monkeypatch.setattr(Interrupt, "times", times)
    monkeypatch.setattr(interrupts, "SAME_REQUEST_SECONDS", 0)
    monkeypatch.setattr(run_trainer, "progress_callbacks", lambda **_: [Interrupt()])
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(
        KeyboardInterrupt,
        match=f"stopped by SIGINT {done}; to resume: ratinglab.train\\('resume=outputs.*', ratings=ratings",
    ):
        train(ratings=frame, max_epochs=9)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    (run,) = Path("outputs").glob("*/*")
    monkeypatch.setattr(run_trainer, "progress_callbacks", lambda **_: [])
    resumed = ratinglab.train(f"resume={run}", ratings=frame, verbose=False)
    assert metrics(resumed) == metrics(train(ratings=frame, max_epochs=9))


def test_load_takes_the_names_of_runs(frame):
    runs = [train(ratings=frame, max_epochs=epochs) for epochs in (9, 1)]
    assert ratinglab.load("latest").folder == runs[1].folder
    assert ratinglab.load("best").folder == runs[0].folder
    with pytest.raises(ratinglab.UserError, match=r"run: there is no folder .*outputs/nowhere"):
        ratinglab.load("outputs/nowhere")
    with pytest.raises(ratinglab.UserError, match=r"^folder must be a path, latest or best, got None$"):
        ratinglab.load(None)


def test_run_of_a_data_frame_cannot_resume_on_the_command_line(frame, tmp_path, command):
    run = train(ratings=frame)
    outcome = command(tmp_path, "train", f"resume={run.folder}", status=2)
    assert outcome.stderr.startswith("error: data.path: the run was trained on a data frame: resume it from")


def fit_with_own_trainer(*overrides: str, **options: Any) -> tuple[Trainer, Fit]:
    """Fit a module with a Trainer of these options, by default for one epoch."""
    module, data = ratinglab.lightning(*overrides, ratings=make_frame(), model="biased_mf")
    trainer = Trainer(**{"max_epochs": 1, **options}, **BARE_TRAINER)
    trainer.fit(module, datamodule=data)
    return trainer, module


def have_equal_weights(module: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = module.state_dict(), other.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_lightning_objects_work_with_the_callers_trainer(frame):
    module, data = ratinglab.lightning(ratings=frame, model="biased_mf", lr=0.05)
    trainer = Trainer(max_epochs=5, **BARE_TRAINER)
    trainer.fit(module, datamodule=data)
    same = train("optimizer.lr=0.05", "callbacks.early_stopping.patience=null", ratings=frame, max_epochs=5)
    rows = data.validation_ratings
    user, item = torch.from_numpy(rows.user), torch.from_numpy(rows.item)
    mse = (module.predictor(user, item) - torch.from_numpy(rows.rating)).square().mean()
    assert trainer.callback_metrics["val/mse"] == pytest.approx(float(mse), rel=1e-5)
    assert same.metrics["val/mse"] <= float(mse) * (1 + 1e-5)
    assert trainer.validate(module, datamodule=data, verbose=False)[0]["val/mse"] == pytest.approx(float(mse), rel=1e-5)
    rows = data.test_ratings
    predicted = module.predictor(torch.from_numpy(rows.user), torch.from_numpy(rows.item))
    mse = (predicted - torch.from_numpy(rows.rating)).square().mean()
    assert trainer.test(module, datamodule=data, verbose=False) == [{"test/mse": pytest.approx(float(mse), rel=1e-5)}]


def test_options_of_batches_are_overrides_of_lightning():
    def weights(*overrides: str) -> torch.Tensor:
        _, module = fit_with_own_trainer("data.batch_size=2", *overrides)
        return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])

    usual = weights()
    for override in ("accumulate_grad_batches=2", "gradient_clip_val=1e-6", "limit_train_batches=0.5"):
        assert not torch.allclose(usual, weights(f"trainer.{override}"), rtol=1e-3)


@pytest.mark.parametrize("accumulate", [1, 48])
def test_callers_trainer_can_cut_an_epoch_short(accumulate):
    """The epoch has 96 batches of 5 ratings, which are two steps of Lightning: one of 64 batches and one of 32."""
    overrides = [f"trainer.accumulate_grad_batches={accumulate}", "data.batch_size=5"]
    cut, module = fit_with_own_trainer(*overrides, max_epochs=2, limit_train_batches=1)
    same, same_module = fit_with_own_trainer(*overrides, f"trainer.limit_train_batches={64 / 96}", max_epochs=2)
    whole, _ = fit_with_own_trainer(*overrides, max_epochs=2)
    assert cut.callback_metrics == same.callback_metrics
    assert cut.callback_metrics["train/mse"] != whole.callback_metrics["train/mse"]
    assert have_equal_weights(module, same_module)


class StopAfterFirstStep(Callback):
    """Stop in the middle of an epoch, counted from 0, by Lightning's own means."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.current_epoch == self.epoch


class StopAfterValidation(Callback):
    """Stop after the first validation, as early stopping does."""

    def on_validation_end(self, trainer, pl_module):
        trainer.should_stop = not trainer.sanity_checking


@pytest.mark.parametrize(
    "options",
    [
        {"callbacks": [StopAfterFirstStep(0)]},
        {"callbacks": [StopAfterValidation()], "val_check_interval": 1},
        {"max_steps": 1},
    ],
    ids=["after a step", "after a validation", "by max_steps"],
)
def test_callers_trainer_can_stop_within_an_epoch(options):
    """The epoch has two steps of Lightning; 64 batches of the first leave 16 for the last step of the optimizer."""
    fitted = partial(fit_with_own_trainer, "trainer.accumulate_grad_batches=48", "data.batch_size=5")
    stopped, module = fitted(**options)
    same, same_module = fitted(limit_train_batches=1)
    assert stopped.callback_metrics["train/mse"] == same.callback_metrics["train/mse"]
    assert have_equal_weights(module, same_module)
    first, second = (fitted(max_epochs=2, callbacks=[StopAfterFirstStep(epoch)])[0] for epoch in (0, 1))
    assert second.current_epoch == 2
    assert second.callback_metrics["train/mse"] < 0.95 * first.callback_metrics["train/mse"]


@pytest.mark.parametrize("name", ["accumulate_grad_batches", "gradient_clip_val"])
def test_callers_trainer_refuses_options_of_batches(name):
    with pytest.raises(MisconfigurationException, match=f"Remove `Trainer\\({name}="):
        fit_with_own_trainer(**{name: 2})


def test_hydra_app_can_train_and_stays_as_it_was(frame):
    """The app is a sweep of its own; in a sweep of ratinglab's, the test rows would stay closed."""
    with initialize_config_module("ratinglab.conf"):
        app = GlobalHydra.instance().hydra
        HydraConfig.instance().cfg = config = OmegaConf.create(
            {"hydra": {"mode": "MULTIRUN", "sweeper": {"_target_": "Optuna"}}}
        )
        try:
            assert "test/mse" in train(ratings=frame).metrics
            assert HydraConfig.instance().cfg is config
        finally:
            HydraConfig.instance().cfg = None
        assert GlobalHydra.instance().hydra is app


def test_call_from_python_is_one_process(frame, tmp_path):
    with pytest.raises(ratinglab.UserError, match=r"must be 1 in a call from Python.* ratinglab train"):
        train("trainer.devices=2", ratings=frame, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_lightning_starts_from_the_weights_of_a_run_and_refuses_to_resume(frame):
    latest = pd.DataFrame([[-1, 3, 4, 10**9]], columns=frame.columns)  # of a user without training rows
    arguments = {"ratings": pd.concat([latest, frame]), "columns": {"timestamp": "timestamp"}, "model": "biased_mf"}
    run = train("split=temporal", **arguments)
    module, data = ratinglab.lightning(f"from={run.folder}", "split=temporal", **arguments)
    assert have_equal_weights(module.predictor.model, run.predictor.model)
    user_ids, item_ids = [7, 20, 0, -1, 999], [3, 19, 999, 5, 5]
    user, item = data.user_ids.index_of(user_ids), data.item_ids.index_of(item_ids)
    predicted = module.predictor(torch.from_numpy(user), torch.from_numpy(item))
    assert predicted.tolist() == run.predict(user_ids, item_ids).tolist()
    with pytest.raises(ratinglab.UserError, match="resume continues a run with ratinglab's own Trainer"):
        ratinglab.lightning(f"resume={run.folder}", ratings=frame)


def test_ones_own_trainer_counts_steps_and_writes_checkpoints(frame, tmp_path):
    module, data = ratinglab.lightning("data.batch_size=100", ratings=frame, model="biased_mf")
    trainer = Trainer(max_epochs=2, logger=False, default_root_dir=tmp_path, enable_progress_bar=False)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step > 0
    assert Path(trainer.checkpoint_callback.best_model_path).is_file()


def test_run_shows_its_metrics_in_a_notebook(frame):
    run = train(ratings=frame)
    html = run._repr_html_()
    assert f"{run.metrics['test/rmse']:.4f}" in html
    assert str(run.folder) in html
    assert repr(run) == f"Run('{run.folder}', model='biased_mf')"


def test_training_prints_what_the_command_prints(frame, capsys):
    run = train(ratings=frame, verbose=True)
    printed = capsys.readouterr().out
    assert printed.startswith("data       data frame: 600 ratings of 30 users over 20 items")
    assert f"{run.metrics['test/rmse']:.4f}" in printed
    logged = (run.folder / "train.log").read_text()
    assert "data frame: 600 ratings" in logged
    train(ratings=frame)
    assert capsys.readouterr().out == ""
