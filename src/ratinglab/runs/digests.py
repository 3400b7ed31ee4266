"""Digests that detect damage to the files of a run.

`digests.json` in a run's folder lists the SHA-256 of each file beside it. It is written before a file is replaced, with
the digests of both the old and the new one, so a kill in between leaves a valid run. Checkpoints are written too often
to update a second file, or to hash all their bytes, each time. They are zip archives with a directory, which holds the
CRC-32 of each part; the archive's comment has the SHA-256 of the directory. All digests take less than 0.7% of a fit.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from functools import cache
from io import BytesIO
from pathlib import Path

from ratinglab.errors import UserError
from ratinglab.files import to_json, write_bytes
from ratinglab.runs.run_files import DIGESTS

DIFFERS = "its digest differs from the one recorded when it was written"
END_OF_ZIP = b"PK\5\6"
"""Signature of the last record of a zip archive, of 22 bytes without a comment."""
SEAL_PREFIX = b"ratinglab sha256 "
"""Beginning of the comment; the digest of the directory follows, in 64 hexadecimal digits."""


def write_with_digests(
    folder: Path, contents: Mapping[str, bytes], *, written: Iterable[str] = (), keep_others: bool = True
) -> None:
    """Replace files of a folder atomically. Record the digests of the new contents, and of the `written` files.

    Until a file is replaced, both its old and its new content are valid. With `keep_others`, the digests of other
    files stay.
    """
    digests = read_digests(folder) if keep_others else {}
    digests |= {name: [_digest(folder / name)] for name in written}
    for name, content in contents.items():
        old = [_digest(folder / name)] if (folder / name).is_file() else []
        digests[name] = list(dict.fromkeys([*old, hashlib.sha256(content).hexdigest()]))
    table = {"sha256": digests, "digest": _digest_of_table(digests)}
    write_bytes(folder / DIGESTS, to_json(table))
    for name, content in contents.items():
        write_bytes(folder / name, content)


def read_digests(folder: Path) -> dict[str, list[str]]:
    """Read the valid digests of each file. Returns {} for a folder without digests.

    Raises:
        UserError: there is no such folder, or digests.json is damaged.
    """
    path = folder / DIGESTS
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    if not os.path.lexists(path):
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digests: dict[str, list[str]] = content["sha256"]
        if content["digest"] != _digest_of_table(digests):
            raise ValueError("its own digest differs")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is damaged: {reason}; the run's files cannot be checked") from error
    return digests


def check_file(path: Path) -> None:
    """Verify a file against its recorded digest.

    Raises:
        UserError: the file differs from its digest, is recorded but missing, or exists but is not recorded.
    """
    for _ in range(2):  # a run in training may replace the file between the reading of the file and of its digest
        digest = _digest_if_any(path)
        valid = read_digests(path.parent).get(path.name, [])
        if digest in valid or (digest is None and not valid):
            return
    if digest is None:
        raise UserError(f"{path} is missing")
    if not os.path.lexists(path.with_name(DIGESTS)):
        raise UserError(f"{path.with_name(DIGESTS)} is missing: the files of the run cannot be checked")
    raise UserError(f"{path} is damaged: {DIFFERS if valid else 'the run did not write it'}")


def _digest_if_any(path: Path) -> str | None:
    try:
        return _digest(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def seal_archive(archive: BytesIO) -> None:
    """Append the digest of a zip archive's directory, in place, as the archive's comment, which torch ignores."""
    with archive.getbuffer() as content:
        assert content[-22:-18] == END_OF_ZIP, "the archive has a comment"
        content[-2:] = (len(SEAL_PREFIX) + 64).to_bytes(2, "little")
    archive.seek(0, os.SEEK_END)
    archive.write(SEAL_PREFIX)
    with zipfile.ZipFile(archive) as zip_file:
        archive.seek(zip_file.start_dir)
        digest = hashlib.sha256(archive.read())
    archive.write(digest.hexdigest().encode())


def check_archive(path: Path) -> None:
    """Check the digest at the end of an archive, and the CRC-32 of each part.

    Raises:
        UserError: the archive is damaged, or has no digest.
        OSError: the file cannot be read.
    """
    try:
        _check_archive_once(path, _state(path))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


@cache
def _check_archive_once(path: Path, _: tuple[int, ...]) -> None:
    """Check an archive, but only once in each state."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        if not archive.comment.startswith(SEAL_PREFIX):
            raise ValueError("the digest that the run stored in it is missing")
        file.seek(archive.start_dir)
        directory = file.read()  # its flags also decide how torch reads the parts
        digest = hashlib.sha256(directory[:-64]).hexdigest()
        if directory[-64:] != digest.encode() or archive.testzip() is not None:
            raise ValueError(DIFFERS)


def _state(path: Path) -> tuple[int, ...]:
    """Return the inode, size and timestamps of a file, which change with its content."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, which is computed only once in each state."""
    return _compute_digest(path, _state(path))


@cache
def _compute_digest(path: Path, _: tuple[int, ...]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_table(digests: Mapping[str, list[str]]) -> str:
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
