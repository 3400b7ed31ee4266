"""Stars, the scale on which models are fitted: any rating scale is converted to 1 to 5 stars."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor  # slow to import: the command line reads this file first

TOLERANCE = 1e-3
"""Largest rounding error of a rating converted to stars, or to stars and back, in stars."""
LIKED_STARS = 4.0
"""Lowest rating in stars that counts as liked, unless ranking.threshold is set."""

Values = TypeVar("Values", float, "Tensor", NDArray[np.float32])


class Stars(NamedTuple):
    """A linear map of a rating scale to 1 to 5 stars.

    Models are fitted on stars, so settings such as lr, init_std and λ mean the same on every rating scale, and ratings
    of a · r + b give the same weights as r. On a scale of 1 to 5 the map is exactly the identity.

    Attributes:
        lowest: the rating of 1 star.
        highest: the rating of 5 stars.
    """

    lowest: float
    highest: float

    @property
    def unit(self) -> float:
        """Rating units per star."""
        return (self.highest - self.lowest) / 4

    @property
    def _zero(self) -> float:
        """The rating of 0 stars."""
        return self.lowest - self.unit

    def to_stars(self, rating: Values) -> Values:
        """Convert ratings to stars."""
        return (rating - self._zero) / self.unit

    def to_rating(self, stars: Values) -> Values:
        """Convert stars to ratings."""
        return stars * self.unit + self._zero

    def liked_threshold(self, threshold: float | None) -> float:
        """Return the lowest rating that counts as liked, in rating units: the threshold, by default LIKED_STARS."""
        return self.to_rating(LIKED_STARS) if threshold is None else threshold


def is_liked(rating: NDArray[np.floating], threshold: float, *, unit: float = 1.0) -> NDArray[np.bool_]:
    """Return whether ratings are at least the threshold, allowing for the rounding of converted ratings: (N,) → (N,).

    `unit` is the size of a star: `Stars.unit` for ratings in rating units, 1 for ratings in stars.
    """
    return rating >= threshold - TOLERANCE * unit
