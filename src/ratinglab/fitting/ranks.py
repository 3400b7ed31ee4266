"""Start, synchronize and end the ranks of a fit: several processes that share every batch, as in Lightning's DDP.

Rank 0 writes the run. The other ranks start in one of two ways:

- The user types one command. Once rank 0 has made the run's folder, `other_processes` starts the same command again for
  each other rank. A started process reads the data, then writes READY to its stdout. Rank 0 waits for that line.
- A launcher, torchrun or srun, starts all ranks at once. The others wait in `wait_for_rank_zero` while rank 0 checks
  and writes the run's files. Rank 0 answers True once it is about to fit, or False if there is nothing to fit.

In both cases `wait_for_all_ranks` then compares the data of all ranks, and the fit begins.
"""

import atexit
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed

from ratinglab.errors import RunFailedError, UserError
from ratinglab.process.interrupts import resume_hint
from ratinglab.process.program import (
    RANK_VARIABLE,
    process_rank,
    relaunch_command,
    started_by_slurm,
    started_by_torchrun,
)

GRACE_SECONDS = 5.0
"""Seconds that rank 0 has, after another process fails, to report the failure itself. Usually the lost connection
raises an error at once; otherwise the thread that watches the other process ends this one."""
READY = b"ready\n"
"""Line that a process started by rank 0 writes to stdout once it can fit."""


class LocalProcesses(LightningEnvironment):
    """Environment of a fit in one process, or in several processes that `other_processes` starts on one machine.

    Lightning's own launcher would add Hydra overrides to their command lines. A resumed run refuses such overrides, and
    so does the installed command.
    """

    def __init__(self, num_processes: int) -> None:
        super().__init__()
        self.num_processes = num_processes

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def local_rank(self) -> int:
        # Slurm or torchrun may have set a rank for a fit in one process
        return process_rank() if self.num_processes > 1 else 0

    def node_rank(self) -> int:
        return 0


class PooledStrategy(DDPStrategy):
    """Lightning's DDP without DistributedDataParallel, for fits that sum the gradients themselves.

    DistributedDataParallel would copy all gradients. The weights stay identical in all processes without it, because
    all start from the same weights and take the same steps.
    """

    def setup_distributed(self) -> None:
        if self.num_nodes * self.num_processes > 1:
            super().setup_distributed()

    def configure_ddp(self) -> None:
        """Do nothing: the model is not wrapped."""


def cluster_environment(num_processes: int) -> ClusterEnvironment:
    """Choose Lightning's environment for a fit in this number of processes, by how they were started."""
    if num_processes > 1 and started_by_torchrun():
        return TorchElasticEnvironment()
    if num_processes > 1 and started_by_slurm():
        return SLURMEnvironment(auto_requeue=False)
    return LocalProcesses(num_processes)


def check_started(*, devices: int, num_nodes: int) -> None:
    """Raise UserError if a launcher has started a different number of processes than the options ask for."""
    num_requested = devices * num_nodes
    if started_by_torchrun():
        launcher, num_started = "torchrun", int(os.environ["WORLD_SIZE"])
    elif started_by_slurm() and num_requested > 1:
        launcher, num_started = "srun", int(os.environ["SLURM_NTASKS"])
    elif num_nodes > 1:
        raise UserError(f"trainer.num_nodes={num_nodes} needs torchrun or srun to start the processes")
    else:
        return
    if num_started != num_requested:
        raise UserError(
            f"trainer.devices={devices} trainer.num_nodes={num_nodes} needs {num_requested} processes, "
            f"but {launcher} has started {num_started}"
        )


def wait_for_rank_zero(trainer: Trainer) -> bool:
    """Wait, in another rank, until rank 0 is about to fit. Return whether there is anything to fit.

    Before that, this rank must not read files that rank 0 still checks, writes or removes. A process started by rank 0
    need not wait, because rank 0 has already made the files.
    """
    if _starts_processes(trainer):
        return True
    _connect(trainer)
    return trainer.strategy.broadcast(True)  # rank 0's value: True from wait_for_all_ranks, False from release_ranks


def release_ranks(trainer: Trainer) -> None:
    """Tell the ranks that wait in `wait_for_rank_zero` to exit, because there is nothing to fit."""
    if trainer.world_size > 1 and not _starts_processes(trainer):
        _connect(trainer)
        trainer.strategy.broadcast(False)


def wait_for_all_ranks(trainer: Trainer, *, digests: Sequence[str | None]) -> None:
    """Wait until all ranks are about to fit, and compare their data by these digests.

    Raises:
        UserError: the data of two ranks differ.
    """
    if trainer.world_size == 1:
        return
    if _starts_processes(trainer) and process_rank() > 0:
        os.write(1, READY)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # rank 0 stops reading the pipe, which would fill up
    _connect(trainer)
    if trainer.is_global_zero and not _starts_processes(trainer):
        trainer.strategy.broadcast(True)  # the other ranks wait in wait_for_rank_zero
    by_rank: list[Sequence[str]] = [[]] * trainer.world_size
    distributed.all_gather_object(by_rank, digests)
    for rank, theirs in enumerate(by_rank):
        if theirs != by_rank[0]:
            raise UserError(f"process {rank} and process 0 have different data: {theirs}, {by_rank[0]}")


def _connect(trainer: Trainer) -> None:
    """Connect this rank with the others, until the process exits."""
    if not distributed.is_initialized():
        atexit.register(_disconnect)
    trainer.strategy.setup_environment()


def _disconnect() -> None:
    """Close a connection by gloo, since a process that exits while gloo's threads run can abort.

    Lightning closes a connection by NCCL.
    """
    if distributed.is_initialized() and distributed.get_backend() == "gloo":
        distributed.destroy_process_group()


def _starts_processes(trainer: Trainer) -> bool:
    """Return whether rank 0 starts the other processes, and no launcher does."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return isinstance(environment, LocalProcesses) and environment.num_processes > 1


@contextmanager
def other_processes(trainer: Trainer, run_folder: Path) -> Iterator[None]:
    """Start the other processes of a fit if this is the process to do so. End them when the block ends.

    If a process ends early, the message says how to resume the run in `run_folder`.

    Raises:
        RunFailedError: another process has ended early.
    """
    processes, is_over = list[subprocess.Popen[bytes]](), threading.Event()
    try:
        if _starts_processes(trainer) and process_rank() == 0:
            processes += _start(trainer)
        for rank, process in enumerate(processes, start=1):
            assert process.stdout is not None
            if READY not in iter(process.stdout.readline, b""):  # a signal ends this wait, but not torch's own
                raise RunFailedError(f"{_exit_message(process, rank)}; {resume_hint(run_folder)}")
            threading.Thread(target=_watch, args=[process, rank, is_over, run_folder], daemon=True).start()
        yield
    except RuntimeError as error:
        if trainer.world_size > 1 and any(name in str(error) for name in ("gloo", "NCCL", "TCPStore")):
            raise RunFailedError(f"another process of the fit has ended; {resume_hint(run_folder)}") from error
        raise
    finally:
        is_over.set()
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()  # ends the process
        for process in processes:
            process.wait()


def _start(trainer: Trainer) -> Iterator[subprocess.Popen[bytes]]:
    """Start this process's command once more for each other rank."""
    environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // trainer.world_size))}
    address = {"MASTER_ADDR": environment.main_address, "MASTER_PORT": str(environment.main_port)}
    for rank in range(1, trainer.world_size):
        yield subprocess.Popen(
            relaunch_command(),
            env=threads | os.environ | address | {RANK_VARIABLE: str(rank)},
            stdin=subprocess.PIPE,  # closes when this process ends, however it ends; see exit_with_rank_zero
            stdout=subprocess.PIPE,  # for READY
            process_group=0,  # Ctrl-C signals this process alone, which tells the others
        )


def _exit_message(process: subprocess.Popen[bytes], rank: int) -> str:
    return f"process {rank} of the fit has ended with status {process.wait()}"


def _watch(process: subprocess.Popen[bytes], rank: int, is_over: threading.Event, run_folder: Path) -> None:
    """End this process after another has failed, even while this one waits for it."""
    if process.wait() != 0 and not is_over.wait(GRACE_SECONDS):
        print(f"error: {_exit_message(process, rank)}; {resume_hint(run_folder)}", file=sys.stderr, flush=True)
        os._exit(1)
