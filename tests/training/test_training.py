"""Training as users start it: output, files and metrics."""

import fcntl
import os
import pty
import re
import struct
import termios
import threading
import weakref
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import REPOSITORY
from llvmlite.binding import get_host_cpu_name
from run_folders import metrics_of, run_json_of

from ratinglab.training import training
from ratinglab.training.run_trainer import ReadyFit


def test_textbook_model_beats_both_baselines(textbook):
    metrics = metrics_of(textbook.run)
    assert metrics["test/mse"] < metrics["baseline/bias/test/mse"] < metrics["baseline/mean/test/mse"]
    assert "warning" not in textbook.stdout


def test_biased_mf_closes_most_of_the_gap_to_the_noise_floor(biased):
    metrics = metrics_of(biased.run)
    floor = run_json_of(biased.run)["noise_floor"]
    bias = metrics["baseline/bias/test/mse"]
    assert (bias - metrics["test/mse"]) / (bias - floor) > 0.6


def test_train_prints_data_split_epochs_and_errors(textbook):
    assert textbook.stderr == ""
    text = textbook.stdout
    assert text.startswith(
        "data       demo: 100,000 ratings of 1,000 users over 1,700 items, density 5.88%, scale 0.5 to 5"
    )
    assert re.search(
        r"^split      random [0-9a-f]{12}: 80,000 train, 10,000 validation, 10,000 test$", text, re.MULTILINE
    )
    assert "86,400 parameters" in text
    assert re.search(r"^epoch 1/100   train/mse \d\.\d{4}   val/mse \d\.\d{4}$", text, re.MULTILINE)
    assert re.search(r"^test +bias baseline +\d\.\d{4} +\d\.\d{4} +\d\.\d{4}$", text, re.MULTILINE)
    assert re.search(r"^ +noise floor +0\.2972 +0\.5452$", text, re.MULTILINE)
    metrics, floor = metrics_of(textbook.run), run_json_of(textbook.run)["noise_floor"]
    bias = metrics["baseline/bias/test/mse"]
    closed = (bias - metrics["test/mse"]) / (bias - floor)
    assert f"gap        {closed:.0%} closed, from the bias baseline to the noise floor" in text
    assert re.fullmatch(r"outputs/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-[0-9a-f]{4}", text.splitlines()[-1])


def test_readme_shows_what_the_default_run_prints(textbook):
    """Line by line: the words are equal, and the errors within 1%, which is more than other machines differ by."""
    (block,) = re.findall(r"```text\n( +MSE .*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    shown, printed = block.splitlines(), textbook.stdout.splitlines()[-len(block.splitlines()) :]
    number = re.compile(r"\d[\d,.]*")
    for line, own in list(zip(shown, printed, strict=True))[:-1]:
        if line.startswith("fit"):  # seconds
            continue
        assert number.sub("", line) == number.sub("", own)
        values = ([float(each) for each in number.findall(text)] for text in (line, own))
        assert next(values) == pytest.approx(next(values), rel=0.01)


def test_train_writes_the_files_of_a_run(textbook):
    files = {str(path.relative_to(textbook.run)) for path in textbook.run.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    step = f"{int(metrics_of(textbook.run)['fit/epochs']):05}"  # folder of the projector
    assert files - events == {
        ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "checkpoints/best.ckpt",
        "checkpoints/last.ckpt", "digests.json", "epochs.csv", "predictions.parquet",
        "items.parquet", "metrics.json", "ratings.parquet", "run.json", "train.log",
        "users.parquet", "projector_config.pbtxt", f"{step}/items/metadata.tsv", f"{step}/items/tensors.tsv",
    }  # fmt: skip
    for name in ("best", "last"):
        torch.load(textbook.run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    assert "epoch 1/100" in (textbook.run / "train.log").read_text()


def test_best_and_last_checkpoints_hold_the_best_and_last_epoch(textbook):
    curve = pd.read_csv(textbook.run / "epochs.csv", index_col="epoch")["val/mse"]
    shown = re.findall(r"^epoch (\d+)/100 .* val/mse (\S+)$", textbook.stdout, re.MULTILINE)
    assert all(float(value) == pytest.approx(curve[int(epoch)], abs=1e-4) for epoch, value in shown)
    assert int(shown[-1][0]) == len(curve), "the last epoch is printed, however few are"
    epochs = {
        name: torch.load(textbook.run / "checkpoints" / f"{name}.ckpt", weights_only=True)["epochs"]
        for name in ("best", "last")
    }
    metrics = metrics_of(textbook.run)
    assert epochs == {"best": curve.idxmin(), "last": len(curve)}
    assert (metrics["fit/best_epoch"], metrics["fit/epochs"]) == (epochs["best"], epochs["last"])
    assert metrics["val/mse"] == pytest.approx(curve.min(), rel=1e-6)


def test_metrics_are_flat_and_complete(textbook):
    errors = {
        f"{prefix}{part}/{error}"
        for prefix in ("", "baseline/mean/", "baseline/bias/")
        for part in ("val", "test")
        for error in ("mse", "rmse", "mae")
    }
    fit = {"fit/seconds", "fit/ratings_per_second", "fit/epochs", "fit/best_epoch", "fit/parameters"}
    metrics = metrics_of(textbook.run)
    assert set(metrics) == errors | fit
    assert all(isinstance(value, int | float) for value in metrics.values())


def test_run_records_its_provenance(textbook):
    provenance = run_json_of(textbook.run)["provenance"]
    assert provenance["versions"]["torch"] == version("torch")
    assert {"numba", "scipy"} < set(provenance["versions"]), "they compute weights, too"
    assert provenance["cpu"] == get_host_cpu_name()
    assert provenance["command"][1:] == []
    assert provenance["columns"] == {}  # synthetic data have no names
    assert re.fullmatch("[0-9a-f]{32}", provenance["data_digest"])
    assert re.fullmatch("[0-9a-f]{12}", provenance["split"])


@pytest.mark.slow
def test_run_records_each_setting_that_affects_its_weights(train_here):
    settings = {
        "optimizer": "adamw", "optimizer.lr": 0.02, "optimizer.weight_decay": 0.3, "optimizer.beta1": 0.8,
        "optimizer.beta2": 0.95, "schedule": "exponential", "schedule.decay": 0.7,
    }  # fmt: skip
    steps = {
        "limit_train_batches": 0.5, "accumulate_grad_batches": 2, "gradient_clip_val": 0.25, "min_epochs": 1,
        "check_val_every_n_epoch": 2,
    }  # fmt: skip
    stopping = {"patience": 7, "min_delta": 0.125}
    options = settings | {f"trainer.{key}": value for key, value in steps.items()}
    options |= {f"callbacks.early_stopping.{key}": value for key, value in stopping.items()}
    options |= {"data.batch_size": 4096, "clip_predictions": "false", "trainer.max_epochs": 2}
    run = train_here(*(f"{key}={value}" for key, value in options.items()))
    expected = settings | steps | stopping | {"batch_size": 4096, "clip_predictions": False}
    assert run_json_of(run)["fit"] == expected


def test_same_seed_gives_equal_weights(command, tmp_path, quick):
    """`test_each_option_changes_the_weights` trains with another seed."""
    again = command(tmp_path, "train", "trainer=debug", "logger=none").run
    weights, others = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (quick.run, again)
    )
    assert all(torch.equal(weights[key], others[key]) for key in weights)


def test_train_without_validation_rows_keeps_the_last_weights(command_apart, tmp_path):
    few = ["trainer.max_epochs=4", "callbacks.early_stopping.patience=1"]
    outcome = command_apart(tmp_path, "train", "split.validation=0", "logger=none", *few)
    metrics = metrics_of(outcome.run)
    assert outcome.stderr == ""
    assert "no validation rows: early stopping is off" in outcome.stdout
    assert "val/mse" not in metrics
    assert metrics["fit/epochs"] == metrics["fit/best_epoch"] == 4


def test_train_without_test_rows_has_no_test_metrics(command, tmp_path):
    metrics = metrics_of(command(tmp_path, "train", "split.test=0", "trainer=debug").run)
    assert "val/mse" in metrics
    assert "test/mse" not in metrics


def test_train_warns_about_skipped_batches_and_errors_above_the_baseline(command, tmp_path):
    few = ["trainer.limit_train_batches=0.5", "trainer.max_epochs=1", "logger=none"]
    outcome = command(tmp_path, "train", *few)
    assert "warning: the fit trains on 50% of the batches of each epoch" in outcome.stdout
    assert "warning: mf is worse than the bias baseline on test" in outcome.stdout
    assert "gap  " not in outcome.stdout, "it would be negative"


@pytest.mark.slow
def test_clip_predictions_lowers_the_test_error(train_here):
    clipped, free = (
        metrics_of(train_here("optimizer.lr=0.05", "trainer.max_epochs=4", f"clip_predictions={clip}"))["test/mse"]
        for clip in ("true", "false")
    )
    assert clipped < free


DEBUG = ["trainer=debug", "trainer.max_epochs=3"]


@pytest.fixture(scope="module")
def debug(command_apart, tmp_path_factory):
    """Train a short run, with which the tests compare their runs."""
    return command_apart(tmp_path_factory.mktemp("debug"), "train", *DEBUG, "logger=none")


def last_weights(run: Path) -> torch.Tensor:
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state["predictor.model.user_embedding.weight"]


@pytest.mark.parametrize(
    "option",
    [
        "trainer.accumulate_grad_batches=4",
        "trainer.gradient_clip_val=0.001",
        "trainer.limit_train_batches=0.3",
        "optimizer=adamw optimizer.weight_decay=0.1",
        "optimizer=sgd",
        "optimizer=sparse_adam",
        "schedule=exponential",
        "schedule=cosine",
        "data.batch_size=512",
        "model.regularization=0.5",
        "model.init_std=0.2",
        "split.seed=1",
        "split.test=0.2",
        "data.seed=1",
        "seed=1",
    ],
)
def test_each_option_changes_the_weights(train_here, debug, option):
    weights, others = last_weights(train_here(*DEBUG, *option.split())), last_weights(debug.run)
    changes_rows = option.startswith(("split.", "data.seed"))  # so other users can have training rows
    assert changes_rows or weights.shape == others.shape
    assert weights.shape != others.shape or not torch.allclose(weights, others, atol=1e-4)


def test_first_weights_depend_on_the_seed(train_here):
    frozen = [*DEBUG, "optimizer=sgd", "optimizer.lr=1e-30"]
    one, other = (last_weights(train_here(*frozen, f"seed={seed}")) for seed in (0, 1))
    assert not torch.allclose(one, other, atol=1e-3)


def test_trainer_options_control_the_output(command_apart, debug, tmp_path):
    assert "epoch 1/" in debug.stdout
    # Lightning's own lines: on stdout, or on stderr where it was imported before Hydra has set up the logging, as here
    assert "Total params" in debug.stdout + debug.stderr
    silent = ["trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]
    quiet = command_apart(tmp_path, "train", "trainer=debug", "logger=none", *silent)
    assert "epoch 1/" not in quiet.stdout
    assert "Total params" not in quiet.stdout + quiet.stderr
    profiled = command_apart(tmp_path, "train", "trainer=debug", "logger=none", "trainer.profiler=simple")
    assert "FIT Profiler Report" in profiled.stdout + profiled.stderr


def test_validation_error_is_printed_only_in_epochs_with_validation(command, tmp_path):
    every_other = ["trainer.max_epochs=5", "trainer.check_val_every_n_epoch=2"]
    outcome = command(tmp_path, "train", "trainer=debug", "logger=none", *every_other)
    lines = [line for line in outcome.stdout.splitlines() if line.startswith("epoch ")]
    assert ["val/mse" in line for line in lines] == [False, True, False, True, False]
    checkpoints = outcome.run / "checkpoints"
    assert torch.load(checkpoints / "last.ckpt", weights_only=True)["epochs"] == 5
    assert torch.load(checkpoints / "best.ckpt", weights_only=True)["epochs"] == 4


@pytest.mark.slow
def test_patience_min_epochs_and_min_delta_control_early_stopping(train_here):
    free, least, steep = (
        metrics_of(train_here("optimizer.lr=0.05", "callbacks.early_stopping.patience=2", *options))
        for options in (
            ["trainer.max_epochs=30"],
            ["trainer.max_epochs=12", "trainer.min_epochs=12"],
            ["trainer.max_epochs=30", "callbacks.early_stopping.min_delta=10"],
        )
    )
    assert free["fit/epochs"] == free["fit/best_epoch"] + 2 < least["fit/epochs"] == 12
    assert steep["fit/epochs"] == 3 < free["fit/epochs"]


def test_divergence_in_the_last_update_fails_the_run(command, tmp_path):
    arguments = ["optimizer=sgd", "optimizer.lr=1e30", "trainer.max_epochs=1", "data.batch_size=200000", "logger=none"]
    for validation in ("0.1", "0"):
        outcome = command(tmp_path, "train", *arguments, f"split.validation={validation}", status=1)
        assert re.match(r"error: (val/mse|weights/\w+|test/mse) is -?(nan|inf)", outcome.stderr)
        assert outcome.stderr.count("\n") == 1
    assert list(tmp_path.rglob("metrics.json")) == []


def test_repeated_pairs_are_refused_or_merged_with_a_note(command, tmp_path):
    rows = [f"{user},{item},{1 + user * item % 5}" for user in range(20) for item in range(20)]
    (tmp_path / "ratings.csv").write_text("\n".join(["user_id,item_id,rating", *rows, *rows[:3]]))
    arguments = ["data=csv", "data.path=ratings.csv", "trainer=debug", "logger=none"]
    assert "repeat an earlier row's user and item: 3 (" in command(tmp_path, "train", *arguments, status=2).stderr
    outcome = command(tmp_path, "train", *arguments, "data.duplicates=last")
    assert "note: data.duplicates=last merged 3 rows into other rows of the same user and item" in outcome.stdout
    assert "400 ratings of 20 users" in outcome.stdout


def test_non_finite_loss_fails_the_run_and_keeps_its_folder(command, tmp_path):
    outcome = command(tmp_path, "train", "optimizer=sgd", "optimizer.lr=1e6", "logger=none", status=1)
    assert re.fullmatch(r"error: train/mse is (nan|inf) in epoch \d+ at lr 1e\+06; .*\n", outcome.stderr)
    assert len(list(tmp_path.glob("outputs/*/*/run.json"))) == 1


def test_sweep_continues_when_one_run_diverges(command, tmp_path):
    arguments = ["trainer=debug", "logger=none", "optimizer=sgd", "optimizer.lr=1e6,1"]
    outcome = command(tmp_path, "train", "-m", *arguments, status=1)
    assert "Traceback" not in outcome.stderr
    assert outcome.run == next(tmp_path.glob("outputs/sweeps/*/*")), "the sweep's table and folder are printed"
    runs = sorted(tmp_path.glob("outputs/sweeps/*/*/*/run.json"))
    assert [(path.parent.name[:2], (path.parent / "metrics.json").exists()) for path in runs] == [
        ("0-", False),
        ("1-", True),
    ]


def test_progress_bar_on_a_terminal_shows_epoch_and_both_errors(start, tmp_path):
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    process = start(tmp_path, "train", *DEBUG, "logger=none", stderr=Path(os.ttyname(terminal)))
    shown = []
    reader = threading.Thread(target=lambda: shown.extend(iter(lambda: read_all(main), b"")))
    reader.start()
    status, stdout, _ = process.end()
    os.close(terminal)  # so that the reader stops
    reader.join(timeout=60)
    os.close(main)
    assert status == 0, b"".join(shown).decode()
    assert re.search(r"epoch 3/3: 100%.* train/mse=\d\.\d+, val/mse=\d\.\d+", b"".join(shown).decode())
    assert "epoch 1/3" not in stdout
    assert (tmp_path / stdout.splitlines()[-1]).is_dir()


def read_all(terminal: int) -> bytes:
    """Read the output so far; empty once the other side is closed."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_the_table_is_freed_before_the_fit(train_here, monkeypatch):
    tables, were_alive = [], []

    def prepare_and_remember(*arguments, **options):
        prepared = prepare(*arguments, **options)
        tables.append(weakref.ref(prepared.ratings.table))
        return prepared

    def look_and_run(ready_fit, run_folder):
        were_alive.extend(table() is not None for table in tables)
        return run(ready_fit, run_folder)

    prepare, run = training.prepare, ReadyFit.run
    monkeypatch.setattr(training, "prepare", prepare_and_remember)
    monkeypatch.setattr(ReadyFit, "run", look_and_run)
    train_here("trainer=debug")
    assert were_alive == [False]
