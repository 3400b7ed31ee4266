"""Searches by Optuna and sweeps of parallel jobs, with the extra `sweep`."""

import csv
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY, environment
from run_folders import metrics_of

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs pip install 'ratinglab[sweep]'")

PAGE = (REPOSITORY / "conf" / "search" / "README.md").read_text(encoding="utf-8")
SEARCH, PARALLEL = (
    shlex.split(line)[3:]
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python scripts/train.py -m hydra")
)
"""Arguments of the documented commands, without -m."""
OPTUNA = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "hydra.sweeper.sampler.seed=1", "logger=none"]
PRUNES_EARLY = ["callbacks.pruning.n_startup_trials=1", "callbacks.pruning.n_warmup_steps=0"]
SPACE = ["model.embedding_dim=choice(4,8)", "optimizer.lr=tag(log,interval(1e-3,1e-1))", "trainer.max_epochs=8"]


def rows_of(folder):
    """Read results.csv without the times."""
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{tag: row[tag] for tag in row if tag not in ("fit/seconds", "fit/ratings_per_second")} for row in rows]


@pytest.fixture(scope="module")
def study(command, tmp_path_factory):
    """Run a search that keeps its study in its folder."""
    storage = 'hydra.sweeper.storage="sqlite:///${hydra.sweep.dir}/study.db"'
    return command(tmp_path_factory.mktemp("study"), "train", *OPTUNA, *SPACE, *PRUNES_EARLY, storage)


def test_search_draws_from_its_space_and_leaves_the_test_rows_closed(study):
    rows = rows_of(study.run)
    assert len(rows) == 4
    assert len({row["optimizer.lr"] for row in rows}) == 4
    assert {row["model.embedding_dim"] for row in rows} <= {"4", "8"}
    assert not any(tag.startswith("test/") for tag in rows[0])
    best = next(line for line in study.stdout.splitlines() if line.startswith("best "))
    assert best.endswith(" test=true")


def test_extended_job_of_a_search_leaves_the_test_rows_closed(command, study, tmp_path):
    job = shutil.copytree(next(study.run.glob("*/metrics.json")).parent, tmp_path / "job")
    command(tmp_path, "train", f"resume={job}", "trainer.max_epochs=9")
    assert metrics_of(job)["fit/epochs"] == 9
    assert not any("test/" in tag for tag in metrics_of(job))


def test_documented_search_runs(command, tmp_path):
    arguments = [text.replace("n_trials=20", "n_trials=2") for text in SEARCH]
    assert "\nbest " in command(tmp_path, "train", "-m", *arguments, "trainer=debug", "logger=none").stdout


def test_study_is_kept_in_an_sqlite_file(study):
    with sqlite3.connect(study.run / "study.db") as database:
        values = sorted(value for (value,) in database.execute("select value from trial_values"))
    assert values == sorted(float(row["val/mse"]) for row in rows_of(study.run))


def test_killed_search_continues_with_the_same_suggestions(command_apart, start, tmp_path, study):
    sweep = [*OPTUNA, *SPACE, *PRUNES_EARLY, "hydra.sweep.dir=search"]
    process = start(tmp_path, "train", *sweep)
    while not list(tmp_path.glob("search/2-*/run.json")):
        time.sleep(0.01)
    process.end(signal.SIGKILL)
    command_apart(tmp_path, "train", *sweep)
    assert rows_of(tmp_path / "search") == rows_of(study.run)


def test_hopeless_job_ends_early_and_can_be_reproduced(command, study, tmp_path):
    pruned = [row for row in rows_of(study.run) if row["status"] == "pruned"]
    assert pruned
    assert f"pruned     {len(pruned)} of 4 jobs ended early: they were worse than the median" in study.stdout
    for row in pruned:
        assert re.fullmatch(
            r"after \d epochs?, its best val/mse was worse than the median of \d finished jobs?", row["reason"]
        )
        assert int(row["fit/epochs"]) < 8
        assert float(row["val/mse"]) > min(float(other["val/mse"]) for other in rows_of(study.run))
    outcome = command(tmp_path, "reproduce", f"run={study.run / pruned[0]['run']}")
    assert "reproduced: every metric is equal to the last digit" in outcome.stdout
    alone = command(
        tmp_path, "train", *SPACE[2:], "model.embedding_dim=4", "callbacks.pruning.enabled=true", "logger=none"
    )
    assert metrics_of(alone.run)["fit/epochs"] == 8, "no other jobs to compare with"


def test_search_of_this_project_runs(command, tmp_path):
    few = ["hydra.sweeper.n_trials=2", "trainer.max_epochs=2", "logger=none"]
    outcome = command(tmp_path, "train", "-m", "search=fast", *few)
    rows = rows_of(outcome.run)
    assert len(rows) == 2
    assert {"model.regularization", "model.init_std", "optimizer.lr", "schedule.decay"} <= rows[0].keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.regularization=interval(1,0)"], "model.regularization=interval(1,0): an interval must begin with "),
        (["seed=tag(log,interval(0,9))"], "seed=tag(log,interval(0,9)): an interval with the tag log must begin "),
        (["seed=choice(1,2)", "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials must be at least 1, got 0"),
        (["seed=choice(1,2)", "hydra.sweeper.n_jobs=0"], "hydra.sweeper.n_jobs must be at least 1, got 0"),
    ],
)
def test_search_that_optuna_cannot_run_is_refused(command, tmp_path, arguments, message):
    error = command(tmp_path, "train", "-m", "hydra/sweeper=optuna", *arguments, status=2).stderr
    assert error.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []


def test_range_replaces_an_earlier_value_of_its_key(command, tmp_path):
    space = ["model.embedding_dim=8", "model.embedding_dim=choice(1,2,3)"]
    rows = rows_of(command(tmp_path, "train", *OPTUNA, "trainer=debug", *space).run)
    assert {row["model.embedding_dim"] for row in rows} <= {"1", "2", "3"}


def test_printed_command_trains_the_best_job_of_a_search_file(command, tmp_path):
    few = ["hydra.sweeper.n_trials=2", "trainer.max_epochs=2", "logger=none"]
    printed = command(tmp_path, "train", "-m", "search=fast", *few).stdout
    (best,) = (line for line in printed.splitlines() if line.startswith("best "))
    command(tmp_path, "train", *shlex.split(best)[3:])


def test_parallel_jobs_print_a_line_each_and_the_table_of_a_sequential_sweep(command_apart, cache, tmp_path):
    *parallel, dims = PARALLEL
    assert parallel == ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    sweep = ["-m", "trainer=debug", "logger=none", dims]
    command_apart(tmp_path, "train", *sweep, "hydra.sweep.dir=sequential")
    done = subprocess.run(  # not a fork of the server, in which joblib waits for its idle workers to end
        [sys.executable, REPOSITORY / "scripts" / "train.py", *sweep, *parallel, "hydra.sweep.dir=parallel"],
        env=environment(cache),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    jobs = sorted(line for line in done.stdout.splitlines() if line.startswith("job ") and "warning: " not in line)
    _, values = dims.split("=")
    for number, (value, line) in enumerate(zip(values.split(","), jobs, strict=True)):
        assert re.fullmatch(rf"job {number}      embedding_dim={value}   val/mse \d\.\d+   \d+\.\d s", line)
    assert "epoch 1" not in done.stdout
    assert rows_of(tmp_path / "parallel") == rows_of(tmp_path / "sequential")


@pytest.mark.skipif(shutil.which("srun") is not None, reason="this is a Slurm cluster")
def test_launcher_that_cannot_start_gives_one_line_and_leaves_nothing(command, tmp_path):
    outcome = command(tmp_path, "train", "-m", "hydra/launcher=submitit_slurm", "seed=0,1", status=1)
    assert outcome.stderr == 'error: RuntimeError: Could not detect "srun", are you indeed on a slurm cluster?\n'
    assert list(tmp_path.iterdir()) == []
