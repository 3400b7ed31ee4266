"""The command line: one task under Hydra, and every mistake as one line with exit status 2."""

import argparse
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ratinglab.config.arguments import parse_arguments
from ratinglab.config.conf import Conf
from ratinglab.config.conversion import UnknownKeyError, to_options
from ratinglab.config.help_text import help_text
from ratinglab.config.hydra_api import hydra_app
from ratinglab.config.jobs import first_job
from ratinglab.config.mistakes import check_overrides, explain, with_file
from ratinglab.config.rerun import Rerun
from ratinglab.config.resolvers import register_resolvers
from ratinglab.config.sweep import check_sweep, run_job, run_sweep
from ratinglab.errors import RunFailedError, UserError
from ratinglab.exits import exit_on_storage_fault, exit_with, exits_in_one_line
from ratinglab.experiment.root_options import (
    EvaluateOptions,
    InspectOptions,
    PredictOptions,
    RecommendOptions,
    TrainOptions,
)
from ratinglab.files import user_path
from ratinglab.interrupts import StoppedError, resume_hint
from ratinglab.locks import LOCK, locked
from ratinglab.options import quoted
from ratinglab.runs.sweep_folder import FAILURE, SAVED, SWEEP_RECORD, claim, has_started, job_folders
from ratinglab.startup import configure_process

ROOTS: dict[str, type] = {
    "train": TrainOptions,
    "inspect_data": InspectOptions,
    "evaluate": EvaluateOptions,
    "recommend": RecommendOptions,
    "predict": PredictOptions,
}
"""Options class of each primary config in conf/."""
Task = Callable[[Any, Path], float | None]
FindRun = Callable[..., Rerun | None]
"""Takes the overrides, and multirun as a keyword; returns the earlier run that they name, if any."""


def command(
    *,
    config_folder: Path,
    config_name: str,
    positional: str | None = None,
    find_run: FindRun | None = None,
    usage: str | None = None,
) -> Callable[[Task], Callable[[], None]]:
    """Make a script's task a Hydra app that takes options and the run's folder.

    A user's mistake is reported as one line on stderr, with exit status 2. If the configuration alone shows it, no
    folder is created; otherwise the folder is removed. A diverged run keeps its folder and exits with status 1. In a
    sweep, its objective is infinite, the other runs continue, and the sweep exits with status 1. A fault of ratinglab's
    own keeps its traceback.

    Args:
        config_folder: the folder conf/.
        config_name: the primary config there, such as `train`.
        positional: the key that an argument without a key sets.
        find_run: finds the run to resume or to reproduce among the arguments.
        usage: the text of --help; None: the groups and keys of the primary config.
    """
    conf = Conf(config_folder, config_name)
    return lambda task: _Command(task, conf, positional=positional, find_run=find_run, usage=usage).main


class _Command:
    """One call of a script from the command line."""

    def __init__(
        self, task: Task, conf: Conf, *, positional: str | None, find_run: FindRun | None, usage: str | None
    ) -> None:
        self._task, self._conf = task, conf
        self._positional, self._find_run, self._usage = positional, find_run, usage
        self._trains = conf.config_name == "train"
        self._rerun: Rerun | None = None
        self._typed: list[str] = []
        self._there_before: set[Path] = set()
        self._sweep: Path | None = None

    def main(self) -> None:
        """Check the arguments, then let Hydra run the task once or, in a sweep, many times."""
        configure_process()
        register_resolvers()
        self._typed = list(sys.argv)
        with self._mistakes_in_one_line(), ExitStack() as locks:
            if "--version" in sys.argv:
                print(f"ratinglab {version('ratinglab')}")
                return
            arguments = parse_arguments(positional=self._positional)
            self._conf.add_folder(arguments.config_dir)
            if arguments.help:
                print(self._help(arguments), flush=True)
                return
            if not (arguments.hydra_help or arguments.info or arguments.shell_completion):
                self._check_overrides(arguments)
                if not arguments.cfg:
                    self._claim_folder(self._check_jobs(arguments), arguments, locks)
            sys.argv[1:] = [*arguments.flags, *arguments.overrides]
            app = hydra_app(self._job, config_folder=self._conf.folder, config_name=self._conf.config_name)
            succeeded = True
            if self._sweep is None:
                app()
            else:
                succeeded = run_sweep(app, self._sweep)
        if not succeeded:
            sys.exit(1)

    def _help(self, arguments: argparse.Namespace) -> str:
        if self._usage is not None:
            return self._usage.strip()
        with self._conf.initialized():
            parsed = self._conf.parsed(arguments.overrides)
            overrides = first_job(parsed) if arguments.multirun else arguments.overrides
            return help_text(self._conf, [*self._conf.keys_of_choices(overrides), *overrides])

    @contextmanager
    def _mistakes_in_one_line(self) -> Iterator[None]:
        with exits_in_one_line():
            try:
                yield
            except (HydraException, OmegaConfBaseException, YAMLError) as error:
                raise UserError(explain(error, self._conf)) from error

    def _check_overrides(self, arguments: argparse.Namespace) -> None:
        """Check the overrides; find the run that they name, or let their choices win over keys that an overlay sets."""
        with self._conf.initialized():
            check_overrides(self._conf.parsed(arguments.overrides), self._conf)
        self._find_rerun(arguments)
        if self._rerun is not None and arguments.cfg:
            raise UserError(f"--cfg shows a new run; for this one, see {self._rerun.folder / SAVED / 'config.yaml'}")
        if self._rerun is None and not arguments.multirun:
            with self._conf.initialized():
                arguments.overrides[:0] = self._conf.keys_of_choices(arguments.overrides)

    def _find_rerun(self, arguments: argparse.Namespace) -> None:
        """Find the run to resume or reproduce, if any; Hydra then only chooses the folder."""
        rerun = self._rerun = self._find_run and self._find_run(arguments.overrides, multirun=arguments.multirun)
        if rerun is None:
            return
        if arguments.config_dir is None and (config_dir := rerun.config_dir()) is not None:
            self._conf.add_folder(config_dir)
        arguments.overrides = list(rerun.overrides)

    def _check_jobs(self, arguments: argparse.Namespace) -> DictConfig:
        """Compose and check the runs that the arguments ask for; return Hydra's part of a config."""
        with self._conf.initialized():
            if arguments.multirun:
                overrides, hydra = check_sweep(self._conf, arguments.overrides, check_job=self._check_job)
                arguments.overrides = overrides
                return hydra
            return self._check_job(arguments.overrides)

    def _check_job(self, overrides: Sequence[str]) -> DictConfig:
        """Compose and check one job's config; return Hydra's part of it."""
        config, hydra = self._conf.compose(overrides)
        if self._rerun is not None:
            self._options(self._rerun.config(self._conf), self._rerun.as_typed())
            return hydra
        try:
            self._options(config, overrides)
        except UnknownKeyError as error:
            raise with_file(error, self._conf, overrides) from error
        return hydra

    def _options(self, config: DictConfig, overrides: Sequence[str]) -> Any:
        self._conf.put_on_path()
        return to_options(config, ROOTS[self._conf.config_name], self._conf.parsed(overrides))

    def _claim_folder(self, hydra: DictConfig, arguments: argparse.Namespace, locks: ExitStack) -> None:
        """Create and lock the folder that Hydra is about to write to, if any; it must be new, empty or resumed."""
        if not self._trains:
            return
        key = "hydra.sweep.dir" if arguments.multirun else "hydra.run.dir"
        folder = user_path(str(OmegaConf.select(hydra, key.removeprefix("hydra."))), key=key).absolute()
        is_resumed = hydra.output_subdir is None
        is_continued = arguments.multirun and (folder / SWEEP_RECORD).is_file()
        typed = list(arguments.overrides)
        # Hydra would not expand `~`, and could compose a later time into the name
        arguments.overrides.append(f"{key}={quoted(str(folder))}")
        self._there_before = {path for path in (folder, *folder.parents) if path.exists()}
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{key} must be a new or empty folder, got {folder}")
        locks.callback(self._remove_empty, folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{key}: {error.filename} cannot be made: {error.strerror}") from error
        locks.enter_context(locked(folder, key="resume" if is_resumed else key))
        # neither training nor the removal below may touch a user's files
        if not (is_resumed or is_continued) and any(path.name != LOCK for path in folder.iterdir()):
            raise UserError(f"{key} must be a new or empty folder, got {folder}")
        if arguments.multirun:
            claim(folder, typed, config_dir=self._conf.extra_folder)
            self._sweep = folder
        if not is_resumed:
            locks.push(partial(self._remove_unstarted, folder, is_sweep=arguments.multirun))

    def _job(self, config: DictConfig) -> float | None:
        """Run the task on one job's config; called by Hydra."""
        sys.argv[:] = self._typed  # the record of a run has the arguments as typed
        hydra = HydraConfig.get()
        folder, is_sweep = Path(hydra.runtime.output_dir), hydra.mode == RunMode.MULTIRUN
        overrides = list(hydra.overrides.task)
        if self._rerun is not None:
            config, overrides = self._rerun.config(self._conf), self._rerun.as_typed()
            if hydra.output_subdir is not None:
                self._rerun.save(folder, config)
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

    def _train_job(self, config: DictConfig, overrides: Sequence[str], folder: Path) -> float | None:
        """Run the task on one job of a sweep. A run that was stopped there resumes."""
        if keys := self._conf.keys_of_choices(overrides):
            config, _ = self._conf.compose([*keys, *overrides])
            OmegaConf.save(config, folder / SAVED / "config.yaml")  # Hydra's own has the values of the overlay
        if has_started(folder):
            OmegaConf.update(config, "resume", str(folder))
        return self._task(self._options(config, overrides), folder)

    def _remove_unstarted(self, folder: Path, kind: type[BaseException] | None, *_: object, is_sweep: bool) -> None:
        """Remove the files of runs that never started, after a mistake or a signal."""
        if kind is None or not issubclass(kind, UserError | StoppedError | SystemExit):
            return  # finished, or a fault of ratinglab's own, whose log may help
        logging.shutdown()
        runs = job_folders(folder) if is_sweep else [folder]
        any_started = any(map(has_started, runs))
        for run in runs:
            if not has_started(run) and not (any_started and (run / FAILURE).exists()):
                _empty(run)
                self._remove_empty(run)
        if is_sweep and {path.name for path in folder.iterdir()} <= {LOCK, SWEEP_RECORD, "multirun.yaml"}:
            _empty(folder)

    def _remove_empty(self, folder: Path) -> None:
        for path in (folder, *folder.parents):
            if path not in self._there_before:
                with suppress(OSError):  # it is gone, or not empty
                    path.rmdir()


def _empty(folder: Path) -> None:
    """Remove everything in a folder but its lock. The folder was empty when this process claimed it."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink(missing_ok=True)
