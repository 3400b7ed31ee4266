"""Implicit feedback: pairs of users and rated items."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ratinglab.batches import Batch
from ratinglab.stars import is_liked


class RatedPairs(NamedTuple):
    """Who rated what: user (N,) int32, and item (N,) int32."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]

    def transpose(self) -> "RatedPairs":
        """Exchange users and items."""
        return RatedPairs(self.item, self.user)


def liked_rows(rows: Batch, min_stars: float | None) -> Batch:
    """Select the rows whose rating, in stars, is at least min_stars. With None, select all rows."""
    return rows if min_stars is None else rows.take(torch.from_numpy(is_liked(rows.rating.numpy(), min_stars)))
