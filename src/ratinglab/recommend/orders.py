"""Orders of recommendation lists other than by the predicted rating: by expected gain, or by a lower bound."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.models.predictor import Predictor
from ratinglab.recommend.interest import Interest
from ratinglab.stars import Stars

LEAST_DEVIATION = 0.01
"""Lower bound of σ, in stars: a model that fits exactly would divide by 0."""
STEP_ROWS = 1_000_000
"""Number of ratings from which the step of the scale is found."""
ENTRIES = 1 << 20
"""Number of deviations computed at once: 4 MiB per table."""


@dataclass(frozen=True)
class ExpectedGain:
    """s_ui · P(r_ui ≥ t): the interest of a user in an item, times the probability of a rating that the user likes.

    P(r_ui ≥ t) = Φ((r̂_ui − t + step / 2) / σ), with Φ the standard normal distribution function: a rating is a normal
    variable around its prediction, rounded to the nearest step.

    Attributes:
        interest: s, who would rate what.
        threshold: t, the lowest rating that counts as liked, in rating units.
        deviation: σ, root mean squared error of predictions, in rating units, above 0.
        step: difference of neighboring ratings of the scale.
    """

    interest: Interest
    threshold: float
    deviation: float
    step: float

    @classmethod
    def of_errors(
        cls, interest: Interest, *, threshold: float, mse: float, step: float, stars: Stars
    ) -> "ExpectedGain":
        """Take σ from the MSE of predictions, in squared rating units."""
        return cls(interest, threshold, max(mse**0.5, LEAST_DEVIATION * stars.unit, np.finfo(np.float32).tiny), step)

    def of(self, user: Tensor, item: Tensor, predicted: Tensor) -> Tensor:
        """Compute the gain: user (B,), item (C,), predicted rating (B, C) float32, unclipped → (B, C) float32."""
        likely = torch.special.ndtr((predicted - (self.threshold - self.step / 2)).div_(self.deviation))
        return likely.mul_(self.interest.of(user.cpu(), item.cpu()).to(likely.device))


@dataclass(frozen=True)
class LowerBound:
    """r̂_ui − σ_ui: the prediction minus the standard deviation of a rating around it, from the posterior's samples.

    A user without training ratings has no deviations; the bound is the prediction.
    """

    predictor: Predictor

    def of(self, user: Tensor, item: Tensor, predicted: Tensor) -> Tensor:
        """Compute the bound: user (B,), item (C,), predicted rating (B, C) float32, unclipped → (B, C) float32.

        The items have training ratings.
        """
        bound = predicted.clone()
        is_trained = (user >= 0) & (user < len(self.predictor.baseline.user_bias) - 1)
        for row in is_trained.nonzero()[:, 0].split(max(1, ENTRIES // len(item))):
            bound[row] -= self.predictor.deviation_table(user[row], item, predicted[row])
        return bound


Order = ExpectedGain | LowerBound


def step_of(rating: NDArray[np.float32]) -> float:
    """Find the smallest difference of distinct ratings (N,) in rating units; 0 if they are all the same."""
    distinct = np.unique(rating[:STEP_ROWS])
    return float(np.diff(distinct).min()) if len(distinct) > 1 else 0.0
