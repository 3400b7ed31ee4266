"""Learning curves of runs, read from their folders."""

import csv
from contextlib import suppress
from pathlib import Path

from ratinglab.errors import UserError
from ratinglab.files import METRICS
from ratinglab.runs.digests import check_file, read_digests
from ratinglab.runs.record import read_record
from ratinglab.runs.sweep_folder import PRUNED, SWEEP_RECORD, job_folders

Curve = dict[int, float]
"""Values of a metric by epoch, counted from 1."""
EPOCHS = "epochs.csv"


def read_curve(folder: Path, tag: str) -> Curve:
    """Read a metric by epoch from epochs.csv; {} if the run lacks the file or the metric."""
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
    """Read the curves of a metric of the finished jobs on the same split in a run's sweep.

    Excludes the run itself and pruned jobs. [] if the run is not part of a sweep.
    """
    if not (run.parent / SWEEP_RECORD).is_file():
        return []
    curves = []
    for other in job_folders(run.parent):
        is_finished = (other / METRICS).is_file() and not (other / PRUNED).is_file()
        with suppress(UserError):  # a damaged run, which the sweep's report names
            if other != run and is_finished and read_record(other).provenance["split"] == split:
                curves.append(read_curve(other, tag))
    return [curve for curve in curves if curve]
