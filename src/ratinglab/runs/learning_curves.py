"""Learning curves of runs, read from their folders."""

import csv
from contextlib import suppress
from pathlib import Path

from ratinglab.digests import check_file, read_digests
from ratinglab.errors import UserError
from ratinglab.runs.record import read_record
from ratinglab.runs.sweep_folder import PRUNED, SWEEP_RECORD, job_folders

Curve = dict[int, float]
"""Values of a metric by epoch, counted from 1."""


def read_curve(folder: Path, tag: str) -> Curve:
    """Read the values of a metric by epoch from epochs.csv; {} if the run has no such file or metric."""
    path = folder / "epochs.csv"
    if not path.exists():
        return {}
    if path.name in (read_digests(folder) or {}):  # an unfinished run has not recorded it yet
        check_file(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {int(row["epoch"]): float(row[tag]) for row in csv.DictReader(file) if row.get(tag)}
    except (OSError, ValueError, LookupError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def read_sibling_curves(run: Path, tag: str, *, split: str) -> list[Curve]:
    """Read the curves of a metric of the other jobs of a run's sweep that have finished, on the same split.

    Jobs that were ended early do not count. [] if the run is no job of a sweep.
    """
    if not (run.parent / SWEEP_RECORD).is_file():
        return []
    curves = []
    for other in job_folders(run.parent):
        is_finished = (other / "metrics.json").is_file() and not (other / PRUNED).is_file()
        with suppress(UserError):  # a damaged run; the sweep's report names it
            if other != run and is_finished and read_record(other).provenance.get("split") == split:
                curves.append(read_curve(other, tag))
    return [curve for curve in curves if curve]
