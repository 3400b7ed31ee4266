"""Fuzzer of the reader: damages files of ratings at random and compares the result with a short, slow reader.

    python tests/fuzz_reading.py --minutes 10 --seed 0

Each file must be read as the slow reader reads it, or refused in one line. Anything else is a finding, which is printed
with the file's bytes; the exit status is then 1. What one refuses and the other reads is counted.
"""

import argparse
import csv
import gzip
import io
import math
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tables import csv_options, rows_of

from ratinglab.errors import UserError
from ratinglab.formats.text_options import SEPARATORS, Decimal, Quote
from ratinglab.reading.cleaning_options import Duplicates

ENCLOSED = r'\s*"([^"]*|([^"]|"")*"\s*)$'
TOKENS = [
    *(b'"', b'""', b"'", b"#", b",", b"\t", b";", b"::", b" ", b"", b"\n", b"\r\n", b"\r", b"\x0b", b"\x0c", b"\x1f"),
    *(b"0", b"007", b"-1", b"+5", b"1.0", b".5", b"5.", b"1e9", b"1e400", b"nan", b"inf", b"infinity", b"1_0", b"0x1F"),
    *(b"9" * 20, b"2017-07-14", b"\x00", b"\xff", b"\x85", b"\xef\xbb\xbf", b"\xc3\xa9", b"\xe2\x80\xa8", b"\xc2\xa0"),
]


@dataclass(frozen=True)
class Dialect:
    """Options of a file: separator and header, and whether it has quotes, a decimal comma and comments."""

    separator: str
    header: bool
    quote: bool
    decimal: bool
    comment: bool

    @property
    def is_quoted(self) -> bool:
        return self.quote and self.separator not in ("spaces", "double_colon")

    @property
    def delimiter(self) -> str:
        return "\x1f" if self.separator in ("spaces", "double_colon") else SEPARATORS[self.separator]


def dialect_of(random: np.random.Generator) -> Dialect:
    separator = list(SEPARATORS)[random.integers(len(SEPARATORS))]
    return Dialect(
        separator,
        header=random.random() < 0.5,
        quote=random.random() < 0.8,
        decimal=separator != "comma" and random.random() < 0.2,
        comment=random.random() < 0.2,
    )


def seed_file(random: np.random.Generator, dialect: Dialect) -> bytes:
    """Make a valid file of a few rows."""
    separator, header = dialect.separator, dialect.header
    between = " " if separator == "spaces" else SEPARATORS[separator]
    kind = random.integers(3)
    lines = [between.join(("u", "i", "r", "note"))] if header else []
    for row in range(random.integers(1, 12)):
        user, item = random.integers(0, 30), f"i{row}" if kind == 1 else row
        note = '"quoted ""note"""' if kind == 2 and len(between) == 1 and separator != "spaces" else "n"
        rating = str(random.integers(1, 11) / 2)
        lines.append(
            between.join((str(user), str(item), rating.replace(".", ",") if dialect.decimal else rating, note))
        )
        if dialect.comment and random.random() < 0.2:
            lines.append('# a "comment')
    return ("\r\n" if random.random() < 0.2 else "\n").join([*lines, ""]).encode()


def damage(random: np.random.Generator, content: bytes) -> bytes:
    """Insert, remove, change or move a few bytes."""
    damaged = bytearray(content)
    for _ in range(random.integers(0, 4)):
        at = int(random.integers(0, len(damaged) + 1))
        action = random.integers(5)
        if action == 0:
            damaged[at:at] = TOKENS[random.integers(len(TOKENS))]
        elif action == 1:
            del damaged[at : at + int(random.integers(1, 6))]
        elif action == 2:
            damaged[at : at + 1] = bytes([random.integers(256)])
        elif action == 3:
            lines = damaged.split(b"\n")
            lines[random.integers(len(lines))] = lines[random.integers(len(lines))]
            damaged = bytearray(b"\n".join(lines))
        else:
            damaged[at : at + 1] = TOKENS[random.integers(len(TOKENS))]
    return bytes(damaged)


def slow_rows(content: bytes, dialect: Dialect) -> list[tuple[str, str, float]]:
    """Read the rows with Python's csv module; raises ValueError for an invalid file.

    Tries four readings in turn: strict quotes in one-line cells; quotation marks as text, unless they enclose or open
    an id; lenient quotes in one-line cells; strict quotes in cells that span lines.
    """
    text = content.decode("utf-8-sig", "replace")  # a column that is not read may be in another encoding
    if dialect.comment:
        text = re.sub(r"(?m)^#[^\r\n]*", "", text.replace("\r\n", "\n").replace("\r", "\n"))
    if dialect.separator == "spaces":
        text = "\n".join(
            "\x1f".join(part for part in line.replace("\t", " ").split(" ") if part)
            for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        )
    elif dialect.separator == "double_colon":
        text = text.replace("::", "\x1f")
    if not dialect.is_quoted:
        return _valid(_cells(text, dialect, quoting=csv.QUOTE_NONE), dialect)
    error: Exception = ValueError("no reading")
    for quoting, strict, spans_lines in (
        (csv.QUOTE_MINIMAL, True, False),
        (csv.QUOTE_NONE, False, False),
        (csv.QUOTE_MINIMAL, False, False),
        (csv.QUOTE_MINIMAL, True, True),
    ):
        try:
            rows = _cells(text, dialect, quoting=quoting, strict=strict)
            if spans_lines:
                return _valid([_without_line_ends(row, dialect) for row in rows], dialect)
            if quoting == csv.QUOTE_MINIMAL and len(rows) != sum(bool(line) for line in re.split(r"\r\n|\r|\n", text)):
                raise ValueError("a cell spans lines")
            if quoting == csv.QUOTE_NONE and any(
                re.match(ENCLOSED, row[position]) for row in rows for position in (0, 1)
            ):
                raise ValueError("marks enclose an id, or one opens it")
            return _valid(rows, dialect)
        except (ValueError, LookupError, csv.Error) as problem:
            error = problem
    raise error


def _cells(text: str, dialect: Dialect, *, quoting: int, strict: bool = False) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter, quoting=quoting, strict=strict)
    return [row for row in reader if row]


def _without_line_ends(row: list[str], dialect: Dialect) -> list[str]:
    """Empty cells that span lines, unless one of these looks like a row or the cell holds an id or a rating."""
    where = [0, 1, 2] if len(row) > 3 else []
    for position, cell in enumerate(row):
        lines = re.split(r"\r\n|\r|\n", cell)
        if len(lines) > 1 and position in where:
            raise ValueError("an id or a rating spans lines")
        if any(line.count(dialect.delimiter) == len(row) - 1 for line in lines[1:]):
            raise ValueError("a line looks like a row")
    return ["" if re.search(r"[\r\n]", cell) else cell for cell in row]


def _valid(rows: list[list[str]], dialect: Dialect) -> list[tuple[str, str, float]]:
    """Check the cells; return the rows without the header."""
    names = [cell.strip() for cell in rows[0]] if dialect.header else ["u", "i", "r", "note"]
    where = [names.index(name) for name in "uir"] if dialect.header else [0, 1, 2]
    valid = []
    for row in rows[1 if dialect.header else 0 :]:
        user, item, rating = (row[position].strip() for position in where)
        value = float("x" if "_" in rating or (dialect.decimal and "." in rating) else rating.replace(",", "."))
        if abs(value) > float(np.finfo(np.float32).max):
            raise ValueError(value)
        if len(row) != len(rows[0]) or not user or not item or not math.isfinite(np.float32(value)):
            raise ValueError(row)
        if "\ufffd" in user + item + rating:
            raise ValueError("not UTF-8")
        if any("\n" in cell.rstrip("\r\n") or "\r" in cell.rstrip("\r\n") for cell in row):
            raise ValueError(row)
        valid.append((user, item, float(np.float32(value))))
    if len({rating for *_, rating in valid}) < 2:
        raise ValueError("constant")
    users, items = (_whole([row[position] for row in valid]) for position in (0, 1))
    valid = list(zip(users, items, [rating for *_, rating in valid], strict=True))
    return valid if len({row[:2] for row in valid}) == len(valid) else []


def _whole(ids: list[str]) -> list[str]:
    """Turn ids such as 7.0 into integers if all ids are integers then."""
    whole = [re.sub(r"^([+-]?\d+)\.0*$", r"\1", text, flags=re.ASCII) for text in ids]
    return whole if all(re.fullmatch(r"0|-?[1-9]\d{0,17}", text, flags=re.ASCII) for text in whole) else ids


def fast_rows(path: Path, dialect: Dialect) -> list[tuple[str, str, float]] | str:
    """Read the rows with ratinglab, or return its error message."""
    options = csv_options(
        path=str(path),
        separator=dialect.separator,
        header=dialect.header,
        quote=Quote.double if dialect.quote else Quote.none,
        decimal=Decimal.comma if dialect.decimal else Decimal.point,
        comment="#" if dialect.comment else None,
        columns=("u", "i", "r") if dialect.header else ("1", "2", "3"),
        duplicates=Duplicates.error,
    )
    try:
        return [(str(user), str(item), rating) for user, item, rating in rows_of(options.load())]
    except UserError as error:
        return str(error)


def main() -> int:
    """Fuzz for the given minutes; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    counted: Counter[str] = Counter()
    findings = 0
    end = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end and findings < 20:
            dialect = dialect_of(random)
            content = damage(random, seed_file(random, dialect))
            is_packed = random.random() < 0.2
            path = Path(folder) / "ratings"
            path.write_bytes(gzip.compress(content) if is_packed else content)
            verdict = compare(path, content, dialect)
            counted[verdict.partition(": ")[0]] += 1
            if verdict.startswith("FINDING"):
                findings += 1
                print(verdict, dialect, content)
    print(", ".join(f"{name}: {count:,}" for name, count in counted.most_common()))
    return int(findings > 0)


def compare(path: Path, content: bytes, dialect: Dialect) -> str:
    """Compare the results of the two readers for a file."""
    try:
        fast = fast_rows(path, dialect)
    except Exception as error:
        return f"FINDING: {type(error).__name__}: {error}"
    if isinstance(fast, str) and (
        "\n" in fast
        or not fast.startswith(
            (str(path), "data.columns", f"{path.name}: every rating", "rows", "the user id", "the item id")
        )
    ):
        return f"FINDING: the message is {fast!r}"
    try:
        slow = slow_rows(content, dialect)
    except (ValueError, LookupError, csv.Error):
        return "both refuse" if isinstance(fast, str) else f"FINDING: only the slow reader refuses; {fast}"
    if isinstance(fast, str):
        return "both refuse" if slow == [] else f"only the slow reader reads: {fast}"
    return "both read the same" if fast == slow else f"FINDING: {fast} is not {slow}"


if __name__ == "__main__":
    sys.exit(main())
