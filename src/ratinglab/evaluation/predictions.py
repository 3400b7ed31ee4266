"""A part's ratings beside their predictions."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Predictions(NamedTuple):
    """Rows of a part with their predictions.

    Attributes:
        rating: (N,) float32, the true ratings.
        model: (N,) float32, the model's predictions.
        baseline: (N,) float32, the bias baseline's predictions.
        user_count: (N,) int64, number of training ratings of the row's user.
        item_count: (N,) int64, number of training ratings of the row's item.
    """

    rating: NDArray[np.float32]
    model: NDArray[np.float32]
    baseline: NDArray[np.float32]
    user_count: NDArray[np.int64]
    item_count: NDArray[np.int64]
