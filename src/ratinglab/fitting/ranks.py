"""Start, synchronize and end the ranks of one fit, which are its processes, on Lightning's DDPStrategy."""

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
"""Seconds that this process has, after another one fails, to report the failure itself. Usually the lost connection
raises at once; otherwise the watching thread ends the process."""
READY = b"ready\n"
"""Line that a process started by rank 0 writes to stdout once it has read the data and can fit."""


class OneProcess(LightningEnvironment):
    """The only process of a fit, whatever variables Slurm or torchrun have set."""

    @property
    def creates_processes_externally(self) -> bool:
        """Return True: Lightning starts no process."""
        return True

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return 0


class LocalProcesses(OneProcess):
    """Processes of one machine. The first is the command that the user typed; `other_processes` starts the others.

    Lightning's own launcher would add Hydra overrides to their command lines, which neither a resumed run nor the
    installed command takes.
    """

    def local_rank(self) -> int:
        return process_rank()


class PooledStrategy(DDPStrategy):
    """Lightning's DDP without DistributedDataParallel, for fits that sum the gradients themselves.

    DistributedDataParallel would copy all gradients. The processes have equal weights without it, since they start from
    equal weights and take equal steps.
    """

    def setup_distributed(self) -> None:
        """Connect the processes, if there are several."""
        if self.num_nodes * self.num_processes > 1:
            super().setup_distributed()

    def configure_ddp(self) -> None:
        """Do nothing: the model is not wrapped."""


def cluster_environment(num_processes: int) -> ClusterEnvironment:
    """Make Lightning's environment of a fit with this number of processes."""
    if num_processes > 1 and started_by_torchrun():
        return TorchElasticEnvironment()
    if num_processes > 1 and started_by_slurm():
        return SLURMEnvironment(auto_requeue=False)
    return LocalProcesses() if num_processes > 1 else OneProcess()


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
    """Wait until rank 0 is about to fit; return whether there is anything to fit.

    Where a launcher has started all processes at once, the others must not read files that rank 0 still checks,
    writes or removes. A process started by rank 0 does not wait.
    """
    if _starts_processes(trainer):
        return True
    _connect(trainer)
    return trainer.strategy.broadcast(True)  # of rank 0


def release_ranks(trainer: Trainer) -> None:
    """Tell the other ranks, if a launcher has started them, to exit because there is nothing to fit."""
    if trainer.world_size > 1 and not _starts_processes(trainer):
        _connect(trainer)
        trainer.strategy.broadcast(False)


def wait_for_all_ranks(trainer: Trainer, *, digests: Sequence[str | None]) -> None:
    """Wait until all processes are about to fit, and compare their data.

    Raises:
        UserError: their data differ, by these digests.
    """
    if trainer.world_size == 1:
        return
    if _starts_processes(trainer) and process_rank() > 0:
        os.write(1, READY)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # rank 0 reads the pipe no further
    _connect(trainer)
    if trainer.is_global_zero and not _starts_processes(trainer):
        trainer.strategy.broadcast(True)
    by_rank: list[Sequence[str]] = [[]] * trainer.world_size
    distributed.all_gather_object(by_rank, digests)
    for rank, theirs in enumerate(by_rank):
        if theirs != by_rank[0]:
            raise UserError(f"the data of process {rank} differ from those of process 0: {theirs}, {by_rank[0]}")


def _connect(trainer: Trainer) -> None:
    """Connect the processes of a fit. The connection closes when this process exits."""
    if not distributed.is_initialized():
        atexit.register(_disconnect)
    trainer.strategy.setup_environment()


def _disconnect() -> None:
    """Close a connection by gloo: a process that ends while gloo's threads run can abort. Lightning closes NCCL's."""
    if distributed.is_initialized() and distributed.get_backend() == "gloo":
        distributed.destroy_process_group()


def _starts_processes(trainer: Trainer) -> bool:
    """Return whether rank 0 starts the other processes."""
    return isinstance(getattr(trainer.strategy, "cluster_environment", None), LocalProcesses)


@contextmanager
def other_processes(trainer: Trainer, run_folder: Path) -> Iterator[None]:
    """Start the other processes of a fit, unless a launcher has started them. End them when the block ends.

    `run_folder` is the run to resume if a process ends early.
    """
    processes, is_over = list[subprocess.Popen[bytes]](), threading.Event()
    try:
        if _starts_processes(trainer) and process_rank() == 0:
            processes += _start(trainer)
        for rank, process in enumerate(processes, start=1):
            assert process.stdout is not None
            if READY not in iter(process.stdout.readline, b""):  # unlike torch's, this wait ends on a signal
                raise RunFailedError(f"{_exit_message(process, rank)}; {resume_hint(run_folder)}")
            threading.Thread(target=_watch, args=[process, rank, is_over, run_folder], daemon=True).start()
        with _translate_lost_connection(trainer, run_folder):
            yield
    finally:
        is_over.set()
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in processes:
            process.wait()


def _start(trainer: Trainer) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command once more for each other process."""
    environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // trainer.world_size))}
    address = {"MASTER_ADDR": environment.main_address, "MASTER_PORT": str(environment.main_port)}
    for rank in range(1, trainer.world_size):
        yield subprocess.Popen(
            relaunch_command(),
            env=threads | os.environ | address | {RANK_VARIABLE: str(rank)},
            stdin=subprocess.PIPE,  # closed when this process ends, however it ends
            stdout=subprocess.PIPE,  # for READY
            process_group=0,  # Ctrl-C reaches only this process, which tells the others
        )


def _exit_message(process: subprocess.Popen[bytes], rank: int) -> str:
    return f"process {rank} of the fit has ended with status {process.wait()}"


def _watch(process: subprocess.Popen[bytes], rank: int, is_over: threading.Event, run_folder: Path) -> None:
    """End this process if another one fails, even if this one is blocked while it waits for the other."""
    if process.wait() != 0 and not is_over.wait(GRACE_SECONDS):
        print(f"error: {_exit_message(process, rank)}; {resume_hint(run_folder)}", file=sys.stderr, flush=True)
        os._exit(1)


@contextmanager
def _translate_lost_connection(trainer: Trainer, run_folder: Path) -> Iterator[None]:
    """Raise RunFailedError once the connection to another process is lost."""
    try:
        yield
    except RuntimeError as error:
        if trainer.world_size > 1 and any(name in str(error) for name in ("gloo", "NCCL", "TCPStore")):
            raise RunFailedError(f"another process of the fit has ended; {resume_hint(run_folder)}") from error
        raise
