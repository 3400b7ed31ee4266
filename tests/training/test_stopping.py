"""Signals: a run stops after its epoch with last.ckpt written, and resumes to equal weights."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from conftest import NO_FIGURES
from equal_runs import assert_equal_runs

EXPERIMENT = ["trainer.max_epochs=8", "schedule=exponential", *NO_FIGURES]
"""Fits so short that last.ckpt is written at the end only, unless a signal comes."""
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """Train the run that is never stopped."""
    return command(tmp_path_factory.mktemp("whole"), "train", *EXPERIMENT).run


def logged_in_sweep(folder: Path, text: str) -> bool:
    """Return whether a job has logged a text: a sweep prints no epochs."""
    return any(text in log.read_text() for log in folder.rglob("train.log"))


def stopped_run(folder: Path, stderr: str, *, number: signal.Signals, epochs: int) -> tuple[Path, int]:
    """Check the two lines that a stopped run prints; return its folder and the number of epochs done."""
    pattern = (
        rf"{number.name}: the run stops after this epoch; a second signal stops it at once\n"
        rf"stopped by {number.name} after (\d+) of {epochs} epochs; to resume: python \S+/train.py resume=(\S+)\n"
    )
    found = re.fullmatch(pattern, stderr)
    assert found, stderr
    return folder / found[2], int(found[1])


@pytest.mark.parametrize(("number", "status"), SIGNALS, ids=str)
def test_stopped_run_names_its_last_epoch_and_resumes_to_equal_weights(command, start, tmp_path, whole, number, status):
    process = start(tmp_path, "train", *EXPERIMENT)
    process.until("epoch 3/")
    found, _, stderr = process.end(number)
    assert found == status
    run, done = stopped_run(tmp_path, stderr, number=number, epochs=8)
    assert 3 <= done < 8
    assert not (run / "metrics.json").exists()
    assert not (run / ".lock").exists()
    outcome = command(tmp_path, "train", f"resume={run}")
    assert f"resume     after {done} epochs" in outcome.stdout
    assert_equal_runs(run, whole)


def test_run_of_a_sweep_stopped_by_a_signal_ends_the_sweep_and_resumes(command, start, tmp_path, whole):
    process = start(tmp_path, "train", "-m", *EXPERIMENT, "model.embedding_dim=32,16")
    process.wait_until(lambda: logged_in_sweep(tmp_path, "epoch 3/"))
    found, _, stderr = process.end(signal.SIGTERM)
    assert found == 143
    assert re.search(r"stopped by SIGTERM after \d of 8 epochs; to continue: the same command with ", stderr)
    (run,) = (path.parent for path in tmp_path.glob("outputs/sweeps/*/*/*/run.json"))
    command(tmp_path, "train", f"resume={run}")
    assert_equal_runs(run, whole)


def test_sampler_stopped_in_burn_in_keeps_its_state(command, start, tmp_path):
    options = ["recipe=biased_mf_gibbs", "trainer.max_epochs=400", "optimizer.burn_in=390", "logger=none"]
    process = start(tmp_path, "train", *options)
    process.until("epoch 1/")
    _, _, stderr = process.end(signal.SIGINT)
    run, done = stopped_run(tmp_path, stderr, number=signal.SIGINT, epochs=400)
    outcome = command(tmp_path, "evaluate", f"run={run}", status=2)
    assert "holds no sample yet: the run was stopped during burn-in" in outcome.stderr
    process = start(tmp_path, "train", f"resume={run}")
    lines = process.until("epoch ")
    process.end(signal.SIGKILL)
    assert lines[-1].startswith(f"epoch {done + 1}/400")


def test_stopped_reproduction_resumes_and_is_compared(command, start, tmp_path, whole):
    process = start(tmp_path, "reproduce", f"run={whole}")
    process.until("epoch 3/")
    _, _, stderr = process.end(signal.SIGINT)
    run, _ = stopped_run(tmp_path, stderr, number=signal.SIGINT, epochs=8)
    outcome = command(tmp_path, "train", f"resume={run}")
    assert outcome.stdout.splitlines()[-1] == "reproduced: every metric is equal to the last digit"
    assert "reproduced" not in command(tmp_path, "train", f"resume={run}", "trainer.max_epochs=9").stdout


def test_first_of_two_fits_names_the_main_run(command, start, tmp_path):
    process = start(tmp_path, "train", "split.refit=true", *EXPERIMENT)
    process.until("epoch 3/")
    _, _, stderr = process.end(signal.SIGTERM)
    run, _ = stopped_run(tmp_path, stderr, number=signal.SIGTERM, epochs=8)
    assert (run / "validation" / "checkpoints" / "last.ckpt").exists()
    assert (command(tmp_path, "train", f"resume={run}").run / "metrics.json").exists()


def test_min_epochs_do_not_delay_the_stop(start, tmp_path):
    process = start(tmp_path, "train", "trainer.max_epochs=900", "trainer.min_epochs=900", "logger=none")
    process.until("epoch 1/")
    _, _, stderr = process.end(signal.SIGTERM)
    assert stopped_run(tmp_path, stderr, number=signal.SIGTERM, epochs=900)[1] < 20


LONG_EPOCH = """
import runpy, sys, time
sys.argv[0] = "{scripts}/train.py"
sys.path.insert(0, "{scripts}")
from ratinglab.fitting import gradient

def slow(self, batches):
    print("epoch begins", flush=True)
    for _ in range(600):
        time.sleep(0.1)

gradient.GradientFit.training_step = slow
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_second_signal_stops_within_the_epoch(start, tmp_path):
    scripts = Path(__file__).parents[2] / "scripts"
    (tmp_path / "slow_train.py").write_text(LONG_EPOCH.format(scripts=scripts))
    process = start(tmp_path, tmp_path / "slow_train", *EXPERIMENT, "hydra.run.dir=run")
    process.until("epoch begins")
    os.kill(process.pid, signal.SIGINT)
    process.wait_until(lambda: process.stderr.read_text().startswith("SIGINT: the run stops after this epoch"))
    time.sleep(1.2)  # sooner, it would be the same request
    found, _, stderr = process.end(signal.SIGINT)
    assert found == 130
    assert stderr.splitlines()[1].startswith("stopped by SIGINT within the epoch; to resume: python ")
    assert stderr.count("\n") == 2


def test_signal_that_comes_twice_at_once_is_one_request(start, tmp_path):
    process = start(tmp_path, "train", *EXPERIMENT)
    process.until("epoch 3/")
    os.kill(process.pid, signal.SIGHUP)  # a closed terminal and `timeout` send two
    _, _, stderr = process.end(signal.SIGTERM)  # another one: a second SIGHUP would be merged with the first
    first = signal.Signals[stderr.partition(":")[0]]  # of two pending signals, either is handled first
    assert first in (signal.SIGHUP, signal.SIGTERM)
    run, _ = stopped_run(tmp_path, stderr, number=first, epochs=8)
    assert (run / "checkpoints" / "last.ckpt").exists()


def test_stop_while_reading_leaves_no_folder(start, tmp_path):
    items = "".join(f",{item},{1 + item % 5}\n@" for item in range(2000))  # a second or two to read
    rows = ["user_id,item_id,rating\n", *(f"@{items}"[:-1].replace("@", str(user)) for user in range(1500))]
    (tmp_path / "ratings.csv").write_text("".join(rows))
    process = start(tmp_path, "train", "data=csv", "data.path=ratings.csv", "data.cache=null")
    process.wait_until(lambda: list(tmp_path.glob("outputs/*/*/.hydra/overrides.yaml")))
    found, _, stderr = process.end(signal.SIGTERM)
    assert (found, stderr) == (143, "stopped by SIGTERM\n")
    assert [path.name for path in tmp_path.iterdir()] == ["ratings.csv"]


def test_run_that_is_training_is_locked(command, start, tmp_path):
    options = ["trainer.max_epochs=2000", "logger=none", "hydra.run.dir=run"]
    process = start(tmp_path, "train", *options)
    process.until("epoch 1/")
    for key, arguments in {"resume": ["resume=run", "trainer.max_epochs=3000"], "hydra.run.dir": options}.items():
        outcome = command(tmp_path, "train", *arguments, status=2)
        assert outcome.stderr == f"error: {key}: another process is training in {tmp_path / 'run'}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    process.end(signal.SIGKILL)
    process = start(tmp_path, "train", "resume=run")  # the system has freed the lock
    assert process.until("epoch ")[-1].startswith("epoch ")
    process.end(signal.SIGKILL)


def test_run_that_a_sweep_is_training_is_locked(command, start, tmp_path):
    options = ["trainer.max_epochs=2000", "logger=none", "hydra.sweep.dir=sweep", "seed=0,1"]
    process = start(tmp_path, "train", "-m", *options)
    process.wait_until(lambda: logged_in_sweep(tmp_path, "epoch 1/"))
    (record,) = tmp_path.glob("sweep/*/run.json")
    outcome = command(tmp_path, "train", f"resume={record.parent}", status=2)
    assert outcome.stderr == f"error: resume: another process is training in {record.parent}\n"
    outcome = command(tmp_path, "train", "-m", *options, status=2)
    assert outcome.stderr == f"error: hydra.sweep.dir: another process is training in {tmp_path / 'sweep'}\n"
    process.end(signal.SIGKILL)


LAST_EPOCH = """
import os, runpy, signal, sys, time
sys.argv[0] = "{scripts}/train.py"
sys.path.insert(0, "{scripts}")
from ratinglab.fitting.fit import Fit

end = Fit.on_train_epoch_end

def end_with_a_signal(self):
    end(self)
    if self.current_epoch == 2:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)

Fit.on_train_epoch_end = end_with_a_signal
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_run_stopped_as_early_stopping_ends_it_counts_its_last_epoch(command, command_apart, tmp_path):
    (tmp_path / "stopped.py").write_text(LAST_EPOCH.format(scripts=Path(__file__).parents[2] / "scripts"))
    early = ["callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=9", *EXPERIMENT]
    options = [*early, "trainer.min_epochs=3"]
    whole = command(tmp_path, "train", *options, "hydra.run.dir=whole").run
    command_apart(tmp_path, tmp_path / "stopped", *options, "hydra.run.dir=stopped", status=143)
    assert_equal_runs(command(tmp_path, "train", "resume=stopped").run, whole)
