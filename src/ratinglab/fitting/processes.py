"""Start, synchronize and end the processes of one fit, on Lightning's DDPStrategy."""

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

SECONDS_TO_END = 5.0
"""Grace period for this process to report a failed one before it is ended. A lost connection usually tells it at
once."""
READY = b"ready\n"
"""Line that a started process writes once it has read the data and can fit."""


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


class OwnProcesses(OneProcess):
    """Processes of one machine. The first is the command that the user typed; `started` starts the others.

    Lightning's own launcher would add Hydra overrides to their command lines, which neither a resumed run nor the
    installed command takes.
    """

    def local_rank(self) -> int:
        return process_rank()


class PooledStrategy(DDPStrategy):
    """Lightning's DDP for a fit that sums the gradients itself, so that the model needs no wrapper.

    DistributedDataParallel would copy all gradients. The processes have equal weights without it, since they start from
    the same weights and take the same steps.
    """

    def setup_distributed(self) -> None:
        """Connect the processes; a single process has none to connect to."""
        if self.num_nodes * self.num_processes > 1:
            super().setup_distributed()

    def configure_ddp(self) -> None:
        """Leave the model as it is."""


def environment(num_processes: int) -> ClusterEnvironment:
    """Make the environment of a fit with this number of processes."""
    if num_processes > 1 and started_by_torchrun():
        return TorchElasticEnvironment()
    if num_processes > 1 and started_by_slurm():
        return SLURMEnvironment(auto_requeue=False)
    return OwnProcesses() if num_processes > 1 else OneProcess()


def check_started(*, devices: int, num_nodes: int) -> None:
    """Raise UserError if a launcher has started a different number of processes than the options ask for."""
    asked = devices * num_nodes
    if started_by_torchrun():
        launcher, number = "torchrun", int(os.environ["WORLD_SIZE"])
    elif started_by_slurm() and asked > 1:
        launcher, number = "srun", int(os.environ["SLURM_NTASKS"])
    elif num_nodes > 1:
        raise UserError(f"trainer.num_nodes={num_nodes} needs torchrun or srun to start the processes")
    else:
        return
    if number != asked:
        raise UserError(
            f"trainer.devices={devices} trainer.num_nodes={num_nodes} needs {asked} processes, "
            f"but {launcher} has started {number}"
        )


def wait_for_rank_zero(trainer: Trainer) -> bool:
    """Wait until rank 0 is about to fit; return whether there is anything to fit.

    Where a launcher has started all processes at once, the others must not read files that rank 0 still checks,
    writes or removes. A process started by rank 0 does not wait.
    """
    if _are_own(trainer):
        return True
    _connect(trainer)
    return trainer.strategy.broadcast(True)  # of rank 0


def release_ranks(trainer: Trainer) -> None:
    """Tell the other ranks, if a launcher has started them, to exit because there is nothing to fit."""
    if trainer.world_size > 1 and not _are_own(trainer):
        _connect(trainer)
        trainer.strategy.broadcast(False)


def barrier(trainer: Trainer, *, digests: Sequence[str | None]) -> None:
    """Wait until all processes are about to fit.

    Raises:
        UserError: their data differ, by these digests.
    """
    if trainer.world_size == 1:
        return
    if _are_own(trainer) and process_rank() > 0:
        os.write(1, READY)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _connect(trainer)
    if trainer.is_global_zero and not _are_own(trainer):
        trainer.strategy.broadcast(True)
    by_rank: list[Sequence[str]] = [[]] * trainer.world_size
    distributed.all_gather_object(by_rank, digests)
    for rank, other in enumerate(by_rank):
        if other != by_rank[0]:
            raise UserError(f"the data of process {rank} differ from those of process 0: {other}, {by_rank[0]}")


def _connect(trainer: Trainer) -> None:
    """Connect the processes of a fit. The connection closes when this one exits."""
    if not distributed.is_initialized():
        atexit.register(_disconnect)
    trainer.strategy.setup_environment()


def _disconnect() -> None:
    """Close the connection: a process that ends while gloo's threads run can abort. Lightning closes NCCL's."""
    if distributed.is_initialized() and distributed.get_backend() == "gloo":
        distributed.destroy_process_group()


def _are_own(trainer: Trainer) -> bool:
    """Return whether rank 0 starts the other processes."""
    return isinstance(getattr(trainer.strategy, "cluster_environment", None), OwnProcesses)


@contextmanager
def started(trainer: Trainer, run_folder: Path) -> Iterator[None]:
    """Start the other processes of a fit, unless a launcher has, and end them with this one.

    `run_folder` is the run to resume if a process ends early.
    """
    processes, is_over = list[subprocess.Popen[bytes]](), threading.Event()
    try:
        if _are_own(trainer) and process_rank() == 0:
            processes += _start(trainer)
        for rank, process in enumerate(processes, start=1):
            assert process.stdout is not None
            if READY not in iter(process.stdout.readline, b""):  # unlike torch's, this wait ends on a signal
                raise RunFailedError(f"{_ended(process, rank)}; {resume_hint(run_folder)}")
            threading.Thread(target=_watch, args=[process, rank, is_over, run_folder], daemon=True).start()
        with _lost_connection_in_one_line(trainer, run_folder):
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


def _ended(process: subprocess.Popen[bytes], rank: int) -> str:
    return f"process {rank} of the fit has ended with status {process.wait()}"


def _watch(process: subprocess.Popen[bytes], rank: int, is_over: threading.Event, run_folder: Path) -> None:
    """End this process once another one has failed, even if it is blocked waiting for it."""
    if process.wait() != 0 and not is_over.wait(SECONDS_TO_END):
        print(f"error: {_ended(process, rank)}; {resume_hint(run_folder)}", file=sys.stderr, flush=True)
        os._exit(1)


@contextmanager
def _lost_connection_in_one_line(trainer: Trainer, run_folder: Path) -> Iterator[None]:
    """Raise RunFailedError once the connection to another process is lost."""
    try:
        yield
    except RuntimeError as error:
        if trainer.world_size > 1 and any(name in str(error) for name in ("gloo", "NCCL", "TCPStore")):
            raise RunFailedError(f"another process of the fit has ended; {resume_hint(run_folder)}") from error
        raise
