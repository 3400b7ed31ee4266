"""Orders of recommendation lists other than by the predicted rating: by expected gain, or by a lower bound."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.models.predictor import Predictor
from ratinglab.recommend.interest import Interest
from ratinglab.stars import Stars, is_liked

MIN_STANDARD_DEVIATION = 0.01
"""Minimum σ, in stars; avoids a division by 0 for an exact fit."""
UNRATED_STD_FACTOR = 2.0
"""Ratio of σ for unrated items to the RMSE of held-out ratings, found together with the settings in interest.py. Users
chose to rate the held-out items, and the model learned from such ratings only."""
MAX_LEVEL_ROWS = 1_000_000
"""Maximum number of ratings among which `find_rating_levels` looks for levels."""
STANDARD_DEVIATIONS_AT_ONCE = 1 << 20
"""Number of standard deviations computed at once: 4 MiB per table."""
Score = Callable[[Tensor, Tensor], Tensor]
"""Function whose values order lists, highest first: user (B,), predicted rating (B, C) float32, unclipped → (B, C)
float32. It may overwrite the predicted ratings."""
Order = Callable[[Tensor], Score]
"""Function that returns the scores for lists of some items: item (C,)."""


@dataclass(frozen=True)
class ExpectedGain:
    """s_ui · P(r_ui ≥ t): a user's interest in an item, times the probability that the user likes it.

    P(r_ui ≥ t) = Φ((r̂_ui − b) / σ), with the standard normal distribution function Φ: a rating is normally distributed
    around its prediction, and rounded to the nearest rating of the scale.

    Attributes:
        interest: s, the interest model.
        border: b, midpoint between the highest rating below t and the lowest liked one, in rating units.
        standard_deviation: σ, UNRATED_STD_FACTOR times the RMSE of predictions, in rating units, above 0.
    """

    interest: Interest
    border: float
    standard_deviation: float

    @classmethod
    def from_rating_levels(
        cls, interest: Interest, levels: NDArray[np.float32], *, threshold: float, mse: float, stars: Stars
    ) -> "ExpectedGain":
        """Compute the border and σ from the distinct training ratings `levels`, (L,), and the predictions' MSE.

        `threshold` is the lowest rating that counts as liked, in rating units; `mse` is in squared rating units.
        """
        border, liked = threshold, is_liked(levels, threshold, unit=stars.unit)
        if liked.any() and not liked.all():
            border = (float(levels[liked].min()) + float(levels[~liked].max())) / 2
        lowest = max(MIN_STANDARD_DEVIATION * stars.unit, float(np.finfo(np.float32).tiny))
        return cls(interest, border, max(UNRATED_STD_FACTOR * mse**0.5, lowest))

    def __call__(self, item: Tensor) -> Score:
        """Return a function that computes the gain of users from these items; see `Order`."""
        interest = self.interest.take_items(item.cpu())  # once for all users, because it copies the items' factors

        def score(user: Tensor, predicted: Tensor) -> Tensor:
            likely = torch.special.ndtr(predicted.sub_(self.border).div_(self.standard_deviation), out=predicted)
            return likely.mul_(interest.estimate(user.cpu()).to(likely.device))

        return score


def lower_bound(item: Tensor, *, predictor: Predictor) -> Score:
    """Return a function that computes r̂_ui − σ_ui: the prediction minus the standard deviation of a rating around it.

    For users without training ratings, who have no standard deviations, the bound is the prediction. All items must
    have training ratings. See `Order`.
    """

    def score(user: Tensor, predicted: Tensor) -> Tensor:
        known = predictor.baseline.is_known_user(user).nonzero()[:, 0]
        for row in known.split(max(1, STANDARD_DEVIATIONS_AT_ONCE // len(item))):
            predicted[row] -= predictor.standard_deviation_table(user[row], item, predicted[row])
        return predicted

    return score


def find_rating_levels(rating: NDArray[np.float32]) -> NDArray[np.float32]:
    """Find the distinct ratings, ascending: (N,) → (L,).

    With more than MAX_LEVEL_ROWS ratings, looks at every n-th, since the first rows of a sorted table may miss some.
    """
    return np.unique(rating[:: max(1, math.ceil(len(rating) / MAX_LEVEL_ROWS))])
