"""The command line: one task under Hydra, and every mistake as one line with exit status 2."""

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
from omegaconf import DictConfig, OmegaConf, open_dict

from ratinglab.config.arguments import parse_arguments
from ratinglab.config.claimed_folder import claimed_folder
from ratinglab.config.conf import Conf
from ratinglab.config.help_text import for_this_program, help_text
from ratinglab.config.hydra_api import hydra_app, initialized, run_composed
from ratinglab.config.mistakes import explained
from ratinglab.config.request import ComposedJob, FindRun, Request, as_in_app, folder_of
from ratinglab.config.resolvers import register_resolvers
from ratinglab.config.sweep import check_sweep, first_job, run_job, run_sweep
from ratinglab.errors import RunFailedError, UserError
from ratinglab.options import quoted
from ratinglab.process.exits import exit_on_storage_fault, exit_with, exits_in_one_line
from ratinglab.process.interrupts import StoppedError, resume_hint
from ratinglab.process.program import exit_with_rank_zero, process_rank
from ratinglab.process.startup import configure_process
from ratinglab.runs.hydra_files import HYDRA_FOLDER
from ratinglab.runs.sweep_folder import has_started, record_or_check_arguments

Task = Callable[[Any, Path], float | None]


def command(
    *, config_name: str, positional: Sequence[str] = (), find_run: FindRun | None = None, usage: str | None = None
) -> Callable[[Task], Callable[[], None]]:
    """Decorate a task, which takes options and the run's folder, to make it a command, a Hydra app.

    A user's mistake is reported as one line on stderr, with exit status 2. If the configuration alone shows it, no
    folder is created; otherwise the folder is removed. A diverged run keeps its folder and exits with status 1. In a
    sweep, its objective is infinite, the other runs continue, and the sweep exits with status 1. A bug in ratinglab
    keeps its traceback.

    Args:
        config_name: the primary config in conf/, such as `train`.
        positional: keys that arguments without a key set, in this order.
        find_run: finds the run that the arguments resume or reproduce.
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
        self._conf = Conf(config_name)
        self._trains = config_name == "train"
        self._typed = list(sys.argv)
        self._request: Request
        self._checked: ComposedJob | None = None  # None in a sweep
        self._num_jobs: int  # of a sweep
        self._folder: Path | None = None

    def main(self) -> None:
        """Run the command; exit with status 1 if a job of a sweep fails."""
        configure_process()
        register_resolvers()
        with exits_in_one_line(), explained(self._conf), ExitStack() as claims:
            succeeded = self._answer(claims)
        if not succeeded:
            sys.exit(1)

    def _answer(self, claims: ExitStack) -> bool:
        """Show what the arguments ask for, or check them and run the task; return whether all jobs succeeded."""
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
        self._request = Request(self._conf, overrides, multirun=multirun, find_run=self._find_run)
        arguments.overrides = self._request.overrides
        if arguments.cfg:
            if (rerun := self._request.rerun) is not None:
                path = rerun.folder / HYDRA_FOLDER / "config.yaml"
                raise UserError(f"--cfg shows a new run; for this one, see {path}")
            return self._run_app(arguments)
        hydra = self._check_jobs(arguments)
        checked = self._checked
        if checked is not None and self._trains and process_rank() > 0 and checked.options.trainer.num_processes > 1:
            self._take_part(checked)
            return True
        if self._trains:
            self._claim_folder(hydra, arguments, claims)
        if checked is None or checked.hydra.verbose:  # Hydra's own messages
            return self._run_app(arguments)
        self._run(checked)
        return True

    def _run_app(self, arguments: argparse.Namespace) -> bool:
        """Let Hydra's app do what the arguments ask for; return whether all jobs succeeded."""
        sys.argv[1:] = [*arguments.flags, *arguments.overrides]
        app = hydra_app(self._job, config_name=self._conf.config_name)
        if self._folder is not None and self._checked is None:
            return run_sweep(app, self._folder, num_jobs=self._num_jobs)
        app()
        return True

    def _help(self, arguments: argparse.Namespace) -> str:
        if self._usage is not None:
            return for_this_program(self._usage.strip())
        with initialized():
            parsed = self._conf.parsed(arguments.overrides)
            overrides = first_job(parsed) if arguments.multirun else arguments.overrides
            return help_text(self._conf, [*self._conf.keys_of_choices(overrides), *overrides])

    def _check_jobs(self, arguments: argparse.Namespace) -> DictConfig:
        """Compose and check the runs that the arguments ask for; return Hydra's part of a config."""
        with initialized():
            if not arguments.multirun:
                self._checked = self._request.job(arguments.overrides)
                return self._checked.hydra
            arguments.overrides, hydra, self._num_jobs = check_sweep(
                self._conf, arguments.overrides, check_job=self._check_job_of_sweep
            )
            return hydra

    def _check_job_of_sweep(self, overrides: Sequence[str]) -> DictConfig:
        job = self._request.job(overrides)
        if self._trains and job.options.trainer.num_processes > 1:
            raise UserError(
                "trainer.devices and trainer.num_nodes must be 1 with -m: each job of a sweep runs in one process, and "
                "hydra/launcher=joblib, ray or submitit_slurm runs several jobs at a time"
            )
        return job.hydra

    def _take_part(self, checked: ComposedJob) -> None:
        """Take part in a fit. Rank 0 claims, writes and prints the run, and reports how the fit ends.

        A bug in this process keeps its traceback.
        """
        from ratinglab.training.training import join_fit  # torch takes a second: keep --help fast

        exit_with_rank_zero()
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            try:
                join_fit(checked.options, folder_of(checked.hydra, "run"))
            except StoppedError as error:
                sys.exit(error.status)
            except RunFailedError:
                sys.exit(1)

    def _claim_folder(self, hydra: DictConfig, arguments: argparse.Namespace, claims: ExitStack) -> None:
        """Create and lock the folder that Hydra will write to. It must be new, empty or resumed."""
        kind = "sweep" if arguments.multirun else "run"
        key = f"hydra.{kind}.dir"
        folder = folder_of(hydra, kind)
        typed = list(arguments.overrides)
        # Hydra does not expand `~`, and could put a later time into the name
        arguments.overrides.append(f"{key}={quoted(str(folder))}")
        is_resumed = hydra.output_subdir is None
        claims.enter_context(claimed_folder(folder, key=key, is_resumed=is_resumed, is_sweep=arguments.multirun))
        claims.callback(logging.shutdown)  # closes the logs of runs that are removed
        if arguments.multirun:
            record_or_check_arguments(folder, typed, config_dir=self._conf.extra_folder)
        self._folder = folder

    def _run(self, checked: ComposedJob) -> None:
        """Run the task once on the checked config."""
        config = checked.config.copy()
        with open_dict(config):
            config.hydra = as_in_app(checked.hydra, self._folder, self._conf.extra_folder)
        with initialized():
            run_composed(self._job, config, config_name=self._conf.config_name)

    def _job(self, config: DictConfig) -> float | None:
        """Run the task on one job; called by Hydra, with the job's config."""
        sys.argv[:] = self._typed  # a launcher's process has its own, and Hydra's app got its overrides here
        hydra = HydraConfig.get()
        checked = self._checked
        rerun = self._request.rerun
        folder = Path(hydra.runtime.output_dir)
        if checked is None:
            return run_job(lambda: self._train_job(config, hydra, folder), folder, hydra, monitor=config.monitor)
        if rerun is not None and hydra.output_subdir is not None:
            rerun.save(folder, checked.config)
        with exits_in_one_line(), explained(self._conf):
            try:
                return self._task(checked.options, folder)
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
        if keys := self._conf.keys_of_choices(overrides):
            config, _ = self._conf.compose([*keys, *overrides])
            OmegaConf.save(config, folder / HYDRA_FOLDER / "config.yaml")  # Hydra saved the overlay's values
        if has_started(folder):
            OmegaConf.update(config, "resume", str(folder))
        return self._task(self._request.options(config, overrides), folder)
