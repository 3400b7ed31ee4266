"""The closed-form baselines, fitted on every run: what a model must beat, and who speaks for the unknown."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

REGULARIZATION = 5.0
"""λ of the bias baseline, in ratings: so many ratings of average height pull on every bias."""
MAX_SWEEPS, TOLERANCE = 200, 1e-7


class Biases(NamedTuple):
    """The fitted numbers: mean (), user (num_users,), item (num_items,), all float64, in rating units."""

    mean: Tensor
    user: Tensor
    item: Tensor


class BiasBaseline(nn.Module):
    """r̂_ui = μ + b_u + b_i, where a bias that is not known is 0.

    μ is the mean of the training ratings. The biases minimize Σ (r − μ − b_u − b_i)² + λ (Σ b_u² + Σ b_i²), which has
    one minimum. So an unknown user gets μ + b_i, an unknown item μ + b_u, and both unknown the global mean μ.

    Source: Koren, "Factor in the Neighbors: Scalable and Accurate Collaborative Filtering", TKDD 2010, section 2.1.
    """

    mean: Tensor
    user_bias: Tensor
    item_bias: Tensor

    def __init__(self, *, num_users: int, num_items: int) -> None:
        """All zero until fitted or loaded."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        # one more than there are: the bias of the unknown, which stays 0
        self.register_buffer("user_bias", torch.zeros(num_users + 1))
        self.register_buffer("item_bias", torch.zeros(num_items + 1))

    def fit(self, *, user: Tensor, item: Tensor, rating: Tensor) -> "BiasBaseline":
        """Fit on training rows: user (N,) int32, item (N,) int32, rating (N,) float32. Returns itself."""
        biases = fit_biases(
            user=user,
            item=item,
            rating=rating,
            num_users=len(self.user_bias) - 1,
            num_items=len(self.item_bias) - 1,
        )
        self.mean.copy_(biases.mean)
        self.user_bias[:-1] = biases.user
        self.item_bias[:-1] = biases.item
        return self

    def known(self, user: Tensor, item: Tensor) -> Tensor:
        """(B,) bool: whether user and item both have training rows."""
        known_user = (user >= 0) & (user < len(self.user_bias) - 1)
        known_item = (item >= 0) & (item < len(self.item_bias) - 1)
        return known_user & known_item

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → rating: (B,) float32. An index out of range is unknown."""
        return self.mean + _entry(self.user_bias, user) + _entry(self.item_bias, item)


def _entry(bias: Tensor, index: Tensor) -> Tensor:
    unknown = len(bias) - 1
    return bias[torch.where((index < 0) | (index > unknown), unknown, index).long()]


def fit_biases(*, user: Tensor, item: Tensor, rating: Tensor, num_users: int, num_items: int) -> Biases:
    """The minimum of Σ (r − μ − b_u − b_i)² + λ (Σ b_u² + Σ b_i²) over the biases.

    Each half sweep solves for one side in closed form, given the other:
    b_u = Σ_{i of u} (r − μ − b_i) / (λ + n_u), until no bias moves by more than TOLERANCE, or for MAX_SWEEPS.
    """
    user, item = user.long(), item.long()
    mean = rating.double().mean()
    residual = rating.double() - mean
    user_weight = REGULARIZATION + torch.bincount(user, minlength=num_users)
    item_weight = REGULARIZATION + torch.bincount(item, minlength=num_items)
    user_bias = torch.zeros(num_users, dtype=torch.float64)
    item_bias = torch.zeros(num_items, dtype=torch.float64)
    for _ in range(MAX_SWEEPS):
        before = torch.cat([user_bias, item_bias])
        user_bias = torch.bincount(user, residual - item_bias[item], minlength=num_users) / user_weight
        item_bias = torch.bincount(item, residual - user_bias[user], minlength=num_items) / item_weight
        if (torch.cat([user_bias, item_bias]) - before).abs().max() <= TOLERANCE:
            break
    return Biases(mean=mean, user=user_bias, item=item_bias)
