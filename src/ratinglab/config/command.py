"""Commands: Hydra apps that report each mistake in one line, with exit status 2."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ratinglab.config.arguments import parse_arguments
from ratinglab.config.error_messages import translate_exceptions
from ratinglab.config.help_text import adapt_commands, help_text
from ratinglab.config.hydra_api import hydra_app, hydra_context
from ratinglab.config.primary_config import PrimaryConfig
from ratinglab.config.request import ComposedJob, FindRun, RunRequest, hydra_folder
from ratinglab.config.resolvers import register_resolvers
from ratinglab.config.sweep import check_sweep, jobs_to_check, run_job, run_sweep
from ratinglab.errors import RunFailedError, UserError
from ratinglab.options import quote_for_hydra
from ratinglab.process.exits import clean_exit, exit_on_storage_fault, exit_with
from ratinglab.process.interrupts import StoppedError, resume_hint
from ratinglab.process.program import exit_with_rank_zero, process_rank
from ratinglab.process.startup import configure_process
from ratinglab.runs.claimed_folder import claim_folder
from ratinglab.runs.run_files import HYDRA_FOLDER
from ratinglab.runs.sweep_folder import has_started, record_or_check_arguments

Task = Callable[[Any, Path], float | None]


def command(
    *, config_name: str, positional: Sequence[str] = (), find_run: FindRun | None = None, usage: str | None = None
) -> Callable[[Task], Callable[[], None]]:
    """Decorate a task, a function of options and the run's folder, to make it a command: a Hydra app.

    The command reports a user's mistake as one line on stderr, with exit status 2. If the configuration alone shows the
    mistake, the command creates no folder; otherwise it removes the folder. A run that diverges keeps its folder, and
    the exit status is 1. In a sweep, such a run has an infinite objective, and the other runs continue. A bug in
    ratinglab keeps its traceback.

    Args:
        config_name: the primary config in conf/, such as `train`.
        positional: keys that arguments without a key set, in this order.
        find_run: finds the run that the arguments resume or reproduce; None: the command does neither.
        usage: text of --help; None: groups and keys of the primary config.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @wraps(task)
        def main() -> None:
            _Invocation(task, config_name=config_name, positional=positional, find_run=find_run, usage=usage).main()

        return main

    return decorate


class _Invocation:
    """One invocation of a command."""

    def __init__(
        self, task: Task, *, config_name: str, positional: Sequence[str], find_run: FindRun | None, usage: str | None
    ) -> None:
        self._task, self._positional, self._find_run, self._usage = task, positional, find_run, usage
        self._conf = PrimaryConfig(config_name)
        self._trains = config_name == "train"
        self._argv = list(sys.argv)
        self._request: RunRequest
        self._job: ComposedJob | None = None  # None in a sweep
        self._num_jobs: int  # of a sweep
        self._folder: Path | None = None

    def main(self) -> None:
        """Run the command; exit with status 1 if a job of a sweep fails."""
        configure_process()
        register_resolvers()
        with clean_exit(), translate_exceptions(self._conf), ExitStack() as claims:
            succeeded = self._execute(claims)
        if not succeeded:
            sys.exit(1)

    def _execute(self, claims: ExitStack) -> bool:
        """Print what the arguments ask for, or check them and run the task; return whether all jobs succeeded."""
        if "--version" in sys.argv:
            print(f"ratinglab {version('ratinglab')}")
            return True
        arguments = parse_arguments(positional=self._positional)
        self._conf.add_folder(arguments.config_dir)
        if arguments.help:
            print(self._help(arguments), flush=True)
            return True
        if arguments.hydra_help or arguments.info or arguments.shell_completion:
            return self._run_app(arguments)
        overrides, multirun = arguments.overrides, arguments.multirun
        self._request = RunRequest(self._conf, overrides, multirun=multirun, find_run=self._find_run)
        arguments.overrides = self._request.overrides
        if arguments.cfg:
            if (rerun := self._request.rerun) is not None:
                path = rerun.folder / HYDRA_FOLDER / "config.yaml"
                raise UserError(f"--cfg shows a new run; for this one, see {path}")
            return self._run_app(arguments)
        hydra = self._check_jobs(arguments)
        job = self._job
        if job is not None and self._trains and process_rank() > 0 and job.options.trainer.num_processes > 1:
            self._join_fit(job)
            return True
        if self._trains:
            self._claim_folder(hydra, arguments, claims)
        return self._run_app(arguments)

    def _run_app(self, arguments: argparse.Namespace) -> bool:
        """Let Hydra's app do what the arguments ask for; return whether all jobs succeeded."""
        sys.argv[1:] = [*arguments.flags, *arguments.overrides]
        app = hydra_app(self._run_job, config_name=self._conf.config_name)
        if self._folder is not None and self._job is None:
            return run_sweep(app, self._folder, num_jobs=self._num_jobs)
        app()
        return True

    def _help(self, arguments: argparse.Namespace) -> str:
        if self._usage is not None:
            return adapt_commands(self._usage.strip())
        with hydra_context():
            parsed = self._conf.parse(arguments.overrides)
            overrides = next(jobs_to_check(parsed)) if arguments.multirun else arguments.overrides
            return help_text(self._conf, [*self._conf.overrides_of_choices(overrides), *overrides])

    def _check_jobs(self, arguments: argparse.Namespace) -> DictConfig:
        """Compose and check the runs that the arguments ask for; return Hydra's part of a config."""
        with hydra_context():
            if not arguments.multirun:
                self._job = self._request.compose(arguments.overrides)
                return self._job.hydra
            arguments.overrides, hydra, self._num_jobs = check_sweep(
                self._conf, arguments.overrides, check_job=self._check_job_of_sweep
            )
            return hydra

    def _check_job_of_sweep(self, overrides: Sequence[str]) -> DictConfig:
        job = self._request.compose(overrides)
        if self._trains and job.options.trainer.num_processes > 1:
            raise UserError(
                "trainer.devices and trainer.num_nodes must be 1 with -m: each job of a sweep runs in one process, and "
                "hydra/launcher=joblib, ray or submitit_slurm runs several jobs at a time"
            )
        return job.hydra

    def _join_fit(self, job: ComposedJob) -> None:
        """Take part in the fit of rank 0, which claims and writes the run, prints it, and reports how the fit ends.

        A bug in this process keeps its traceback.
        """
        from ratinglab.training.training import join_fit  # imported here because torch takes a second

        exit_with_rank_zero()
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        with open(os.devnull, "w", encoding="utf-8") as null_device, redirect_stdout(null_device):
            try:
                join_fit(job.options, hydra_folder(job.hydra, "run"))
            except StoppedError as error:
                sys.exit(error.status)
            except RunFailedError:
                sys.exit(1)

    def _claim_folder(self, hydra: DictConfig, arguments: argparse.Namespace, claims: ExitStack) -> None:
        """Create and lock the folder that Hydra will write to. It must be new, empty or resumed."""
        kind = "sweep" if arguments.multirun else "run"
        key = f"hydra.{kind}.dir"
        folder = hydra_folder(hydra, kind)
        sweep_arguments = list(arguments.overrides)
        # Hydra does not expand `~`, and could put a later time into the name
        arguments.overrides.append(f"{key}={quote_for_hydra(str(folder))}")
        is_resumed = hydra.output_subdir is None
        claims.enter_context(claim_folder(folder, key=key, is_resumed=is_resumed, is_sweep=arguments.multirun))
        claims.callback(logging.shutdown)  # closes the logs of runs that are removed
        if arguments.multirun:
            record_or_check_arguments(folder, sweep_arguments, config_dir=self._conf.extra_folder)
        self._folder = folder

    def _run_job(self, config: DictConfig) -> float | None:
        """Run the task on one job; called by Hydra, with the job's config."""
        sys.argv[:] = self._argv  # a launcher's process has other arguments, and `_run_app` changed them
        hydra = HydraConfig.get()
        job = self._job
        folder = Path(hydra.runtime.output_dir)
        if job is None:
            return run_job(lambda: self._train_job(config, hydra, folder), folder, hydra, monitor=config.monitor)
        if self._request.rerun is not None and hydra.output_subdir is not None:
            job.save(folder)
        with clean_exit(), translate_exceptions(self._conf):
            try:
                return self._task(job.options, folder)
            except StoppedError as error:
                if self._trains and has_started(folder):
                    exit_with(f"{error}; {resume_hint(folder)}", status=error.status)
                raise
            except OSError as error:
                exit_on_storage_fault(error, folder)
                raise
            except RunFailedError as error:
                exit_with(f"error: {error}", status=1)

    def _train_job(self, config: DictConfig, hydra: HydraConf, folder: Path) -> float | None:
        """Run the task on one job of a sweep; resume a run that was stopped."""
        overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # a later value may replace ${…}
        if keys := self._conf.overrides_of_choices(overrides):
            config, _ = self._conf.compose([*keys, *overrides])
            OmegaConf.save(config, folder / HYDRA_FOLDER / "config.yaml")  # Hydra saved the overlay's values
        if has_started(folder):
            OmegaConf.update(config, "resume", str(folder))
        return self._task(self._request.convert(config, overrides), folder)
