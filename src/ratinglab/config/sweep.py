"""Sweeps: the checks before the first job, the jobs, and the table at the end."""

import io
import itertools
import logging
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ratinglab.config.hydra_api import is_search
from ratinglab.config.primary_config import PrimaryConfig
from ratinglab.errors import ConflictError, RunFailedError, UserError
from ratinglab.options import quote_for_hydra, short_keys, short_number
from ratinglab.process.exits import exit_on_storage_fault, exit_with
from ratinglab.process.interrupts import StoppedError
from ratinglab.process.locks import LockedError, lock_folder
from ratinglab.runs.record import read_metrics, read_swept_arguments
from ratinglab.runs.run_files import FAILURE, PRUNED
from ratinglab.runs.sweep_folder import find_job_folders, has_started, read_jobs, write_reason

log = logging.getLogger(__name__)

MAX_CHECKED_JOBS = 24
"""Maximum number of jobs that are all checked; composing takes 0.1 s per job. Larger sweeps check each value once."""
PRINTED_PREFIXES = ("note:", "warning:", "pruned")
"""Beginnings of the lines of a job's log that are also printed."""


def jobs_to_check(overrides: Sequence[Override]) -> Iterator[list[str]]:
    """Yield every job of a sweep; beyond MAX_CHECKED_JOBS jobs, the first one and all that differ from it in one key.

    If a key is given twice, the last one counts.
    """
    values = {override.get_key_element(): _values(override) for override in overrides}
    if math.prod(map(len, values.values())) <= MAX_CHECKED_JOBS:
        yield from _combinations(values)
        return
    first_values = {key: choices[:1] for key, choices in values.items()}
    yield from _combinations(first_values)
    for key, choices in values.items():
        yield from itertools.islice(_combinations(first_values | {key: choices}), 1, None)


def _combinations(values: dict[str, list[str]]) -> Iterator[list[str]]:
    for combination in itertools.product(*values.values()):
        yield [f"{key}={value}" for key, value in zip(values, combination, strict=True)]


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    interval = override.value()  # a search draws from it: check its two ends
    assert isinstance(interval, IntervalSweep)
    return [str(interval.start), str(interval.end)]


def check_sweep(
    conf: PrimaryConfig, arguments: Sequence[str], *, check_job: Callable[[Sequence[str]], DictConfig]
) -> tuple[list[str], DictConfig, int]:
    """Check the jobs of a sweep; call it inside `hydra_context`. Prints a warning for each job whose options conflict.

    `check_job` checks the overrides of one job, and returns Hydra's part of its config.

    Returns:
        The overrides for Hydra, Hydra's part of a job's config, and the number of jobs.

    Raises:
        UserError: a value is wrong, or the options of every job conflict.
    """
    overrides = conf.parse(arguments)
    _, hydra = conf.compose(next(jobs_to_check(overrides)))
    if hydra.output_subdir is None:
        raise UserError(f"{conf.config_name} does not support sweeps: leave out -m")
    params = OmegaConf.select(hydra, "sweeper.params") or {}  # set by a search's YAML
    overrides = [*conf.parse([f"{key}={value}" for key, value in params.items()]), *overrides]
    if not is_search(hydra):
        for override in overrides:
            if override.is_sweep_override() and not override.is_discrete_sweep():
                raise UserError(
                    f"{override.input_line}: an interval needs hydra/sweeper=optuna (pip install 'ratinglab[sweep]'); "
                    "a grid takes VALUE,VALUE,…"
                )
    last = {override.key_or_group: override for override in overrides}
    swept = {key for key, override in last.items() if override.is_sweep_override()}
    conflicts = list[str]()
    for job in (jobs := list(jobs_to_check(overrides))):
        try:
            hydra = check_job([*conf.overrides_of_choices(job), *job])
        except ConflictError as error:
            swept_arguments = " ".join(argument for argument in job if argument.partition("=")[0] in swept)
            conflicts.append(f"{swept_arguments}: {error}")
            if len(conflicts) == len(jobs):
                raise
    for conflict in conflicts:
        print(f"warning: this job will fail: {conflict}", file=sys.stderr)
    fixed = ",".join(map(quote_for_hydra, sorted(last.keys() - swept)))  # a job's folder is named by what is swept
    num_jobs = hydra.sweeper.n_trials if is_search(hydra) else math.prod(map(len, map(_values, last.values())))
    return [*arguments, f"hydra.job.config.override_dirname.exclude_keys=[{fixed}]"], hydra, num_jobs


def run_job(train: Callable[[], float | None], folder: Path, hydra: Any, *, monitor: str) -> float | None:
    """Run one job of a sweep; return its objective, which is infinite if it fails.

    Prints one line: the swept values, the monitored metric and the seconds of the fit. Notes and warnings precede it;
    train.log has all lines. A failure is recorded in the job's folder and does not end the other jobs.
    """
    swept = read_swept_arguments(folder)
    values_text = " ".join(f"{short}={short_number(str(swept[key]))}" for key, short in short_keys(swept).items())
    _print_notes_only(f"job {hydra.job.num}")
    try:
        with lock_folder(folder, key="hydra.sweep.dir"), _log_output():
            (folder / FAILURE).unlink(missing_ok=True)
            objective = train()
            if objective is None and is_search(hydra):
                raise UserError("a search needs validation rows, which choose the next job")
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
        (folder / PRUNED).unlink(missing_ok=True)  # the job counts as failed; a resumed fit writes the file again
    return float("inf")


def _outcome(folder: Path, monitor: str) -> str:
    """Format the monitored metric of a finished job, if it has validation rows, and the seconds of its fit."""
    metrics = read_metrics(folder)
    metric = f"{monitor} {metrics[monitor]:.4f}   " if monitor in metrics else ""
    return f"{metric}{metrics['fit/seconds']:.1f} s"


def _print_notes_only(job: str) -> None:
    """Print only a job's notes and warnings and the lines of this module, with the job's number; log all lines."""
    for handler in logging.root.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(logging.Formatter(f"{job:<10} %(message)s"))
            handler.addFilter(_is_printed)


@contextmanager
def _log_output() -> Iterator[None]:
    """Write what a job prints, such as an equation of the user's, into train.log: stdout at once, stderr at the end."""
    logs = [handler.baseFilename for handler in logging.root.handlers if isinstance(handler, logging.FileHandler)]
    with (
        open(logs[0] if logs else os.devnull, "a", buffering=1, encoding="utf-8", errors="replace") as stdout,
        redirect_stdout(stdout),
        redirect_stderr(io.StringIO()) as errors,
    ):
        try:
            yield
        finally:
            for line in errors.getvalue().splitlines():  # such as a warning of Python's
                log.warning("%s", line)


def _is_printed(record: logging.LogRecord) -> bool:
    is_traceback = record.exc_info is not None
    return not is_traceback and (record.name == __name__ or record.getMessage().startswith(PRINTED_PREFIXES))


def run_sweep(app: Callable[[], None], folder: Path, *, num_jobs: int) -> bool:
    """Run the jobs of a sweep and print their table, even if the sweep fails; return whether all jobs succeeded."""
    continue_hint = f"to continue: the same command with {shlex.quote(f'hydra.sweep.dir={os.path.relpath(folder)}')}"
    jobs = "1 job" if num_jobs == 1 else f"{num_jobs:,} jobs"
    print(f"sweep      {jobs} in {os.path.relpath(folder)}, each with its own train.log", flush=True)
    app_succeeded = True
    try:
        app()
    except StoppedError as error:
        exit_with(f"{error}; {continue_hint}", status=error.status)
    except (UserError, HydraException, OmegaConfBaseException, YAMLError):
        raise
    except Exception as error:  # such as a launcher's, whose worker was killed
        log.debug("the sweep has failed", exc_info=True)
        reason = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        if not find_job_folders(folder):
            exit_with(f"error: {type(error).__name__}: {reason}", status=1)
        print(f"error: the sweep has failed: {type(error).__name__}: {reason}; {continue_hint}", file=sys.stderr)
        app_succeeded = False
    return _print_report(folder) and app_succeeded


def _print_report(folder: Path) -> bool:
    """Print the table of a sweep's runs, then its folder on a line of its own; return whether all jobs succeeded.

    Reads the runs from the folder, since a launcher may have run the jobs in other processes.
    """
    jobs = read_jobs(folder)
    failures = [job.failure for job in jobs if job.failure is not None]
    if failures and not any(has_started(job.folder) for job in jobs):
        is_same = len(set(failures)) == 1
        raise UserError(failures[0] if is_same else f"all {len(jobs)} jobs failed; the first: {failures[0]}")
    from ratinglab.reports.sweep_report import sweep_report  # imports pandas, which is loaded by now

    report = sweep_report(jobs)
    print("", *report.lines, sep="\n", flush=True)  # before the files, which may not be writable
    report.write(folder)
    print(os.path.relpath(folder), flush=True)
    return not failures
