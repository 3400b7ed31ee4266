"""Conversion between the ids in the data and array indices."""

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

from ratinglab.errors import UserError, did_you_mean, format_count
from ratinglab.formats.literals import WHOLE_NUMBER
from ratinglab.sides import SideName

UNKNOWN = -1
"""Index of an id that is not in the table."""
VALUES_PER_LOOKUP = 1 << 16
"""Values per lookup, chosen to fit the processor's cache."""
NUM_SAMPLED_IDS = 100
"""Number of ids that are parsed first, to find out whether a column is text."""
MISSING_VALUES = ("null", "nan", "none", "na", "n/a", "<na>", "nil", "undefined", "#n/a", "?")
"""Texts that programs write for missing values, in lower case."""
MAX_COMPARED_IDS = 10_000
"""Maximum number of ids to compare with an unknown id, which takes about a second."""
IdColumn: TypeAlias = "NDArray[np.int32] | NDArray[np.int64] | pa.DictionaryArray"
"""Ids of some rows: integers, or dictionary-encoded text."""
ParsedBatch: TypeAlias = "list[Any]"
"""Columns of a batch of rows: ids of users and of items (IdColumn) and, as arrays, rating (float32) and timestamp.

The timestamp, if it is read, is int64, float64 or datetime64.
"""


class IdMap:
    """The ids of users or items in index order: `ids[index]` is the id at an index.

    All ids are int64 unless at least one is not a plain integer (such as `007` or `1e5`). Then all are text.
    """

    def __init__(self, ids: "NDArray[np.int64] | Sequence[int] | Sequence[str] | pd.Index") -> None:
        """Hold distinct ids in index order, all integers or all text."""
        self.ids = pd.Index(ids)
        assert self.ids.is_unique, "ids must be unique"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def are_integers(self) -> bool:
        """Whether the ids are int64, not text."""
        return self.ids.dtype.kind == "i"

    def index_of(self, ids: Sequence[int | str] | NDArray[np.generic] | pd.Series) -> NDArray[np.int32]:
        """Look up the index of each id: (B,) int32, UNKNOWN if the id is not in the table.

        Looks for the exact text first, then for the same whole number: 42, 42.0, "42" and "42.0" all find user 42.

        Raises:
            UserError: an id is missing (None or NaN), or a number that is not whole.
        """
        queries = pd.Index(ids)
        if isinstance(queries, pd.CategoricalIndex) and not queries.hasnans:  # look up each distinct id once
            return self.index_of(queries.categories.to_series())[queries.codes]
        if queries.hasnans:
            row = int(np.argmax(queries.isna()))
            raise UserError(f"an id must not be missing, got {queries[row]} at position {row}")
        if queries.dtype.kind == "f":
            is_whole = (queries == np.floor(queries)) & (np.abs(queries) < 2.0**53)
            if not is_whole.all():
                row = int(np.argmin(is_whole))
                raise UserError(f"an id must be an integer or text, got {queries[row]} at position {row}")
            queries = queries.astype(np.int64)
        texts = queries.astype(str)
        index = np.asarray(self._text.get_indexer(texts), dtype=np.int32)
        unknown = np.flatnonzero(index == UNKNOWN)
        if queries.dtype.kind not in "iu" and len(unknown) > 0:  # 42.0 as text
            whole = texts[unknown].str.replace(WHOLE_NUMBER, r"\1", regex=True)
            index[unknown] = self._text.get_indexer(whole)
        return index

    def did_you_mean(self, unknown_id: int | str, *, among: int) -> str:
        """Suggest the nearest of the first `among` ids, like `errors.did_you_mean`.

        An id that differs only by leading zeros is nearest. Suggests no other integers, since similar digits rarely
        mean a typo. Among many ids, compares only those that share the first or second half with the unknown id.
        """
        texts, name = self._text[:among], str(unknown_id)
        padded = texts[texts.str.lstrip("0") == name.lstrip("0")]
        if len(padded) > 0:
            return f"; did you mean {padded[0]}?"
        if self.are_integers:
            return ""
        if among > MAX_COMPARED_IDS:
            half, folded = len(name) // 2, texts.str.casefold()
            texts = texts[folded.str.startswith(name[:half].casefold()) | folded.str.endswith(name[half:].casefold())]
            texts = texts[texts.str.len().isin([len(name) - 1, len(name), len(name) + 1])][:MAX_COMPARED_IDS]
        return did_you_mean(name, texts)

    @cached_property
    def _text(self) -> pd.Index:
        return self.ids.astype(str)

    def reordered(self, order: NDArray[np.intp]) -> "IdMap":
        """Return the ids in a new order, given the old index of each new index."""
        return IdMap(self.ids[order])


def parse_ids(ids: pa.StringArray | pa.Int64Array) -> IdColumn:
    """Convert ids to integers (int32 if all fit) if all are plain decimal int64, or else dictionary-encode the text."""
    if pa.types.is_integer(ids.type):
        integers = ids.to_numpy()
        bounds = np.iinfo(np.int32)
        is_small = len(integers) > 0 and bounds.min <= integers.min() and integers.max() <= bounds.max
        return integers.astype(np.int32) if is_small else integers
    # pyarrow is slow if many texts are not integers, so try a few first
    integers = None if _parse_integers(ids[:NUM_SAMPLED_IDS]) is None else _parse_integers(ids)
    return ids.dictionary_encode() if integers is None else integers


def parse_batch_ids(batch: pa.RecordBatch) -> ParsedBatch:
    """Parse the ids of a batch with the columns user, item, rating and, if read, timestamp."""
    user, item, *numbers = batch.columns
    return [parse_ids(user), parse_ids(item), *(column.to_numpy() for column in numbers)]


def index_column(chunks: Sequence[IdColumn], *, side: SideName) -> tuple[IdMap, NDArray[np.int32], list[str]]:
    """Index the ids of a column.

    Strips white space around ids. If all ids are plain decimal int64, or end with a decimal point and zeros as in 42.0,
    they become integers in numeric order. Otherwise they stay text, in code-point order. The indices therefore do not
    depend on the order of rows in a file.

    Args:
        chunks: the ids of all rows, in chunks from `parse_ids`. A single writable chunk of int32 becomes the index.
        side: side of the ids in messages.

    Returns:
        the distinct ids; the index of each row, (N,) int32; and notes on ids that are nearly equal or look like missing
        values.
    """
    if all(isinstance(chunk, np.ndarray) for chunk in chunks):
        distinct, index = _index_integers(chunks)
        return IdMap(distinct), index, []
    encoded = pa.chunked_array([encode_ids(chunk) for chunk in chunks]).combine_chunks()
    texts = pc.utf8_trim_whitespace(encoded.dictionary)
    notes: list[str] = []
    if not texts.equals(encoded.dictionary):
        note = "read {} as another id, since only white space differs"
        notes = _note_similar_ids(encoded.dictionary.sort(), str.strip, note, side=side)
    integers = _parse_integers(texts)
    if integers is None:
        integers = _parse_integers(pc.replace_substring_regex(texts, WHOLE_NUMBER, r"\1"))
        if integers is not None:
            notes.append(
                f"{side} ids written as {texts.filter(pc.match_substring(texts, '.'))[0]} were read as integers"
            )
    if integers is not None:
        distinct, index_of_text = _index_integers([integers])
        ids = IdMap(distinct)
    else:
        distinct = pc.unique(texts).sort()  # UTF-8 sorts by code point
        ids, index_of_text = IdMap(distinct.to_pandas()), pc.index_in(texts, value_set=distinct).to_numpy()
        notes += _note_doubtful_ids(distinct, side=side)
    return ids, index_of_text[encoded.indices.to_numpy()], notes


def encode_ids(ids: IdColumn) -> pa.DictionaryArray:
    """Return ids as dictionary-encoded text."""
    return pa.array(ids).cast(pa.string()).dictionary_encode() if isinstance(ids, np.ndarray) else ids


def _index_integers(chunks: Sequence[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the sorted distinct values, and the position among them of each value of all chunks.

    The positions replace the values of a single writable chunk of int32.
    """
    chunks = [chunk for chunk in chunks if len(chunk) > 0]
    count = sum(map(len, chunks))
    lowest, highest = min(int(chunk.min()) for chunk in chunks), max(int(chunk.max()) for chunk in chunks)
    if highest - lowest > 4 * count + 1_000_000:
        distinct, position = np.unique(np.concatenate(chunks), return_inverse=True)
        return distinct.astype(np.int64), position.astype(np.int32)
    # most ids are nearly contiguous, for which a lookup table of the whole range is faster than sorting
    is_used = np.zeros(highest - lowest + 1, dtype=np.bool_)
    offset = np.int64(lowest)
    size = VALUES_PER_LOOKUP
    pieces = [chunk[start : start + size] for chunk in chunks for start in range(0, len(chunk), size)]
    for piece in pieces:
        is_used[piece - offset] = True
    position = np.cumsum(is_used, dtype=np.int32) - np.int32(1)
    is_reused = len(chunks) == 1 and chunks[0].dtype == np.int32 and chunks[0].flags.writeable
    index = chunks[0] if is_reused else np.empty(count, dtype=np.int32)
    stop = 0
    for piece in pieces:
        start, stop = stop, stop + len(piece)
        np.take(position, piece - offset, out=index[start:stop], mode="clip")
    return np.flatnonzero(is_used).astype(np.int64) + lowest, index


def _parse_integers(text: pa.StringArray) -> NDArray[Any] | None:
    """Parse texts as integers, int32 if all fit. Returns None if a text, such as `007`, `+7` or `0x7`, is not plain."""
    for data_type in (pa.int32(), pa.int64()):
        with suppress(pa.ArrowInvalid):
            integers = text.cast(data_type).to_numpy()
            return None if _has_leading_zeros(text, integers) else integers
    return None


def _has_leading_zeros(text: pa.StringArray, integers: NDArray[Any]) -> bool:
    """Return whether a text is like 007, 0x7, -07 or -0, which pyarrow parses as an integer."""
    begins_with_zero = pc.starts_with(text, "0")
    if pc.any(begins_with_zero).as_py() and pc.sum(begins_with_zero) != pc.sum(pc.equal(text, "0")):
        return True
    return bool(integers.min(initial=1) <= 0 and pc.any(pc.starts_with(text, "-0")).as_py())


def _note_doubtful_ids(texts: pa.StringArray, *, side: SideName) -> list[str]:
    """Make notes on text ids that are nearly equal or look like missing values."""
    numbers = texts.filter(pc.match_substring_regex(texts, r"^[+-]?[0-9]{1,18}(\.0*)?$"))
    notes = _note_similar_ids(
        numbers,
        lambda text: int(text.partition(".")[0]),
        "kept {} apart from another id, although only the spelling of a number differs",
        side=side,
    )
    folded = pc.utf8_lower(pc.utf8_normalize(texts, form="NFC"))
    if pc.count_distinct(folded).as_py() < len(texts):
        notes += _note_similar_ids(
            texts,
            lambda text: normalize("NFC", text).lower(),
            "kept {} apart from another id, although only case or accent encoding differs",
            side=side,
        )
    missing = texts.filter(pc.is_in(pc.utf8_lower(texts), pa.array(MISSING_VALUES)))
    if len(missing) > 0:
        examples = ", ".join(map(repr, missing.to_pylist()))
        notes.append(f"{side} ids that look like missing values, kept as ids: {examples}")
    return notes


def _note_similar_ids(
    texts: pa.StringArray, key: Callable[[str], int | str], note: str, *, side: SideName
) -> list[str]:
    """Make a note, with an example, if texts have the same key as earlier texts. Their number replaces {} in `note`."""
    first: dict[int | str, str] = {}
    pairs = [(first.setdefault(key(text), text), text) for text in texts.to_pylist()]
    similar = [pair for pair in pairs if pair[0] != pair[1]]
    if not similar:
        return []
    one, other = similar[0]
    quote = ascii if normalize("NFC", one) == normalize("NFC", other) else repr  # the two encodings of é look the same
    return [f"{note.format(format_count(len(similar), f'{side} id'))}, such as {quote(one)} and {quote(other)}"]
