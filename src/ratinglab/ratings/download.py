"""Verified downloads of archives."""

import hashlib
import http.client
import os
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tqdm import tqdm

from ratinglab.errors import UserError

TIMEOUT = 30
"""Seconds without a byte before giving up on a server."""
CHUNK = 1 << 18
"""Bytes between two updates of the progress bar."""


class Archive(NamedTuple):
    """A file on the web. Without a SHA-256, `download` checks it against the MD5 in NAME.md5 beside it."""

    name: str
    sha256: str | None


def download(archive: Archive, path: Path, *, address: str) -> None:
    """Download an archive to `path`, with a progress bar.

    The file has a temporary name until its digest is verified. Two runs may download at once.

    Args:
        archive: the archive.
        path: destination.
        address: web folder of the archive.

    Raises:
        UserError: the download fails, or the digest differs; the message explains how to download by hand.
    """
    url = f"{address.rstrip('/')}/{archive.name}"
    half_done = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"data.cache: {path.parent} cannot be made: {error.strerror}") from error
    try:
        name, expected = _digest_of(archive, url)
        with half_done.open("wb") as file:
            found = _fetch(url, file, title=archive.name, digest=name)
        if found != expected:
            raise UserError(_by_hand(url, path, f"its {name} is {found}, not {expected}"))
        os.replace(half_done, path)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(_by_hand(url, path, _reason(error))) from error
    finally:
        half_done.unlink(missing_ok=True)


def _digest_of(archive: Archive, url: str) -> tuple[str, str]:
    """Name and hexadecimal digits of the archive's expected digest."""
    if archive.sha256 is not None:
        return "sha256", archive.sha256
    with urllib.request.urlopen(f"{url}.md5", timeout=TIMEOUT) as answer:
        found = re.search(r"\b[0-9a-f]{32}\b", answer.read(10_000).decode("ascii", "replace").lower())
    if found is None:
        raise ValueError(f"{url}.md5 holds no MD5")
    return "md5", found[0]


def _fetch(url: str, file: BinaryIO, *, title: str, digest: str) -> str:
    hashed = hashlib.new(digest, usedforsecurity=False)
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        length = int(answer.headers.get("Content-Length") or 0)
        with tqdm(desc=title, total=length or None, unit="B", unit_scale=True) as bar:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                hashed.update(chunk)
                bar.update(len(chunk))
            if bar.n < length:  # read(n) does not report it
                raise http.client.IncompleteRead(b"", length - int(bar.n))
    file.flush()
    os.fsync(file.fileno())
    return hashed.hexdigest()


def _reason(error: Exception) -> str:
    cause = (
        error.reason
        if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError)
        else error
    )
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({cause.verify_message})"
    if isinstance(cause, http.client.IncompleteRead):
        return f"it was cut off {cause.expected:,} bytes before its end"
    if isinstance(cause, TimeoutError):
        return f"the server was silent for {TIMEOUT} s"
    return " ".join(str(cause).split()) or type(cause).__name__


def _by_hand(url: str, path: Path, reason: str) -> str:
    return f"{url} cannot be downloaded: {reason}; download it by hand to {path}, or set data.root to its place"
