"""Dialects of delimited text, and its conversion to UTF-8 with a delimiter of one byte."""

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.formats.inputs import BLOCK_BYTES, InputFile

PIECE_BYTES = 1 << 20
"""Approximate bytes of a plain file that one thread parses at a time."""
UNIT_SEPARATOR = "\x1f"
"""Replacement for separators of several characters, which CSV readers do not support. Text cannot contain it."""
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8",
}
"""Encodings by the first bytes of a file. UTF-32 comes first, since its mark begins with the mark of UTF-16."""
SEPARATOR_LINE = re.compile(rb"\A(?:\xef\xbb\xbf)?sep=(.)(?=[\r\n])")
"""First line, in UTF-8, that names the separator, as Excel writes it."""
MAX_SEPARATOR_LINE_BYTES = 10
"""Bytes of the longest such line, with its line end."""
LINE_END = re.compile(rb"\r\n|\n|\r")
QUOTE = b'"'


@dataclass(frozen=True)
class TextDialect:
    """Dialect of a delimited text file.

    Attributes:
        separator: text between two cells, or "spaces" for one or more blanks or tabs.
        encoding: name of a Python codec.
        has_quotes: whether quotation marks may enclose a cell. If not, they are text.
        has_escapes: whether the character after a backslash is literal.
        decimal: decimal point of numbers.
        comment: start of the lines to skip, if any.
        key_prefix: start of the keys in messages, such as `data.`.
        has_header: whether the first row names the columns. If not, their names are 1, 2, …
    """

    separator: str
    encoding: str
    has_quotes: bool = True
    has_escapes: bool = False
    decimal: str = "."
    comment: str | None = None
    key_prefix: str = "data."
    has_header: bool = True

    @property
    def has_one_byte_separator(self) -> bool:
        """Whether CSV readers support the separator."""
        return len(self.separator.encode()) == 1

    @property
    def delimiter(self) -> str:
        """Single character between two cells in the blocks of `read_utf8_blocks`."""
        return self.separator if self.has_one_byte_separator else UNIT_SEPARATOR

    @property
    def is_quoted(self) -> bool:
        """Whether quotation marks are special. They are text if the separator has several bytes."""
        return self.has_quotes and self.has_one_byte_separator

    @property
    def is_utf8(self) -> bool:
        """Whether the bytes are already UTF-8."""
        return codecs.lookup(self.encoding).name in ("utf-8", "ascii", "utf-8-sig")

    def adapt_to(self, file: InputFile) -> "TextDialect":
        """Return the dialect with the encoding of the file's byte-order mark and the separator of its `sep=` line.

        Raises:
            UserError: the file is evidently in another encoding.
        """
        start = file.read_start()
        mark = next((mark for mark in BYTE_ORDER_MARKS if start.startswith(mark)), None)
        dialect = self if mark is None else replace(self, encoding=BYTE_ORDER_MARKS[mark])
        if mark is None:
            is_wide = codecs.lookup(self.encoding).name.startswith(("utf-16", "utf-32"))
            if is_wide and start and b"\0" not in start:
                raise UserError(
                    f"{file} is not {self.encoding} text but may be utf-8: is {self.key_prefix}encoding right?"
                )
            if not is_wide and start.count(b"\0") > len(start) // 4:
                raise UserError(f"{file} seems to be UTF-16 text: set {self.key_prefix}encoding=utf-16-le or utf-16-be")
        match = SEPARATOR_LINE.match(start.decode(dialect.encoding, "ignore").encode())
        return dialect if match is None else replace(dialect, separator=match[1].decode())


def read_utf8_blocks(file: InputFile, dialect: TextDialect) -> Iterator[bytes]:
    """Yield the file's text as UTF-8, with the dialect's delimiter between cells and empty lines for comments."""
    blocks = file.blocks()
    if not dialect.is_utf8:
        blocks = _transcode(blocks, dialect, name=str(file))
    if dialect.comment is not None:
        start = rb"(?:\A(?:\xef\xbb\xbf)?|(?<=[\r\n]))"  # of a line, which may end with \r alone
        comment = re.compile(start + re.escape(dialect.comment.encode()) + rb"[^\r\n]*")
        blocks = (comment.sub(b"", lines) for lines in regroup_by_lines(blocks))
    if not dialect.has_one_byte_separator:
        blocks = (_replace_separator(lines, dialect.separator, name=str(file)) for lines in regroup_by_lines(blocks))
    yield from filter(None, _blank_separator_line(blocks))


def cut_into_pieces(file: InputFile, dialect: TextDialect, *, header_lines: int) -> list[tuple[int, int]]:
    """Cut the rows of a plain file at line ends into pieces of about PIECE_BYTES, which threads can read in parallel.

    Returns the first byte of each piece and the byte after its last one. The list is empty if the file is compressed,
    its bytes are not those of `read_utf8_blocks`, or lines do not end with \\n.
    """
    has_plain_bytes = dialect.is_utf8 and dialect.has_one_byte_separator and dialect.comment is None
    if file.detect_compression() is not None or not has_plain_bytes:
        return []
    size = file.path.stat().st_size
    with file.path.open("rb") as content:
        lines = [content.readline(BLOCK_BYTES) for _ in range(header_lines)]
        borders = [content.tell()]
        while borders[-1] + PIECE_BYTES < size:
            content.seek(PIECE_BYTES, io.SEEK_CUR)
            lines.append(content.readline(BLOCK_BYTES))
            borders.append(content.tell())
    if any(b"\r" in line.removesuffix(b"\n").removesuffix(b"\r") or not line.endswith(b"\n") for line in lines):
        return []
    borders[1:] = [border for border in borders[1:] if border < size]
    return list(pairwise([*borders, size]))


class QuoteScan:
    """Streaming check of quotation marks.

    Marks are regular, as in RFC 4180, if each opening mark begins a cell, each closing mark ends it, and marks inside a
    quoted cell are doubled.

    Attributes:
        any_quotes: whether the text has a quotation mark.
        is_regular: whether all marks are regular.
        spans_lines: whether a quoted cell contains a line end. Valid only if all marks are regular.
        may_join_rows: whether stray marks may have joined rows: a line that begins inside a quoted cell has as many
            separators as a row. A line that ends the cell counts only if the first line of its row has at least as many
            too; and the last line of the text only if it ends with a mark. Valid only if all marks are regular.
    """

    def __init__(self, dialect: TextDialect, *, num_columns: int) -> None:
        self.any_quotes = self.spans_lines = self.may_join_rows = False
        self.is_regular = True
        self._has_escapes = dialect.has_escapes
        self._delimiter = dialect.delimiter.encode()[0]
        self._allowed_beside = np.frombuffer(dialect.delimiter.encode() + b'\r\n"', dtype=np.uint8)
        self._num_separators = num_columns - 1
        self._num_quotes = 0
        self._begins_whole = False  # whether the first line of the last row has at least as many separators as a row
        self._rest = b""  # the last line

    def add(self, block: bytes) -> None:
        """Check all lines but the last one, which may continue in the next block."""
        text = self._rest + block
        if self._has_escapes:
            text = re.sub(rb"\\.", b"xx", text, flags=re.DOTALL)
        stop = 1 + max(text.rfind(b"\n", 0, -1), text.rfind(b"\r", 0, -1))
        self._check(text[:stop])
        self._rest = text[stop:]

    def end(self) -> None:
        """Check the last line."""
        may_join_rows = self.may_join_rows
        self._check(self._rest + b"\n")
        if not self._rest.rstrip(b"\r\n").endswith(QUOTE):
            self.may_join_rows = may_join_rows
        self.is_regular = self.is_regular and self._num_quotes % 2 == 0

    def _check(self, lines: bytes) -> None:
        """Check complete lines."""
        if self._num_quotes % 2 == 0 and QUOTE not in lines:
            return
        content = np.frombuffer(b"\n" + lines, dtype=np.uint8)  # begins with the end of the line before
        quotes = np.flatnonzero(content == QUOTE[0])
        opening = self._num_quotes % 2  # index of the first opening mark
        beside = np.append(content[quotes[opening::2] - 1], content[quotes[1 - opening :: 2] + 1])
        line_ends = np.flatnonzero((content == ord("\n")) | (content == ord("\r")))
        is_inside = (self._num_quotes + np.searchsorted(quotes, line_ends)) % 2 == 1
        num_separators = np.diff(np.searchsorted(np.flatnonzero(content == self._delimiter), line_ends))
        self.any_quotes = self.any_quotes or len(quotes) > 0
        self.is_regular = self.is_regular and bool(np.isin(beside, self._allowed_beside).all())
        self.spans_lines = self.spans_lines or bool(is_inside.any())
        self.may_join_rows = self.may_join_rows or self._finds_joined_rows(num_separators, is_inside)
        self._num_quotes += len(quotes)

    def _finds_joined_rows(self, num_separators: NDArray[np.int64], is_inside: NDArray[np.bool_]) -> bool:
        """Return whether one of N lines fulfils `may_join_rows`.

        num_separators: (N,), of each line; is_inside: (N + 1,), whether the line end before and after each is inside.
        """
        if len(num_separators) == 0:
            return False
        first_line = np.maximum.accumulate(np.where(is_inside[:-1], -1, np.arange(len(num_separators))))
        is_whole = num_separators >= self._num_separators
        begins_whole = np.where(first_line < 0, self._begins_whole, is_whole[first_line])
        self._begins_whole = bool(begins_whole[-1])
        is_row = num_separators == self._num_separators
        return bool((is_inside[:-1] & is_row & (is_inside[1:] | begins_whole)).any())


def regroup_by_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Regroup blocks of bytes into blocks of whole lines. The last line may lack its end."""
    rest = b""
    for block in blocks:
        lines, newline, last_line = block.rpartition(b"\n")
        if newline:
            yield rest + lines + newline
            rest = last_line
        else:
            rest += block
    if rest:
        yield rest


def _transcode(blocks: Iterable[bytes], dialect: TextDialect, *, name: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(dialect.encoding)()
    line = 1
    for block in chain(blocks, [b""]):  # an empty block marks the end
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line += str(error.object[: error.start], dialect.encoding, "replace").count("\n")
            hint = f"is {dialect.key_prefix}encoding right?"
            raise UserError(f"{name}, line {line}: not {dialect.encoding} text ({error.reason}); {hint}") from error
        line += text.count("\n")
        yield text.encode()


def _blank_separator_line(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Empty the first line if it is Excel's `sep=;`."""
    start = b""
    while len(start) < MAX_SEPARATOR_LINE_BYTES and (block := next(blocks, b"")):
        start += block
    yield SEPARATOR_LINE.sub(b"", start, count=1)
    yield from blocks


def _replace_separator(lines: bytes, separator: str, *, name: str) -> bytes:
    delimiter = UNIT_SEPARATOR.encode()
    if delimiter in lines:
        raise UserError(f"{name} contains the control character 0x1F, which is not allowed with this separator")
    if separator == "spaces":
        collapsed = re.sub(rb"[ \t]+", delimiter, lines)  # makes the next substitution fast despite runs of blanks
        return re.sub(rb"(?:\A|(?<=[\r\n]))\x1f|\x1f(?=[\r\n]|\Z)", b"", collapsed)
    return lines.replace(separator.encode(), delimiter)
