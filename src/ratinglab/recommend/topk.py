"""Exact top-k: scores every candidate."""

import torch
from torch import Tensor

from ratinglab.models.predictor import Predictor


def top_k(predictor: Predictor, *, user: int, candidates: Tensor, k: int) -> Tensor:
    """Select the candidates with the highest predicted ratings, best first.

    Ranks by the score before clipping, which tells apart items that clip to the highest rating. Equal scores keep the
    candidates' order.

    Args:
        predictor: predicts the ratings.
        user: index of the user; a user without training rows gets the baseline's ranking.
        candidates: (C,) int32 item indices.
        k: number of items; fewer if there are fewer candidates.

    Returns:
        (min(k, C),) int32 item indices.
    """
    with torch.inference_mode():
        score = predictor.score(torch.full_like(candidates, user), candidates)
        return candidates[score.argsort(descending=True, stable=True)[:k]]
