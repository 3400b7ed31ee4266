"""Files written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ratinglab.errors import UserError


def user_path(text: str, *, key: str) -> Path:
    """The path that a user has written, `~` expanded.

    Raises:
        UserError: there is no such user's home, or no file system could hold such a name.
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{key}: {text[:80]} is no path: {reason}") from error
    return path


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace a file by what `write` writes, once all of it is on the disk; until then the old file stays.

    The new file is written beside the old one, synced, and renamed: neither a full disk nor a kill at any byte leaves
    a part of it under its name. What a killed process leaves under a temporary name, `remove_half_done` removes.

    Raises:
        OSError: the file cannot be written; the old one is as it was.
    """
    half_done = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with half_done.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half_done, path)
    finally:
        half_done.unlink(missing_ok=True)
    if os.name == "posix":  # the rename itself must survive a loss of power; Windows syncs no folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_half_done(folder: Path) -> None:
    """Remove what killed processes have left of their `write_whole`; no other process may be writing there."""
    for path in folder.glob(".*.tmp"):
        path.unlink()
