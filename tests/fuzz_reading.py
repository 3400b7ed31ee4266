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
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from tables import csv_options, rows_of

from ratinglab.errors import UserError
from ratinglab.ratings.sources import SEPARATORS, Duplicates

TOKENS = [
    *(b'"', b'""', b"'", b"#", b",", b"\t", b";", b"::", b" ", b"", b"\n", b"\r\n", b"\r", b"\x0b", b"\x0c", b"\x1f"),
    *(b"0", b"007", b"-1", b"+5", b"1.0", b".5", b"5.", b"1e9", b"1e400", b"nan", b"inf", b"infinity", b"1_0", b"0x1F"),
    *(b"9" * 20, b"2017-07-14", b"\x00", b"\xff", b"\x85", b"\xef\xbb\xbf", b"\xc3\xa9", b"\xe2\x80\xa8", b"\xc2\xa0"),
]
FORMS = [(separator, header) for separator in SEPARATORS for header in (True, False)]


def seed_file(random: np.random.Generator, separator: str, *, header: bool) -> bytes:
    """Make a valid file of a few rows."""
    between = " " if separator == "spaces" else SEPARATORS[separator]
    kind = random.integers(3)
    lines = [between.join(("u", "i", "r", "note"))] if header else []
    for row in range(random.integers(1, 12)):
        user, item = random.integers(0, 30), f"i{row}" if kind == 1 else row
        note = '"quoted ""note"""' if kind == 2 and len(between) == 1 and separator != "spaces" else "n"
        lines.append(between.join((str(user), str(item), str(random.integers(1, 11) / 2), note)))
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


def slow_rows(content: bytes, separator: str, *, header: bool) -> list[tuple[str, str, float]]:
    """Read the rows with Python's csv module; raises ValueError for an invalid file."""
    text = content.decode("utf-8-sig", "replace")  # a column that is not read may be in another encoding
    if separator == "spaces":
        text = "\n".join(
            "\x1f".join(part for part in line.replace("\t", " ").split(" ") if part)
            for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        )
    elif separator == "double_colon":
        text = text.replace("::", "\x1f")
    is_quoted = separator not in ("spaces", "double_colon")
    delimiter = SEPARATORS[separator] if is_quoted else "\x1f"
    quoting = csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting) if row]
    names = [cell.strip() for cell in rows[0]] if header else ["u", "i", "r", "note"]
    where = [names.index(name) for name in "uir"] if header else [0, 1, 2]
    width = len(rows[0])
    found = []
    for row in rows[1 if header else 0 :]:
        user, item, rating = (row[position].strip() for position in where)
        value = float("x" if "_" in rating else rating)
        if abs(value) > float(np.finfo(np.float32).max):
            raise ValueError(value)
        if len(row) != width or not user or not item or not math.isfinite(np.float32(value)):
            raise ValueError(row)
        if "\ufffd" in user + item + rating:
            raise ValueError("not UTF-8")
        if any("\n" in cell.rstrip("\r\n") or "\r" in cell.rstrip("\r\n") for cell in row):
            raise ValueError(row)
        found.append((user, item, float(np.float32(value))))
    if len({rating for *_, rating in found}) < 2:
        raise ValueError("constant")
    return list({row[:2]: row for row in found}.values()) if len({row[:2] for row in found}) == len(found) else []


def fast_rows(path: Path, separator: str, *, header: bool) -> list[tuple[str, str, float]] | str:
    """Read the rows with ratinglab, or return its error message."""
    columns = ("u", "i", "r") if header else ("1", "2", "3")
    options = csv_options(
        path=str(path), separator=separator, header=header, columns=columns, duplicates=Duplicates.error
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
            separator, header = FORMS[random.integers(len(FORMS))]
            content = damage(random, seed_file(random, separator, header=header))
            is_packed = random.random() < 0.2
            path = Path(folder) / "ratings"
            path.write_bytes(gzip.compress(content) if is_packed else content)
            verdict = compare(path, content, separator, header=header)
            counted[verdict.partition(": ")[0]] += 1
            if verdict.startswith("FINDING"):
                findings += 1
                print(verdict, separator, header, content)
    print(", ".join(f"{name}: {count:,}" for name, count in counted.most_common()))
    return int(findings > 0)


def compare(path: Path, content: bytes, separator: str, *, header: bool) -> str:
    """Compare the results of the two readers for a file."""
    try:
        fast = fast_rows(path, separator, header=header)
    except Exception as error:
        return f"FINDING: {type(error).__name__}: {error}"
    if isinstance(fast, str) and (
        "\n" in fast or not fast.startswith((str(path), "data.columns", f"{path.name}: every rating", "rows"))
    ):
        return f"FINDING: the message is {fast!r}"
    try:
        slow = slow_rows(content, separator, header=header)
    except (ValueError, LookupError, csv.Error):
        return "both refuse" if isinstance(fast, str) else f"FINDING: only the slow reader refuses; {fast}"
    if isinstance(fast, str):
        return "both refuse" if slow == [] else f"only the slow reader reads: {fast}"
    return "both read the same" if fast == slow else f"FINDING: {fast} is not {slow}"


if __name__ == "__main__":
    sys.exit(main())
