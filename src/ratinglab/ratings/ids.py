"""Conversion between ids, as in the data, and array indices."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, TypeAlias
from unicodedata import normalize

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean

UNKNOWN = -1
"""Index of an id that is not in the table."""
VALUES_PER_LOOKUP = 1 << 16
"""Values per lookup, so that they fit the processor's cache."""
SAMPLE = 100
"""Number of ids checked first to find out whether a column is text."""
WHOLE_NUMBER = r"^([+-]?\d+)\.0*$"
"""An integer such as 42.0, as pandas writes it if its column had missing values."""
MISSING = ("null", "nan", "none", "na", "n/a", "<na>", "nil", "undefined", "#n/a", "?")
"""Texts, in lower case, that programs write for missing values."""
MAX_COMPARED = 10_000
"""Maximum number of ids to compare with an unknown one, which takes about a second."""
IdColumn: TypeAlias = "NDArray[np.int32] | NDArray[np.int64] | pa.DictionaryArray"
"""Ids of rows: integers, or dictionary-encoded text."""


class IdMap:
    """Ids in index order: `ids[index]` is the id of an index.

    Ids are int64, or text if at least one of them is not a plain integer (`007` and `1e5` are text).
    """

    def __init__(self, ids: "NDArray[np.int64] | Sequence[int] | Sequence[str] | pd.Index") -> None:
        """Map distinct ids, all integers or all text, in index order."""
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

        An exact match of the text comes first. Otherwise a whole number equals its decimal texts: 42, 42.0, "42" and
        "42.0" all find user 42.

        Raises:
            UserError: an id is missing (None or NaN), or a number that is not whole.
        """
        wanted = pd.Index(ids)
        if isinstance(wanted, pd.CategoricalIndex) and not wanted.hasnans:  # look up each distinct id once
            return self.index_of(wanted.categories.to_series())[wanted.codes]
        if wanted.hasnans:
            row = int(np.argmax(wanted.isna()))
            raise UserError(f"an id must not be missing, got {wanted[row]} at position {row}")
        if wanted.dtype.kind == "f":
            is_whole = (wanted == np.floor(wanted)) & (np.abs(wanted) < 2.0**53)
            if not is_whole.all():
                row = int(np.argmin(is_whole))
                raise UserError(f"an id must be an integer or text, got {wanted[row]} at position {row}")
            wanted = wanted.astype(np.int64)
        texts = wanted.astype(str)
        index = np.asarray(self._text.get_indexer(texts), dtype=np.int32)
        unknown = np.flatnonzero(index == UNKNOWN)
        if wanted.dtype.kind not in "iu" and len(unknown) > 0:  # 42.0 as text
            whole = texts[unknown].str.replace(WHOLE_NUMBER, r"\1", regex=True)
            index[unknown] = self._text.get_indexer(whole)
        return index

    def did_you_mean(self, wanted: int | str, *, among: int) -> str:
        """Suggest the nearest of the first `among` ids, like `errors.did_you_mean`.

        Suggests no integers, since similar digits rarely mean a typo. Among many ids, compares only some that share the
        first or the second half of the wanted one.
        """
        if self.are_integers:
            return ""
        texts, name = self._text[:among], str(wanted)
        if among > MAX_COMPARED:
            half = len(name) // 2
            texts = texts[texts.str.startswith(name[:half]) | texts.str.endswith(name[half:])]
            texts = texts[texts.str.len().isin([len(name) - 1, len(name), len(name) + 1])][:MAX_COMPARED]
        return did_you_mean(name, texts)

    @cached_property
    def _text(self) -> pd.Index:
        return self.ids.astype(str)

    def reordered(self, order: NDArray[np.intp]) -> "IdMap":
        """Return the ids in a new order, given the old index of each new one."""
        return IdMap(self.ids[order])


def parsed_ids(ids: pa.StringArray | pa.Int64Array) -> IdColumn:
    """Convert ids to integers (int32 if all fit) if all are plain decimal int64; else dictionary-encode the text."""
    if pa.types.is_integer(ids.type):
        integers = ids.to_numpy()
        bounds = np.iinfo(np.int32)
        is_small = len(integers) > 0 and bounds.min <= integers.min() and integers.max() <= bounds.max
        return integers.astype(np.int32) if is_small else integers
    # pyarrow is slow if many texts are not integers, so try a few first
    integers = None if _as_integers(ids[:SAMPLE]) is None else _as_integers(ids)
    return ids.dictionary_encode() if integers is None else integers


def with_parsed_ids(batch: pa.RecordBatch) -> list[Any]:
    """Parse the ids of a batch whose columns are user, item and numbers."""
    user, item, *numbers = batch.columns
    return [parsed_ids(user), parsed_ids(item), *numbers]


def index_column(parts: Sequence[IdColumn], *, what: str) -> tuple[IdMap, NDArray[np.int32], list[str]]:
    """Index the ids of a column.

    Strips white space around ids. The ids are integers in numeric order if all of them are plain decimal int64, or end
    with a decimal point and zeros as in 42.0; otherwise they are text in code-point order. So the indices do not depend
    on the order of rows in a file.

    Args:
        parts: the rows, in parts from `parsed_ids`.

    Returns:
        the ids; the index of each row, (N,) int32; and notes on ids that are nearly equal or look like missing values.

    Raises:
        UserError: an id has a NUL character.
    """
    if all(isinstance(part, np.ndarray) for part in parts):
        distinct, index = _distinct(parts)
        return IdMap(distinct), index, []
    encoded = pa.chunked_array(
        [
            pa.array(part).cast(pa.string()).dictionary_encode() if isinstance(part, np.ndarray) else part
            for part in parts
        ]
    ).combine_chunks()
    texts = pc.utf8_trim_whitespace(encoded.dictionary)
    with_nul = texts.filter(pc.match_substring(texts, "\0"))
    if len(with_nul) > 0:
        raise UserError(f"the {what} id {with_nul[0].as_py()!r} has a NUL character: is the file damaged, or UTF-16?")
    notes: list[str] = []
    if not texts.equals(encoded.dictionary):
        note = f"{what} ids that differ from another id only in white space, read as the same id"
        notes = _note_on_alike(encoded.dictionary.sort(), str.strip, note)
    integers = _as_integers(texts)
    if integers is None:
        integers = _as_integers(pc.replace_substring_regex(texts, WHOLE_NUMBER, r"\1"))
        if integers is not None:
            notes.append(
                f"{what} ids written as {texts.filter(pc.match_substring(texts, '.'))[0]} were read as integers"
            )
    if integers is not None:
        distinct, index_of_text = _distinct([integers])
        ids = IdMap(distinct)
    else:
        distinct = pc.unique(texts).sort()  # UTF-8 sorts by code point
        ids, index_of_text = IdMap(distinct.to_pandas()), pc.index_in(texts, value_set=distinct).to_numpy()
        notes += _notes_on_texts(distinct, what=what)
    return ids, index_of_text[encoded.indices.to_numpy()], notes


def _distinct(parts: Sequence[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the sorted distinct values, and the position among them of each value of all parts."""
    parts = [part for part in parts if len(part) > 0]
    count = sum(map(len, parts))
    lowest, highest = min(int(part.min()) for part in parts), max(int(part.max()) for part in parts)
    if highest - lowest > 4 * count + 1_000_000:
        distinct, place = np.unique(np.concatenate(parts), return_inverse=True)
        return distinct.astype(np.int64), place.astype(np.int32)
    # most ids are nearly contiguous, for which a lookup table of the whole range is faster than sorting
    is_used = np.zeros(highest - lowest + 1, dtype=np.bool_)
    offset = np.int64(lowest)
    size = VALUES_PER_LOOKUP
    pieces = [part[start : start + size] for part in parts for start in range(0, len(part), size)]
    for piece in pieces:
        is_used[piece - offset] = True
    number = np.cumsum(is_used, dtype=np.int32) - np.int32(1)
    index = np.empty(count, dtype=np.int32)
    stop = 0
    for piece in pieces:
        start, stop = stop, stop + len(piece)
        np.take(number, piece - offset, out=index[start:stop], mode="clip")
    return np.flatnonzero(is_used).astype(np.int64) + lowest, index


def _as_integers(text: pa.StringArray) -> NDArray[Any] | None:
    """Parse texts as integers, int32 if all fit; None if one is not a plain integer, such as `007`, `+7` or `0x7`."""
    for kind in (pa.int32(), pa.int64()):
        with suppress(pa.ArrowInvalid):
            integers = text.cast(kind).to_numpy()
            return None if _has_leading_zeros(text, integers) else integers
    return None


def _has_leading_zeros(text: pa.StringArray, integers: NDArray[Any]) -> bool:
    """Return whether a text is like 007, 0x7, -07 or -0, which pyarrow parses as integers."""
    begins_with_zero = pc.starts_with(text, "0")
    if pc.any(begins_with_zero).as_py() and pc.sum(begins_with_zero) != pc.sum(pc.equal(text, "0")):
        return True
    return bool(integers.min(initial=1) <= 0 and pc.any(pc.starts_with(text, "-0")).as_py())


def _notes_on_texts(texts: pa.StringArray, *, what: str) -> list[str]:
    """Make notes on text ids that are nearly equal or look like missing values."""
    numbers = texts.filter(pc.match_substring_regex(texts, r"^[+-]?[0-9]{1,18}(\.0*)?$"))
    ending = "kept as separate ids"
    notes = _note_on_alike(
        numbers,
        lambda text: int(text.partition(".")[0]),
        f"{what} ids that differ from another id only in how a number is written, {ending}",
    )
    folded = pc.utf8_lower(pc.utf8_normalize(texts, form="NFC"))
    if pc.count_distinct(folded).as_py() < len(texts):
        notes += _note_on_alike(
            texts,
            lambda text: normalize("NFC", text).lower(),
            f"{what} ids that differ from another id only in case or accent encoding, {ending}",
        )
    missing = texts.filter(pc.is_in(pc.utf8_lower(texts), pa.array(MISSING)))
    if len(missing) > 0:
        listed = ", ".join(map(repr, missing.to_pylist()))
        notes.append(f"{what} ids that look like missing values, kept as ids: {listed}")
    return notes


def _note_on_alike(texts: pa.StringArray, key: Callable[[str], int | str], note: str) -> list[str]:
    """Make a note with an example if texts share the key of an earlier one."""
    first: dict[int | str, str] = {}
    pairs = [(first.setdefault(key(text), text), text) for text in texts.to_pylist()]
    alike = [pair for pair in pairs if pair[0] != pair[1]]
    if not alike:
        return []
    shown = ascii if normalize("NFC", alike[0][0]) == normalize("NFC", alike[0][1]) else repr  # é looks the same twice
    return [f"{note}: {len(alike):,}, such as {shown(alike[0][0])} and {shown(alike[0][1])}"]
