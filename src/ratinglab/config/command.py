"""The command line: one task under Hydra, and every mistake as one line with exit status 2."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from ratinglab.config.arguments import parse_arguments
from ratinglab.config.claimed_folder import claimed_folder
from ratinglab.config.conf import PACKAGE, Conf
from ratinglab.config.help_text import for_this_program, help_text
from ratinglab.config.hydra_api import hydra_app, run_composed
from ratinglab.config.jobs import first_job
from ratinglab.config.mistakes import explained
from ratinglab.config.request import FindRun, Job, Request, as_in_app
from ratinglab.config.resolvers import register_resolvers
from ratinglab.config.sweep import check_sweep, run_job, run_sweep
from ratinglab.errors import RunFailedError, UserError
from ratinglab.exits import exit_on_storage_fault, exit_with, exits_in_one_line
from ratinglab.files import user_path
from ratinglab.interrupts import StoppedError, resume_hint
from ratinglab.options import quoted
from ratinglab.program import end_with_first, process_rank
from ratinglab.runs.sweep_folder import SAVED, claim, has_started
from ratinglab.startup import configure_process

Task = Callable[[Any, Path], float | None]


def command(
    *,
    config_name: str,
    positional: str | None = None,
    find_run: FindRun | None = None,
    usage: str | None = None,
    follow: Task | None = None,
) -> Callable[[Task], Callable[[], None]]:
    """Turn a task that takes options and the run's folder into a command, a Hydra app.

    A user's mistake is reported as one line on stderr, with exit status 2. If the configuration alone shows it, no
    folder is created; otherwise the folder is removed. A diverged run keeps its folder and exits with status 1. In a
    sweep, its objective is infinite, the other runs continue, and the sweep exits with status 1. A bug in ratinglab
    keeps its traceback.

    Args:
        config_name: the primary config in conf/, such as `train`.
        positional: key that an argument without a key sets.
        find_run: finds the run that the arguments resume or reproduce.
        usage: text of --help; None: groups and keys of the primary config.
        follow: task of the other processes of the same fit (rank > 0).
    """

    def decorate(task: Task) -> Callable[[], None]:
        def main() -> None:
            conf = Conf(config_name)
            _Command(task, conf, positional=positional, find_run=find_run, usage=usage, follow=follow).main()

        main.__name__, main.__doc__ = task.__name__, task.__doc__
        return main

    return decorate


class _Command:
    """One invocation of a command."""

    def __init__(
        self,
        task: Task,
        conf: Conf,
        *,
        positional: str | None,
        find_run: FindRun | None,
        usage: str | None,
        follow: Task | None,
    ) -> None:
        self._task, self._conf, self._follow = task, conf, follow
        self._positional, self._find_run, self._usage = positional, find_run, usage
        self._trains = conf.config_name == "train"
        self._typed: list[str] = []
        self._request: Request
        self._checked: Job | None = None
        self._folder: Path | None = None

    def main(self) -> None:
        """Run the command; exit with status 1 if a job of a sweep fails."""
        configure_process()
        register_resolvers()
        self._typed = list(sys.argv)
        with self._mistakes_in_one_line(), ExitStack() as claims:
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
        self._check(arguments)
        if arguments.cfg:
            return self._run_app(arguments)
        hydra = self._check_jobs(arguments)
        if self._checked is not None and self._is_follower(self._checked):
            self._take_part(self._checked)
            return True
        if self._trains:
            self._claim_folder(hydra, arguments, claims)
        if self._checked is None or self._needs_app(self._checked, arguments):
            return self._run_app(arguments)
        self._run(self._checked)
        return True

    def _run_app(self, arguments: argparse.Namespace) -> bool:
        """Let Hydra's app do what the arguments ask for; return whether all jobs succeeded."""
        sys.argv[1:] = [*arguments.flags, *arguments.overrides]
        app = hydra_app(self._job, config_module=PACKAGE, config_name=self._conf.config_name)
        if self._folder is not None and self._checked is None:
            return run_sweep(app, self._folder)
        app()
        return True

    def _help(self, arguments: argparse.Namespace) -> str:
        if self._usage is not None:
            return for_this_program(self._usage.strip())
        with self._conf.initialized():
            parsed = self._conf.parsed(arguments.overrides)
            overrides = first_job(parsed) if arguments.multirun else arguments.overrides
            return help_text(self._conf, [*self._conf.keys_of_choices(overrides), *overrides])

    @contextmanager
    def _mistakes_in_one_line(self) -> Iterator[None]:
        with exits_in_one_line(), explained(self._conf):
            yield

    def _check(self, arguments: argparse.Namespace) -> None:
        """Check the overrides, and replace them with those for Hydra."""
        multirun = arguments.multirun
        self._request = Request(self._conf, arguments.overrides, multirun=multirun, find_run=self._find_run)
        arguments.overrides = self._request.overrides
        if self._request.rerun is not None and arguments.cfg:
            saved = self._request.rerun.folder / SAVED / "config.yaml"
            raise UserError(f"--cfg shows a new run; for this one, see {saved}")

    def _check_jobs(self, arguments: argparse.Namespace) -> DictConfig:
        """Compose and check the runs that the arguments ask for; return Hydra's part of a config."""
        with self._conf.initialized():
            if not arguments.multirun:
                self._checked = self._request.job(arguments.overrides)
                return self._checked.hydra
            overrides, hydra = check_sweep(self._conf, arguments.overrides, check_job=self._check_job_of_sweep)
            arguments.overrides = overrides
            return hydra

    def _check_job_of_sweep(self, overrides: Sequence[str]) -> DictConfig:
        job = self._request.job(overrides)
        if self._trains and job.options.trainer.num_processes > 1:
            raise UserError(
                "trainer.devices and trainer.num_nodes must be 1 with -m: each job of a sweep runs in one process, and "
                "hydra/launcher=joblib, ray or submitit_slurm runs several jobs at a time"
            )
        return job.hydra

    def _is_follower(self, checked: Job) -> bool:
        """Return whether this process only takes part in a fit (rank > 0)."""
        return self._follow is not None and checked.options.trainer.num_processes > 1 and process_rank() > 0

    def _take_part(self, checked: Job) -> None:
        """Take part in a fit. Rank 0 claims, writes and prints the run, and reports how the fit ends.

        A bug in this process keeps its traceback.
        """
        assert self._follow is not None
        end_with_first()
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        folder = user_path(str(checked.hydra.run.dir), key="hydra.run.dir").absolute()
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            try:
                self._follow(checked.options, folder)
            except StoppedError as error:
                sys.exit(error.status)
            except RunFailedError:
                sys.exit(1)

    def _claim_folder(self, hydra: DictConfig, arguments: argparse.Namespace, claims: ExitStack) -> None:
        """Create and lock the folder that Hydra will write to. It must be new, empty or resumed."""
        key = "hydra.sweep.dir" if arguments.multirun else "hydra.run.dir"
        folder = user_path(str(OmegaConf.select(hydra, key.removeprefix("hydra."))), key=key).absolute()
        typed = list(arguments.overrides)
        # Hydra does not expand `~`, and could put a later time into the name
        arguments.overrides.append(f"{key}={quoted(str(folder))}")
        is_resumed = hydra.output_subdir is None
        claims.enter_context(claimed_folder(folder, key=key, is_resumed=is_resumed, is_sweep=arguments.multirun))
        claims.callback(logging.shutdown)  # closes the logs of runs that are removed
        if arguments.multirun:
            claim(folder, typed, config_dir=self._conf.extra_folder)
        self._folder = folder

    @staticmethod
    def _needs_app(checked: Job, arguments: argparse.Namespace) -> bool:
        """Return whether a Hydra flag or setting (--resolve, verbose) requires Hydra's own app for a single run."""
        return bool(checked.hydra.verbose or arguments.resolve or arguments.experimental_rerun)

    def _run(self, checked: Job) -> None:
        """Run the task once on the checked config."""
        config = checked.config.copy()
        with open_dict(config):
            config.hydra = as_in_app(checked.hydra, self._folder, self._conf.extra_folder)
        with self._conf.initialized():
            run_composed(self._job, config, config_name=self._conf.config_name)

    def _job(self, config: DictConfig) -> float | None:
        """Run the task on one job's config; called by Hydra."""
        sys.argv[:] = self._typed  # for the run's record
        hydra = HydraConfig.get()
        folder, is_sweep = Path(hydra.runtime.output_dir), hydra.mode == RunMode.MULTIRUN
        rerun = self._request.rerun
        typed: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # a later value may replace ${…}
        config, overrides = self._request.restored(config, typed)
        if rerun is not None and hydra.output_subdir is not None:
            rerun.save(folder, config)
        if is_sweep:
            return run_job(lambda: self._train_job(config, overrides, folder), folder, hydra)
        with self._mistakes_in_one_line():
            try:
                return self._task(self._options(config, overrides), folder)
            except StoppedError as error:
                if self._trains and has_started(folder):
                    exit_with(f"{error}; {resume_hint(folder)}", status=error.status)
                raise
            except OSError as error:
                exit_on_storage_fault(error, folder)
                raise
            except RunFailedError as error:
                exit_with(f"error: {error}", status=1)

    def _options(self, config: DictConfig, overrides: Sequence[str]) -> Any:
        """Return the checked options, unless Hydra has composed another config since."""
        if self._checked is not None and config == self._checked.config:
            return self._checked.options
        return self._request.options(config, overrides)

    def _train_job(self, config: DictConfig, overrides: Sequence[str], folder: Path) -> float | None:
        """Run the task on one job of a sweep; resume a run that was stopped."""
        if keys := self._conf.keys_of_choices(overrides):
            config, _ = self._conf.compose([*keys, *overrides])
            OmegaConf.save(config, folder / SAVED / "config.yaml")  # Hydra saved the overlay's values
        if has_started(folder):
            OmegaConf.update(config, "resume", str(folder))
        return self._task(self._request.options(config, overrides), folder)
