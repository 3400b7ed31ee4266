"""Sweeps: failed jobs are rows, and a sweep that was stopped or killed continues."""

import csv
import json
import logging
import re
import shlex
import shutil
import signal
import sys
import time
from contextlib import closing
from types import SimpleNamespace

import pytest
from run_folders import accept_files, metrics_of, run_json_of

from ratinglab.config.resolvers import MAX_NAME_LENGTH, job_name
from ratinglab.config.sweep import run_job
from ratinglab.errors import RunFailedError, UserError
from ratinglab.reports.sweep_report import report_sweep
from ratinglab.runs.sweep_folder import read_jobs, record_or_check_arguments

SWEEP = ["-m", "model.embedding_dim=4,8,16", "trainer.max_epochs=4", "logger=none"]


def rows_of(folder):
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """Run the sweep that is never stopped."""
    return command(tmp_path_factory.mktemp("whole"), "train", *SWEEP).run


def test_sweep_prints_a_line_per_job_and_its_notes(command, tmp_path):
    arguments = ["-m", "model=nmf,mf", "optimizer=adam,block_sgd", "trainer=debug", "logger=none", "hydra.sweep.dir=s"]
    printed = command(tmp_path, "train", *arguments, status=1).stdout
    jobs = [line for line in printed.splitlines() if line.startswith("job ")]
    lines = [line for line in jobs if "warning: " not in line]
    first, second, *_ = printed.splitlines()
    assert first == "sweep      4 jobs in s, each with its own train.log"
    assert second.startswith("job 0      warning: the fit trains on ")
    assert re.fullmatch(r"job 0      model=nmf optimizer=adam   val/mse \d\.\d{4}   \d+\.\d s", lines[0])
    assert lines[1].startswith("job 1      model=nmf optimizer=block_sgd   failed: optimizer=block_sgd fits biased_mf ")
    assert [line.split("   ")[0] for line in lines] == [f"job {number}" for number in range(4)]
    assert "\n\nmodel " in printed[printed.index(jobs[-1]) :], "the table follows the last job"
    for name in ("0-model-nmf+optimizer-adam", "2-model-mf+optimizer-adam"):
        log = (tmp_path / "s" / name / "train.log").read_text(encoding="utf-8")
        assert all(f" INFO {text}" in log for text in ("data  ", "epoch 2/2", "validation ", "model=", "warning: "))


def test_value_that_is_swept_twice_is_noted(command, tmp_path):
    outcome = command(tmp_path, "train", "-m", "model.embedding_dim=2,2", "trainer=debug", "logger=none")
    assert outcome.stderr == "note: model.embedding_dim=2,2 lists a value twice; equal jobs count once\n"


def test_lines_on_stderr_in_a_job_are_printed_and_logged(tmp_path, monkeypatch, capsys):
    def warn():
        print("printed")
        print("UserWarning: odd values", file=sys.stderr)
        raise RunFailedError("it diverged")

    monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler(sys.stdout)])
    run_job(warn, tmp_path, GRID, monitor="val/mse")
    assert capsys.readouterr().out.splitlines() == [
        "job 0      UserWarning: odd values",
        "job 0         failed: it diverged",
    ]


def test_note_is_printed_for_the_first_job_that_logs_it(tmp_path, monkeypatch, capsys):
    def fail():
        for line in ("note: few users", "warning: few items"):
            logging.getLogger("ratinglab").warning(line)
        raise RunFailedError("it diverged")

    monkeypatch.setattr("ratinglab.config.sweep.PRINTED_NOTES", set())
    for _ in range(2):
        monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler(sys.stdout)])
        run_job(fail, tmp_path, GRID, monitor="val/mse")
    others = ["job 0      warning: few items", "job 0         failed: it diverged"]
    assert capsys.readouterr().out.splitlines() == ["job 0      note: few users", *others, *others]


def test_lines_on_stdout_in_a_job_are_logged_at_once(tmp_path, monkeypatch, capsys):
    path = tmp_path / "train.log"
    logged_at_once = []

    def train():
        for line in ("note: an equation of one's own", "größer"):
            logging.getLogger("ratinglab").warning("before")
            print(line)
            logged_at_once.append(path.read_text(encoding="utf-8").splitlines()[-1])
        raise RunFailedError("it diverged")

    with closing(logging.FileHandler(path, encoding="utf-8")) as file:
        monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler(sys.stdout), file])
        run_job(train, tmp_path, GRID, monitor="val/mse")
    assert logged_at_once == ["note: an equation of one's own", "größer"]
    assert path.read_text(encoding="utf-8").splitlines() == [
        "before", logged_at_once[0], "before", logged_at_once[1], "   failed: it diverged"
    ]  # fmt: skip
    assert capsys.readouterr().out.splitlines() == ["job 0         failed: it diverged"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=str)
def test_stopped_sweep_continues_to_equal_results(command, start, tmp_path, whole, number):
    # a checkpoint after every epoch: with one at the end, a late signal would find the job finished
    sweep = [*SWEEP, "callbacks.checkpoint.last_every_seconds=0", "hydra.sweep.dir=sweep"]
    process = start(tmp_path, "train", *sweep)
    while not list(tmp_path.glob("sweep/1-*/checkpoints/last.ckpt")):  # before that, Lightning handles SIGTERM
        time.sleep(0.01)
    (tmp_path / "sweep" / "notes").mkdir()
    (tmp_path / "sweep" / "notes" / "mine.txt").write_text("mine")
    _, _, stderr = process.end(number)
    assert (tmp_path / "sweep" / "notes" / "mine.txt").read_text() == "mine"
    assert number == signal.SIGKILL or stderr.endswith("; to continue: the same command with hydra.sweep.dir=sweep\n")
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/0-*/checkpoints/*.ckpt")}
    assert len(finished) == 2
    outcome = command(tmp_path, "train", *sweep)
    assert outcome.stdout.count("resume     the run is already finished") == 1
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    timed = {"fit/seconds", "fit/ratings_per_second"}
    rows, expected = rows_of(tmp_path / "sweep"), rows_of(whole)
    assert len(rows) == 3
    for row, other in zip(rows, expected, strict=True):
        assert {tag: row[tag] for tag in row if tag not in timed} == {
            tag: other[tag] for tag in row if tag not in timed
        }


def test_folder_of_another_sweep_is_refused(command, whole):
    before = rows_of(whole)
    arguments = [*SWEEP, "seed=1", f"hydra.sweep.dir={whole}"]
    outcome = command(whole.parent, "train", *arguments, status=2)
    assert outcome.stderr.startswith(
        f"error: hydra.sweep.dir: {whole} holds another sweep, which only these arguments continue: -m "
    )
    assert outcome.stderr.count("\n") == 1
    assert rows_of(whole) == before


def test_refused_and_diverged_jobs_are_rows_and_the_others_run(command, tmp_path):
    arguments = ["-m", "model=nmf,mf", "optimizer=sgd,block_sgd", "optimizer.lr=0.01,1e6", "trainer.max_epochs=2"]
    outcome = command(tmp_path, "train", *arguments, "logger=none", "hydra.sweep.dir=sweep", status=1)
    rows = {row["run"]: row for row in rows_of(tmp_path / "sweep")}
    assert len(rows) == 8
    refused = rows["2-model-nmf+lr-0.01+optimizer-block_sgd"]
    refusal = refused["reason"]
    refused_fit, needed = refusal.split(", which needs optimizer=")
    assert refused_fit == "optimizer=block_sgd fits biased_mf and mf, got model=nmf"
    fits = re.split(", | or ", needed)
    assert len(set(fits)) == len(fits)
    assert {"adam", "adamw", "sgd", "sparse_adam"} <= set(fits)  # and those of other tests in this process
    assert (refused["status"], refused["val/mse"]) == ("failed", "")
    warned = f"warning: this job will fail: model=nmf optimizer=block_sgd optimizer.lr=0.01: {refusal}\n"
    assert outcome.stderr.startswith(warned)
    diverged = next(row for name, row in rows.items() if name.startswith("5-model-mf+lr-"))
    assert diverged["status"] == "failed"
    assert diverged["reason"].startswith("train/mse is ")
    assert rows["4-model-mf+lr-0.01+optimizer-sgd"]["status"] == "finished"
    assert f"failed     {refused['run']}: {refusal}" in outcome.stdout


def test_search_leaves_the_test_rows_closed_until_asked(command, tmp_path):
    (tmp_path / "own" / "search").mkdir(parents=True)
    text = "# @package _global_\ntest: false\nhydra:\n  sweeper:\n    params:\n      model.embedding_dim: 2,4\n"
    (tmp_path / "own" / "search" / "mine.yaml").write_text(text)
    options = ["--config-dir", "own", "trainer=debug", "logger=none"]
    outcome = command(tmp_path, "train", "-m", *options, "search=mine")
    closed = [line for line in outcome.stdout.splitlines() if not line.startswith(("split", "best", "test    "))]
    assert "test" not in "".join(closed)
    best = next(line for line in outcome.stdout.splitlines() if line.startswith("best "))
    arguments = shlex.split(best)[3:]
    assert arguments[-1] == "test=true"
    assert "\ntest        mf " in command(tmp_path, "train", *arguments).stdout
    # report --test evaluates the best run itself, and only that
    line = next(line for line in outcome.stdout.splitlines() if line.startswith("test    "))
    first = min(rows_of(outcome.run), key=lambda row: float(row["val/mse"]))
    damaged = outcome.run / first["run"] / "predictions.parquet"  # the report rewrites it
    damaged.write_bytes(damaged.read_bytes() + b"x")
    shown = command(tmp_path, "report", *shlex.split(line)[3:]).stdout
    tested = [path.parent for path in outcome.run.glob("*/metrics.json") if "test/mse" in path.read_text()]
    (best,) = tested
    metrics = metrics_of(best)
    assert metrics["val/mse"] == min(float(row["val/mse"]) for row in rows_of(outcome.run))
    assert f"test       MSE {metrics['test/mse']:.4f}\n" in shown
    assert "equal to metrics.json to the last digit" in command(tmp_path, "evaluate", str(best)).stdout
    assert command(tmp_path, "report", *shlex.split(line)[3:]).stdout == shown
    assert command(tmp_path, "report", str(outcome.run)).stdout == shown


def test_report_with_test_needs_a_sweep_with_a_best_configuration(command, whole, quick):
    outcome = command(quick.folder, "report", "--test", str(quick.run), status=2)
    assert outcome.stderr == f"error: --test needs the folder of a sweep, got {quick.run}\n"


def test_sweep_whose_jobs_all_conflict_is_refused(command, tmp_path):
    arguments = ["-m", "model=nmf,svdpp", "optimizer=block_sgd", "logger=none"]
    outcome = command(tmp_path, "train", *arguments, status=2)
    refusal = "error: optimizer=block_sgd fits biased_mf and mf, got model=svdpp, which needs optimizer=adam, "
    assert outcome.stderr.splitlines()[-1].startswith(refusal)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dirname", "name"),
    [
        ("", ""),
        ("model.embedding_dim=8\noptimizer.lr=0.01", "-embedding_dim-8+lr-0.01"),
        ("model=mf", "-model-mf"),
        ("data.separator='|'", "-separator"),
        ("data.path=/a b/c,d.csv", "-path-a-b-c-d.csv"),
        ("metrics=[mse,rmse]\nsplit/x@y.seed=-1", "-metrics-mse-rmse+seed-1"),
        ("seed=0\nsplit.seed=1", "-seed-0+split.seed-1"),
        ("optimizer.lr=0.0062163426977223935\nseed=1234567890", "-lr-0.006216+seed-1234567890"),
        ("optimizer.lr=10000000000.0", "-lr-1e10"),
    ],
)
def test_job_is_named_by_what_is_swept(dirname, name):
    assert job_name(dirname) == name


def test_long_names_of_jobs_differ_by_a_hash():
    names = [job_name(f"data.path={'x' * 200}{number}") for number in (1, 2)]
    assert names[0] != names[1]
    assert all(len(name) < MAX_NAME_LENGTH + 10 for name in names)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"arguments": null}', '{"arguments": [1]}'])
def test_damaged_record_of_a_sweep_is_refused(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(UserError) as error:
        record_or_check_arguments(tmp_path, ["seed=0,1"])
    assert str(error.value) == f"{tmp_path / 'sweep.json'} is damaged: it must hold a list of texts, arguments"


@pytest.mark.parametrize(
    "argument",
    [
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "hydra.verbose=true",
        "hydra.sweeper.n_trials=9",
        "hydra.sweep.dir=x",
    ],
)
def test_sweep_continues_with_another_way_to_run_it(tmp_path, argument):
    record_or_check_arguments(tmp_path, ["seed=0,1"])
    record_or_check_arguments(tmp_path, ["seed=0,1", argument])


@pytest.mark.parametrize("argument", ["hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=2", "~logger", "seed=0,1"])
def test_sweep_does_not_continue_with_other_jobs(tmp_path, argument):
    record_or_check_arguments(tmp_path, ["seed=0,1"])
    with pytest.raises(UserError, match="holds another sweep"):
        record_or_check_arguments(tmp_path, ["seed=0,1", argument])


def test_faulty_job_is_a_row_and_files_of_the_user_are_kept(command_apart, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "faulty.py").write_text(
        "from ratinglab.models.mf import MFOptions\n\nclass Faulty(MFOptions):\n"
        "    name = 'faulty'\n    def build(self, *arguments, **options):\n        raise MemoryError('too large')\n"
    )
    (tmp_path / "own" / "model").mkdir()
    text = "_target_: faulty.Faulty\nembedding_dim: 4\nregularization: 0.05\ninit_std: 0.1\n"
    (tmp_path / "own" / "model" / "faulty.yaml").write_text(text)
    sweep = ["-m", "--config-dir", "own", "model=faulty,mf", "trainer=debug", "logger=none", "hydra.sweep.dir=sweep"]
    command_apart(tmp_path, "train", *sweep, status=1)
    (tmp_path / "sweep" / "notes").mkdir()
    (tmp_path / "sweep" / "notes" / "mine.txt").write_text("mine")
    command_apart(tmp_path, "train", *sweep, status=1)
    faulty, other = rows_of(tmp_path / "sweep")
    assert (faulty["status"], faulty["reason"]) == ("failed", "MemoryError: too large")
    assert other["status"] == "finished"
    assert "Traceback" in (tmp_path / "sweep" / faulty["run"] / "train.log").read_text(encoding="utf-8")
    assert (tmp_path / "sweep" / "notes" / "mine.txt").read_text() == "mine"


GRID = SimpleNamespace(
    job=SimpleNamespace(num=0),
    sweeper=SimpleNamespace(_target_="hydra._internal.core_plugins.basic_sweeper.BasicSweeper"),
    launcher=SimpleNamespace(_target_="hydra._internal.core_plugins.basic_launcher.BasicLauncher"),
)


@pytest.mark.parametrize("error", [RunFailedError("it diverged"), UserError("it diverged"), OverflowError("too large")])
def test_failed_job_has_the_worst_objective_until_it_succeeds(tmp_path, error):
    def fail():
        raise error

    def succeed():
        (tmp_path / "metrics.json").write_text('{"val/mse": 0.75, "fit/seconds": 2.0}')
        accept_files(tmp_path)
        return 0.75

    assert run_job(fail, tmp_path, GRID, monitor="val/mse") == float("inf")
    reason = (tmp_path / "failure.txt").read_text()
    assert reason == ("OverflowError: too large\n" if isinstance(error, OverflowError) else "it diverged\n")
    assert run_job(succeed, tmp_path, GRID, monitor="val/mse") == 0.75
    assert not (tmp_path / "failure.txt").exists(), "the job is no failure any more"


def test_pruned_job_that_fails_afterwards_counts_as_failed(tmp_path):
    folder = tmp_path / "0-seed-0"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("- seed=0\n")

    def prune_and_fail():
        (folder / "pruned.txt").write_text("after 1 epoch")
        raise RunFailedError("a metric is undefined")

    run_job(prune_and_fail, folder, GRID, monitor="val/mse")
    (job,) = read_jobs(tmp_path)
    assert (job.status, job.failure, job.pruned) == ("failed", "a metric is undefined", None)
    assert "failed     0-seed-0: a metric is undefined" in report_sweep([job]).lines
    assert b"0-seed-0,failed,a metric is undefined" in report_sweep([job]).files["results.csv"]


def test_sweep_with_damaged_files_of_a_job_exits_with_status_1(command, tmp_path, whole):
    sweep = shutil.copytree(whole, tmp_path / "sweep")
    unused = sweep / "9-embedding_dim-2"
    shutil.copytree(sweep / "0-embedding_dim-4", unused)
    overrides = unused / ".hydra" / "overrides.yaml"
    record = run_json_of(unused)
    record["started_with"]["overrides.yaml"] = overrides.read_text().replace("embedding_dim=4", "embedding_dim=2")
    (unused / "run.json").write_text(json.dumps(record))
    accept_files(unused)
    assert "failed" not in command(tmp_path, "train", *SWEEP, "hydra.sweep.dir=sweep").stdout
    (unused / "metrics.json").write_text("{}")
    outcome = command(tmp_path, "train", *SWEEP, "hydra.sweep.dir=sweep", status=1)
    assert f"failed     {unused.name}: {unused / 'metrics.json'} is damaged" in outcome.stdout
    (row,) = (row for row in rows_of(sweep) if row["run"] == unused.name)
    assert row["status"] == "failed"


def test_jobs_are_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 2, 0, 11, 1):
        folder = tmp_path / f"{number}-seed-{number}" / ".hydra"
        folder.mkdir(parents=True)
        (folder / "overrides.yaml").write_text(f"- seed={number}\n")
    assert [job.arguments["seed"] for job in read_jobs(tmp_path)] == ["0", "1", "2", "10", "11"]


def test_jobs_with_equal_arguments_count_once(tmp_path):
    for number, finished in enumerate([False, True, True]):
        folder = tmp_path / f"{number}-seed-0"
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra" / "overrides.yaml").write_text("- seed=0\n")
        if finished:
            (folder / "metrics.json").write_text("{}")
    assert [job.folder.name for job in read_jobs(tmp_path)] == ["1-seed-0"]
