"""Conversion between ids, as in the data, and array indices."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

UNKNOWN = -1
"""Index of an id that is not in the table."""
CHUNK = 1 << 16
"""Values per lookup."""
IdColumn: TypeAlias = "NDArray[np.int32] | pa.DictionaryArray"
"""Ids of rows: integers, which are overwritten, or dictionary-encoded text."""


class IdMap:
    """Ids in index order: `ids[index]` is the id of an index.

    Ids are int64, or text if at least one of them is not a plain integer (`007` and `1e5` are text).
    """

    def __init__(self, ids: "NDArray[np.int64] | Sequence[int] | Sequence[str] | pd.Index") -> None:
        """Take unique ids, all integers or all text."""
        self.ids = pd.Index(ids)
        assert self.ids.is_unique, "ids must be unique"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def are_integers(self) -> bool:
        """Whether the ids are int64, not text."""
        return self.ids.dtype.kind == "i"

    def index_of(self, ids: Sequence[int | str] | NDArray[np.generic] | pd.Series) -> NDArray[np.int32]:
        """Look up the index of each id: (B,) int32, UNKNOWN if it is not in the table.

        An integer and its decimal text are the same id: 42 and "42" both find user 42.
        """
        return np.asarray(self._text.get_indexer(pd.Index(ids).astype(str)), dtype=np.int32)

    @cached_property
    def _text(self) -> pd.Index:
        return self.ids.astype(str)

    def reordered(self, order: NDArray[np.intp]) -> "IdMap":
        """Reorder the ids: `order[0]`, `order[1]`, …"""
        return IdMap(self.ids[order])


def index_column(parts: Sequence[IdColumn], *, what: str) -> tuple[IdMap, NDArray[np.int32], list[str]]:
    """Index the ids of a column.

    Strips white space around ids. If every id is a plain decimal int64, the ids are integers in numeric order;
    otherwise they are text in code-point order. The indices therefore do not depend on the order of rows in a file.

    Args:
        parts: the rows: integers, which are overwritten, or dictionary-encoded text, each part with its dictionary.
        what: "user" or "item".

    Returns:
        The ids, the index of each row: (N,) int32, and notes on ids that are nearly equal.
    """
    if all(isinstance(part, np.ndarray) for part in parts):
        distinct, index = _distinct(parts[0] if len(parts) == 1 else np.concatenate(parts))
        return IdMap(distinct), index, []
    chunks = [_encoded(part) if isinstance(part, np.ndarray) else part for part in parts]
    text = pa.chunked_array([chunk.dictionary for chunk in chunks])
    notes: list[str] = []
    integers = _as_integers(text)
    if integers is None:
        trimmed = pc.utf8_trim_whitespace(text)
        notes += _alike_but_for_space(text, trimmed, what=what)
        integers, text = _as_integers(trimmed), trimmed
    if integers is not None:
        distinct, place = _distinct(integers)
        ids = IdMap(distinct)
    else:
        texts = pc.unique(text)
        texts = texts.take(pc.array_sort_indices(texts))  # UTF-8 sorts by code point
        ids, place = IdMap(pd.Index(texts.to_pandas())), pc.index_in(text, value_set=texts).to_numpy()
        notes += _alike_as_numbers(texts, what=what)
    index = np.empty(sum(len(chunk) for chunk in chunks), dtype=np.int32)
    row = entry = 0
    for chunk in chunks:
        of_entry = place[entry : entry + len(chunk.dictionary)]
        np.take(of_entry, chunk.indices.to_numpy(), out=index[row : row + len(chunk)], mode="clip")
        row, entry = row + len(chunk), entry + len(chunk.dictionary)
    return ids, index, notes


def _encoded(integers: NDArray[np.int32]) -> pa.DictionaryArray:
    encoded = pa.array(integers).dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices, encoded.dictionary.cast(pa.string()))


def _distinct(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The sorted distinct values, and the position of each value among them. Overwrites int32 values."""
    lowest, highest = int(values.min()), int(values.max())
    if highest - lowest > 4 * len(values) + 1_000_000:
        distinct, place = np.unique(values, return_inverse=True)
        return distinct.astype(np.int64), place.astype(np.int32)
    # Most ids are nearly contiguous: a lookup table of the whole range is faster than sorting.
    is_used = np.zeros(highest - lowest + 1, dtype=np.bool_)
    pieces = [slice(start, start + CHUNK) for start in range(0, len(values), CHUNK)]  # fit the processor's cache
    for piece in pieces:
        is_used[values[piece] - lowest] = True
    number = np.cumsum(is_used, dtype=np.int32) - np.int32(1)
    index: NDArray[np.int32] = values if values.dtype == np.int32 else np.empty(len(values), dtype=np.int32)
    for piece in pieces:
        np.take(number, values[piece] - lowest, out=index[piece], mode="clip")
    return np.flatnonzero(is_used).astype(np.int64) + lowest, index


def _as_integers(text: pa.ChunkedArray) -> NDArray[np.int64] | None:
    """Parse texts as integers; None if one is not a plain integer, such as `007`, `+7` or `0x7`."""
    try:
        integers = text.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        return None
    if any(pc.any(pc.match_substring(text, letter)).as_py() for letter in "xX"):
        return None
    # No text is shorter than the plain form of its integer: if the total lengths agree, every text is plain.
    length = len(integers) + sum(int(np.count_nonzero(integers >= 10**digits)) for digits in range(1, 19))
    if (integers < 0).any():
        length = sum(len(str(integer)) for integer in integers.tolist())
    return integers if pc.sum(pc.binary_length(text)).as_py() == length else None


def _alike_but_for_space(text: pa.ChunkedArray, trimmed: pa.ChunkedArray, *, what: str) -> list[str]:
    """Make a note if ids differ only in surrounding white space."""
    if not pc.any(pc.not_equal(text, trimmed)).as_py():
        return []
    alike = _same_by(str.strip, pc.unique(text).to_pylist())
    return [
        f"{what} ids that differ from others only in white space, and are taken as the same: {number:,}, such as {pair}"
        for number, pair in alike
    ]


def _alike_as_numbers(texts: pa.Array, *, what: str) -> list[str]:
    """Make a note if ids are the same number, such as `7`, `007` and `7.0`, but stay separate as text."""
    numbers = texts.filter(pc.match_substring_regex(texts, r"^[+-]?[0-9]{1,18}(\.0*)?$"))
    return [
        f"{what} ids that differ from others only in how a number is written, and are not taken as the same: "
        f"{number:,}, such as {pair}"
        for number, pair in _same_by(lambda text: int(text.partition(".")[0]), numbers.to_pylist())
    ]


def _same_by(key: Callable[[str], int | str], texts: Iterable[str]) -> list[tuple[int, str]]:
    """Number of texts that share the key of an earlier one, with the first such pair; empty if none do."""
    first: dict[int | str, str] = {}
    pairs = ((first.setdefault(key(text), text), text) for text in texts)
    same = [pair for pair in pairs if pair[0] != pair[1]]
    return [(len(same), "{!r} and {!r}".format(*same[0]))] if same else []
