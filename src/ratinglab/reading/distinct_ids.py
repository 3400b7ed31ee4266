"""Distinct ids, and their indices, of a column that is read batch by batch."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ratinglab.ratings.ids import UNKNOWN, IdColumn, IdMap, encode_ids, index_column
from ratinglab.sides import SideName

MAX_RANGE = 1 << 28
"""Maximum range of the integer ids that are marked in a table of flags. Ids outside it are kept as text."""


class DistinctIds:
    """Distinct ids of a column: a first pass over its batches collects the ids, a second one looks up their indices.

    Gives the same indices as `index_column` on all batches at once.
    """

    def __init__(self, *, side: SideName) -> None:
        """Hold no ids yet; messages name the side."""
        self._side = side
        self._lowest, self._is_used = 0, np.zeros(0, dtype=np.bool_)
        self._texts = pa.array([], pa.string())
        self._pending: list[pa.StringArray] = []
        self._num_pending = 0

    def add(self, ids: IdColumn) -> None:
        """Add the ids of a batch."""
        if isinstance(ids, np.ndarray):
            if len(ids) == 0:
                return
            if self._widen(int(ids.min()), int(ids.max())):
                self._is_used[ids - np.int64(self._lowest)] = True
                return
        ids = encode_ids(ids)
        self._pending.append(ids.dictionary)
        self._num_pending += len(ids.dictionary)
        if self._num_pending > len(self._texts):  # so each id is merged only a few times
            self._merge()

    def _widen(self, lowest: int, highest: int) -> bool:
        """Widen the table of flags to cover these integers, or return False if it would be too large."""
        count = len(self._is_used)
        first = min(lowest, self._lowest) if count else lowest
        stop = max(highest + 1, self._lowest + count) if count else highest + 1
        if stop - first > MAX_RANGE:
            return False
        if count == 0 or first < self._lowest or stop > self._lowest + count:
            stop = min(first + MAX_RANGE, stop + (stop - first) // 2)  # with room to grow
            wider = np.zeros(stop - first, dtype=np.bool_)
            wider[self._lowest - first : self._lowest - first + count] = self._is_used
            self._lowest, self._is_used = first, wider
        return True

    def _merge(self) -> None:
        self._texts = pc.unique(pa.chunked_array([self._texts, *self._pending]))
        self._pending, self._num_pending = [], 0

    def assign_indices(self) -> tuple[IdMap, list[str]]:
        """Index all ids; return them with notes on them, like `index_column`. Call it once, before `index_of`."""
        self._merge()
        marked = np.flatnonzero(self._is_used) + self._lowest
        chunks = [chunk for chunk in (marked, self._texts.dictionary_encode()) if len(chunk)]
        ids, index, notes = index_column(chunks, side=self._side)
        self._index_by_flag = np.full(len(self._is_used), UNKNOWN, dtype=np.int32)
        self._index_by_flag[marked - self._lowest] = index[: len(marked)]
        self._index_of_text = index[len(marked) :]
        self._text_table = pd.Index(self._texts.to_pandas())
        return ids, notes

    def index_of(self, ids: IdColumn) -> NDArray[np.int32]:
        """Look up the index of each id of a batch: (B,) int32, UNKNOWN if it was not added."""
        if not isinstance(ids, np.ndarray):
            position = self._text_table.get_indexer(ids.dictionary.to_pandas())
            index = np.where(position >= 0, np.append(self._index_of_text, UNKNOWN)[position], UNKNOWN)
            return index.astype(np.int32)[ids.indices.to_numpy()]
        offset = ids - np.int64(self._lowest)
        has_flag = (offset >= 0) & (offset < len(self._index_by_flag))
        if has_flag.all():
            index = self._index_by_flag[offset]
        else:
            index = np.full(len(ids), UNKNOWN, dtype=np.int32)
            index[has_flag] = self._index_by_flag[offset[has_flag]]
        # ids outside the table of flags when they were added
        if len(self._text_table) > 0 and len(unknown := np.flatnonzero(index == UNKNOWN)) > 0:
            index[unknown] = self.index_of(encode_ids(ids[unknown]))
        return index
