"""Finished runs, found below folders, and the conditions that make two of them comparable."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ratinglab.digests import check_file
from ratinglab.errors import UserError
from ratinglab.files import RUN_RECORD, VALIDATION_FIT, user_path
from ratinglab.options import as_yaml
from ratinglab.runs.record import METRICS, RunRecord, read_metrics, read_record
from ratinglab.runs.sweep_folder import SAVED

FOLD = "split.fold"
REPLICATES = (FOLD, "seed", "split.seed")
"""Keys over which runs are averaged."""


class FinishedRun(NamedTuple):
    """A run's folder, its record and its metrics."""

    folder: Path
    record: RunRecord
    metrics: dict[str, float]

    def folder_of(self, part: str) -> Path:
        """Return the folder of the fit that held out a part, val or test. With two fits, the first one held out val."""
        return self.folder / VALIDATION_FIT if part == "val" and self.record.refit_epochs is not None else self.folder


def find_runs(folders: Sequence[str]) -> tuple[list[FinishedRun], int, list[str]]:
    """Find finished runs, each once. Also returns the number of unfinished runs, and a message per unreadable run."""
    found: dict[Path, None] = {}
    finished, unfinished, faults = list[FinishedRun](), 0, list[str]()
    for name in folders:
        folder = user_path(name, key="folder")
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}")
        found |= dict.fromkeys(path.parent.resolve() for path in sorted(folder.rglob(RUN_RECORD)))
        without = (path.parent for path in sorted(folder.rglob(METRICS)) if not (path.parent / RUN_RECORD).exists())
        faults += [f"{each} has no {RUN_RECORD}" for each in without]
    for folder in found:
        if folder.name == VALIDATION_FIT and any((folder.parent / name).exists() for name in (SAVED, RUN_RECORD)):
            continue  # the first fit of a refit run
        try:
            if not (folder / METRICS).exists():
                check_file(folder / METRICS)  # raises if the file was written and then lost
                unfinished += 1
                continue
            finished.append(FinishedRun(folder, read_record(folder), read_metrics(folder)))
        except UserError as error:
            faults.append(str(error))
    return finished, unfinished, faults


def basis(record: RunRecord) -> dict[str, str]:
    """Return what comparable runs share: data, split except fold and seed, and monitored metric."""
    options = {key: value for key, value in record.split.items() if key not in (*REPLICATES, "split.refit")}
    if not options:  # earlier versions did not record them
        options = {"split": record.provenance["split"].partition("/")[0]}
    data = {"data": record.provenance["data"], "data_digest": record.provenance["data_digest"]}
    shared: dict[str, Any] = {**data, **options, **record.monitor_settings()}
    return {key: as_yaml(value) for key, value in shared.items()}


def describe(basis: dict[str, str], others: list[dict[str, str]]) -> str:
    """Describe a basis: the data, the split, and other conditions that differ from the other bases."""
    differing = [key for key in basis if len({other.get(key) for other in others}) > 1]
    options = [f"{key}={basis[key]}" for key in differing if key not in ("data", "split")]
    return ", ".join([basis["data"], f"split {basis['split']}", *options])
