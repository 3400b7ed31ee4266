"""Runs with trainer.max_time: the clock ends the fit, and may be extended."""

import shutil

import pytest
from equal_runs import assert_equal_runs
from run_folders import metrics_of

OPTIONS = ["trainer.max_time=00:00:00:01", "trainer.max_epochs=100000", "logger=none", "hydra.run.dir=run"]


@pytest.fixture(scope="module")
def ended(command_apart, tmp_path_factory):
    """Train a run that the clock ends."""
    folder = tmp_path_factory.mktemp("ended")
    outcome = command_apart(folder, "train", *OPTIONS, "callbacks.early_stopping.patience=null", pause=0.2)
    assert "at most 100,000 epochs in 00:00:00:01" in outcome.stdout
    return outcome.run


def test_clock_ends_the_fit_after_an_epoch(command, ended):
    metrics = metrics_of(ended)
    assert 1 <= metrics["fit/epochs"] < 1000
    assert metrics["fit/seconds"] >= 1
    assert command(ended.parent, "train", "resume=run").stdout.startswith("resume     the run is already finished")


@pytest.mark.parametrize("limits", [["trainer.max_epochs=200000"], ["trainer.max_time=00:00:00:00"]])
def test_run_is_not_extended_without_time(command, ended, limits):
    message = command(ended.parent, "train", "resume=run", *limits, status=2).stderr
    assert message.startswith("error: trainer.max_time must be ")
    assert metrics_of(ended)


def test_reproduction_trains_for_the_epochs_of_the_original(command, ended):
    outcome = command(ended.parent, "reproduce", "run")
    assert outcome.stdout.splitlines()[-1] == "reproduced: every metric is equal to the last digit"


def test_run_ended_by_the_clock_extends_to_equal_weights(command, tmp_path, ended):
    run = shutil.copytree(ended, tmp_path / "run")
    limit = f"trainer.max_epochs={int(metrics_of(run)['fit/epochs']) + 2}"
    command(tmp_path, "train", f"resume={run}", "trainer.max_time=null", limit)
    whole = command(tmp_path, "train", limit, "callbacks.early_stopping.patience=null", "logger=none").run
    assert_equal_runs(run, whole)
    # from now on, these are the limits of the run
    assert command(tmp_path, "train", f"resume={run}").stdout.startswith("resume     the run is already finished")
    outcome = command(tmp_path, "reproduce", f"run={run}")
    assert outcome.stdout.splitlines()[-1] == "reproduced: every metric is equal to the last digit"


def test_sampler_ended_in_burn_in_names_the_limit(command_apart, tmp_path):
    options = ["recipe=biased_mf_gibbs", "optimizer.burn_in=99999"]
    outcome = command_apart(tmp_path, "train", *OPTIONS, *options, status=2, pause=0.2)
    assert outcome.stderr.endswith(f"resume={tmp_path / 'run'} with a higher trainer.max_time continues it\n")
