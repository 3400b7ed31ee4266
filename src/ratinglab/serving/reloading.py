"""The served run, and its replacement by a newer run while requests are answered."""

import logging
from pathlib import Path

from ratinglab.errors import UserError
from ratinglab.inference.run import Run
from ratinglab.runs.finished_runs import find_named_run
from ratinglab.runs.record import read_metrics, read_record
from ratinglab.runs.run_files import BEST, METRICS, RUN_RECORD, TABLES
from ratinglab.serving.serve_options import ServeOptions
from ratinglab.serving.service import Service

log = logging.getLogger(__name__)
FILES = (RUN_RECORD, METRICS, *TABLES, BEST)
"""Files of a run that the server reads."""


class CurrentRun:
    """The served run.

    Attributes:
        service: the loaded run. A request reads this attribute once, so it finishes on the run it began with.
        notes: a note on which run `latest` or `best` is; none if the user named a folder.
    """

    def __init__(self, options: ServeOptions) -> None:
        """Load the run."""
        self._options = options
        folder, self.notes = find_named_run(options.run)
        self._loaded = _fingerprint(folder)
        self._last_fault = ""
        self._load(folder)

    def reload(self, *, force: bool) -> None:
        """Load the run that the option `run` names now, if it or its files have changed; with `force`, in any case.

        On failure, keeps the current run and logs a line, unless it would repeat the line of the last failure.
        """
        try:
            folder, notes = find_named_run(self._options.run)
            fingerprint = _fingerprint(folder)
            if fingerprint == self._loaded and not force:
                return
            if notes:
                self._check_not_damaged(folder)
            self._loaded = fingerprint  # before loading, so a broken run is retried only after it changes
            self._load(folder)
        except UserError as error:
            if force or str(error) != self._last_fault:
                log.error("not reloaded, %s still answers: %s", self.service.run.folder, error)
            self._last_fault = str(error)
        except Exception:
            log.exception("not reloaded, %s still answers", self.service.run.folder)
        else:
            self._last_fault = ""
            log.info("reloaded: %s answers", self.service.run.folder)

    def _load(self, folder: Path) -> None:
        """Replace the current run."""
        # resolved, because a link may change its target while the files are read
        folder = folder.resolve()
        finished_at = _finish_time(folder)
        self.service = Service(Run.load(folder), self._options)
        self._finished_at = finished_at

    def _check_not_damaged(self, found: Path) -> None:
        """Raise UserError if the name `latest` or `best` finds an older run only because the current one is damaged."""
        current = self.service.run.folder
        if current.is_dir() and _finish_time(found) <= self._finished_at:
            read_record(current)
            read_metrics(current)


def _finish_time(folder: Path) -> float:
    """Return when a run wrote its metrics, in seconds since 1970, or 0 if it has not finished."""
    path = folder / METRICS
    return path.stat().st_mtime if path.exists() else 0.0


def _fingerprint(folder: Path) -> list[object]:
    """List what changes with the run: its folder, and each file's time, size and inode, or None if it is missing."""
    folder = folder.resolve()
    states: list[object] = [folder]
    for name in FILES:
        try:
            status = (folder / name).stat()
            states.append((status.st_mtime_ns, status.st_size, status.st_ino))
        except OSError:
            states.append(None)
    return states
