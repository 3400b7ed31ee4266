"""Resuming: a run interrupted at any moment ends with the same weights as an uninterrupted one, bit for bit."""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from conftest import NO_FIGURES
from equal_runs import assert_equal_runs
from killed_train import write_killed_train
from run_folders import edit_saved, metrics_of, run_json_of

EXPERIMENT = ["trainer.max_epochs=6", "schedule=exponential", "callbacks.checkpoint.last_every_seconds=0", *NO_FIGURES]


@pytest.fixture(scope="module")
def finished(command, tmp_path_factory):
    """Train the run that is never interrupted."""
    return command(tmp_path_factory.mktemp("whole"), "train", *EXPERIMENT)


@pytest.fixture(scope="module")
def whole(finished):
    return finished.run


def begun_run(folder: Path) -> Path:
    (record,) = folder.glob("outputs/*/*/.hydra")
    return record.parent


def test_killed_run_resumes_from_its_last_checkpoint_to_equal_weights(command, start, tmp_path, whole):
    process = start(tmp_path, "train", *EXPERIMENT)
    process.until("epoch 3/")
    time.sleep(random.Random(0).uniform(0, 0.2))
    process.end(signal.SIGKILL)
    run = begun_run(tmp_path)
    assert not (run / "metrics.json").exists()
    assert (run / "checkpoints" / "best.ckpt").exists()
    outcome = command(tmp_path, "train", f"resume={run.relative_to(tmp_path)}")
    assert "resume     after" in outcome.stdout
    assert outcome.run == run
    assert_equal_runs(run, whole)


def test_run_interrupted_before_its_first_checkpoint_restarts(command, start, tmp_path, whole):
    process = start(tmp_path, "train", *EXPERIMENT)
    process.until("optimizer")
    process.end(signal.SIGKILL)
    run = begun_run(tmp_path)
    assert not (run / "checkpoints" / "last.ckpt").exists()
    command(tmp_path, "train", f"resume={run}")
    assert_equal_runs(run, whole)


def test_run_killed_while_writing_a_checkpoint_resumes(command, command_apart, tmp_path, whole):
    command_apart(tmp_path, write_killed_train(tmp_path, number=9), *EXPERIMENT, status=-signal.SIGKILL)
    run = begun_run(tmp_path)
    assert [path.name for path in (run / "checkpoints").glob(".*")] != []
    outcome = command(tmp_path, "train", f"resume={run}")
    assert "resume     after" in outcome.stdout
    assert [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")] == []
    assert_equal_runs(run, whole)


def test_block_sgd_run_resumes_to_equal_weights(command, command_apart, tmp_path):
    """Other optimizers: tests/fitting/test_resuming.py."""
    options = ["model=biased_mf", "optimizer=block_sgd", "optimizer.lr=0.02", "logger=none"]
    whole = command(tmp_path, "train", *options, "trainer.max_epochs=4").run
    cut = command(tmp_path, "train", *options, "trainer.max_epochs=2").run
    outcome = command_apart(tmp_path, "train", f"resume={cut}", "trainer.max_epochs=4")
    assert "resume     after 2 epochs" in outcome.stdout
    assert outcome.stderr == ""
    assert_equal_runs(cut, whole)


def test_moved_and_renamed_run_resumes(command, tmp_path, whole):
    short = ["trainer.max_epochs=3", *EXPERIMENT[1:]]
    run = command(tmp_path, "train", *short).run
    moved = tmp_path / "my best = run, ünïcode"
    run.rename(moved)
    command(tmp_path, "train", "resume='my best = run, ünïcode'", "trainer.max_epochs=6")
    assert_equal_runs(moved, whole)
    outcome = command(tmp_path, "train", "resume='my best = run, ünïcode'")
    assert "resume     the run is already finished" in outcome.stdout
    assert outcome.stdout.splitlines()[-1] == "my best = run, ünïcode"


def test_resuming_a_finished_run_prints_a_note_and_its_result(command, finished):
    outcome = command(finished.folder, "train", f"resume={finished.run}")
    assert outcome.stdout.startswith("resume     the run is already finished")
    assert outcome.stdout.splitlines()[1:] == finished.stdout.splitlines()[-len(outcome.stdout.splitlines()) + 1 :]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer.lr=0.1"], "optimizer.lr=0.1 cannot be set with resume"),
        (["model=biased_mf"], "model=biased_mf cannot be set with resume"),
        (["trainer.max_epochs=5"], "trainer.max_epochs must be above the 6 epochs done, got 5"),
        (["trainer.max_epochs=0"], "trainer.max_epochs must be at least 1, got 0"),
        (["-m"], "resume continues a single run: leave out -m"),
    ],
)
def test_resume_refuses_options_that_change_the_experiment(command, finished, arguments, message):
    before = {path: path.stat().st_mtime_ns for path in finished.run.rglob("*") if path.name != "train.log"}
    outcome = command(finished.folder, "train", f"resume={finished.run}", *arguments, status=2)
    assert outcome.stderr.startswith(f"error: {message}")
    assert outcome.stderr.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in finished.run.rglob("*") if path.name != "train.log"} == before


def test_resumed_run_keeps_an_earlier_best_checkpoint(command, tmp_path):
    overfits = ["optimizer.lr=0.7", "callbacks.early_stopping.patience=null", "logger=none"]
    whole = command(tmp_path, "train", *overfits, "trainer.max_epochs=6").run
    run = command(tmp_path, "train", *overfits, "trainer.max_epochs=4").run
    command(tmp_path, "train", f"resume={run}", "trainer.max_epochs=6")
    assert metrics_of(whole)["fit/best_epoch"] < 4, "else it proves nothing"
    assert_equal_runs(run, whole)


def test_run_resumes_with_its_own_values_when_a_default_has_changed(command, tmp_path, quick):
    run = shutil.copytree(quick.run, tmp_path / "run")
    assert "lr: 0.003" in (run / ".hydra" / "config.yaml").read_text(), "the default, which no argument has set"
    edit_saved(run, "config.yaml", lambda text: text.replace("lr: 0.003", "lr: 0.02"))
    for script, argument in (("train", "resume"), ("reproduce", "run")):
        more = ["trainer.max_epochs=3"] if script == "train" else []
        assert "adam: lr=0.02," in command(tmp_path, script, f"{argument}={run}", *more).stdout


@pytest.mark.parametrize("ended", ["stopped early", "all epochs"])
def test_run_interrupted_before_writing_metrics_resumes_without_training(command, tmp_path, quick, ended):
    if ended == "stopped early":
        early = ["optimizer.lr=0.3", "callbacks.early_stopping.patience=1", "trainer.min_epochs=1"]
        run = command(tmp_path, "train", *early, "logger=none").run
    else:
        run = shutil.copytree(quick.run, tmp_path / "run")
    metrics = metrics_of(run)
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    (run / "metrics.json").unlink()
    outcome = command(tmp_path, "train", f"resume={run}")
    assert [line for line in outcome.stdout.splitlines() if line.startswith("epoch ")] == []
    again = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert again["epochs"] == last["epochs"]
    assert all(torch.equal(value, again["state_dict"][key]) for key, value in last["state_dict"].items())
    repeated = metrics_of(run)
    for timed in ("fit/seconds", "fit/ratings_per_second"):
        del metrics[timed], repeated[timed]
    assert repeated == metrics
    if ended == "stopped early":
        epochs = metrics["fit/epochs"]
        outcome = command(tmp_path, "train", f"resume={run}", f"trainer.max_epochs={epochs}", status=2)
        assert f"trainer.max_epochs must be above the {epochs} epochs done, got {epochs}" in outcome.stderr


@pytest.mark.parametrize(
    ("schedule", "max_epochs", "message"),
    [
        ("cosine", 20, "a run under schedule=cosine cannot be extended"),
        ("constant", 1, "trainer.max_epochs must be above the"),
    ],
)
def test_resume_refuses_invalid_max_epochs_for_finished_and_unfinished_runs(
    command, tmp_path, quick, schedule, max_epochs, message
):
    if schedule == "constant":
        run = shutil.copytree(quick.run, tmp_path / "run")
    else:
        run = command(tmp_path, "train", "trainer=debug", f"schedule={schedule}", "logger=none").run
    for _ in ("finished", "unfinished"):
        outcome = command(tmp_path, "train", f"resume={run}", f"trainer.max_epochs={max_epochs}", status=2)
        assert outcome.stderr.startswith(f"error: {message}")
        assert run_json_of(run)["max_epochs"] == 2
        (run / "metrics.json").unlink(missing_ok=True)


def test_resume_refuses_changed_data(command, tmp_path):
    rows = [f"{user},{item},{1 + user * item % 5}" for user in range(30) for item in range(20)]
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(["user_id,item_id,rating", *rows]))
    run = command(tmp_path, "train", "trainer=debug", "data=csv", "data.path=ratings.csv", "logger=none").run
    path.write_text("\n".join(["user_id,item_id,rating", *rows[:-1], "29,19,1.5"]))
    files = {found: found.read_bytes() for found in run.rglob("*.*") if found.is_file() and found.name != "train.log"}
    outcome = command(tmp_path, "train", f"resume={run}", "trainer.max_epochs=5", status=2)
    assert outcome.stderr.startswith("error: resume: the data have changed since")
    assert {found: found.read_bytes() for found in files if found.parent.name != ".hydra"} == {
        found: content for found, content in files.items() if found.parent.name != ".hydra"
    }


@pytest.mark.parametrize(
    ("name", "message"), [("none", "there is no folder none"), ("empty", "is not the folder of a")]
)
def test_resume_refuses_a_folder_without_a_run(command, tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    outcome = command(tmp_path, "train", f"resume={name}", status=2)
    assert message in outcome.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_resume_refuses_a_truncated_last_checkpoint(command, tmp_path, quick):
    run = shutil.copytree(quick.run, tmp_path / "run")
    path = run / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:5000])
    outcome = command(tmp_path, "train", f"resume={run}", "trainer.max_epochs=9", status=2)
    assert "last.ckpt is damaged: " in outcome.stderr
