"""Paths that users give, JSON, and atomic writes of files and folders."""

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ratinglab.errors import UserError, did_you_mean


def user_path(text: str, *, key: str) -> Path:
    """Parse a path given by the user and expand `~`.

    Raises:
        UserError: the home folder does not exist, or the name is not valid.
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{key}: {text[:80]} is not a valid path: {reason}") from error
    return path


def suggest_sibling(path: Path, *, names: Iterable[str] = (), cutoff: float = 0.6) -> str:
    """Suggest the nearest name for a missing path, as `did_you_mean`, among its siblings and `names`."""
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, [*siblings, *names], cutoff=cutoff)


@contextmanager
def atomic_folder(path: Path, *, key: str) -> Iterator[Path]:
    """Create a folder atomically: yield a temporary folder, and rename it if the `with` block succeeds.

    Raises:
        UserError: a file cannot be written; the temporary folder is removed.
    """
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            path.rmdir()  # Windows does not rename onto a folder
        temporary.rename(path)
    except OSError as error:
        raise _write_error(error, path, key=key) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_output(path: Path, write: Callable[[BinaryIO], object], *, key: str) -> None:
    """Write a user's file atomically. Follows symbolic links, and writes directly into devices such as /dev/stdout.

    Raises:
        UserError: the file cannot be written; an existing file is unchanged.
    """
    try:
        if is_stream(path):
            with _open_stream(path) as file:
                write(file)
        else:
            write_atomically(path.resolve(), write)
    except OSError as error:
        raise _write_error(error, path, key=key) from error


def _write_error(error: OSError, path: Path, *, key: str) -> UserError:
    """Describe a failure to write the path, or to read another file that the error names."""
    if error.filename is not None and path.name not in str(error.filename):
        return UserError(f"{error.filename}: {error.strerror}")
    return UserError(f"{key}: {path} cannot be written: {error.strerror or error}")


def is_stream(path: Path) -> bool:
    """Return whether a path is a device, a pipe or a stream of this process, which must not be replaced."""
    # /dev/stdout may be a link to a file that the shell has open; /dev/shm holds ordinary files
    is_stream_of_process = str(path.absolute()).startswith(("/dev/std", "/dev/fd/", "/proc/"))
    return is_stream_of_process or (path.exists() and not path.is_file())


def _open_stream(path: Path) -> BinaryIO:
    """Open a stream for writing. Duplicates this process's own descriptors, so all writers share a position.

    Flushes stdout and stderr first, to keep lines in order.
    """
    own_stream = re.fullmatch(r"/dev/(stdout|stderr|fd/\d+)|/proc/self/fd/\d+", str(path.absolute()))
    if own_stream is None:
        return path.open("ab")
    name = path.name
    descriptor = {"stdout": 1, "stderr": 2}.get(name) or int(name)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return os.fdopen(os.dup(descriptor), "wb")


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace a file atomically by the output of `write`.

    Writes a temporary file beside the old one, syncs it, and renames it, so neither a full disk nor a kill leaves a
    partial file. `remove_temporary_files` removes the temporary files of killed processes.

    Raises:
        OSError: the file cannot be written; the old one is unchanged.
    """
    if path.is_dir():  # the message of os.replace would name the temporary file
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the rename must survive a power loss; Windows cannot sync folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def to_json(content: Mapping[str, Any]) -> bytes:
    """Serialize the content of a JSON file. Raises ValueError for NaN and infinity, which JSON cannot represent."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file atomically by these bytes."""
    write_atomically(path, lambda file: file.write(content))


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files that killed processes left. No other process may be writing to the folder."""
    for path in folder.glob(".*.tmp"):
        path.unlink()
