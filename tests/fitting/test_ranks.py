"""Fits in several processes: the same run as in one, however the processes are started and however they end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import NO_FIGURES, REPOSITORY, Started, environment

from ratinglab.errors import UserError
from ratinglab.fitting.ranks import check_started, cluster_environment
from ratinglab.process import exits
from ratinglab.process.exits import clean_exit
from ratinglab.process.program import process_rank

EXPERIMENT = [
    "model=biased_mf",
    "model.regularization=0.02",
    "data.batch_size=999",  # the last batch has 17 of 16,000 rows
    "trainer.max_epochs=4",
    "optimizer.lr=0.01",
    *NO_FIGURES,
]
TWO = ["trainer.devices=2", "trainer.strategy=ddp"]
TRAIN = REPOSITORY / "scripts" / "train.py"
SLURM = {
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_JOB_ID": str(os.getpid()),  # its last digits choose the port
    "SLURM_JOB_NAME": "lab",
    "SLURM_NODELIST": "127.0.0.1",
    "SLURM_LOCALID": "0",
}


@pytest.fixture(scope="module")
def one(command_apart, tmp_path_factory) -> Path:
    """Train the run in one process."""
    return command_apart(tmp_path_factory.mktemp("one"), "train", *EXPERIMENT).run


def assert_same_run(run: Path, one: Path) -> None:
    """Compare the weights, the learning curve and the metrics of a run with those of the run in one process."""
    for name in ("best", "last"):
        ours, theirs = (torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True) for folder in (run, one))
        assert (ours["epochs"], ours["rows_trained"]) == (theirs["epochs"], theirs["rows_trained"])
        for key, weights in theirs["state_dict"].items():
            torch.testing.assert_close(ours["state_dict"][key], weights, rtol=0, atol=1e-4, msg=key)
    metrics, others = (json.loads((folder / "metrics.json").read_text()) for folder in (run, one))
    timed = ("fit/seconds", "fit/ratings_per_second")
    assert {tag: metrics[tag] for tag in others if tag not in timed} == pytest.approx(
        {tag: value for tag, value in others.items() if tag not in timed}, abs=1e-4
    )
    curves = [[line.split(",") for line in (folder / "epochs.csv").read_text().splitlines()] for folder in (run, one)]
    assert curves[0][0] == curves[1][0]
    for row, other in zip(curves[0][1:], curves[1][1:], strict=True):
        assert list(map(float, row)) == pytest.approx(list(map(float, other)), abs=1e-4)


def assert_only_run(run: Path, folder: Path, one: Path) -> None:
    """Check that a folder holds one run, with the files of a run in one process."""
    assert [path.parent for path in folder.rglob("run.json")] == [run]
    files, others = (
        {re.sub(r"tfevents.*", "tfevents", str(path.relative_to(folder))) for path in folder.rglob("*")}
        for folder in (run, one)
    )
    assert files == others


def end_all(*processes: subprocess.Popen) -> list[tuple[int, str, str]]:
    """Wait for processes; return the exit status and the output of each."""
    outputs = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def begin(folder: Path, *line: str | Path, **variables: str) -> subprocess.Popen:
    return subprocess.Popen(
        line, cwd=folder, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def other_process(process: Started) -> int:
    """Find the process that a command has started."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    return int(child)


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


def test_two_processes_of_one_command_train_the_run_of_one(command_apart, tmp_path, one):
    outcome = command_apart(tmp_path, "train", *EXPERIMENT, *TWO)
    assert outcome.stderr == ""
    assert [line[:7] for line in outcome.stdout.splitlines() if line.startswith("epoch")] == [
        f"epoch {epoch}" for epoch in (1, 2, 3, 4)
    ]
    assert_same_run(outcome.run, one)
    assert_only_run(outcome.run, tmp_path, one)


@pytest.mark.slow
def test_torchrun_trains_the_run_of_one_process(cache, tmp_path, one):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    ((status, stdout, stderr),) = end_all(
        begin(tmp_path, *torchrun, TRAIN, *EXPERIMENT, *TWO, "model.embedding_dim=32", **environment(cache))
    )
    assert status == 0, stderr  # torchrun itself may warn there, such as of a slow connection
    assert stdout.count("epoch 1/4") == 1
    run = tmp_path / stdout.splitlines()[-1]
    assert_same_run(run, one)
    assert_only_run(run, tmp_path, one)


def test_first_node_of_slurm_lets_the_second_go_if_the_run_is_finished(start, tmp_path, one):
    nodes = []
    for rank in "10":
        variables = {**SLURM, "SLURM_PROCID": rank, "SLURM_NODEID": rank}
        resume = [f"resume={one}", "trainer.num_nodes=2"]
        nodes.append(start(tmp_path, "train", *resume, variables=variables, stderr=tmp_path / f"stderr {rank}"))
    second, (status, stdout, stderr) = (node.end() for node in nodes)
    assert second == (0, "", "")
    assert (status, stderr) == (0, "")
    assert stdout.startswith("resume     the run is already finished\n")


def test_stopped_fit_resumes_in_one_process(command_apart, start, tmp_path, one):
    process = start(tmp_path, "train", *EXPERIMENT, *TWO, forked=1)
    process.until("epoch 2/")
    status, _, stderr = process.end(signal.SIGTERM)
    assert status == 143
    match = re.fullmatch(
        r"SIGTERM: the run stops after this epoch; a second signal stops it at once\n"
        r"stopped by SIGTERM after [23] of 4 epochs; to resume: python \S+ resume=(\S+)\n",
        stderr,
    )
    assert match, stderr
    run = command_apart(tmp_path, "train", f"resume={match[1]}", "trainer.devices=1").run
    assert_same_run(run, one)


def test_fit_ends_with_any_of_its_processes_and_resumes(command_apart, start, tmp_path, one):
    process = start(tmp_path, "train", *EXPERIMENT, *TWO, forked=1)
    process.until("epoch 2/")
    os.kill(other_process(process), signal.SIGKILL)
    status, _, stderr = process.end()
    assert status == 1
    match = re.fullmatch(r"error: another process of the fit has ended; to resume: python \S+ resume=(\S+)\n", stderr)
    assert match, stderr
    process = start(tmp_path, "train", f"resume={match[1]}")
    process.until("epoch 3/")
    other = other_process(process)
    assert process.end(signal.SIGKILL)[0] == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while is_running(other):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert_same_run(command_apart(tmp_path, "train", f"resume={match[1]}", "trainer.devices=1").run, one)


def test_processes_without_rows_and_sparse_gradients(command_apart, tmp_path):
    """The last step has a batch of one row: two of three processes have none."""
    rows = [f"{user},{item},{1 + user * item % 5}" for user in range(6) for item in range(6)]
    (tmp_path / "ratings.csv").write_text("\n".join(["user_id,item_id,rating", *rows]))
    options = ["data=csv", "data.path=ratings.csv", "split.validation=0.03", "split.test=0.11", "trainer.max_epochs=3"]
    options += ["data.batch_size=5", "trainer.accumulate_grad_batches=2", "optimizer=sparse_adam", *NO_FIGURES]
    one = command_apart(tmp_path, "train", *options, "hydra.run.dir=one").run
    assert json.loads((one / "run.json").read_text())["fit"]["batch_size"] == 5
    run = command_apart(tmp_path, "train", *options, "trainer.devices=3", "hydra.run.dir=three", forked=2).run
    assert_same_run(run, one)


TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    ("variables", "devices", "num_nodes", "message"),
    [
        ({}, 1, 2, "trainer.num_nodes=2 needs torchrun or srun to start the processes"),
        (TORCHRUN, 1, 1, "trainer.devices=1 trainer.num_nodes=1 needs 1 processes, but torchrun has started 2"),
        (SLURM, 3, 1, "trainer.devices=3 trainer.num_nodes=1 needs 3 processes, but srun has started 2"),
        ({**SLURM, "SLURM_JOB_NAME": "interactive"}, 1, 2, "trainer.num_nodes=2 needs torchrun or srun"),
    ],
    ids=["no launcher", "torchrun", "srun", "interactive"],
)
def test_wrong_number_of_processes_is_a_mistake(monkeypatch, variables, devices, num_nodes, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        check_started(devices=devices, num_nodes=num_nodes)


def test_fit_of_one_process_takes_no_notice_of_srun(monkeypatch):
    for name, value in {**SLURM, "SLURM_PROCID": "1"}.items():
        monkeypatch.setenv(name, value)
    check_started(devices=1, num_nodes=1)
    assert cluster_environment(1).world_size() == 1
    assert cluster_environment(2).world_size() == 2


def test_mistake_is_reported_by_the_first_process_before_the_others(monkeypatch, capsys):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    waited = []
    monkeypatch.setattr(exits.time, "sleep", waited.append)
    assert process_rank() == 1
    with pytest.raises(SystemExit), clean_exit():
        raise UserError("no such file")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SystemExit), clean_exit():
        raise UserError("no such file")
    assert waited == [exits.RANK_ZERO_WAIT_SECONDS]
    assert capsys.readouterr().err == "error: no such file\n" * 2
