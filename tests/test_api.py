"""The Python API: the same runs as on the command line, in a process left as it was."""

import gc
import inspect
import json
import logging
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from pytorch_lightning import Callback, Trainer

import ratinglab
from ratinglab import interrupts
from ratinglab.experiment import training

QUICK = {"model": "biased_mf", "max_epochs": 2, "verbose": False}
TIMED = ("fit/seconds", "fit/ratings_per_second")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def frame():
    """Ratings of 30 users for 20 items, with times."""
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
    files = [{path.relative_to(each.folder) for path in each.folder.rglob("*")} for each in (run, same)]
    assert files[0] == files[1]
    # threads differ: the tests' commands have one
    ours, theirs = (record(each) for each in (run, same))
    for each in (ours, theirs):
        del each["provenance"]["threads"]
    assert ours == theirs


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
    ],
    ids=["series", "arrays", "pyarrow", "categories", "texts", "datetimes", "index", "another column"],
)
def test_other_forms_of_the_same_ratings_give_the_same_run(frame, convert):
    split = ("split=temporal", "data.columns.timestamp=timestamp")
    assert metrics(train(*split, ratings=convert(frame))) == metrics(train(*split, ratings=frame))


def test_path_is_read_like_data_path(frame):
    frame.to_parquet("ratings.parquet")
    frame.to_csv("ratings.csv", index=False)
    assert metrics(train(ratings="ratings.csv")) == metrics(train(ratings=frame))
    halves = [f"{name}.csv" for name in "ab"]
    for name, rows in zip(halves, (frame[:300], frame[300:]), strict=True):
        rows.to_csv(name, index=False)
    assert metrics(train(ratings=halves)) == metrics(train(ratings="ratings.parquet"))


def test_tables_of_users_and_items_give_features_and_titles(frame):
    users = pd.DataFrame({"uid": range(30), "group": ["old", "young", ""] * 10})
    items = pd.DataFrame({"iid": range(20), "title": [f"Film {item}" for item in range(20)], "genre": ["a|b"] * 20})
    columns = {"user": "uid", "item": "iid"}
    ratings = frame.rename(columns={"user_id": "uid", "item_id": "iid"})
    features = ("model.user_features=[group]", "model.item_features=[genre]")
    run = train(*features, ratings=ratings, users=users, items=items, columns=columns)
    assert run.recommend(3, k=20).title.str.startswith("Film ").all() or len(run.recommend(3, k=20)) == 0
    assert run.record.model_options["user_features"] == ["group"]


def state():
    loggers = {name: each for name, each in logging.root.manager.loggerDict.items() if isinstance(each, logging.Logger)}
    loggers["root"] = logging.root
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "garbage collection": gc.get_threshold(),
        "warnings": list(warnings.filters),
        "random": (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()),
        "logging": {name: (each.level, list(each.handlers), each.propagate) for name, each in loggers.items()},
        "environment": dict(os.environ),
        "arguments": list(sys.argv),
        "path": list(sys.path),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "folder": os.getcwd(),
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam"},
        {"optimizer": "block_sgd"},
        {"optimizer": "gibbs", "max_epochs": 30},
        {"optimizer": "als", "config_dir": "own"},
        {"embedding_dim": -1},
        {"columns": {"user": "nowhere"}},
    ],
    ids=str,
)
def test_calls_leave_the_process_as_it_was(frame, tmp_path, settings):
    (tmp_path / "own").mkdir()
    train(ratings=frame)  # imports
    torch.manual_seed(7)
    torch.set_num_threads(2)
    before = state()
    try:
        train("trainer.deterministic=true", ratings=frame, **settings)
    except ratinglab.UserError:
        assert "embedding_dim" in settings or "columns" in settings
    after = state()
    for name, value in before.items():
        assert after[name] == value, name


def test_training_does_not_depend_on_earlier_runs_in_the_process(frame):
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
        (("data=demo",), {}, "give either ratings= or an override data=NAME, not both"),
        ((), {"ratings": "nowhere.csv"}, "data.path: there is no file nowhere.csv"),
        ((), {"ratings": 7}, "ratings must be a data frame, arrays by column name, or a path, got int"),
        ((), {"ratings": None, "users": NO_FRAME}, "users= needs ratings="),
        ((), {"columns": {"user": "userId"}}, r"data.columns.user: ratings has no column 'userId'; it has user_id,"),
        ((), {"columns": {"usr": "userId"}}, "unknown key data.columns.usr; did you mean data.columns.user"),
        ((), {"ratings": NO_FRAME | {"rating": ["x"]}}, "ratings, row 1: the rating must be a number, got 'x'"),
        ((), {"ratings": NO_FRAME | {"rating": [np.inf]}}, "ratings, row 1: the rating must be finite, got inf"),
        ((), {"ratings": NO_FRAME | {"user_id": [None]}}, "ratings, row 1: 'user_id' must not be null"),
        ((), {"ratings": NO_FRAME | {"user_id": [1.5]}}, "ratings, row 1: the user id must be an integer or text"),
        ((), {"ratings": NO_FRAME | {"user_id": [""]}}, "ratings, row 1: the user id must not be blank"),
        ((), {"ratings": NO_FRAME | {"user_id": [1, 2]}}, "ratings: "),
        ((), {"ratings": pd.DataFrame(NO_FRAME)[:0]}, "ratings has no ratings"),
        (
            (),
            {"ratings": {"user_id": [1, "b"], "item_id": [2, 2], "rating": [3, 4]}},
            "ratings, column 'user_id' must hold values of one type",
        ),
        (
            (),
            {"ratings": {"user_id": [1, 1], "item_id": [2, 2], "rating": [3, 4]}},
            r"rows that repeat an earlier row's user and item: 1 \(ratings, row 2, user 1 and item 2 as in ",
        ),
        ((), {"folder": "full"}, "folder must be a new or empty folder, got"),
        (("resume=full",), {"ratings": None}, "resume: .*full is not the folder of a run"),
    ],
    ids=str,
)
def test_mistake_is_a_one_line_error_and_leaves_no_files(frame, tmp_path, overrides, settings, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    given = {"ratings": frame, **settings}
    given = {name: value for name, value in given.items() if value is not None}
    if overrides and overrides[0].startswith("resume"):
        given = {}
    with pytest.raises(ratinglab.UserError, match=message) as caught:
        ratinglab.train("logger=none", *overrides, **given) if given else ratinglab.train(*overrides)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_unknown_keyword_is_a_type_error_with_the_nearest_name(frame):
    with pytest.raises(TypeError, match="unexpected keyword argument 'embeding_dim'; did you mean embedding_dim"):
        ratinglab.train(ratings=frame, embeding_dim=4)


@pytest.mark.parametrize("function", [ratinglab.train, ratinglab.cross_validate, ratinglab.lightning])
def test_signature_lists_the_keywords(function):
    assert {"ratings", "recipe", "embedding_dim", "verbose"} <= inspect.signature(function).parameters.keys()


def test_cross_validation_trains_the_folds_of_the_split(frame):
    found = ratinglab.cross_validate("logger=none", ratings=frame, folds=3, **QUICK)
    assert found.index.tolist() == [1, 2, 3]
    second = train("split=kfold", "split.folds=3", "split.fold=2", ratings=frame)
    assert {tag: found.loc[2, tag] for tag in metrics(second)} == metrics(second)
    assert metrics(ratinglab.load(found.loc[2, "folder"])) == metrics(second)


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
    monkeypatch.setattr(interrupts, "SAME_REQUEST", 0)
    monkeypatch.setattr(training, "progress_callbacks", lambda **_: [Interrupt()])
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt, match=f"stopped by SIGINT {done}; to resume: ratinglab train resume=outputs"):
        train(ratings=frame, max_epochs=9)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    (run,) = Path("outputs").glob("*/*")
    monkeypatch.setattr(training, "progress_callbacks", lambda **_: [])
    resumed = ratinglab.train(f"resume={run}", ratings=frame, verbose=False)
    assert metrics(resumed) == metrics(train(ratings=frame, max_epochs=9))


def test_run_of_a_data_frame_cannot_resume_on_the_command_line(frame, tmp_path, command):
    run = train(ratings=frame)
    outcome = command(tmp_path, "train", f"resume={run.folder}", status=2)
    assert outcome.stderr.startswith("error: data.path: the run was trained on a data frame: resume it from")


def test_lightning_objects_work_with_the_callers_trainer(frame):
    module, data = ratinglab.lightning(ratings=frame, model="biased_mf", lr=0.05)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_epochs=5, **options)
    trainer.fit(module, datamodule=data)
    same = train("optimizer.lr=0.05", "trainer.max_epochs=5", "callbacks.early_stopping.patience=null", ratings=frame)
    rows = data.validation_ratings
    user, item = torch.from_numpy(rows.user), torch.from_numpy(rows.item)
    found = (module.predictor(user, item) - torch.from_numpy(rows.rating)).square().mean()
    assert trainer.callback_metrics["val/mse"] == pytest.approx(float(found), rel=1e-5)
    assert same.metrics["val/mse"] <= float(found) * (1 + 1e-5)


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


def test_run_shows_its_metrics_in_a_notebook(frame):
    run = train(ratings=frame)
    shown = run._repr_html_()
    assert f"{run.metrics['test/rmse']:.4f}" in shown
    assert str(run.folder) in shown
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
