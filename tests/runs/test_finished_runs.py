"""Runs named latest and best."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from equations import options_of
from fits import split_ratings_of
from run_folders import accept_files, record_of, write_record
from tables import table_with_features

from ratinglab.errors import UserError
from ratinglab.runs.finished_runs import find_named_run, find_runs

MODEL = options_of("mf")
RECORD = record_of(MODEL, split_ratings_of(table_with_features(), MODEL))
TAU = {"target": "x.Y", "name": "tau", "label": "tau", "higher_is_better": True}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_of(folder, *, at, split="random(seed=0)/d", monitor="val/mse", finished=True, **metrics):
    """Write the record and the metrics of a run that finished at a time."""
    provenance = RECORD.provenance | {"data": "table", "split": split}
    path = Path(folder)
    path.mkdir(parents=True)
    write_record(path, replace(RECORD, monitor=monitor, provenance=provenance, metrics=[*RECORD.metrics, TAU]))
    if finished:
        (path / "metrics.json").write_text(
            json.dumps({"fit/epochs": 1, **{f"val/{key}": metrics[key] for key in metrics}})
        )
        accept_files(path)
        os.utime(path / "metrics.json", (at, at))


def test_latest_is_the_run_that_finished_last():
    run_of("outputs/day/a", at=3, mse=2.0)
    run_of("outputs/sweeps/day/b", at=9, mse=3.0)
    run_of("outputs/day/c", at=5, mse=1.0)
    run_of("outputs/day/d", at=0, finished=False)
    assert find_named_run("latest") == (Path("outputs/sweeps/day/b"), ["run=latest: outputs/sweeps/day/b"])


def test_best_has_the_lowest_validation_error_on_the_split_of_the_latest():
    run_of("outputs/a", at=1, mse=2.0)
    run_of("outputs/b", at=2, mse=1.5)
    run_of("outputs/other split", at=3, mse=0.1, split="random(seed=1)/e")
    run_of("outputs/other metric", at=4, mse=0.1, mae=0.1, monitor="val/mae")
    run_of("outputs/no validation rows", at=5)
    run_of("outputs/latest one", at=6, mse=1.7)
    note = "run=best: outputs/b, val/mse 1.5000, the best of 3 runs on its split"
    assert find_named_run("best") == (Path("outputs/b"), [note])


def test_best_has_the_highest_value_of_a_metric_that_is_better_if_higher():
    run_of("outputs/a", at=1, monitor="val/tau", tau=0.9)
    run_of("outputs/b", at=2, monitor="val/tau", tau=0.3)
    assert find_named_run("best")[0] == Path("outputs/a")


def test_name_after_a_folder_searches_the_folder():
    run_of("outputs/a", at=9, mse=1.0)
    run_of("kept/sweep/1", at=1, mse=2.0)
    run_of("kept/sweep/2", at=2, mse=3.0)
    assert find_named_run("kept/latest")[0] == Path("kept/sweep/2")
    assert find_named_run("kept/sweep/best")[0] == Path("kept/sweep/1")


def test_folder_with_such_a_name_is_that_folder():
    run_of("outputs/a", at=1, mse=1.0)
    Path("latest").mkdir()
    assert find_named_run("latest") == (Path("latest"), [])
    assert find_named_run("outputs/a") == (Path("outputs/a"), [])


@pytest.mark.parametrize(("name", "folder"), [("latest", "outputs"), ("best", "outputs"), ("kept/latest", "kept")])
def test_missing_finished_run_is_a_one_line_error(name, folder):
    run_of(f"{folder}/a", at=0, finished=False)
    with pytest.raises(UserError, match=rf"^run={name}: there is no finished run in {folder}$"):
        find_named_run(name)


def test_missing_outputs_folder_is_a_one_line_error():
    with pytest.raises(UserError, match=r"^run=best: there is no finished run in outputs$"):
        find_named_run("best")


def test_best_needs_the_monitored_metric():
    run_of("outputs/a", at=1)
    with pytest.raises(UserError, match=r"^run=best: outputs/a, the latest run, has no val/mse to compare$"):
        find_named_run("best")


def test_mistyped_name_of_a_run_gets_the_nearest_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"run: there is no folder lates; did you mean latest\?"):
        find_named_run("lates")


def test_file_is_not_a_folder_of_runs(tmp_path):
    (tmp_path / "ratings.csv").write_text("1,2,3")
    with pytest.raises(UserError, match=r"ratings\.csv is a file, not the folder of runs$"):
        find_runs([str(tmp_path / "ratings.csv")])
