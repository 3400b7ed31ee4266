"""Predictor with the weights of folded-in users or items, from a fold-in solver."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ratinglab.inference.users_or_items import UsersOrItems
from ratinglab.models.bias_baseline import SHRINKAGE, BiasBaseline
from ratinglab.models.factors import Factors
from ratinglab.models.posterior import PlaceholderEquation, Posterior
from ratinglab.models.predictor import Predictor


def predictor_with_items(old: Predictor, items: UsersOrItems, samples: Sequence[Factors]) -> Predictor:
    """Add items to a predictor and to its baseline. `samples` are the weights of all users and items."""
    user_bias, item_bias = old.baseline.user_bias, old.baseline.item_bias
    new_bias = _solve_biases(old.baseline, items, user_bias)
    return _build_predictor(old, samples, user_bias=user_bias[:-1], item_bias=torch.cat([item_bias[:-1], new_bias]))


def predictor_with_users(old: Predictor, users: UsersOrItems, samples: Sequence[Factors]) -> Predictor:
    """Replace the users of a predictor and of its baseline. `samples` are the weights of these users and all items."""
    item_bias = old.baseline.item_bias
    user_bias = _solve_biases(old.baseline, users, item_bias)
    return _build_predictor(old, samples, user_bias=user_bias, item_bias=item_bias[:-1])


def _build_predictor(old: Predictor, samples: Sequence[Factors], *, user_bias: Tensor, item_bias: Tensor) -> Predictor:
    """Build a predictor from the weights of the model in each sample, and of the bias baseline."""
    posterior = Posterior(PlaceholderEquation(samples[0]))
    posterior.samples = list(samples)
    baseline = BiasBaseline(num_users=len(user_bias), num_items=len(item_bias))
    baseline.mean.copy_(old.baseline.mean)
    baseline.user_bias[:-1], baseline.item_bias[:-1] = user_bias, item_bias
    return Predictor(posterior, baseline, stars=old.stars, scale=old.scale).eval()


def _solve_biases(baseline: BiasBaseline, folded: UsersOrItems, other_bias: Tensor) -> Tensor:
    """Fold users or items into the bias baseline: b = Σ (r − μ − b of the other side) / (λ + n), (B,) float32."""
    observed = folded.observations
    residual = folded.rating - baseline.mean - other_bias[observed.other]
    total = torch.bincount(observed.row, residual, minlength=observed.num_rows)
    return (total / (SHRINKAGE + torch.bincount(observed.row, minlength=observed.num_rows))).float()
