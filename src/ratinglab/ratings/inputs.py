"""Input files as byte streams, plain or compressed."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import IO, NamedTuple, cast

import pyarrow as pa

from ratinglab.errors import UserError

SIGNATURES = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"PAR1": "parquet",
}
"""First bytes of each compressed format; file names do not matter."""
BLOCK_SIZE = 1 << 20
"""Bytes decompressed, or parsed by a thread, at once."""
PIECE_SIZE = 8 << 20
"""Bytes of a plain file that one thread parses at a time."""
UNIT_SEPARATOR = "\x1f"
"""Replaces separators of several characters, which CSV readers do not support. Text must not contain it."""
DECOMPRESSORS = {"bzip2": bz2.BZ2Decompressor, "xz": lzma.LZMADecompressor}
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError)
"""Exceptions of decompressors for a file that is truncated, corrupted or password-protected."""


@dataclass(frozen=True)
class InputFile:
    """A file, or a member of a zip archive.

    Attributes:
        path: path of the file or archive.
        member: name in the zip archive at `path`; None: the file itself or, for a zip, its only member.
    """

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}/{self.member}"

    def fingerprint(self) -> list[str | int]:
        """Return path, size, and times in nanoseconds, which change when the file is written."""
        stat = self.path.stat()
        return [str(self.path.absolute()), self.member or "", stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]

    def kind(self) -> str:
        """Detect the compression format from the first bytes; "plain" if none of SIGNATURES matches."""
        try:
            with self.path.open("rb") as file:
                start = file.read(8)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error
        found = (kind for signature, kind in SIGNATURES.items() if start.startswith(signature))
        return next(found, "plain")

    def blocks(self) -> Iterator[bytes]:
        """Read the decompressed bytes.

        Raises:
            UserError: the archive lacks the member, or has several and none is named; or, while reading, it is damaged.
        """
        kind = self.kind()
        try:
            with _open(self, kind) as stream:
                blocks = iter(lambda: stream.read(BLOCK_SIZE), b"")
                yield from _decompressed(blocks, DECOMPRESSORS[kind]) if kind in DECOMPRESSORS else blocks
        except DAMAGED as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{self} is damaged or cut off: {reason}") from error


def _open(file: InputFile, kind: str) -> IO[bytes]:
    """Open a stream of the decompressed bytes or, for DECOMPRESSORS, of the compressed ones."""
    if kind == "gzip":
        return cast(IO[bytes], gzip.open(file.path))
    if kind == "zstd":
        return cast(IO[bytes], pa.CompressedInputStream(pa.OSFile(str(file.path)), "zstd"))
    if kind == "zip":
        return _open_member(file)
    return file.path.open("rb")


def _open_member(file: InputFile) -> IO[bytes]:
    """Open a member as a stream. Extracts nothing to disk, so no member can escape its folder or fill the disk."""
    archive = zipfile.ZipFile(file.path)
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    members = [name for name in names if not name.startswith("__MACOSX/")]  # macOS adds these to every archive
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
            if block := decompressor.decompress(packed, BLOCK_SIZE):
                yield block
            packed = decompressor.unused_data
    if not decompressor.eof:
        raise EOFError("Compressed file ended before the end-of-stream marker was reached")


class Columns(NamedTuple):
    """Columns by role: names from the header or, without a header, positions from 1."""

    user: str
    item: str
    rating: str
    timestamp: str | None


@dataclass(frozen=True)
class TextForm:
    """Separator and encoding of a text file.

    Attributes:
        separator: text between two columns, or "spaces" for one or more blanks or tabs.
        encoding: name of a Python codec.
    """

    separator: str
    encoding: str

    @property
    def delimiter(self) -> str:
        """Single character between two columns in `utf8_blocks`."""
        return self.separator if self.is_quoted else UNIT_SEPARATOR

    @property
    def is_quoted(self) -> bool:
        """Whether cells may be quoted. With a separator of several bytes, quotation marks are text."""
        return len(self.separator.encode()) == 1

    @property
    def is_utf8(self) -> bool:
        """Whether the bytes are already UTF-8."""
        return codecs.lookup(self.encoding).name in ("utf-8", "ascii", "utf-8-sig")


def utf8_blocks(file: InputFile, form: TextForm) -> Iterator[bytes]:
    """Read the file's text as UTF-8, with the form's delimiter between columns.

    Raises:
        UserError: while reading, if the file is damaged or not in its encoding.
    """
    blocks = file.blocks()
    if not form.is_utf8:
        blocks = _transcoded(blocks, form.encoding, name=str(file))
    if not form.is_quoted:
        blocks = (_with_one_delimiter(lines, form.separator, name=str(file)) for lines in _whole_lines(blocks))
    yield from filter(None, blocks)


def pieces_of(file: InputFile, form: TextForm, *, header_lines: int) -> list[tuple[int, int]]:
    """Cut a plain file in UTF-8 at line ends into pieces of about PIECE_SIZE bytes, which threads can read at once.

    Returns the first byte of each piece and the one after its last. The header is left out. The list is empty for any
    other file, and for one whose lines do not end with \\n.
    """
    if file.kind() != "plain" or not form.is_utf8 or not form.is_quoted:
        return []
    size = file.path.stat().st_size
    with file.path.open("rb") as content:
        lines = [content.readline(BLOCK_SIZE) for _ in range(header_lines)]
        borders = [content.tell()]
        while borders[-1] + PIECE_SIZE < size:
            content.seek(PIECE_SIZE, io.SEEK_CUR)
            lines.append(content.readline(BLOCK_SIZE))
            borders.append(content.tell())
    if any(b"\r" in line.removesuffix(b"\n").removesuffix(b"\r") or not line.endswith(b"\n") for line in lines):
        return []
    borders[1:] = [border for border in borders[1:] if border < size]
    return list(pairwise([*borders, size]))


class TextStream(io.RawIOBase):
    """Blocks of text in UTF-8, as a stream for pyarrow.

    Attributes:
        has_quotes: whether what was read after the header contains a quotation mark.
    """

    def __init__(self, blocks: Iterator[bytes], *, header_lines: int = 0) -> None:
        self.has_quotes = False
        self._blocks = blocks
        self._header_lines = header_lines
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, fewer only at the end."""
        while len(self._rest) < size and (block := next(self._blocks, b"")):
            self._rest += block
        block, self._rest = self._rest[:size], self._rest[size:]
        body = block.split(b"\n", self._header_lines)[-1]  # many files have quotes only in the header
        self._header_lines = 0
        self.has_quotes = self.has_quotes or b'"' in body
        return block


def _transcoded(blocks: Iterable[bytes], encoding: str, *, name: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    for block in chain(blocks, [b""]):  # an empty block marks the end
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            bad = line + str(error.object[: error.start], encoding, "replace").count("\n")
            raise UserError(f"{name}, line {bad}: not {encoding} text ({error.reason})") from error
        line += text.count("\n")
        yield text.encode()


def _whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Regroup the bytes into blocks of whole lines, so that no separator is split."""
    rest = b""
    for block in blocks:
        lines, newline, after = block.rpartition(b"\n")
        if newline:
            yield rest + lines + newline
            rest = after
        else:
            rest += block
    if rest:
        yield rest


def _with_one_delimiter(lines: bytes, separator: str, *, name: str) -> bytes:
    delimiter = UNIT_SEPARATOR.encode()
    if delimiter in lines:
        raise UserError(f"{name} contains the control character 0x1F, which is not allowed with this separator")
    if separator == "spaces":
        collapsed = re.sub(rb"[ \t]+", delimiter, lines)  # first, so that runs of blanks are cheap below
        return re.sub(rb"(?:\A|(?<=[\r\n]))\x1f|\x1f(?=[\r\n]|\Z)", b"", collapsed)
    return lines.replace(separator.encode(), delimiter)
