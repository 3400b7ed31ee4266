"""A part's ratings beside their predictions."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Predictions(NamedTuple):
    """Ratings of a part with the predictions of the model and of the bias baseline: (N,) each.

    The counts are the numbers of training ratings of a row's user and item.
    """

    rating: NDArray[np.float32]
    model: NDArray[np.float32]
    baseline: NDArray[np.float32]
    user_count: NDArray[np.int64]
    item_count: NDArray[np.int64]
