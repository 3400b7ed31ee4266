"""The folder of a sweep, which holds its arguments and a folder NUMBER-NAME/ with the run of each job."""

import csv
import json
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ratinglab.errors import UserError
from ratinglab.files import to_json, write_bytes
from ratinglab.runs.digests import check_file, read_digests
from ratinglab.runs.finished_runs import FinishedRun
from ratinglab.runs.hydra_files import read_arguments
from ratinglab.runs.record import RunRecord, read_metrics, read_record
from ratinglab.runs.run_files import (
    EPOCHS,
    FAILURE,
    HYDRA_FOLDER,
    METRICS,
    PRUNED,
    RUN_RECORD,
    SWEEP_RECORD,
    VALIDATION_FIT,
)

CHOOSES_JOBS = re.compile(
    r"[+~]*(?!hydra\b)|hydra/sweeper\b|hydra\.sweeper\.(?!(n_trials|n_jobs|max_batch_size|storage)=)"
)
"""Pattern of arguments that determine the jobs. Hydra's other settings only determine where and how the jobs run."""
Curve = dict[int, float]
"""Values of a metric by epoch, counted from 1."""


class SweepJob(NamedTuple):
    """A job of a sweep.

    Attributes:
        folder: the folder of its run.
        arguments: its arguments, swept and fixed.
        failure: why the job failed, such as a damaged file. None if it did not fail.
        pruned: why the job was pruned. None if it was not pruned.
        record: the record of its run. None before training begins.
        metrics: the metrics of its run. {} before it finishes.
    """

    folder: Path
    arguments: dict[str, str]
    failure: str | None
    pruned: str | None
    record: RunRecord | None
    metrics: dict[str, float]

    @property
    def status(self) -> str:
        """Return finished, pruned, failed or stopped."""
        if self.failure is not None:
            return "failed"
        if not self.metrics:
            return "stopped"
        return "finished" if self.pruned is None else "pruned"

    @property
    def run(self) -> FinishedRun | None:
        """The run if it has finished, whether pruned or not, or None if it has not finished."""
        if self.record is None or self.status not in ("finished", "pruned"):
            return None
        return FinishedRun(self.folder, self.record, self.metrics)

    @property
    def number(self) -> str:
        """The number at the start of the folder's name."""
        return self.folder.name.partition("-")[0]


def record_or_check_arguments(folder: Path, arguments: Sequence[str], *, config_dir: Path | None = None) -> None:
    """Record the arguments of a new sweep, or check that the sweep in the folder has the same arguments.

    Raises:
        UserError: the folder holds another sweep, or its record is damaged.
    """
    path = folder / SWEEP_RECORD
    job_arguments = [argument for argument in arguments if CHOOSES_JOBS.match(argument)]
    job_arguments += [] if config_dir is None else [f"--config-dir={config_dir}"]
    if not path.is_file():
        write_bytes(path, to_json({"arguments": job_arguments}))
        return
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))["arguments"]
        valid = shlex.join(["-m", *recorded, f"hydra.sweep.dir={folder}"])
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} is damaged: it must hold a list of texts, arguments") from error
    if recorded != job_arguments:
        raise UserError(f"hydra.sweep.dir: {folder} holds another sweep, which only these arguments continue: {valid}")


def find_job_folders(folder: Path) -> list[Path]:
    """List the folders of the jobs that have started, in order."""
    runs = {path.parents[1] for path in folder.glob(f"*/{HYDRA_FOLDER}/overrides.yaml")}
    runs |= {path.parent for path in folder.glob(f"*/{RUN_RECORD}")}
    return sorted(runs, key=lambda run: int(re.split(r"\D", run.name, maxsplit=1)[0] or 0))


def has_started(run: Path) -> bool:
    """Return whether there is a run to resume: the run, or its validation fit, has a record."""
    return any((folder / RUN_RECORD).exists() for folder in (run, run / VALIDATION_FIT))


def write_reason(path: Path, reason: str) -> None:
    """Write the reason of a failure (FAILURE) or of pruning (PRUNED) into a job's folder."""
    write_bytes(path, f"{reason}\n".encode())


def _read_reason(path: Path) -> str | None:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def read_jobs(folder: Path) -> list[SweepJob]:
    """Read the jobs that have started, in order. For jobs with the same arguments, keeps the first finished one.

    Jobs with damaged files count as failed.
    """
    jobs: dict[tuple[tuple[str, str], ...], SweepJob] = {}
    for run in find_job_folders(folder):
        arguments = read_arguments(run)
        key = tuple(sorted(arguments.items()))
        if key not in jobs or not (jobs[key].folder / METRICS).exists():
            jobs[key] = _read_job(run, arguments)
    return list(jobs.values())


def _read_job(run: Path, arguments: dict[str, str]) -> SweepJob:
    failure, pruned = _read_reason(run / FAILURE), _read_reason(run / PRUNED)
    try:
        has_metrics = (run / METRICS).exists()
        record = read_record(run) if has_metrics or (run / RUN_RECORD).exists() else None
        return SweepJob(run, arguments, failure, pruned, record, read_metrics(run) if has_metrics else {})
    except UserError as error:
        return SweepJob(run, arguments, str(error), pruned, None, {})


def read_curve(folder: Path, tag: str) -> Curve:
    """Read a metric by epoch from epochs.csv. Returns {} if the run does not have the file or the metric.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / EPOCHS
    if not path.exists():
        return {}
    if path.name in read_digests(folder):  # an unfinished run has not recorded it yet
        check_file(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {int(row["epoch"]): float(row[tag]) for row in csv.DictReader(file) if row.get(tag)}
    except (OSError, ValueError, LookupError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def read_sibling_curves(run: Path, tag: str, *, split: str) -> list[Curve]:
    """Read a metric's curves of the other finished jobs in a run's sweep that have the same split.

    Excludes pruned jobs, and jobs without the metric. Returns [] if the run is not part of a sweep.
    """
    if not (run.parent / SWEEP_RECORD).is_file():
        return []
    curves = []
    for job in find_job_folders(run.parent):
        is_finished = (job / METRICS).is_file() and not (job / PRUNED).is_file()
        with suppress(UserError):  # a damaged run, which the sweep's report names
            if job != run and is_finished and read_record(job).provenance["split"] == split:
                curves.append(read_curve(job, tag))
    return [curve for curve in curves if curve]
