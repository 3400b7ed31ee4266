"""Runs referred to as `latest` or `best` instead of by folder."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from ratinglab.errors import UserError, did_you_mean
from ratinglab.files import user_path
from ratinglab.reports.finished_runs import FinishedRun, find_runs
from ratinglab.runs.record import METRICS

OUTPUTS = "outputs"
"""Folder of the runs, in the current folder."""
NAMES = ("latest", "best")


class NamedRun(NamedTuple):
    """A run's folder, and a note on which run was chosen; None if the user gave the folder."""

    folder: Path
    remark: str | None


def named_run(text: str) -> NamedRun:
    """Find the run that the option `run` names: a folder or, if there is no such folder, `latest` or `best`.

    `latest` is the run below outputs/ that finished last. `best` has the best monitored metric among the runs with the
    data, split and monitored metric of the latest one. `FOLDER/latest` searches another folder.

    Raises:
        UserError: there is no finished run; or, for `best`, the latest run lacks its monitored metric.
    """
    path = user_path(text, key="run")
    if path.parent == Path() and path.name not in NAMES and not path.exists():
        siblings = [entry.name for entry in Path().iterdir()]
        raise UserError(f"run: there is no folder {path}{did_you_mean(path.name, [*siblings, *NAMES])}")
    if path.name not in NAMES or path.exists():
        return NamedRun(path, None)
    searched = path.parent if path.parent != Path() else Path(OUTPUTS)
    runs, _, faults = find_runs([str(searched)]) if searched.is_dir() else ([], 0, [])
    ignored = f" (ignored: {'; '.join(faults)})" if faults else ""
    if not runs:
        raise UserError(f"run={text}: there is no finished run in {searched}{ignored}")
    latest = max(runs, key=lambda run: (run.folder / METRICS).stat().st_mtime)
    if path.name == "latest":
        return NamedRun(_shown(latest), f"run={text}: {_shown(latest)}{ignored}")
    tag = latest.record.monitor
    compared = [run for run in runs if _comparison_key(run) == _comparison_key(latest) and tag in run.metrics]
    if not compared:
        raise UserError(f"run={text}: {_shown(latest)}, the latest run, has no {tag} to compare")
    sign = -1 if latest.record.monitored().higher_is_better else 1
    best = min(compared, key=lambda run: sign * run.metrics[tag])
    rank = f"the best of {len(compared):,} runs on its split" if len(compared) > 1 else "the only run on its split"
    return NamedRun(_shown(best), f"run={text}: {_shown(best)}, {tag} {best.metrics[tag]:.4f}, {rank}{ignored}")


def _comparison_key(run: FinishedRun) -> tuple[str, str, dict[str, Any]]:
    """Return what runs must share for `best` to compare them."""
    provenance = run.record.provenance
    return provenance["data_digest"], provenance["split"], run.record.monitor_settings()


def _shown(run: FinishedRun) -> Path:
    """Return the run's folder relative to the working folder."""
    return Path(os.path.relpath(run.folder))
