"""Replacement of the run that answers by a newer one."""

import logging
import os
import shutil
import threading
import time

import pytest

pytest.importorskip("fastapi")

from served_run import client_of, serve_options, write_served_run

from ratinglab.errors import UserError
from ratinglab.serving.app import build_app
from ratinglab.serving.reloading import CurrentRun
from ratinglab.serving.service import Service


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Write two runs of different models."""
    folder = tmp_path_factory.mktemp("runs")
    return [write_served_run(folder / model, model=model) for model in ("biased_mf", "mf")]


@pytest.fixture
def link(runs, tmp_path):
    """A link to the first run, to be pointed elsewhere."""
    link = tmp_path / "current"
    link.symlink_to(runs[0])
    return link


def point(link, folder):
    link.unlink()
    link.symlink_to(folder)


def test_reload_loads_another_run_only_if_there_is_one(runs, link, caplog):
    caplog.set_level(logging.INFO)
    current = CurrentRun(serve_options(link))
    first = current.service
    current.reload(force=False)
    assert current.service is first
    point(link, runs[1])
    current.reload(force=False)
    assert current.service.run.record.model == "mf"
    assert first.run.record.model == "biased_mf"  # a request in progress finishes on it
    second = current.service
    current.reload(force=False)
    assert current.service is second
    assert caplog.messages == [f"reloaded: {runs[1]} answers"]


def test_reload_that_was_asked_for_loads_an_unchanged_run(link):
    current = CurrentRun(serve_options(link))
    first = current.service
    current.reload(force=True)
    assert current.service is not first


def test_changed_files_of_a_folder_are_loaded(runs, tmp_path):
    folder = shutil.copytree(runs[0], tmp_path / "run")
    current = CurrentRun(serve_options(folder))
    first = current.service
    (folder / "checkpoints" / "best.ckpt").touch()
    current.reload(force=False)
    assert current.service is not first


def test_run_that_cannot_be_loaded_keeps_the_current_one_and_is_logged_once(runs, link, tmp_path, caplog):
    current = CurrentRun(serve_options(link))
    damaged = shutil.copytree(runs[1], tmp_path / "damaged")
    (damaged / "checkpoints" / "best.ckpt").write_bytes(b"damaged")
    point(link, damaged)
    for _ in range(3):
        current.reload(force=False)
    assert current.service.run.record.model == "biased_mf"
    (message,) = caplog.messages
    assert message.startswith(f"not reloaded, {runs[0]} still answers: ")
    link.unlink()
    for _ in range(3):
        current.reload(force=False)
    assert len(caplog.messages) == 2
    link.symlink_to(runs[1])
    current.reload(force=False)
    assert current.service.run.record.model == "mf"


def test_missing_run_is_logged_once(runs, tmp_path, caplog):
    folder = shutil.copytree(runs[0], tmp_path / "outputs" / "run")
    current = CurrentRun(serve_options(tmp_path / "outputs" / "latest"))
    shutil.rmtree(folder)
    for _ in range(3):
        current.reload(force=False)
    (message,) = caplog.messages
    assert message.startswith(f"not reloaded, {folder} still answers: run={tmp_path}/outputs/latest: there is no ")


@pytest.mark.parametrize("name", ["run.json", "metrics.json"])
def test_damaged_run_is_not_replaced_by_an_older_one(runs, tmp_path, caplog, name):
    caplog.set_level(logging.INFO)
    outputs = tmp_path / "outputs"
    for number, run in enumerate((*runs, runs[0])):
        folder = shutil.copytree(run, outputs / str(number))
        os.utime(folder / "metrics.json", (number, number))
    newest = shutil.move(outputs / "2", tmp_path / "2")
    current = CurrentRun(serve_options(outputs / "latest"))
    (outputs / "1" / name).write_text("{}")
    os.utime(outputs / "1" / name, (1, 1))
    for _ in range(2):
        current.reload(force=False)
    assert current.service.run.record.model == "mf"
    (message,) = caplog.messages
    assert message.startswith(f"not reloaded, {outputs}/1 still answers: {outputs}/1/{name} is damaged")
    shutil.move(newest, outputs / "2")
    current.reload(force=False)
    assert caplog.messages[1:] == [f"reloaded: {outputs}/2 answers"]
    shutil.rmtree(outputs / "2")
    shutil.rmtree(outputs / "1")
    current.reload(force=False)
    assert caplog.messages[2:] == [f"reloaded: {outputs}/0 answers"]


def test_run_that_cannot_answer_is_not_loaded(runs, link, caplog, monkeypatch):
    current = CurrentRun(serve_options(link))
    monkeypatch.setattr(Service, "similar", lambda *_: 1 / 0)
    current.reload(force=True)
    assert current.service.run.record.model == "biased_mf"
    assert caplog.records[0].exc_info is not None


def test_first_run_that_cannot_be_loaded_is_an_error(tmp_path):
    with pytest.raises(UserError, match="run: there is no folder"):
        CurrentRun(serve_options(tmp_path / "nowhere"))


def test_server_reloads_by_itself_without_losing_a_request(runs, link):
    with client_of(link, reload_seconds=0.05) as client:
        statuses, models, stop = [], [], threading.Event()

        def ask():
            while not stop.is_set():
                found = client.post("/recommend", json={"user_id": 0, "k": 2})
                statuses.append(found.status_code)
                models.append(found.headers["ratinglab-run"])

        thread = threading.Thread(target=ask)
        thread.start()
        deadline = time.monotonic() + 10
        for folder in (runs[1], runs[0], runs[1]):
            point(link, folder)
            while time.monotonic() < deadline and models[-1:] != [str(folder)]:
                time.sleep(0.01)
        stop.set()
        thread.join()
    assert set(statuses) == {200}
    assert models[-1] == str(runs[1])


def test_apps_on_one_run_have_limits_of_their_own(runs):
    options = serve_options(runs[0])
    current = CurrentRun(options)
    assert build_app(current, options) is not build_app(current, options)
