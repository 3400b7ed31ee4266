"""Lock on a folder, which keeps two processes from training in it at the same time."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ratinglab.errors import UserError


class LockedError(UserError):
    """A folder in which another process is training."""


LOCK = ".lock"
"""Name of the lock file. The operating system releases the lock when the process ends."""
WRITTEN_IN_PLACE = ("train.log", "multirun.yaml")
"""Files that Hydra overwrites, so they must be writable. Other files are replaced, which needs only a writable
folder."""


@contextmanager
def lock_folder(folder: Path, *, key: str) -> Iterator[None]:
    """Lock a folder for the duration of a `with` block. Messages begin with `key`.

    Raises:
        LockedError: another process holds the lock.
        UserError: the folder cannot be written to.
    """
    # imported here because the import takes 0.1 s, and mistakes should be reported at once
    from filelock import FileLock, Timeout

    for path in (folder, *folder.iterdir()):
        if (path.is_dir() or path.name in WRITTEN_IN_PLACE) and not os.access(path, os.W_OK):
            raise UserError(f"{key}: {path} cannot be written to: {os.strerror(errno.EACCES)}")
    lock_file = folder / LOCK
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise LockedError(f"{key}: another process is training in {folder}") from error
    except OSError as error:
        raise UserError(f"{key}: {folder} cannot be written to: {os.strerror(error.errno or 0)}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # the disk may have become read-only
            lock_file.unlink(missing_ok=True)
        lock.release()
