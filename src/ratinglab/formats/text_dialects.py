"""Dialects of delimited text, and its conversion to UTF-8 with a delimiter of one byte."""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from ratinglab.errors import UserError
from ratinglab.formats.inputs import InputFile

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


@dataclass(frozen=True)
class TextDialect:
    """Dialect of a delimited text file.

    Attributes:
        separator: text between two cells, or "spaces" for one or more blanks or tabs.
        encoding: name of a Python codec.
        has_quotes: whether quotation marks may enclose a cell. If not, they are text.
        has_escapes: whether the character after a backslash is literal.
        decimal: decimal point of numbers.
        comment: start of the lines to skip. None if there are no such lines.
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

    def decimal_hint(self, text: str) -> str:
        """Return a hint for messages if a text is a number only with the other decimal point, or ""."""
        key = f"{self.key_prefix}decimal"
        if self.decimal == "." and re.fullmatch(r"\s*[-+]?\d+,\d+\s*", text):
            return f"; if the comma is the decimal point, set {key}=comma"
        if self.decimal == "," and re.fullmatch(r"\s*[-+]?\d+\.\d+\s*", text):
            return f"; {key}=comma is set; if the point is the decimal point, set {key}=point"
        return ""

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
    """Yield the file's text as UTF-8, with the dialect's delimiter between cells and empty lines in place of comments.

    Leaves out a byte-order mark.
    """
    blocks = file.blocks()
    if not dialect.is_utf8:
        blocks = _transcode(blocks, dialect, name=str(file))
    blocks = _clear_start(blocks)
    if dialect.comment is not None:
        start = rb"(?:\A|(?<=[\r\n]))"  # of a line, which may end with \r alone
        comment = re.compile(start + re.escape(dialect.comment.encode()) + rb"[^\r\n]*")
        blocks = (comment.sub(b"", lines) for lines in regroup_by_lines(blocks))
    if not dialect.has_one_byte_separator:
        blocks = (_replace_separator(lines, dialect.separator, name=str(file)) for lines in regroup_by_lines(blocks))
    yield from filter(None, blocks)


def regroup_by_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Regroup blocks of bytes into blocks of whole lines. The last line may have no line end."""
    rest = b""
    for block in blocks:
        stop = 1 + block.rfind(b"\n") or 1 + block.rfind(b"\r", 0, -1)  # a \r at the end may be half of a line end
        if stop > 0:
            yield b"".join([rest, memoryview(block)[:stop]])  # copies a block only once
            rest = block[stop:]
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


def _clear_start(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Remove a byte-order mark, and empty the first line if it is Excel's `sep=;`."""
    start = b""
    while len(start) < MAX_SEPARATOR_LINE_BYTES and (block := next(blocks, b"")):
        start += block
    yield SEPARATOR_LINE.sub(b"", start).removeprefix(codecs.BOM_UTF8)
    yield from blocks


def _replace_separator(lines: bytes, separator: str, *, name: str) -> bytes:
    delimiter = UNIT_SEPARATOR.encode()
    if delimiter in lines:
        raise UserError(f"{name} contains the control character 0x1F, which is not allowed with this separator")
    if separator == "spaces":
        collapsed = re.sub(rb"[ \t]+", delimiter, lines)  # makes the next substitution fast despite runs of blanks
        return re.sub(rb"(?:\A|(?<=[\r\n]))\x1f|\x1f(?=[\r\n]|\Z)", b"", collapsed)
    return lines.replace(separator.encode(), delimiter)
