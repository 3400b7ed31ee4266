"""Learning curves of runs, read from their folders for figures and for pruning."""

import csv
from contextlib import suppress
from pathlib import Path

from ratinglab.errors import UserError
from ratinglab.runs.digests import check_file, read_digests
from ratinglab.runs.record import read_record
from ratinglab.runs.run_files import EPOCHS, METRICS, PRUNED, SWEEP_RECORD
from ratinglab.runs.sweep_folder import find_job_folders

Curve = dict[int, float]
"""Values of a metric by epoch, counted from 1."""


def read_curve(folder: Path, tag: str) -> Curve:
    """Read a metric by epoch from epochs.csv; {} if the run lacks the file or the metric.

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
