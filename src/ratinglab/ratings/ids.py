"""The one place where a user's own ids and the indices of the arrays are exchanged."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

UNKNOWN = -1
"""The index of an id that the table does not hold."""


class IdMap:
    """Ids in index order: `ids[index]` is the id of an index.

    Ids are int64, or text where at least one of them is no plain integer (`007` and `1e5` are text).
    """

    def __init__(self, ids: "NDArray[np.int64] | Sequence[int] | Sequence[str] | pd.Index") -> None:
        """Ids must be unique, all integers or all text."""
        self.ids = pd.Index(ids)
        assert self.ids.is_unique, "ids must be unique"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def are_integers(self) -> bool:
        """Whether the ids are int64; else they are text."""
        return self.ids.dtype.kind == "i"

    def index_of(self, ids: Sequence[int | str] | NDArray[np.generic] | pd.Series) -> NDArray[np.int32]:
        """The index of each id: (B,) int32, UNKNOWN where the table does not hold it.

        An integer and its decimal text are the same id, so 42 and "42" both find user 42.
        """
        return np.asarray(self._text.get_indexer(pd.Index(ids).astype(str)), dtype=np.int32)

    @cached_property
    def _text(self) -> pd.Index:
        return self.ids.astype(str)

    def reordered(self, order: NDArray[np.intp]) -> "IdMap":
        """The same ids, of which the one at `order[index]` moves to `index`."""
        return IdMap(self.ids[order])


def sorted_ids(text: NDArray[np.object_]) -> tuple[IdMap, NDArray[np.int32]]:
    """Ids from the distinct texts of a column, and where each of these texts went.

    White space around an id is no part of it. The ids are integers, in numeric order, where each is a plain
    decimal int64; else they are text, in the order of their code points. So the indices do not depend on the
    order of the rows in a file.

    Args:
        text: (D,) distinct texts.

    Returns:
        The ids, and the index of each text: (D,) int32.
    """
    stripped = np.array([value.strip() for value in text], dtype=object)
    integers = _as_integers(stripped)
    unique, index = np.unique(stripped if integers is None else integers, return_inverse=True)
    return IdMap(unique), index.astype(np.int32)


def _as_integers(text: NDArray[np.object_]) -> NDArray[np.int64] | None:
    try:
        integers = np.array([int(value) for value in text], dtype=np.int64)
    except (ValueError, OverflowError):
        return None
    canonical = all(str(integer) == value for integer, value in zip(integers, text, strict=True))
    return integers if canonical else None
