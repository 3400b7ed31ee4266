"""Rows of delimited text with their line numbers, which pyarrow does not give, read by the slower csv module."""

import csv
from collections.abc import Iterable, Iterator
from itertools import islice

from ratinglab.errors import UserError
from ratinglab.formats.inputs import EmptyFileError, InputFile
from ratinglab.formats.text_dialects import TextDialect, read_utf8_blocks, regroup_by_lines


def read_first_rows(file: InputFile, dialect: TextDialect, count: int) -> list[tuple[int, list[str]]]:
    """Read the first `count` rows that are not empty: the line of each, counted from 1, and its cells.

    Raises:
        EmptyFileError: the file has no such row.
    """
    rows = list(islice(read_rows(read_utf8_blocks(file, dialect), dialect, file=file), count))
    if not rows:
        raise EmptyFileError(f"{file} is empty")
    return rows


def read_rows(
    blocks: Iterable[bytes], dialect: TextDialect, *, file: InputFile, first_line: int = 1
) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line, counted from 1, and the cells of each row that is not empty.

    Args:
        blocks: text in UTF-8 with the dialect's delimiter, as from `read_utf8_blocks`.
        first_line: number of the first line of the blocks.

    Raises:
        UserError: the csv module cannot parse a row.
    """
    csv.field_size_limit(1 << 30)
    reader = csv.reader(
        _split_lines(blocks),
        delimiter=dialect.delimiter,
        quoting=csv.QUOTE_MINIMAL if dialect.is_quoted else csv.QUOTE_NONE,
        escapechar="\\" if dialect.has_escapes else None,
    )
    try:
        line = first_line
        for cells in reader:
            if cells:
                yield line, cells
            line = first_line + reader.line_num
    except csv.Error as error:
        raise UserError(f"{file}, line {first_line + reader.line_num - 1}: {error}") from error


def _split_lines(blocks: Iterable[bytes]) -> Iterator[str]:
    """Yield lines of text with their line ends: `\\n`, `\\r\\n` or `\\r`.

    Keeps bytes that are not UTF-8, as lone surrogates, since their column may not be read.
    """
    for lines in regroup_by_lines(blocks):
        yield from (line.decode("utf-8", "surrogateescape") for line in lines.splitlines(keepends=True))


def printable(text: str) -> str:
    """Replace each byte that is not UTF-8 by U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
