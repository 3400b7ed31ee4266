"""Rated rows with their predictions."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratinglab.ratings.table import Ratings


class Predictions(NamedTuple):
    """Rows with the predictions of the model and of the bias baseline: (N,) each."""

    rows: Ratings
    predicted: NDArray[np.float32]
    baseline: NDArray[np.float32]

    def take(self, mask: NDArray[np.bool_]) -> "Predictions":
        """Select rows: mask (N,)."""
        return Predictions(self.rows.take(mask), predicted=self.predicted[mask], baseline=self.baseline[mask])
