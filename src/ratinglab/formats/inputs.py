"""Input files: found by the paths that users give, and read as byte streams, plain or compressed."""

import bz2
import gzip
import io
import lzma
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar, cast

import pyarrow as pa

from ratinglab.errors import UserError
from ratinglab.files import suggest_sibling, user_path

if TYPE_CHECKING:
    import pandas as pd

SIGNATURES = {
    re.compile(rb"\x1f\x8b"): "gzip",
    re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"): "bzip2",
    re.compile(rb"\xfd7zXZ\x00"): "xz",
    re.compile(rb"\x28\xb5\x2f\xfd"): "zstd",
    re.compile(rb"PK(\x03\x04|\x05\x06)"): "zip",
}
"""First bytes of each compressed format. The file name does not matter."""
START_BYTES = 1 << 16
"""Bytes read to detect the file format."""
BLOCK_BYTES = 1 << 20
"""Bytes that are read or decompressed at a time."""
OFFICE_MEMBERS = {
    "xl/workbook.xml": ("an Excel workbook", "save the sheet as CSV and use that file"),
    "META-INF/manifest.xml": ("an OpenDocument sheet", "save it as CSV and use that file"),
}
"""Kinds of office documents, which are zip archives, by a member that only they have: name and advice."""
DECOMPRESSORS = {"bzip2": bz2.BZ2Decompressor, "xz": lzma.LZMADecompressor}
Result = TypeVar("Result")
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError)
"""Exceptions of decompressors for truncated, corrupted and password-protected files."""

PART_FILE = re.compile(r"part([-._]|\d)")
"""Start of the names of part files, such as part-00000 of Spark, part.0 of Dask and part-aa of split."""
MAX_LISTED = 5
"""Number of a folder's files listed in a message."""


@dataclass(frozen=True)
class InputFile:
    """A file, a member of a zip archive, or a data frame passed from Python.

    Attributes:
        path: path of the file or archive, or name of the data frame in messages.
        member: name in the zip archive at `path`. None if the input is the file itself or the archive's only member.
        frame: columns of the data frame, or None for a file.
        labels: index of the data frame if it is from pandas, else None.
    """

    path: Path
    member: str | None = None
    frame: pa.Table | None = field(default=None, repr=False, kw_only=True)
    labels: "pd.Index | None" = field(default=None, repr=False, compare=False, kw_only=True)

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}/{self.member}"

    def place_of_row(self, row: int) -> str:
        """Return the place of a row of a table for messages: its number from 1 and, if it differs, its label.

        `row` counts from 0.
        """
        label = "" if self.labels is None else " ".join(str(self.labels[row]).split())
        return f"{self}, row {row + 1}" + (f" (index {label})" if label not in ("", str(row + 1)) else "")

    def fingerprint(self) -> list[str | int]:
        """Return the path, the member, the size, and the timestamps of modification and change in nanoseconds."""
        stat = self.path.stat()
        return [str(self.path.absolute()), self.member or "", stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]

    def is_same(self, other: "InputFile") -> bool:
        """Return whether another input is the same file, or the same member of the same archive."""
        are_files = self.frame is None and other.frame is None
        return are_files and self.member == other.member and self.path.samefile(other.path)

    def detect_compression(self) -> str | None:
        """Detect the compression format from the first bytes. Returns None for a plain file."""
        try:
            with self.path.open("rb") as file:
                start = file.read(10)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error
        return next((name for signature, name in SIGNATURES.items() if signature.match(start)), None)

    def open(self) -> pa.NativeFile:
        """Open the file with random access. Decompresses a compressed file into memory."""
        return open_file(self.path) if self.detect_compression() is None else pa.BufferReader(b"".join(self.blocks()))

    def read_start(self) -> bytes:
        """Read the first START_BYTES decompressed bytes, fewer if the file is shorter."""
        return BlockStream(self.blocks()).read(START_BYTES)

    def blocks(self) -> Iterator[bytes]:
        """Yield the decompressed bytes in blocks.

        Raises:
            UserError: the file is damaged, the archive has no such member, or it has several and `member` is None.
        """
        compression = self.detect_compression()
        try:
            with _open(self, compression) as stream:
                blocks = iter(lambda: stream.read(BLOCK_BYTES), b"")
                new_decompressor = DECOMPRESSORS.get(compression or "")
                yield from blocks if new_decompressor is None else _decompressed(blocks, new_decompressor)
        except DAMAGED as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{self} is damaged or cut off: {reason}") from error


class EmptyFileError(UserError):
    """A file without ratings, which is an error unless other files have some."""


def read_each(files: Sequence[InputFile], read: Callable[[InputFile], Result]) -> tuple[list[Result], list[str]]:
    """Read files, and return the results, with a note if some of the files have no ratings.

    Raises:
        UserError: no file has ratings.
    """
    results, empty = [], []
    for file in files:
        try:
            results.append(read(file))
        except EmptyFileError:
            if len(files) == 1:
                raise
            empty.append(file)
    if not results:
        raise UserError(f"data.path: none of the {len(files)} files has ratings; the first is {empty[0]}")
    if not empty:
        return results, []
    return results, [f"found no ratings in {len(empty):,} of {len(files):,} files, such as {empty[0]}"]


def open_file(path: Path) -> pa.OSFile:
    """Open a file for pyarrow, which by itself would encode the name as UTF-8 in any locale."""
    return pa.OSFile(os.fsencode(path))


class BlockStream(io.RawIOBase):
    """Blocks of bytes, as a stream for pyarrow."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, fewer only at the end. A negative size reads all bytes."""
        size = sys.maxsize if size < 0 else size
        while len(self._rest) < size and (block := next(self._blocks, b"")):
            self._rest += block
        block, self._rest = self._rest[:size], self._rest[size:]
        return block


def _open(file: InputFile, compression: str | None) -> IO[bytes]:
    """Open a stream of the decompressed bytes, or of the compressed bytes if the format is in DECOMPRESSORS."""
    if compression == "gzip":
        return cast(IO[bytes], gzip.open(file.path))
    if compression == "zstd":
        return cast(IO[bytes], pa.CompressedInputStream(open_file(file.path), "zstd"))
    if compression == "zip":
        return _open_member(file)
    return file.path.open("rb")


def _open_member(file: InputFile) -> IO[bytes]:
    """Open a member as a stream, without extracting it to disk."""
    archive = zipfile.ZipFile(file.path)
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    members = [name for name in names if not name.startswith("__MACOSX/")]  # macOS adds these to every archive
    for name, (document, advice) in OFFICE_MEMBERS.items():
        if file.member is None and name in names:
            raise UserError(f"{file.path} is {document}: {advice}")
    if file.member is not None and file.member not in members:
        raise UserError(f"{file.path} has no {file.member}; it has {', '.join(sorted(members)[:10])}")
    if file.member is None and not members:
        raise UserError(f"{file.path} holds no file")
    if file.member is None and len(members) > 1:
        raise UserError(
            f"{file.path} must hold one file, it holds {len(members)}: {', '.join(members[:10])}; "
            f"name one, as in {file.path}/{members[0]}"
        )
    return archive.open(file.member or members[0])


def _decompressed(
    blocks: Iterable[bytes], new_decompressor: "Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]"
) -> Iterator[bytes]:
    """Decompress concatenated streams of bzip2 or xz.

    bz2.open and lzma.open mistake a damaged second stream for trailing junk and silently skip its rows.
    """
    decompressor = new_decompressor()
    for packed in blocks:
        while packed or not decompressor.needs_input:
            if decompressor.eof:
                packed = packed.lstrip(b"\0")  # xz pads streams with zeros
                if not packed:
                    break
                decompressor = new_decompressor()
            if block := decompressor.decompress(packed, BLOCK_BYTES):
                yield block
            packed = decompressor.unused_data
    if not decompressor.eof:
        raise EOFError("Compressed file ended before the end-of-stream marker was reached")


def find_file(name: str, *, key: str, rule: str = "a file") -> InputFile:
    """Find a file, or a member of a zip archive given as `archive.zip/folder/name`.

    `rule` completes `KEY must be …` in the message on a folder.

    Raises:
        UserError: the file does not exist. The message names the key and suggests a file with a similar name.
    """
    path = user_path(name, key=key)
    if path.is_file():
        return InputFile(path)
    archive = next((parent for parent in path.parents if parent.is_file()), None)
    if archive is not None and InputFile(archive).detect_compression() == "zip":
        return InputFile(archive, path.relative_to(archive).as_posix())
    if path.is_dir():
        names = [str(file.relative_to(path)) for file in _visible_files(path)]
        more = ", …" if len(names) > MAX_LISTED else ""
        hint = f"; it holds {', '.join(names[:MAX_LISTED])}{more}" if names else ""
        raise UserError(f"{key} must be {rule}, got the folder {name}{hint}")
    if path.exists() or name == "-":
        rule = "a file that can be read twice"
        raise UserError(f"{key} must be {rule}, got the pipe or device {name}; save its content to a file first")
    raise UserError(f"{key}: there is no file {name}{suggest_sibling(path, cutoff=0.75)}")


def find_rating_files(patterns: Sequence[str]) -> tuple[InputFile, ...]:
    """Find the files of data.path: each entry is a file, a pattern such as `ratings-*.csv`, or a folder of part files.

    The files of a pattern or folder are sorted by name.

    Raises:
        UserError: no file matches a pattern, or a folder does not hold part files of one table.
    """
    if not patterns:
        raise UserError("data.path must name at least one file")
    return tuple(file for pattern in patterns for file in _find_matching(pattern))


def _find_matching(pattern: str) -> list[InputFile]:
    path = user_path(pattern, key="data.path")
    if path.is_dir():
        paths = _visible_files(path)
        are_parts = all(PART_FILE.match(path.name) for path in paths)
        if paths and (are_parts or {path.suffix.lower() for path in paths} == {".parquet"}):
            return [InputFile(path) for path in paths]
    if path.exists() or not has_magic(str(path)):
        rule = "a file, a pattern or a folder in which all names begin with part- or end with .parquet"
        return [find_file(pattern, key="data.path", rule=rule)]
    files = [InputFile(match) for match in map(Path, sorted(glob(str(path), recursive=True))) if match.is_file()]
    if not files:
        raise UserError(f"data.path: no file matches {pattern}")
    return files


def _visible_files(folder: Path) -> list[Path]:
    """List the files below a folder, sorted, without hidden files and Spark's, such as `_SUCCESS`."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in files if not any(part[0] in "._" for part in path.relative_to(folder).parts)]
