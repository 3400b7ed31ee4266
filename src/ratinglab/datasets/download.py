"""Verified downloads of archives."""

import hashlib
import http.client
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from ratinglab.errors import UserError
from ratinglab.files import write_atomically

TIMEOUT_SECONDS = 30
"""Seconds without data after which a download fails."""
CHUNK_BYTES = 1 << 18
"""Bytes between two updates of the progress bar."""


def download(path: Path, *, address: str, sha256: str | None) -> None:
    """Download the file with the name of `path` from the web folder `address`, with a progress bar.

    Two runs may download at the same time, since the file gets its name only once its digest is verified. With
    `sha256` None, the digest is the MD5 that the server publishes as NAME.md5.

    Raises:
        UserError: the download fails, or the digest differs; the message explains how to download by hand.
    """
    url = f"{address.rstrip('/')}/{path.name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"data.cache: {path.parent} cannot be made: {error.strerror}") from error
    try:
        digest, expected = ("md5", _published_md5(url)) if sha256 is None else ("sha256", sha256)
        write_atomically(path, lambda file: _fetch(url, file, digest=digest, expected=expected))
    except (OSError, ValueError, http.client.HTTPException) as error:
        by_hand = f"download it by hand to {path}, or set data.root to an existing copy"
        raise UserError(f"{url} cannot be downloaded: {_reason(error)}; {by_hand}") from error


def _published_md5(url: str) -> str:
    with urllib.request.urlopen(f"{url}.md5", timeout=TIMEOUT_SECONDS) as response:
        match = re.search(r"\b[0-9a-f]{32}\b", response.read(10_000).decode("ascii", "replace").lower())
    if match is None:
        raise ValueError(f"{url}.md5 holds no MD5")
    return match[0]


def _fetch(url: str, file: BinaryIO, *, digest: str, expected: str) -> None:
    """Download into a file. Raises ValueError unless its digest, such as sha256, has the expected value."""
    hasher = hashlib.new(digest, usedforsecurity=False)
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
        length = int(response.headers.get("Content-Length") or 0)
        with tqdm(desc=url.rpartition("/")[2], total=length or None, unit="B", unit_scale=True) as bar:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                hasher.update(chunk)
                bar.update(len(chunk))
            if bar.n < length:  # which read(n) does not report
                raise http.client.IncompleteRead(b"", length - int(bar.n))
    if hasher.hexdigest() != expected:
        raise ValueError(f"its {digest} is {hasher.hexdigest()}, not {expected}")


def _reason(error: Exception) -> str:
    cause = error.reason if type(error) is urllib.error.URLError else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({cause.verify_message})"
    if isinstance(cause, http.client.IncompleteRead):
        return f"it was cut off {cause.expected:,} bytes before its end"
    if isinstance(cause, TimeoutError):
        return f"the server was silent for {TIMEOUT_SECONDS} s"
    return " ".join(str(cause).split()) or type(cause).__name__
