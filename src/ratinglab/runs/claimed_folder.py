"""Exclusive use of the folder of a run or sweep, with clean-up if nothing was trained."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ratinglab.errors import UserError
from ratinglab.process.interrupts import StoppedError
from ratinglab.process.locks import LOCK, lock_folder
from ratinglab.runs.run_files import FAILURE, SWEEP_RECORD
from ratinglab.runs.sweep_folder import find_job_folders, has_started


@contextmanager
def claim_folder(folder: Path, *, key: str, is_resumed: bool = False, is_sweep: bool = False) -> Iterator[None]:
    """Create and lock a folder for the duration of a `with` block. It must be new or empty, or hold an earlier run.

    After a user error or a signal, removes the files of runs that never started, then any folders left empty.

    Messages begin with `key`. With `is_resumed`, the folder holds a run to resume, whose files are kept. With
    `is_sweep`, it may hold an earlier part of the sweep.

    Raises:
        UserError: the folder holds other files, cannot be made, or is in use.
    """
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{key} must be a new or empty folder, got {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _remove_empty(new_folders)
        raise UserError(f"{key}: {error.filename} cannot be made: {error.strerror}") from error
    try:
        with lock_folder(folder, key="resume" if is_resumed else key):
            is_continued = is_sweep and (folder / SWEEP_RECORD).is_file()
            # neither training nor the clean-up below may touch a user's files
            if not (is_resumed or is_continued) and any(path.name != LOCK for path in folder.iterdir()):
                raise UserError(f"{key} must be a new or empty folder, got {folder}")
            try:
                yield
            except (UserError, StoppedError, SystemExit, KeyboardInterrupt):
                # after a bug in ratinglab, the files stay: the log may help
                if not is_resumed:
                    _remove_unstarted(folder, is_sweep=is_sweep)
                raise
    finally:
        _remove_empty(new_folders)


def _remove_unstarted(folder: Path, *, is_sweep: bool) -> None:
    """Remove the files of runs that never started, and the folders of such jobs."""
    runs = find_job_folders(folder) if is_sweep else [folder]
    any_started = any(map(has_started, runs))
    for run in runs:
        if not has_started(run) and not (any_started and (run / FAILURE).exists()):
            _empty(run)
            if is_sweep:
                _remove_empty([run])
    if is_sweep and {path.name for path in folder.iterdir()} <= {LOCK, SWEEP_RECORD, "multirun.yaml"}:
        _empty(folder)


def _remove_empty(folders: Iterable[Path]) -> None:
    for path in folders:
        with suppress(OSError):  # gone or not empty
            path.rmdir()


def _empty(folder: Path) -> None:
    """Remove everything in a folder except its lock. The folder was empty when this process claimed it."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink(missing_ok=True)
