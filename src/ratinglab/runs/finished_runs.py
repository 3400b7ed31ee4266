"""Finished runs, found below folders or by name."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ratinglab.errors import UserError
from ratinglab.files import suggest_sibling, user_path
from ratinglab.runs.digests import check_file
from ratinglab.runs.record import RunRecord, read_metrics, read_record
from ratinglab.runs.run_files import HYDRA_FOLDER, METRICS, RUN_RECORD, VALIDATION_FIT

OUTPUTS = "outputs"
"""Folder of the runs, in the current folder."""
NAMES = ("latest", "best")
"""Values of the option `run` that are not folders."""


class FinishedRun(NamedTuple):
    """A run's folder, its record and its metrics."""

    folder: Path
    record: RunRecord
    metrics: dict[str, float]

    def folder_of(self, part: str) -> Path:
        """Return the folder of the fit that held out a part. The validation fit of a refitted run held out val."""
        return self.folder / VALIDATION_FIT if part == "val" and self.record.refit_epochs is not None else self.folder


def find_runs(folders: Sequence[str]) -> tuple[list[FinishedRun], int, list[str]]:
    """Find finished runs, each once. Also returns the number of unfinished runs, and a message per unreadable run."""
    candidates: dict[Path, None] = {}
    finished, unfinished, faults = list[FinishedRun](), 0, list[str]()
    for name in folders:
        folder = user_path(name, key="folder")
        if folder.is_file():
            raise UserError(f"{folder} is a file, not the folder of runs")
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}{suggest_sibling(folder)}")
        candidates |= dict.fromkeys(path.parent.resolve() for path in sorted(folder.rglob(RUN_RECORD)))
        with_metrics = (path.parent for path in sorted(folder.rglob(METRICS)))
        faults += [f"{path} has no {RUN_RECORD}" for path in with_metrics if not (path / RUN_RECORD).exists()]
    for folder in candidates:
        is_below_a_run = any((folder.parent / name).exists() for name in (HYDRA_FOLDER, RUN_RECORD))
        if folder.name == VALIDATION_FIT and is_below_a_run:
            continue  # a validation fit
        try:
            if not (folder / METRICS).exists():
                check_file(folder / METRICS)  # raises if the file was written and then lost
                unfinished += 1
                continue
            finished.append(FinishedRun(folder, read_record(folder), read_metrics(folder)))
        except UserError as error:
            faults.append(str(error))
    return finished, unfinished, faults


def find_named_run(text: str) -> tuple[Path, list[str]]:
    """Find the run that the option `run` names: a folder or, if there is no such folder, `latest` or `best`.

    Returns the run's folder, and a note on which run `latest` or `best` is. There is no note if the user gave a folder.

    `latest` is the run below outputs/ that finished last. `best` has the best monitored metric among the runs with the
    data, split and monitored metric of the latest one. `FOLDER/latest` searches another folder.

    Raises:
        UserError: there is no finished run; or, for `best`, the latest run does not have its monitored metric.
    """
    if not text:
        raise UserError("run must be the folder of a run, latest or best, got ''")
    path = user_path(text, key="run")
    if path.parent == Path() and path.name not in NAMES and not path.exists():
        raise UserError(f"run: there is no folder {path}{suggest_sibling(path, names=NAMES)}")
    if path.name not in NAMES or path.exists():
        return path, []
    searched = path.parent if path.parent != Path() else Path(OUTPUTS)
    runs, _, faults = find_runs([str(searched)]) if searched.is_dir() else ([], 0, [])
    ignored = f" (ignored: {'; '.join(faults)})" if faults else ""
    if not runs:
        raise UserError(f"run={text}: there is no finished run in {searched}{ignored}")
    runs = [run._replace(folder=Path(os.path.relpath(run.folder))) for run in runs]
    latest = max(runs, key=lambda run: (run.folder / METRICS).stat().st_mtime)
    if path.name == "latest":
        return latest.folder, [f"run={text}: {latest.folder}{ignored}"]
    tag, settings = latest.record.monitor, latest.record.monitor_settings()
    split = latest.record.provenance["split"]  # its identity also depends on the data
    compared = [run for run in runs if run.record.provenance["split"] == split and tag in run.metrics]
    compared = [run for run in compared if run.record.monitor_settings() == settings]
    if not compared:
        raise UserError(f"run={text}: {latest.folder}, the latest run, has no {tag} to compare")
    choose = max if latest.record.monitored_metric().higher_is_better else min
    best = choose(compared, key=lambda run: run.metrics[tag])
    rank = f"the best of {len(compared):,} runs on its split" if len(compared) > 1 else "the only run on its split"
    return best.folder, [f"run={text}: {best.folder}, {tag} {best.metrics[tag]:.4f}, {rank}{ignored}"]
