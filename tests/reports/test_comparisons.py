"""Sweeps over seeds, folds and splits: which runs are compared, and how."""

import csv
import io
import re
import shutil

import numpy as np
import pytest

from ratinglab.reports.groups import divide_jobs
from ratinglab.reports.statistics import bootstrap, corrected_t
from ratinglab.reports.sweep_report import report_sweep
from ratinglab.runs.record import read_metrics
from ratinglab.runs.storage import read_part, read_squared_errors
from ratinglab.runs.sweep_folder import read_jobs

QUICK = ["trainer.max_epochs=2", "model.embedding_dim=2", "logger=none", "hydra.sweep.dir=sweep"]


@pytest.fixture(scope="module")
def folds(command, tmp_path_factory):
    """Sweep over two models, two of five folds and two seeds."""
    axes = ["split=kfold", "split.fold=1,2", "seed=0,1"]
    return command(
        tmp_path_factory.mktemp("folds"), "train", "-m", "model=mf,biased_mf", *axes, *QUICK, figures=True
    ).run


@pytest.fixture(scope="module")
def splits(command, tmp_path_factory):
    """Sweep over two models and two splits."""
    folder = tmp_path_factory.mktemp("splits")
    return command(folder, "train", "-m", "model=mf,biased_mf", "split=random,per_user", *QUICK, figures=True).run


def table(report, name):
    return list(csv.DictReader(io.StringIO(report.files[name].decode())))


def test_configurations_are_compared_over_the_same_folds(folds):
    report = report_sweep(read_jobs(folds))
    (comparison,) = report.sets
    best, other = comparison.groups
    assert (best.settings, other.settings) == ({"model": "biased_mf"}, {"model": "mf"})
    errors = np.array([[read_metrics(run.folder)["val/mse"] for run in group.runs] for group in (best, other)])
    by_fold = errors.reshape(2, 2, 2).mean(axis=2)  # seeds vary fastest
    expected = corrected_t(by_fold[1] - by_fold[0], share=1_600 / 14_400)
    (row,) = table(report, "comparisons.csv")
    assert [float(row[key]) for key in ("behind", "low", "high", "p")] == pytest.approx(expected[:4])
    assert row["test"] == "Nadeau and Bengio's corrected t test over 2 splits"
    assert "note: only 2 of the split's 5 folds were run" in report.lines
    assert sum(line.startswith("behind  ") for line in report.lines) == 1
    rows = {(row["model"], row["metric"]): row for row in table(report, "groups.csv")}
    assert len(rows) == 6
    row = rows["mf", "val/mse"]
    assert (row["runs"], row["missing"]) == ("4", "0")
    assert [float(row["mean"]), float(row["sd"])] == pytest.approx([by_fold[1].mean(), by_fold[1].std(ddof=1)])
    corrected = (1 / 2 + 1_600 / 14_400) ** 0.5
    assert float(row["high"]) - float(row["mean"]) == pytest.approx(12.7062 * by_fold[1].std(ddof=1) * corrected)


def test_group_without_a_fold_is_neither_ranked_nor_tested(folds, tmp_path):
    folder = shutil.copytree(folds, tmp_path / "sweep")
    for run in folder.glob("*-model-mf+*fold-2"):
        shutil.rmtree(run)
    report = report_sweep(read_jobs(folder))
    assert [group.settings["model"] for group in report.sets[0].groups] == ["biased_mf", "mf"]
    assert re.search(r"^mf +2 of 4 ", "\n".join(report.lines), re.MULTILINE)
    assert "comparisons.csv" not in report.files


def test_configurations_are_compared_over_the_same_rows(folds, tmp_path):
    jobs = [job for job in read_jobs(folds) if job.arguments["split.fold"] == "1"]
    best, other = divide_jobs(jobs)[0].groups
    errors = [
        np.mean([read_squared_errors(run.folder, "val") for run in group.runs], axis=0) for group in (best, other)
    ]
    (row,) = table(report_sweep(jobs), "comparisons.csv")
    (user,) = read_part(best.runs[0].folder, "val", ["user"])
    expected = bootstrap(errors[1] - errors[0], user)
    assert [float(row[key]) for key in ("behind", "low", "high", "p")] == list(expected[:4])
    assert row["test"].endswith("squared errors of 1,600 rows (not over seeds)")


def test_runs_on_different_splits_are_not_compared(splits, command, tmp_path):
    report = report_sweep(read_jobs(splits))
    assert [part.conditions["split"] for part in report.sets] == ["random", "per_user"]
    assert "demo, split per_user" in report.lines
    reason = "their data, splits or monitored metrics differ"
    assert report.lines[-1] == f"note: rows of different tables are not compared: {reason}"
    assert "best.yaml" not in report.files
    assert sum(line.startswith("best  ") for line in report.lines) == 2
    assert len(table(report, "results.csv")) == 4
    assert len({row["best"] for row in table(report, "comparisons.csv")}) == 1
    folder = shutil.copytree(splits, tmp_path / "runs")
    shown = command(folder, "report", ".", *sorted(path.name for path in folder.glob("0-*"))).stdout
    assert "note: rows of different tables are not compared: their data, splits or monitored metrics differ" in shown
    outcome = command(splits, "report", "--test", ".", status=2)
    assert outcome.stderr.startswith("error: --test needs one best configuration; the sweep in . has none, or ")


def test_report_ranks_rows_without_all_folds_last(folds, command, tmp_path):
    folder = shutil.copytree(folds, tmp_path / "runs")
    (folder / "sweep.json").unlink()  # loose runs
    for run in folder.glob("*-model-biased_mf+seed-1+fold-2"):
        shutil.rmtree(run)
    lines = command(tmp_path, "report", "runs").stdout.splitlines()
    rows = [line for line in lines if line.startswith(("mf", "biased_mf"))]
    assert [re.split("  +", line)[1] for line in rows] == ["3", "4"], "the numbers of runs"
    assert all(" 2 of 5 folds " in line for line in rows), "the split has five"


def test_report_without_the_rows_of_runs_has_their_means(folds, command, tmp_path):
    folder = shutil.copytree(folds, tmp_path / "runs")
    (folder / "sweep.json").unlink()
    whole = command(tmp_path, "report", "runs").stdout
    for path in folder.glob("*/ratings.parquet"):
        path.unlink()
    means = [
        re.findall(r"^(?:biased_)?mf by adam +4 +([.0-9]+)", text, re.MULTILINE)
        for text in (whole, command(tmp_path, "report", "runs").stdout)
    ]
    assert means[0] == means[1]
    assert len(means[0]) == 2


def test_rows_are_not_tested_against_a_run_that_ended_early(splits, command, tmp_path):
    folder = shutil.copytree(splits, tmp_path / "runs")
    (folder / "sweep.json").unlink()
    assert command(tmp_path, "report", "runs").stdout.count("behind     difference from the best and") == 2
    for run in folder.glob("*biased_mf*"):
        (run / "pruned.txt").write_text("after 1 epoch")
    lines = command(tmp_path, "report", "runs").stdout.splitlines()
    assert not any("behind" in line for line in lines)
    assert sum(" ended early " in line for line in lines) == 2


def test_figures_of_the_sweep_are_drawn(folds, splits):
    names = {"effects.png", "parallel.png", "seconds.png", "curves.png"}
    assert {path.name for path in (folds / "figures").iterdir()} == names
    assert {path.name for path in (splits / "figures").iterdir()} == {
        name.replace(".", f"-{number}.") for name in names for number in (1, 2)
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (folds / "figures").iterdir())


def test_mean_curves_are_written_if_the_runs_log_to_tensorboard(folds, tmp_path):
    assert not (folds / "mean").exists()
    folder = shutil.copytree(folds, tmp_path / "sweep")
    (next(folder.glob("0-*")) / "events.out.tfevents.0").touch()
    report_sweep(read_jobs(folder)).write(folder)
    assert {path.parent.name for path in folder.glob("mean/*/events.out.tfevents.*")} == {"model-mf", "model-biased_mf"}


def test_runs_are_compared_on_the_splits_that_they_share(command, tmp_path):
    """The mean has a run on a split that the bias lacks, and the other way around."""
    mean = ["train", "model=mean", "trainer=debug", "logger=none"]
    means = [command(tmp_path, *mean, f"split.seed={seed}", f"seed={seed}").run for seed in (0, 1)]
    bias = command(tmp_path, "train", "model=bias", "trainer=debug", "logger=none").run
    command(tmp_path, "train", "model=bias", "trainer=debug", "logger=none", "split.seed=2", "test=false")
    tables = [block.splitlines() for block in command(tmp_path, "report", "outputs").stdout.split("\n\n")]
    note = ["note: rows of different tables are not compared: their data, splits or monitored metrics differ"]
    assert tables.pop() == note
    by_title = {table[0]: [re.split("  +", line) for line in table[1:]] for table in tables}
    assert by_title.keys() == {f"demo, split random, split.seed={seeds}" for seeds in ("0", "0,1", "0,2")}
    header, first, second, *_ = by_title["demo, split random, split.seed=0"]
    assert header == ["", "runs", "val MSE", "behind ± 95%", "test MSE", "test RMSE", "fit s", "parameters", "run"]
    assert [first[:2], second[:2]] == [["bias by adam", "1"], ["mean by adam", "1"]]
    metrics = read_metrics(bias)
    assert first[2:5] == [f"{metrics[name]:.4f}" for name in ("val/mse", "test/mse", "test/rmse")]
    assert first[-1] == bias.relative_to(tmp_path).as_posix()
    header, row, *_ = by_title["demo, split random, split.seed=0,1"]
    assert row[:2] == ["mean by adam", "2"]
    assert header[-1] == "best run"
    best = min(means, key=lambda run: read_metrics(run)["val/mse"])
    assert row[-1] == best.relative_to(tmp_path).as_posix()


def test_runs_without_held_out_rows_are_listed(command, tmp_path):
    unmeasured = ["train", "trainer=debug", "logger=none", "split.validation=0", "split.test=0"]
    command(tmp_path, *unmeasured)
    header, row = command(tmp_path, "report", "outputs").stdout.splitlines()[1:3]
    assert re.split("  +", header)[1:3] == ["runs", "val MSE"]
    assert re.split("  +", row)[:3] == ["mf by adam", "1", "none"]


def test_interval_of_refitted_folds_is_corrected_by_the_rows_of_the_first_fit(command, tmp_path):
    options = ["split=kfold", "split.fold=1,2", "split.refit=true", "model=mean,bias", "trainer=debug", "logger=none"]
    report = report_sweep(read_jobs(command(tmp_path, "train", "-m", *options).run))
    best, other = report.sets[0].groups
    errors = [[read_metrics(run.folder)["val/mse"] for run in group.runs] for group in (best, other)]
    expected = corrected_t(np.subtract(errors[1], errors[0]), share=1_600 / 14_400)
    (row,) = table(report, "comparisons.csv")
    assert [float(row[key]) for key in ("behind", "low", "high", "p")] == pytest.approx(expected[:4])


def test_damaged_job_is_a_row_and_a_new_report_replaces_the_old_files(folds, tmp_path):
    folder = shutil.copytree(folds, tmp_path / "sweep")
    assert (folder / "comparisons.csv").exists()
    for run in folder.glob("*-model-mf+*"):
        (run / "run.json").write_text("{")
    report = report_sweep(read_jobs(folder))
    report.write(folder)
    assert sum(row["status"] == "failed" for row in table(report, "results.csv")) == 4
    assert any(line.startswith("failed ") and "run.json is damaged" in line for line in report.lines)
    assert not (folder / "comparisons.csv").exists()


def test_sweep_without_jobs_is_refused(command, tmp_path):
    (tmp_path / "sweep.json").write_text('{"arguments": []}')
    outcome = command(tmp_path, "report", ".", status=2)
    assert outcome.stderr == "error: no job of the sweep has started\n"
