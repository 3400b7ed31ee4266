"""Digests by which damage to the files of a run is found.

`digests.json` in a run's folder names the SHA-256 of the files beside it. It is written before a file is replaced, with
the digests of both the old and the new one: a process that is killed in between leaves a whole run. A checkpoint is
written too often for a second file, so it ends with its own digest, as the comment of its zip archive.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path

from ratinglab.errors import UserError
from ratinglab.files import write_bytes

DIGESTS = "digests.json"
"""File with the digests of the files beside it."""
DIFFERS = "its digest differs from the one recorded when it was written"
END_OF_ZIP = b"PK\5\6"
"""Signature of the last record of a zip archive, of 22 bytes without a comment."""
MARK = b"ratinglab sha256 "
"""Beginning of the comment; the digest of all that precedes it follows, in 64 hexadecimal digits."""
BLOCK = 1 << 20
"""Bytes hashed at once."""
_Fingerprint = tuple[int, int, int, int]
_known: dict[Path, tuple[_Fingerprint, int, str]] = {}
"""Digests of files computed in this process, with the file's state and the number of last bytes left out."""


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
    archive.seek(0, os.SEEK_END)
    archive.write(MARK)
    with archive.getbuffer() as content:
        digest = hashlib.sha256(content).hexdigest()
    archive.write(digest.encode())


def check_archive(path: Path) -> bool:
    """Check the digest at the end of an archive. Returns False for one without, as earlier versions wrote them.

    Raises:
        UserError: the digest differs.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - len(MARK) - 64, 0))
        mark, digest = file.read(len(MARK)), file.read(64)
    if mark != MARK:
        return False
    if digest != _digest(path, without_last=64).encode():
        raise UserError(f"{path} is damaged: {DIFFERS}")
    return True


def _digest(path: Path, *, without_last: int = 0) -> str:
    """Compute the SHA-256 of a file without its last bytes; once, as long as the file does not change."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        state = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        before = _known.get(path.absolute())
        if before is not None and before[:2] == (state, without_last):
            return before[2]
        sha256, left = hashlib.sha256(), status.st_size - without_last
        while left > 0 and (block := file.read(min(BLOCK, left))):
            sha256.update(block)
            left -= len(block)
    _known[path.absolute()] = state, without_last, sha256.hexdigest()
    return sha256.hexdigest()


def _digest_of_table(digests: Mapping[str, list[str]]) -> str:
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
