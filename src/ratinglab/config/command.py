"""The command line: one task under Hydra, and every mistake as one line with exit status 2."""

import argparse
import errno
import io
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
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

from ratinglab.config.arguments import parse_arguments, quoted
from ratinglab.config.conf import Conf
from ratinglab.config.conversion import UnknownKeyError, to_options
from ratinglab.config.help_text import help_text
from ratinglab.config.hydra_api import hydra_app, is_parallel, is_search
from ratinglab.config.jobs import first_job, jobs_to_check
from ratinglab.config.mistakes import check_overrides, explain, with_file
from ratinglab.config.rerun import Rerun
from ratinglab.config.resolvers import register_resolvers
from ratinglab.errors import ConflictError, RunFailedError, UserError
from ratinglab.exits import exit_with, exits_in_one_line
from ratinglab.experiment.root_options import (
    EvaluateOptions,
    InspectOptions,
    PredictOptions,
    RecommendOptions,
    TrainOptions,
)
from ratinglab.files import user_path
from ratinglab.interrupts import StoppedError, resume_hint
from ratinglab.locks import LOCK, LockedError, locked
from ratinglab.runs.sweep_folder import (
    FAILURE,
    SAVED,
    SWEEP_RECORD,
    claim,
    has_started,
    job_folders,
    read_jobs,
    record_failure,
)
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
STORAGE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""Errors of a full, protected or broken disk: neither the user's mistake nor ratinglab's fault."""

log = logging.getLogger(__name__)


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
        self._has_failed = False

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
            if self._sweep is None:
                app()
            else:
                self._run_sweep(app, self._sweep)
        if self._has_failed:
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
                return self._check_sweep(arguments)
            return self._check_job(arguments.overrides)

    def _check_sweep(self, arguments: argparse.Namespace) -> DictConfig:
        """Check the jobs of a sweep. Warns of jobs whose options conflict; refuses the sweep if all do."""
        overrides = self._conf.parsed(arguments.overrides)
        _, hydra = self._conf.compose(first_job(overrides))
        if hydra.output_subdir is None:
            raise UserError(f"{self._conf.config_name} does not support sweeps: leave out -m")
        params = OmegaConf.select(hydra, "sweeper.params") or {}  # set by a search's YAML
        overrides = [*self._conf.parsed([f"{key}={value}" for key, value in params.items()]), *overrides]
        for override in overrides:
            is_interval = override.is_sweep_override() and not override.is_discrete_sweep()
            if is_interval and not is_search(hydra):
                raise UserError(
                    f"{override.input_line}: an interval needs hydra/sweeper=optuna (pip install 'ratinglab[sweep]'); "
                    "a grid takes VALUE,VALUE,…"
                )
        last = {override.key_or_group: override for override in overrides}
        swept = {key for key, override in last.items() if override.is_sweep_override()}
        fixed = last.keys() - swept
        # a job's folder is named by what is swept
        exclude = ",".join(map(quoted, sorted(fixed)))
        arguments.overrides.append(f"hydra.job.config.override_dirname.exclude_keys=[{exclude}]")
        jobs, conflicts = list(jobs_to_check(overrides)), list[str]()
        for job in jobs:
            try:
                hydra = self._check_job([*self._conf.keys_of_choices(job), *job])
            except ConflictError as error:
                if len(conflicts) + 1 == len(jobs):
                    raise
                conflicts.append(f"{' '.join(text for text in job if text.partition('=')[0] in swept)}: {error}")
        for conflict in conflicts:
            print(f"warning: this job will fail: {conflict}", file=sys.stderr)
        return hydra

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
            return self._job_of_sweep(config, overrides, folder, hydra)
        with self._mistakes_in_one_line():
            try:
                return self._task(self._options(config, overrides), folder)
            except StoppedError as error:
                if self._trains and has_started(folder):
                    exit_with(f"{error}; {resume_hint(folder)}", status=error.status)
                raise
            except OSError as error:
                _exit_on_storage_fault(error, folder)
                raise
            except RunFailedError as error:
                exit_with(f"error: {error}", status=1)

    def _job_of_sweep(self, config: DictConfig, overrides: Sequence[str], folder: Path, hydra: Any) -> float | None:
        """Run one job of a sweep. Its failure must not end the others: it is recorded in the job's folder."""
        try:
            with (
                locked(folder, key="hydra.sweep.dir"),
                _one_line_per_job(folder) if is_parallel(hydra) else nullcontext(),
            ):
                objective = self._task(self._options(self._sweep_config(config, overrides, folder), overrides), folder)
                if objective is None and is_search(hydra):
                    raise UserError("a search needs validation rows, which choose the next job")
                return objective
        except LockedError as error:
            log.error("error: %s", error)
        except (RunFailedError, UserError) as error:
            log.error("error: %s", error)
            record_failure(folder, str(error))
        except Exception as error:
            _exit_on_storage_fault(error, folder)  # the other jobs would fail too
            log.exception("error: the job has failed")
            record_failure(folder, " ".join(f"{type(error).__name__}: {error}".split()))
        return float("inf")

    def _run_sweep(self, app: Callable[[], None], folder: Path) -> None:
        """Run the jobs of a sweep; print their table in any case, and after a stop how to continue."""
        how = f"to continue: the same command with {shlex.quote(f'hydra.sweep.dir={os.path.relpath(folder)}')}"
        try:
            app()
        except StoppedError as error:
            exit_with(f"{error}; {how}", status=error.status)
        except Exception as error:  # such as a launcher's, whose worker was killed
            if isinstance(error, UserError | HydraException | OmegaConfBaseException | YAMLError):
                raise
            log.debug("the sweep has failed", exc_info=True)
            print(f"error: {type(error).__name__}: the sweep has failed; {how}", file=sys.stderr)
            self._has_failed = True
        self._conclude_sweep(folder)

    def _sweep_config(self, config: DictConfig, overrides: Sequence[str], folder: Path) -> DictConfig:
        """Return a job's config, in which choices win over keys of an overlay, and a run that was stopped resumes."""
        (folder / FAILURE).unlink(missing_ok=True)
        if keys := self._conf.keys_of_choices(overrides):
            config, _ = self._conf.compose([*keys, *overrides])
            OmegaConf.save(config, folder / SAVED / "config.yaml")  # Hydra's own has the values of the overlay
        if has_started(folder):
            OmegaConf.update(config, "resume", str(folder))
        return config

    def _conclude_sweep(self, folder: Path) -> None:
        """Print the table of a sweep's runs, then its folder on a line of its own.

        Reads them from the folder: a launcher may have run the jobs in other processes.
        """
        jobs = read_jobs(folder)
        failures = [job.failure for job in jobs if job.failure is not None]
        if failures and not any(has_started(job.folder) for job in jobs):
            same = len(set(failures)) == 1
            raise UserError(failures[0] if same else f"all {len(jobs)} jobs failed; the first: {failures[0]}")
        from ratinglab.reports.sweep_table import sweep_table  # torch is loaded by now

        table = sweep_table(jobs)
        table.write(folder)
        print("", *table.lines, os.path.relpath(folder), sep="\n")
        self._has_failed |= bool(failures)

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


def _exit_on_storage_fault(error: Exception, folder: Path) -> None:
    """End the process with status 1 if the disk is full, protected or broken."""
    if isinstance(error, OSError) and error.errno in STORAGE_FAULTS:
        exit_with(f"error: {error.filename or folder}: {os.strerror(error.errno)}", status=1)


@contextmanager
def _one_line_per_job(folder: Path) -> Iterator[None]:
    """Print one line at the end of a job: the lines of parallel jobs would interleave. train.log has them all."""
    for handler in logging.root.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setLevel(logging.CRITICAL)
    outcome = "failed"
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
        outcome = "finished"
    finally:
        print(f"{outcome:<10} {folder.name}\n", end="", flush=True)


def _empty(folder: Path) -> None:
    """Remove everything in a folder but its lock. The folder was empty when this process claimed it."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink(missing_ok=True)
