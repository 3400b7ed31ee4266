"""Digests by which damage to the files of a run is found.

`digests.json` in a run's folder names the SHA-256 of the files beside it. It is written before a file is replaced, with
the digests of both the old and the new one: a process that is killed in between leaves a whole run. A checkpoint is
written too often for a second file, or for a digest of all its bytes: it ends with the SHA-256 of the directory of its
zip archive, which names the CRC-32 of each part, as the archive's comment.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from ratinglab.errors import UserError
from ratinglab.files import write_bytes

DIGESTS = "digests.json"
"""File with the digests of the files beside it."""
DIFFERS = "its digest differs from the one recorded when it was written"
END_OF_ZIP = b"PK\5\6"
"""Signature of the last record of a zip archive, of 22 bytes without a comment."""
MARK = b"ratinglab sha256 "
"""Beginning of the comment; the digest of all that precedes it follows, in 64 hexadecimal digits."""
_State = tuple[int, int, int, int]
_known: dict[Path, tuple[_State, str]] = {}
"""Digests of files computed in this process, with the state of the file."""
_checked: dict[Path, _State] = {}
"""States of the archives found whole in this process."""


def record_digests(
    folder: Path,
    *,
    written: Iterable[str] = (),
    next_contents: Mapping[str, bytes] | None = None,
    keep_others: bool = True,
) -> None:
    """Record the digests of files in a folder.

    Args:
        folder: the folder.
        written: names of files to record as they are.
        next_contents: contents about to replace files; until then, both the old and the new one are valid.
        keep_others: whether to keep the digests of other files.
    """
    found = (read_digests(folder) or {}) if keep_others else {}
    found |= {name: [_digest(folder / name)] for name in written}
    for name, content in (next_contents or {}).items():
        old = [_digest(folder / name)] if (folder / name).is_file() else []
        found[name] = list(dict.fromkeys([*old, hashlib.sha256(content).hexdigest()]))
    table = {"sha256": found, "digest": _digest_of_table(found)}
    write_bytes(folder / DIGESTS, (json.dumps(table, indent=2) + "\n").encode())


def write_recorded(folder: Path, contents: Mapping[str, bytes], *, written: Iterable[str] = ()) -> None:
    """Replace files of a folder atomically, and record their digests if the folder has digests."""
    if (folder / DIGESTS).exists():
        record_digests(folder, written=written, next_contents=contents)
    for name, content in contents.items():
        write_bytes(folder / name, content)


def read_digests(folder: Path) -> dict[str, list[str]] | None:
    """Read the valid digests of each file; None for a folder without digests.

    Raises:
        UserError: digests.json is damaged.
    """
    path = folder / DIGESTS
    if not os.path.lexists(path):
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found: dict[str, list[str]] = content["sha256"]
        if content["digest"] != _digest_of_table(found):
            raise ValueError("its own digest differs")
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
        raise UserError(f"{path} is damaged: {reason}; the run's files cannot be checked") from error
    return found


def check_file(path: Path, *, key: str = "") -> None:
    """Check that a file is as it was written, if its folder has digests. Messages begin with `key`.

    Raises:
        UserError: the file is not as recorded, or missing though it is recorded, or was not written by the run.
    """
    prefix = f"{key}: " if key else ""
    for is_last in (False, True):  # a run in training may replace the file between the two reads
        digest = _digest_if_any(path, prefix=prefix)
        digests = read_digests(path.parent)
        valid = None if digests is None else digests.get(path.name, [])
        if valid is None or digest in valid:
            return
        if digest is None and valid:
            raise UserError(f"{prefix}{path} is missing")
        if digest is None:
            return
        if is_last:
            reason = DIFFERS if valid else "the run did not write it"
            raise UserError(f"{prefix}{path} is damaged: {reason}")


def _digest_if_any(path: Path, *, prefix: str) -> str | None:
    try:
        return _digest(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{prefix}{path} is damaged: {error.strerror}") from error


def seal_archive(archive: BytesIO) -> None:
    """Append the digest of a zip archive to it as its comment, which readers of zip archives and torch ignore."""
    with archive.getbuffer() as content:
        assert content[-22:-18] == END_OF_ZIP, "the archive has a comment"
        content[-2:] = (len(MARK) + 64).to_bytes(2, "little")
        digest = hashlib.sha256(content[_start_of_directory(content[-98:], len(content)) :])
    digest.update(MARK)
    archive.seek(0, os.SEEK_END)
    archive.write(MARK + digest.hexdigest().encode())


def _start_of_directory(end: bytes | memoryview, size: int) -> int:
    """Find the start of a zip archive's directory from its last 98 bytes; `size` is that of the archive."""
    start = int.from_bytes(end[-6:-2], "little")
    if start < 0xFFFFFFFF:
        return start
    assert end[-42:-38] == b"PK\6\7", "a large archive has the locator of a 64-bit record"
    record = int.from_bytes(end[-34:-26], "little")
    return int.from_bytes(end[record - size + 48 :][:8], "little")


def check_archive(path: Path) -> bool:
    """Check the digest at the end of an archive. Returns False for one without, as earlier versions wrote them.

    Raises:
        UserError: the digest or a part differs.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        before = _checked.get(path.absolute())
        if before is not None and before == _state(file):
            return True
        size = file.seek(0, os.SEEK_END) - len(MARK) - 64
        file.seek(max(size, 0))
        mark, digest = file.read(len(MARK)), file.read(64)
        if mark != MARK:
            return False
        file.seek(max(size - 98, 0))
        start = _start_of_directory(file.read(size - file.tell()), size)
        file.seek(start)
        directory = file.read(max(size + len(MARK) - start, 0))
        if digest != hashlib.sha256(directory).hexdigest().encode() or not _has_whole_parts(file):
            raise UserError(f"{path} is damaged: {DIFFERS}")
        _checked[path.absolute()] = _state(file)
    return True


def _has_whole_parts(file: BinaryIO) -> bool:
    """Return whether each part of an archive has the CRC-32 that the directory names."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
        return False


def _state(file: BinaryIO) -> _State:
    """Return what changes with the content of an open file: its inode, size and times."""
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _digest(path: Path) -> str:
    """Compute the SHA-256 of a file; once, as long as the file does not change."""
    with path.open("rb") as file:
        state, before = _state(file), _known.get(path.absolute())
        if before is not None and before[0] == state:
            return before[1]
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _known[path.absolute()] = state, digest
    return digest


def _digest_of_table(digests: Mapping[str, list[str]]) -> str:
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
