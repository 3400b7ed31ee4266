"""Loggers beside TensorBoard: what a run, a resumed run and a sweep write with them."""

import csv
import signal
from pathlib import Path

import pytest
import yaml
from conftest import NO_FIGURES
from equal_runs import assert_equal_runs
from pytorch_lightning.loggers import MLFlowLogger
from run_folders import metrics_of

from ratinglab.fitting.loggers.trackers import SafeNamesMLFlowLogger

EPOCHS = 6
EXPERIMENT = [f"trainer.max_epochs={EPOCHS}", "callbacks.early_stopping.patience=null"]
BOTH = ["logger=[tensorboard,csv]", *NO_FIGURES]
QUICK = ["trainer=debug", "trainer.enable_model_summary=false"]
SCRIPTS = Path(__file__).parents[2] / "scripts"
CURVES = ["train/mse", "train/lr", "val/mse", "val/mse_above_bias_baseline"]


def table(run) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def kill_and_resume(command_apart, start, folder, *arguments):
    """Kill a run after its third epoch, and resume it; return its folder."""
    process = start(folder, "train", *arguments)
    process.until("epoch 3/")
    process.end(signal.SIGKILL)
    (run,) = (path.parent for path in folder.glob("outputs/*/*/.hydra"))
    assert not (run / "metrics.json").exists()
    return command_apart(folder, "train", f"resume={run}").run


@pytest.fixture(scope="module")
def several(command, tmp_path_factory):
    """Train with two loggers."""
    return command(tmp_path_factory.mktemp("several"), "train", *EXPERIMENT, *BOTH).run


def test_csv_has_a_row_per_epoch_and_the_final_metrics(several):
    *epochs, last = table(several)
    assert [row["step"] for row in epochs] == [str(epoch) for epoch in range(1, EPOCHS + 1)]
    assert all(float(row[tag]) for row in epochs for tag in [*CURVES, "weights/user_embedding"])
    metrics = metrics_of(several)
    assert float(last["test/mse"]) == metrics["test/mse"]
    assert float(last["best/val_mse"]) == metrics["val/mse"] == min(float(row["val/mse"]) for row in epochs)
    assert yaml.safe_load((several / "hparams.yaml").read_text())["model.embedding_dim"] == 32
    assert not (several / "lightning_logs").exists()


def test_each_of_several_loggers_writes(several):
    assert len(list(several.glob("events.out.tfevents.*"))) == 1


def test_killed_run_resumes_with_several_loggers(command_apart, start, tmp_path, several):
    run = kill_and_resume(command_apart, start, tmp_path, *EXPERIMENT, *BOTH)
    assert_equal_runs(run, several)
    timed = {"fit/seconds", "fit/ratings_per_second"}
    for row, other in zip(table(run), table(several), strict=True):
        assert {tag for tag in row if row[tag] != other[tag]} <= timed


def test_extended_run_appends_to_its_table(command, tmp_path):
    run = command(tmp_path, "train", *QUICK, "logger=csv").run
    before = table(run)
    command(tmp_path, "train", f"resume={run}", "trainer.max_epochs=3")
    after = table(run)
    assert after[: len(before)] == before
    assert [row["step"] for row in after] == ["1", "2", "2", "3", "3"]


def test_run_with_several_loggers_is_reproduced(command, tmp_path, several):
    outcome = command(tmp_path, "reproduce", f"run={several}")
    assert "reproduced: every metric is equal to the last digit" in outcome.stdout
    assert len(table(tmp_path / outcome.stdout.splitlines()[-2])) == EPOCHS + 1


def test_sweep_can_choose_loggers(command, tmp_path):
    sweep = ["-m", *QUICK, "logger=csv,[csv,tensorboard],none", "hydra.sweep.dir=sweep"]
    command(tmp_path, "train", *sweep)
    runs = sorted(path.parent for path in tmp_path.glob("sweep/*/run.json"))
    assert [run.name for run in runs] == ["0-logger-csv", "1-logger-csv-tensorboard", "2-logger-none"]
    assert [(run / "metrics.csv").exists() for run in runs] == [True, True, False]
    assert [len(list(run.glob("events.*"))) for run in runs] == [0, 1, 0]


def test_experiment_can_choose_several_loggers(command, tmp_path):
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n# Mine.\ndefaults:\n  - override /logger: [tensorboard, csv]\n"
        "logger: {tensorboard: {projector_items: 3, figures: false, data_figures: false}}\n"
    )
    mine = ["--config-dir", "own", "experiment=mine", *QUICK]
    run = command(tmp_path, "train", *mine).run
    assert (run / "metrics.csv").exists()
    assert len(next(run.glob("[0-9]*/items/metadata.tsv")).read_text().splitlines()) == 1 + 3
    run = command(tmp_path, "train", *mine, "logger=tensorboard").run
    assert not (run / "metrics.csv").exists()
    assert len(next(run.glob("[0-9]*/items/metadata.tsv")).read_text().splitlines()) == 1 + 3


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_missing_package_gives_a_one_line_error_and_no_files(command_apart, tmp_path, name):
    script = tmp_path / "hidden.py"
    script.write_text(
        "import importlib.util, runpy\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *more: None if name == {name!r} else find(name, *more)\n"
        f"runpy.run_path({str(SCRIPTS / 'train.py')!r}, run_name='__main__')\n"
    )
    outcome = command_apart(tmp_path, str(script.with_suffix("")), *QUICK, f"logger=[csv,{name}]", status=2)
    assert outcome.stderr == f"error: logger={name} needs {name}: pip install 'ratinglab[{name}]'\n"
    assert [path.name for path in tmp_path.iterdir()] == ["hidden.py"]


@pytest.fixture
def client(tmp_path):
    """Return a function that lists the runs of MLflow, oldest first, and a client of MLflow."""
    mlflow = pytest.importorskip("mlflow")

    def connect():
        found = mlflow.MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db")
        experiment = found.get_experiment_by_name("ratinglab")
        return found, found.search_runs([experiment.experiment_id], order_by=["start_time"])

    return connect


def test_mlflow_has_settings_curves_and_final_metrics(command_apart, tmp_path, client):
    outcome = command_apart(tmp_path, "train", *QUICK, "logger=mlflow")
    assert "mlflow" not in outcome.stdout + outcome.stderr.lower()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]
    connection, (run,) = client()
    metrics = metrics_of(outcome.run)
    assert (run.info.run_name, run.info.status) == (outcome.run.name, "FINISHED")
    assert run.data.tags["folder"] == str(outcome.run)
    assert run.data.params["model.embedding_dim"] == "32"
    assert run.data.metrics["best/val_mse"] == metrics["val/mse"]
    assert {tag: run.data.metrics[tag] for tag in metrics if not tag.startswith("val/")} == {
        tag: value for tag, value in metrics.items() if not tag.startswith("val/")
    }
    for tag in CURVES:
        assert [point.step for point in connection.get_metric_history(run.info.run_id, tag)] == [1, 2]


def test_resumed_run_continues_its_run_of_mlflow(command_apart, start, tmp_path, client):
    run = kill_and_resume(command_apart, start, tmp_path, *EXPERIMENT, "logger=[csv,mlflow]")
    (tmp_path / "elsewhere").mkdir()
    command_apart(tmp_path / "elsewhere", "train", f"resume={run}", f"trainer.max_epochs={EPOCHS + 1}")
    connection, (logged,) = client()
    history = connection.get_metric_history(logged.info.run_id, "val/mse")
    curve = [(int(row["step"]), float(row["val/mse"])) for row in table(run) if row["val/mse"]]
    assert sorted({(point.step, point.value) for point in history}) == curve
    assert (logged.info.status, list((tmp_path / "elsewhere").iterdir())) == ("FINISHED", [])


def test_each_run_of_a_sweep_is_a_run_of_mlflow(command_apart, tmp_path, client):
    command_apart(tmp_path, "train", "-m", *QUICK, "logger=mlflow", "data.batch_size=512,1024")
    _, runs = client()
    assert [run.info.run_name for run in runs] == ["0-batch_size-512", "1-batch_size-1024"]
    assert [run.data.params["data.batch_size"] for run in runs] == ["512", "1024"]
    assert len({run.data.tags["sweep"] for run in runs}) == 1


def test_runs_that_start_at_once_share_a_new_database_of_mlflow(start, tmp_path, client):
    folders = [f"hydra.run.dir=run{number}" for number in range(3)]
    for process in [start(tmp_path, "train", *QUICK, "logger=mlflow", folder) for folder in folders]:
        status, stdout, _ = process.end()
        assert status == 0
        assert "warning: MLflow" not in stdout
    assert {run.info.run_name for run in client()[1]} == {"run0", "run1", "run2"}


def test_run_of_a_failed_fit_has_failed_in_mlflow(command_apart, tmp_path, client):
    diverges = ["optimizer=sgd", "optimizer.lr=1e6", "logger=mlflow"]
    command_apart(tmp_path, "train", *diverges, status=1)
    _, (run,) = client()
    assert run.info.status == "FAILED"


def test_run_goes_on_where_mlflow_cannot_write(command_apart, tmp_path):
    pytest.importorskip("mlflow")
    (tmp_path / "file").write_text("")
    outcome = command_apart(
        tmp_path, "train", *QUICK, "logger=mlflow", "logger.mlflow.tracking_uri=sqlite:///file/x.db"
    )
    (warning,) = (line for line in outcome.stdout.splitlines() if "MLflow" in line)
    assert warning.startswith("warning: could not write to MLflow: ")
    assert (outcome.run / "metrics.json").exists()


def wandb_bytes(run) -> list[bytes]:
    """Read the files that W&B has written, one per process that trained the run."""
    return [path.read_bytes() for path in sorted(run.glob("wandb/offline-run-*/run-*.wandb"))]


def test_wandb_writes_offline_into_the_run(command_apart, tmp_path):
    pytest.importorskip("wandb")
    outcome = command_apart(tmp_path, "train", *QUICK, "logger=[csv,wandb]")
    assert "wandb" not in outcome.stdout + outcome.stderr.lower()
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    (content,) = wandb_bytes(outcome.run)
    for text in ("model.embedding_dim", "val/mse", "best/val_mse", "test/mse", "ratinglab", outcome.run.name):
        assert text.encode() in content


def test_resumed_run_continues_its_run_of_wandb(command_apart, start, tmp_path):
    pytest.importorskip("wandb")
    run = kill_and_resume(command_apart, start, tmp_path, *EXPERIMENT, "logger=wandb")
    folders = sorted(run.glob("wandb/offline-run-*"))
    assert len(folders) == 2
    assert len({folder.name.rpartition("-")[2] for folder in folders}) == 1, "the id"


def test_each_run_of_a_sweep_is_a_run_of_wandb(command_apart, tmp_path):
    pytest.importorskip("wandb")
    command_apart(tmp_path, "train", "-m", *QUICK, "logger=wandb", "data.batch_size=512,1024", "hydra.sweep.dir=mine")
    runs = sorted(path.parent for path in tmp_path.glob("mine/*/run.json"))
    assert len(runs) == 2
    for run in runs:
        (content,) = wandb_bytes(run)
        assert run.name.encode() in content
        assert b"\x04mine" in content, "the group, preceded by its length as in no path"
        assert content.count(b"val/mse_above_bias_baseline") >= 2


def test_names_of_lists_have_no_at_in_mlflow(monkeypatch):
    logged = []
    monkeypatch.setattr(MLFlowLogger, "log_metrics", lambda _, metrics, step: logged.append((metrics, step)))
    SafeNamesMLFlowLogger.__new__(SafeNamesMLFlowLogger).log_metrics({"val/ndcg@10": 0.5, "val/mse": 1.0}, 3)
    assert logged == [({"val/ndcg_at_10": 0.5, "val/mse": 1.0}, 3)]
