"""Options for reading files: columns, and the separator, header and encoding of text. Imports nothing slow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from ratinglab.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from ratinglab.formats.text_dialects import TextDialect

NOT_FOR_FILES = ("idna", "punycode", "raw_unicode_escape", "unicode_escape")
"""Text encodings of Python that are not encodings of files."""
SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|", "double_colon": "::", "spaces": "spaces"}
"""Separators by name, because Hydra cannot parse `data.separator=,`."""
DIRECTIVES = frozenset("aAbBcdfGHIjmMpSuUVwWxXyYzZ%")
"""Letters of the directives of strptime, as in %Y."""


class Quote(Enum):
    """Character that encloses cells with separators in them."""

    double = "double"
    none = "none"


class Escape(Enum):
    """Escape character."""

    backslash = "backslash"
    none = "none"


class Decimal(Enum):
    """Decimal point of numbers."""

    point = "point"
    comma = "comma"


@dataclass
class TextOptions:
    """Dialect of a delimited text file. Does not apply to Parquet, Arrow, ORC and JSON Lines."""

    key_prefix: ClassVar[str] = ""
    """Beginning of the options' keys in messages, such as `data.`."""

    separator: str
    """Separator of the columns: comma, tab, semicolon, pipe, double_colon, spaces, or the text itself."""
    header: bool
    """Whether the first line names the columns. If false, columns are named by position, counted from 1."""
    encoding: str
    """Encoding of the text: utf-8, latin-1, utf-16 or any other encoding of Python. A byte-order mark overrides it."""
    quote: Quote
    """Quoting. With double, a cell in double quotes may contain separators, and a doubled quote in it stands for one
    quote. With none, quotation marks are text."""
    escape: Escape
    """Escape character. With backslash, the character after a backslash is literal. With none, there are no escapes."""
    decimal: Decimal
    """Decimal point of numbers: point or comma."""
    comment: str | None
    """Prefix of comment lines, such as '#'. Comment lines are skipped. With null, there are none."""

    def dialect(self) -> TextDialect:
        """Return the dialect."""
        from ratinglab.formats.text_dialects import TextDialect

        return TextDialect(
            separator=separator_text(self.separator, key=f"{self.key_prefix}separator"),
            encoding=self.encoding,
            has_quotes=self.quote is Quote.double,
            has_escapes=self.escape is Escape.backslash,
            decimal="," if self.decimal is Decimal.comma else ".",
            comment=self.comment,
            key_prefix=self.key_prefix,
            has_header=self.header,
        )

    def check_text(self) -> None:
        """Raise UserError for an unknown separator or encoding, or a blank comment."""
        separator_text(self.separator, key=f"{self.key_prefix}separator")
        try:
            text = "ratings 1\n".encode(self.encoding).decode(self.encoding)
            if self.encoding in NOT_FOR_FILES or text != "ratings 1\n":
                raise LookupError
        except (LookupError, UnicodeError):
            raise UserError(f"{self.key_prefix}encoding: there is no encoding {self.encoding!r}") from None
        if self.comment is not None and not self.comment.strip():
            key = f"{self.key_prefix}comment"
            raise UserError(f"{key} must not be blank, got {self.comment!r}; with null, no lines are skipped")


@dataclass
class ColumnOptions:
    """Columns by role: names from the header or, without a header, positions counted from 1."""

    user: str
    """Column of user ids, which are integers or text. A name or, if data.header is false, a position counted from 1."""
    item: str
    """Column of item ids, which are integers or text. A name or, if data.header is false, a position counted from 1."""
    rating: str
    """Column of the ratings, which are finite numbers. Higher is better."""
    timestamp: str | None
    """Timestamp column. With null, timestamps are not read. Splits by time and timesvdpp require it."""

    def by_role(self) -> dict[str, str]:
        """Return the names of the columns to read, by role: user, item, rating and, if not None, timestamp."""
        return {role: name for role, name in vars(self).items() if name is not None}


def separator_text(text: str, *, key: str) -> str:
    """Return a separator that is given by name or literally. "spaces" stands for runs of blanks and tabs.

    Raises:
        UserError: the text is neither a name nor usable as a separator.
    """
    if text in SEPARATORS:
        return SEPARATORS[text]
    if not text or any(character.isalnum() or character in "\"'\r\n" for character in text):
        rule = f"one of {', '.join(SEPARATORS)}, or the characters themselves"
        raise UserError(f"{key} must be {rule}, got {text!r}{did_you_mean(text, SEPARATORS)}")
    return text


def check_timestamp_format(pattern: str | None, *, key: str) -> None:
    """Raise UserError unless a timestamp format is None, a unit of Unix time, or a pattern of strptime."""
    units = ("s", "ms", "us", "ns")
    if pattern is not None and pattern not in units and "%" not in pattern:
        raise UserError(f"{key} must be one of {', '.join(units)}, or a pattern such as '%d.%m.%Y', got {pattern!r}")
    for directive in re.findall(r"%.?", pattern or ""):
        if directive[1:] not in DIRECTIVES:
            raise UserError(f"{key} must have only directives of strptime, such as %d; got {directive} in {pattern!r}")
