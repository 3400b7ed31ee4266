"""Check of the quotation marks of delimited text."""

import re

import numpy as np
from numpy.typing import NDArray

from ratinglab.formats.layouts import Layout
from ratinglab.formats.text_dialects import TextDialect

QUOTE = b'"'


class QuoteScan:
    """Check of the quotation marks of a file, block by block. Several threads may add blocks.

    Marks are regular, as in RFC 4180, if each opening mark begins a cell, each closing mark ends it, and marks inside a
    quoted cell are doubled.

    Attributes:
        any_quotes: whether the text has a quotation mark.
        is_regular: whether all marks are regular.
        spans_lines: whether a quoted cell contains a line end. Valid only if all marks are regular.
        may_join_rows: whether stray marks may have joined rows: a line that begins inside a quoted cell has the same
            number of separators as a row. A line that ends the cell counts only if the first line of its row also has
            at least that many. Valid only if all marks are regular.
    """

    def __init__(self, layout: Layout) -> None:
        self.any_quotes = self.spans_lines = self.may_join_rows = False
        self.is_regular = True
        self._layout = layout

    @property
    def fits_layout(self) -> bool:
        """Whether the marks are regular, and no quoted cell spans lines or, if the layout allows that, joins rows."""
        return self.is_regular and not (self.may_join_rows if self._layout.spans_lines else self.spans_lines)

    def add(self, rows: bytes) -> None:
        """Check a block of whole rows."""
        dialect = self._layout.dialect
        if not dialect.is_quoted or QUOTE not in rows:
            return
        # begins and ends with line ends, so every line and every mark is between two bytes
        content = np.frombuffer(b"\n" + drop_escapes(rows, dialect) + b"\n", dtype=np.uint8)
        quotes = np.flatnonzero(content == QUOTE[0])
        beside = np.append(content[quotes[::2] - 1], content[quotes[1::2] + 1])
        allowed_beside = np.frombuffer(dialect.delimiter.encode() + b'\r\n"', dtype=np.uint8)
        line_ends = np.flatnonzero((content == ord("\n")) | (content == ord("\r")))
        is_inside = np.searchsorted(quotes, line_ends) % 2 == 1
        separators = np.flatnonzero(content == dialect.delimiter.encode()[0])
        num_separators = np.diff(np.searchsorted(separators, line_ends))
        if len(quotes) > 0:
            self.any_quotes = True
        if len(quotes) % 2 == 1 or not np.isin(beside, allowed_beside).all():
            self.is_regular = False
        if is_inside.any():
            self.spans_lines = True
            if self._finds_joined_rows(num_separators, is_inside):
                self.may_join_rows = True

    def _finds_joined_rows(self, num_separators: NDArray[np.int64], is_inside: NDArray[np.bool_]) -> bool:
        """Return whether one of N lines meets the condition of `may_join_rows`.

        num_separators: (N,), in each line; is_inside: (N + 1,), whether the line end before and after each is in a
            quoted cell.
        """
        first_line = np.maximum.accumulate(np.where(is_inside[:-1], -1, np.arange(len(num_separators))))
        begins_whole = num_separators[first_line] >= self._layout.num_columns - 1
        is_row = num_separators == self._layout.num_columns - 1
        return bool((is_inside[:-1] & is_row & (is_inside[1:] | begins_whole)).any())


def drop_escapes(text: bytes, dialect: TextDialect) -> bytes:
    """Replace escaped characters, if the dialect has any, by plain ones."""
    return re.sub(rb"\\.", b"xx", text, flags=re.DOTALL) if dialect.has_escapes else text


def has_regular_rows(text: bytes, layout: Layout) -> bool:
    """Return whether the quotation marks of whole rows fit the layout; see `QuoteScan.fits_layout`."""
    scan = QuoteScan(layout)
    scan.add(text)
    return scan.fits_layout
