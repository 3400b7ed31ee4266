"""Files written whole or not at all, and paths that users name."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from ratinglab.errors import UserError

RUN_RECORD, RUN_FORMAT = "run.json", 3
"""File that marks a folder as a run's, and the version of such folders."""


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


def output_path(text: str, *, key: str, inputs: Iterable[Path] = ()) -> Path:
    """The path of a file that a command is about to write.

    Args:
        text: as the user wrote it.
        key: the option, for messages.
        inputs: files that the command reads and must not lose.

    Raises:
        UserError: its folder is missing, it is a folder, an input, or inside the folder of a run.
    """
    path = user_path(text, key=key)
    if not path.parent.is_dir():
        raise UserError(f"{key}: there is no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"{key} must be a file, got the folder {text}")
    for other in inputs:
        if path.exists() and path.samefile(other):
            raise UserError(f"{key} must be another file than the input, got {text}")
    for folder in path.resolve().parents:
        if (folder / RUN_RECORD).is_file():
            raise UserError(f"{key} must not be inside the folder of a run, got {text}")
    return path


def write_output(path: Path, write: Callable[[BinaryIO], object], *, key: str) -> None:
    """Write a file of the user's, whole or not at all; through a symbolic link, or into a device such as /dev/stdout.

    Raises:
        UserError: it cannot be written; an old file is as it was.
    """
    try:
        if is_stream(path):
            with path.open("ab") as file:
                write(file)
        else:
            write_whole(path.resolve(), write)
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be written: {error.strerror or error}") from error


def is_stream(path: Path) -> bool:
    """Whether a path is a device, a pipe or a process's own stream, which are written to and never replaced."""
    # /dev/stdout may be a link to a file that the shell has open; /dev/shm holds ordinary files
    is_own_stream = str(path.absolute()).startswith(("/dev/std", "/dev/fd/", "/proc/"))
    return is_own_stream or (path.exists() and not path.is_file())


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace a file by what `write` writes, once all of it is on the disk; until then the old file stays.

    The new file is written beside the old one, synced, and renamed: neither a full disk nor a kill at any byte leaves
    part of it under its name. `remove_half_done` removes what a killed process leaves under a temporary name.

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
