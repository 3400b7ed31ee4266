"""Check the jobs of a sweep before the first one starts, train them, and print their table at the end."""

import io
import logging
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ratinglab.config.arguments import CommandLine, jobs_to_check, swept_values
from ratinglab.config.hydra_api import is_search, run_hydra_app
from ratinglab.config.job import FindRun, Job, compose_new_job, convert_to_options, find_earlier_run
from ratinglab.config.primary_config import PrimaryConfig
from ratinglab.errors import ConflictError, RunFailedError, UserError, format_count
from ratinglab.options import quote_for_hydra, short_keys, short_number
from ratinglab.process.exits import exit_on_storage_fault, exit_with
from ratinglab.process.interrupts import StoppedError
from ratinglab.process.locks import LockedError, lock_folder
from ratinglab.runs.hydra_files import read_swept_arguments
from ratinglab.runs.record import read_metrics
from ratinglab.runs.run_files import FAILURE, HYDRA_FOLDER, PRUNED
from ratinglab.runs.sweep_folder import (
    find_job_folders,
    has_started,
    read_jobs,
    record_or_check_arguments,
    write_reason,
)

log = logging.getLogger(__name__)

Task = Callable[[Any, Path], float | None]
"""Function behind a command. Takes its options and the folder to write to: the run's folder or, if the command trains
no run, the current folder. Returns the objective of a search, if any."""
PRINTED_PREFIXES = ("note:", "warning:", "resume", "pruned")
"""Lines of a job's log that begin with one of these texts are also printed."""
PRINTED_NOTES = set[str]()
"""Notes that jobs in this process have printed. Most jobs have the same notes, so each note is printed only once."""


def train_sweep(task: Task, conf: PrimaryConfig, line: CommandLine, find_run: FindRun) -> None:
    """Check the jobs of a sweep, train them, and print their table. Exits with status 1 if a job fails.

    Raises:
        UserError: a value is wrong, `find_run` finds an earlier run, the folder is in use, or all jobs failed.
    """
    if earlier_run := find_earlier_run(conf, line.overrides, find_run=find_run):
        action = "resume continues" if earlier_run.is_resumed else "reproduce trains"
        raise UserError(f"{action} a single run: leave out -m")
    overrides, job, num_jobs = _check_sweep(conf, line.overrides)

    def train_one(config: DictConfig) -> float | None:  # Hydra calls it once per job, perhaps in another process
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        return run_job(lambda: _train_job(task, conf, config, hydra, folder), folder, hydra, monitor=config.monitor)

    with job.claim_output_folder("sweep") as (folder, folder_override):
        record_or_check_arguments(folder, overrides, config_dir=conf.user_folder)
        arguments = [*line.flags, *overrides, folder_override]
        run_app = partial(run_hydra_app, train_one, config_name=conf.config_name, arguments=arguments)
        all_succeeded = _run_jobs(run_app, folder, num_jobs=num_jobs)
    if not all_succeeded:
        sys.exit(1)


def _check_sweep(conf: PrimaryConfig, arguments: Sequence[str]) -> tuple[list[str], Job, int]:
    """Check the jobs of a sweep. Prints a warning for each job whose options conflict.

    Returns the overrides for Hydra, one of the jobs, and the number of jobs.
    """
    typed = conf.parse(arguments)
    _, hydra = conf.compose(next(jobs_to_check(typed)))
    for name in ("n_trials", "n_jobs", "max_batch_size"):
        if (count := hydra.sweeper.get(name)) is not None and count < 1:
            raise UserError(f"hydra.sweeper.{name} must be at least 1, got {count}")
    params = OmegaConf.select(hydra, "sweeper.params") or {}  # the file of search=NAME sets them
    overrides = [*conf.parse([f"{key}={value}" for key, value in params.items()]), *typed]
    last = {override.key_or_group: override for override in overrides}
    for override in last.values():
        _check_swept_values(override, in_search=is_search(hydra))
    swept = {key for key, override in last.items() if override.is_sweep_override()}
    conflicts = list[str]()
    jobs = list(jobs_to_check(overrides))
    for job_overrides in jobs:
        try:
            job = _compose_job_of_sweep(conf, job_overrides)
        except ConflictError as error:
            swept_arguments = " ".join(text for text in job_overrides if text.partition("=")[0] in swept)
            conflicts.append(f"{swept_arguments}: {error}")
            if len(conflicts) == len(jobs):
                raise
    for conflict in conflicts:
        print(f"warning: this job will fail: {conflict}", file=sys.stderr)
    fixed = ",".join(map(quote_for_hydra, sorted(last.keys() - swept)))  # not in the names of the jobs' folders
    num_jobs = job.hydra.sweeper.n_trials if is_search(hydra) else math.prod(map(len, map(swept_values, last.values())))
    # without earlier arguments of the same key, because Optuna would keep a fixed value although a range follows it
    kept = [
        text
        for text, override in zip(arguments, typed, strict=True)
        if override.is_hydra_override() or override is last[override.key_or_group]
    ]
    return [*kept, f"hydra.job.config.override_dirname.exclude_keys=[{fixed}]"], job, num_jobs


def _check_swept_values(override: Override, *, in_search: bool) -> None:
    """Refuse an interval that no sweeper can draw from, and print a note if a value is listed twice."""
    text, interval = override.input_line, override.value()
    if not isinstance(interval, IntervalSweep):
        if len(set(values := swept_values(override))) < len(values):
            print(f"note: {text} lists a value twice; equal jobs count once", file=sys.stderr)
        return
    if not in_search:
        raise UserError(
            f"{text}: an interval needs hydra/sweeper=optuna (pip install 'ratinglab[sweep]'); "
            "a grid takes VALUE,VALUE,…"
        )
    low, high = map(float, swept_values(override))
    if low > high:
        raise UserError(f"{text}: an interval must begin with its lower end")
    if "log" in interval.tags and low <= 0:
        raise UserError(f"{text}: an interval with the tag log must begin above 0")


def _compose_job_of_sweep(conf: PrimaryConfig, overrides: Sequence[str]) -> Job:
    """Compose and check one job of a sweep."""
    job = compose_new_job(conf, overrides)
    if job.options.trainer.num_processes > 1:
        raise UserError(
            "trainer.devices and trainer.num_nodes must be 1 with -m: each job of a sweep runs in one process, and "
            "hydra/launcher=joblib, ray or submitit_slurm runs several jobs at a time"
        )
    return job


def _train_job(task: Task, conf: PrimaryConfig, config: DictConfig, hydra: HydraConf, folder: Path) -> float | None:
    """Train one job of a sweep. If its run has started in an earlier part of the sweep, resume it."""
    overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # a later value may replace ${…}
    kept = conf.keep_typed_choices(overrides)
    if kept != overrides:
        config, _ = conf.compose(kept)
        OmegaConf.save(config, folder / HYDRA_FOLDER / "config.yaml")  # Hydra saved the overlay's values
    if has_started(folder):
        OmegaConf.update(config, "resume", str(folder))
    conf.put_on_path()  # in a worker process, `add_folder` has not been called
    return task(convert_to_options(config, conf, overrides=overrides), folder)


def run_job(train: Callable[[], float | None], folder: Path, hydra: Any, *, monitor: str) -> float | None:
    """Run one job of a sweep, and return its objective, which is infinite if the job fails.

    Prints the job's notes and warnings, then one line with the swept values, the monitored metric and the seconds of
    the fit. train.log has all lines. A failure is recorded in the job's folder, and the other jobs still run.
    """
    swept = read_swept_arguments(folder)
    values_text = " ".join(f"{short}={short_number(str(swept[key]))}" for key, short in short_keys(swept).items())
    _print_notes_only(f"job {hydra.job.num}")
    try:
        with lock_folder(folder, key="hydra.sweep.dir"), _log_output():
            (folder / FAILURE).unlink(missing_ok=True)
            objective = train()
            if objective is None and is_search(hydra):
                raise UserError("a search needs validation rows to choose the next job")
        log.info("%s   %s", values_text, _outcome(folder, monitor))
        return objective
    except LockedError as error:
        log.error("%s   failed: %s", values_text, error)
    except Exception as error:
        exit_on_storage_fault(error, folder)  # the other jobs would also fail
        reason = str(error)
        if not isinstance(error, RunFailedError | UserError):
            log.exception("error: the job has failed")
            reason = " ".join(f"{type(error).__name__}: {error}".split())
        log.error("%s   failed: %s", values_text, reason)
        write_reason(folder / FAILURE, reason)
        (folder / PRUNED).unlink(missing_ok=True)  # the job counts as failed; if it is resumed, the fit writes it again
    return float("inf")


def _outcome(folder: Path, monitor: str) -> str:
    """Format the seconds of a finished job's fit and, if the job has validation rows, its monitored metric."""
    metrics = read_metrics(folder)
    metric = f"{monitor} {metrics[monitor]:.4f}   " if monitor in metrics else ""
    return f"{metric}{metrics['fit/seconds']:.1f} s"


def _print_notes_only(job: str) -> None:
    """Let the handlers that print show only notes, warnings and this module's lines, each with the job's number."""
    for handler in logging.root.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(logging.Formatter(f"{job:<10} %(message)s"))
            handler.addFilter(_is_printed)


@contextmanager
def _log_output() -> Iterator[None]:
    """Write what a job prints, such as the output of a user's own equation, into train.log.

    Lines of stdout are written at once, lines of stderr at the end.
    """
    logs = [handler.baseFilename for handler in logging.root.handlers if isinstance(handler, logging.FileHandler)]
    with (
        open(logs[0] if logs else os.devnull, "a", buffering=1, encoding="utf-8", errors="replace") as stdout,
        redirect_stdout(stdout),
        redirect_stderr(io.StringIO()) as errors,
    ):
        try:
            yield
        finally:
            for line in errors.getvalue().splitlines():  # for example, a warning by Python
                log.warning("%s", line)


def _is_printed(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    if record.exc_info is not None or not (record.name == __name__ or message.startswith(PRINTED_PREFIXES)):
        return False
    is_repeated = message in PRINTED_NOTES
    if message.startswith("note:"):
        PRINTED_NOTES.add(message)
    return not is_repeated


def _run_jobs(run_app: Callable[[], None], folder: Path, *, num_jobs: int) -> bool:
    """Run the jobs of a sweep, print their table even if the sweep fails, and return whether all jobs succeeded."""
    continue_hint = f"to continue: the same command with {shlex.quote(f'hydra.sweep.dir={os.path.relpath(folder)}')}"
    PRINTED_NOTES.clear()
    jobs = format_count(num_jobs, "job")
    print(f"sweep      {jobs} in {os.path.relpath(folder)}, each with its own train.log", flush=True)
    app_succeeded = True
    try:
        run_app()
    except StoppedError as error:
        exit_with(f"{error}; {continue_hint}", status=error.status)
    except (UserError, HydraException, OmegaConfBaseException, YAMLError):
        raise
    except Exception as error:  # for example, a launcher's error because its worker was killed
        exit_on_storage_fault(error, folder)
        log.debug("the sweep has failed", exc_info=True)
        reason = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        if not find_job_folders(folder):
            exit_with(f"error: {type(error).__name__}: {reason}", status=1)
        print(f"error: the sweep has failed: {type(error).__name__}: {reason}; {continue_hint}", file=sys.stderr)
        app_succeeded = False
    return _print_report(folder) and app_succeeded


def _print_report(folder: Path) -> bool:
    """Print the table of a sweep's runs, then the sweep's folder on the last line. Returns whether all jobs succeeded.

    Reads the runs from the folder, because a launcher may have run the jobs in other processes.
    """
    jobs = read_jobs(folder)
    failures = [job.failure for job in jobs if job.failure is not None]
    if failures and not any(has_started(job.folder) for job in jobs):
        is_same = len(set(failures)) == 1
        raise UserError(failures[0] if is_same else f"all {len(jobs)} jobs failed; the first: {failures[0]}")
    from ratinglab.reports.sweep_report import report_sweep  # imports pandas, which is loaded by now

    report = report_sweep(jobs)
    print("", *report.lines, sep="\n", flush=True)  # before the files, which may not be writable
    report.write(folder)
    print(os.path.relpath(folder), flush=True)
    return not failures
