"""Sweeps: the table of runs, the importance of keys, and the curves that TensorBoard shows."""

import csv
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest
from conftest import NO_FIGURES
from equations import options_of
from fits import split_ratings_of
from run_folders import accept_files, record_of, write_record
from scipy import stats
from tables import table_with_features

from ratinglab.evaluation.metrics import METRICS
from ratinglab.reports.statistics import paired_difference
from ratinglab.reports.sweep_report import report_sweep
from ratinglab.runs.run_files import FAILURE, PRUNED
from ratinglab.runs.sweep_folder import read_jobs, write_reason

EPOCHS = 3
MODEL = options_of("mf")
RECORD = record_of(MODEL, split_ratings_of(table_with_features(), MODEL), fold=1)


@pytest.fixture(scope="module")
def sweep(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    return command(folder, "train", "-m", "model.embedding_dim=8,16,32", f"trainer.max_epochs={EPOCHS}")


@pytest.fixture(scope="module")
def runs(sweep):
    return sorted(path.parent for path in sweep.folder.glob("outputs/sweeps/*/*/*/run.json"))


@pytest.fixture(scope="module")
def tensorboard(sweep):
    """Fetch from a TensorBoard on the sweep's outputs: tensorboard("/data/…", key=value)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(sweep.folder / "outputs"), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def fetch(path: str, **query: str):
        address = f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)

    deadline = time.monotonic() + 60
    while True:
        try:
            if len(fetch("/data/runs")) == 3:
                break
        except OSError:
            pass
        assert time.monotonic() < deadline, "TensorBoard does not show three runs"
        time.sleep(0.5)
    yield fetch
    server.terminate()
    server.wait()


def test_each_run_of_a_sweep_has_its_own_folder(sweep, runs):
    assert [run.name for run in runs] == ["0-embedding_dim-8", "1-embedding_dim-16", "2-embedding_dim-32"]
    options = [json.loads((run / "run.json").read_text())["model_options"] for run in runs]
    assert [option["embedding_dim"] for option in options] == [8, 16, 32]


def test_sweep_prints_a_table_of_its_runs_and_its_folder(sweep, runs):
    lines = sweep.stdout.split("\n\n")[-1].splitlines()
    # which value is best depends on the processor
    header, *rows, behind, best, folder = [line for line in lines if not line.startswith("note: the best")]
    assert re.split("  +", header) == ["model.embedding_dim", "val MSE", "behind ± 95%", "test MSE", "test RMSE", "job"]
    assert behind.endswith(" by a bootstrap over users of the paired squared errors of 2,000 rows (not over seeds)")
    assert sweep.folder / folder == runs[0].parent
    by_name = {run.name: json.loads((run / "metrics.json").read_text()) for run in runs}
    shown = [re.sub(" ± [0-9.]+", "", row).split() for row in rows]
    assert {row[-1]: row[0] for row in shown} == {"0": "8", "1": "16", "2": "32"}
    errors = sorted(metrics["val/mse"] for metrics in by_name.values())
    assert [float(row[1]) for row in shown] == [round(error, 4) for error in errors]
    assert [float(row[2]) for row in shown[1:]] == [pytest.approx(error - errors[0], abs=1e-4) for error in errors[1:]]
    for row in shown:
        metrics = by_name[runs[int(row[-1])].name]
        assert [row[1], *row[-3:-1]] == [f"{metrics[tag]:.4f}" for tag in ("val/mse", "test/mse", "test/rmse")]
    assert re.fullmatch(rf"best +python \S+train\.py model\.embedding_dim={shown[0][0]} trainer\.max_epochs=3", best)


def test_sweep_writes_its_table_and_the_best_configuration(sweep, runs):
    folder = runs[0].parent
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == [run.name for run in runs]
    assert {row["status"] for row in rows} == {"finished"}
    metrics = [json.loads((run / "metrics.json").read_text()) for run in runs]
    for tag in ("val/mse", "test/rmse", "fit/seconds", "fit/parameters"):
        assert [float(row[tag]) for row in rows] == [each[tag] for each in metrics]
    best = min(range(3), key=lambda number: metrics[number]["val/mse"])
    assert (folder / "best.yaml").read_text() == (runs[best] / ".hydra" / "config.yaml").read_text()
    header, rule, *lines = (folder / "results.md").read_text(encoding="utf-8").splitlines()
    assert header == "| model.embedding_dim | val MSE | behind ± 95% | test MSE | test RMSE | job |"
    assert (rule, len(lines)) == ("| --- | --- | --- | --- | --- | --- |", 3)
    assert lines[0].endswith(f" **{best}** |")
    header, *lines = (folder / "results.tex").read_text(encoding="utf-8").splitlines()[1:-1]
    columns = r"model.embedding\_dim & val MSE & behind $\pm$ 95\% & test MSE & test RMSE & job"
    assert header == rf"{columns} \\ \hline"
    assert lines[0].endswith(rf" & \textbf{{{best}}} \\")


def test_report_prints_the_table_of_the_sweep_again(command, sweep, runs):
    folder = runs[0].parent
    names = ("results.csv", "results.md", "results.tex", "best.yaml", "comparisons.csv")
    files = {name: (folder / name).read_bytes() for name in names}
    for name in files:
        (folder / name).unlink()
    figures = {path.name for path in (folder / "figures").iterdir()}
    (folder / "figures" / "earlier.png").touch()
    shown = command(sweep.folder, "report", str(folder)).stdout
    table = sweep.stdout.split("\n\n")[-1].splitlines()[:-1]
    assert shown.splitlines()[: len(table)] == table
    assert {name: (folder / name).read_bytes() for name in files} == files
    assert {path.name for path in (folder / "figures").iterdir()} == figures, "earlier ones are removed"
    only = command(sweep.folder, "report", "--models", str(folder), status=2)
    assert (only.stdout, only.stderr.count("\n")) == ("", 1), "no protocol, and no table of the sweep"


def test_best_that_was_not_pruned_is_the_reference(command, runs, tmp_path):
    folder = shutil.copytree(runs[0].parent, tmp_path / "sweep")
    best, second, third = report_sweep(read_jobs(folder)).sets[0].groups
    write_reason(folder / best.runs[0].folder.name / PRUNED, "after epoch 2")
    report = report_sweep(read_jobs(folder))
    (row,) = csv.DictReader(report.files["comparisons.csv"].decode().splitlines())
    names = [f"model.embedding_dim={group.settings['model.embedding_dim']}" for group in (second, third)]
    assert [row["best"], row["other"]] == names
    expected = paired_difference(second.runs, third.runs, METRICS["mse"].of_part("val")).text
    assert [expected in line for line in report.lines[1:4]] == [False, False, True]
    assert any(line.startswith("behind     difference from the best that was not pruned and") for line in report.lines)
    (folder / "sweep.json").unlink()  # loose runs
    lines = command(tmp_path, "report", "sweep").stdout.splitlines()
    assert [expected in line for line in lines if line.startswith("mf")] == [False, False, True]
    assert any(line.startswith("behind     difference from the best that was not pruned and") for line in lines)


def test_tensorboard_shows_curves_and_final_errors_of_every_run(sweep, runs, tensorboard):
    shown = tensorboard("/data/plugin/scalars/tags")
    names = [str(run.relative_to(sweep.folder / "outputs")) for run in runs]
    assert sorted(shown) == names
    for run, name in zip(runs, names, strict=True):
        metrics = json.loads((run / "metrics.json").read_text())
        assert {"train/mse", "val/mse", "test/mse", "test/rmse", "test/mae", "train/lr"} <= set(shown[name])
        assert {"weights/user_embedding", "weights/item_embedding"} <= set(shown[name])
        assert sorted(shown[name])[:2] == ["MSE/train", "MSE/val"], "the first cards"
        for tag in ("train/mse", "val/mse", "MSE/train", "MSE/val"):
            points = tensorboard("/data/plugin/scalars/scalars", run=name, tag=tag)
            assert [step for _, step, _ in points] == list(range(1, EPOCHS + 1))
        above = tensorboard("/data/plugin/scalars/scalars", run=name, tag="val/mse_above_bias_baseline")
        points = tensorboard("/data/plugin/scalars/scalars", run=name, tag="val/mse")
        for (_, _, gap), (_, _, mse) in zip(above, points, strict=True):
            assert mse - gap == pytest.approx(metrics["baseline/bias/val/mse"], abs=1e-5)
        best = min(value for _, _, value in tensorboard("/data/plugin/scalars/scalars", run=name, tag="val/mse"))
        assert best == pytest.approx(metrics["val/mse"], rel=1e-6)
        for tag in ("test/mse", "test/rmse", "test/mae"):
            ((_, _, value),) = tensorboard("/data/plugin/scalars/scalars", run=name, tag=tag)
            assert value == pytest.approx(metrics[tag], rel=1e-6)


def test_tensorboard_hparams_have_one_row_per_run_with_metrics(sweep, runs, tensorboard):
    request = {"experimentName": "", "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_RUNNING"],
               "colParams": [], "startIndex": 0, "sliceSize": 100}  # fmt: skip
    groups = tensorboard("/data/plugin/hparams/session_groups", request=json.dumps(request))["sessionGroups"]
    rows = {group["name"]: group for group in groups}
    assert len(rows) == 3
    for run in runs:
        row = rows[str(run.relative_to(sweep.folder / "outputs"))]
        options = json.loads((run / "run.json").read_text())["model_options"]
        metrics = json.loads((run / "metrics.json").read_text())
        assert row["hparams"] == {"model.embedding_dim": options["embedding_dim"]}
        values = {value["name"]["tag"]: value["value"] for value in row["metricValues"]}
        assert values["best/val_mse"] == pytest.approx(metrics["val/mse"], rel=1e-6)
        assert values["test/mse"] == pytest.approx(metrics["test/mse"], rel=1e-6)
        assert -1 not in values.values()


def test_tensorboard_shows_the_config_as_text_and_both_errors_in_one_chart(sweep, runs, tensorboard):
    name = str(runs[0].relative_to(sweep.folder / "outputs"))
    assert set(tensorboard("/data/plugin/text/tags")[name]) == {
        f"{text}/text_summary" for text in ("1_overrides", "2_header", "3_config")
    }
    for place, line in (("1_overrides", "model.embedding_dim=8"), ("3_config", "embedding_dim: 8")):
        (text,) = tensorboard("/data/plugin/text/text", run=name, tag=f"{place}/text_summary")
        assert line in text["text"]
    (chart,) = tensorboard("/data/plugin/custom_scalars/layout")["category"][0]["chart"]
    assert chart["multiline"]["tag"] == ["^train/mse$", "^val/mse$"]


def test_each_run_has_one_event_file(runs):
    for run in runs:
        assert len(list(run.glob("events.out.tfevents.*"))) == 1


FIGURES = {
    "test/predicted_against_true", "test/error_by_item_popularity", "test/error_by_user_activity",
    "test/error_distribution",
}  # fmt: skip


def test_runs_of_a_sweep_log_no_figures(sweep, runs, tensorboard):
    assert not any(tensorboard("/data/plugin/images/tags").values())
    assert not any((run / "projector_config.pbtxt").exists() for run in runs)


def test_single_run_logs_its_most_rated_items_to_the_projector(biased):
    config = (biased.run / "projector_config.pbtxt").read_text()
    metadata = (biased.run / re.search(r'metadata_path: "(.*)"', config)[1]).read_text().splitlines()
    tensors = (biased.run / re.search(r'tensor_path: "(.*)"', config)[1]).read_text().splitlines()
    assert metadata[0] == "item_id\ttitle\tratings"
    counts = [int(line.split("\t")[2]) for line in metadata[1:]]
    assert len(counts) == len(tensors) == 500
    assert counts == sorted(counts, reverse=True)
    assert all("(" in line.split("\t")[1] for line in metadata[1:])


def test_single_run_logs_figures_of_its_errors_and_data(biased):
    (events,) = biased.run.glob("events.out.tfevents.*")
    assert all(tag.encode() in events.read_bytes() for tag in ("data/ratings", "data/long_tail", *FIGURES))


def test_figures_projector_and_tensorboard_can_be_turned_off(command, tmp_path):
    plain = command(
        tmp_path,
        "train",
        "trainer=debug",
        *NO_FIGURES,
    ).run
    assert not (plain / "projector_config.pbtxt").exists()
    (events,) = plain.glob("events.out.tfevents.*")
    assert events.stat().st_size < 20_000
    silent = command(tmp_path, "train", "trainer=debug", "logger=none").run
    assert list(silent.glob("events.out.tfevents.*")) == []


def write_job(folder, number, *, metrics, failure=None, parameters=1, **arguments):
    """Write a job of a sweep whose run was not trained; return its folder."""
    run = folder / f"{number}-job"
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "config.yaml").write_text(f"number: {number}\n")
    overrides = [f"{key.replace('__', '.')}={value}" for key, value in arguments.items()]
    (run / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
    if failure is not None:
        write_reason(run / FAILURE, failure)
    if metrics:
        write_record(run, RECORD)
        values = {"fit/epochs": 1, "fit/parameters": parameters, "val/mse": metrics, "test/mse": 2 * metrics}
        (run / "metrics.json").write_text(json.dumps(values))
        accept_files(run)
    return run


def test_jobs_that_differ_in_seed_and_fold_share_a_row(tmp_path):
    errors = {0.1: [1.0, 1.1, 1.2, 1.3], 0.2: [0.5, 0.7, 0.9, 1.1]}
    replicates = [{"seed": seed, "split__fold": fold} for seed in (0, 1) for fold in (1, 2)]
    jobs = [
        write_job(tmp_path, 4 * row + place, metrics=error, optimizer__lr=lr, **replicates[place], x=3)
        for row, (lr, values) in enumerate(errors.items())
        for place, error in enumerate(values)
    ]
    header, *rows, best = report_sweep(read_jobs(tmp_path)).lines
    assert header.split("  ")[0] == "optimizer.lr"
    interval = stats.t.interval(0.95, 3, loc=0.8, scale=stats.sem(errors[0.2]))
    assert rows[0].split()[:5] == ["0.2", "4", "0.8000", "±", f"{interval[1] - 0.8:.4f}"]
    assert rows[1].split()[:3] == ["0.1", "4", "1.1500"]
    assert best.endswith(" optimizer.lr=0.2 x=3")
    assert report_sweep(read_jobs(tmp_path)).files["best.yaml"] == b"number: 4\n"
    # with a fold missing, the better mean no longer counts
    (jobs[7] / "metrics.json").unlink()
    accept_files(jobs[7])
    header, *rows, _, best = report_sweep(read_jobs(tmp_path)).lines
    assert [row.split()[:4] for row in rows] == [["0.1", "4", "1.1500", "±"], ["0.2", "3", "of", "4"]]
    assert best.endswith(" optimizer.lr=0.1 x=3")
    # with that fold missing in both groups, they are compared over the others
    (jobs[3] / "metrics.json").unlink()
    _, *rows, _, best = report_sweep(read_jobs(tmp_path)).lines
    assert [row.split()[:3] for row in rows] == [["0.2", "3", "0.7000"], ["0.1", "3", "1.1000"]]
    assert best.endswith(" optimizer.lr=0.2 x=3")


def test_of_equal_errors_that_with_fewer_parameters_wins_and_the_key_has_no_effect(tmp_path):
    errors = {(2, 0.1): 0.70002, (8, 0.1): 0.70001, (32, 0.1): 0.70003, (2, 0.3): 0.8, (8, 0.3): 0.8, (32, 0.3): 0.8}
    for number, ((dim, lr), error) in enumerate(errors.items()):
        write_job(tmp_path, number, metrics=error, parameters=100 * dim, model__embedding_dim=dim, optimizer__lr=lr)
    _, *rows, note, best = report_sweep(read_jobs(tmp_path)).lines
    assert [row.split()[0] for row in rows] == ["2", "8", "32"] * 2
    assert note == "note: model.embedding_dim has no effect here: it changes val MSE by less than 0.00005"
    assert best.endswith(" model.embedding_dim=2 optimizer.lr=0.1")
    write_job(tmp_path, 6, metrics=0.8001, parameters=1, model__embedding_dim=64, optimizer__lr=0.3)
    assert not any("no effect" in line for line in report_sweep(read_jobs(tmp_path)).lines)


@pytest.mark.parametrize(("errors", "end"), [([3, 2, 1], "highest"), ([1, 2, 3], "lowest"), ([2, 1, 3], None)])
def test_best_value_at_an_end_of_the_tried_values_is_named(tmp_path, errors, end):
    for number, error in enumerate(errors):
        write_job(tmp_path, number, metrics=error, model="mf", model__embedding_dim=8 * 2**number)
        write_job(tmp_path, 3 + number, metrics=error + 1, model="nmf", model__embedding_dim=8 * 2**number)
    note = f"note: the best model.embedding_dim, {8 * 2 ** errors.index(1)}, is the {end} that was tried; "
    lines = report_sweep(read_jobs(tmp_path)).lines
    assert [line.startswith(note) for line in lines if line.startswith("note: the best")] == [True] * (end is not None)


def test_nothing_lies_below_zero(tmp_path):
    for number in range(3):
        write_job(tmp_path, number, metrics=number + 1, model__regularization=0.1 * number)
    assert not any(line.startswith("note: the best") for line in report_sweep(read_jobs(tmp_path)).lines)


def test_two_values_have_no_inside(tmp_path):
    for number in range(2):
        write_job(tmp_path, number, metrics=number + 1, optimizer__lr=number + 1)
    assert not any(line.startswith("note: the best") for line in report_sweep(read_jobs(tmp_path)).lines)


def test_test_errors_do_not_choose(tmp_path):
    for number, error in enumerate([2.0, 1.0]):
        run = write_job(tmp_path, number, metrics=error, model__embedding_dim=number)
        (run / "metrics.json").write_text(json.dumps({"fit/epochs": 1, "test/mse": 3.0 - number}))
        accept_files(run)
    _, *rows = report_sweep(read_jobs(tmp_path)).lines
    assert [row.split()[0] for row in rows] == ["0", "1"]
    assert "best.yaml" not in report_sweep(read_jobs(tmp_path)).files


@pytest.mark.parametrize("axis", [(), ("seed",)])
def test_jobs_without_metrics_are_listed(tmp_path, axis):
    for number in range(2):
        write_job(tmp_path, number, metrics=None, failure="bad", lr=number, **dict.fromkeys(axis, number))
    _, *rows = report_sweep(read_jobs(tmp_path)).lines
    assert [row.split()[0] for row in rows] == ["0", "1", "failed", "failed"]
    assert "failed" in rows[0]


def test_failed_and_stopped_jobs_come_last(tmp_path):
    write_job(tmp_path, 0, metrics=None, failure="too large", model__embedding_dim=9)
    write_job(tmp_path, 1, metrics=None, model__embedding_dim=8)
    write_job(tmp_path, 2, metrics=0.5, model__embedding_dim=7)
    _, *rows, failure, _ = report_sweep(read_jobs(tmp_path)).lines
    assert [row.split()[:2] for row in rows] == [["7", "0.5000"], ["9", "failed"], ["8", "stopped"]]
    assert failure == "failed     0-job: too large"


def test_seeds_alone_end_with_their_mean_and_interval(tmp_path):
    for seed, error in enumerate([1.0, 2.0, 3.0]):
        write_job(tmp_path, seed, metrics=error, seed=seed)
    *_, mean, interval, explained = report_sweep(read_jobs(tmp_path)).lines
    assert (mean.split(), interval.split()) == (
        ["mean", "2.0000", "4.0000", "1.9546"],
        ["±", "95%", "2.4841", "4.9683", "1.2896"],
    )
    assert explained == "± 95%      half-width of the mean's 95% confidence interval, by Student's t over seeds"


def test_key_with_a_failed_value_may_have_an_effect(tmp_path):
    for number, lr in enumerate((0.1, 0.2)):
        write_job(tmp_path, number, metrics=0.7, optimizer__lr=lr)
    assert any("optimizer.lr has no effect" in line for line in report_sweep(read_jobs(tmp_path)).lines)
    write_job(tmp_path, 2, metrics=None, failure="val/mse is nan", optimizer__lr=9)
    assert not any("no effect" in line for line in report_sweep(read_jobs(tmp_path)).lines)
