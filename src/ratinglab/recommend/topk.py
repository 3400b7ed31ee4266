"""Exact top-k, from the scores of all candidates."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.models.predictor import Predictor

SCORES = 1 << 24
"""Number of scores held at once: 64 MiB."""
PAIRS = 1 << 18
"""Number of pairs that an equation without factors predicts at once: each can take a few KB."""


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


def top_k_of_all(
    predictor: Predictor, *, user: NDArray[np.int32], item: NDArray[np.int32], num_users: int, num_items: int, k: int
) -> NDArray[np.int32]:
    """Select each user's unrated items with the highest predicted ratings, best first.

    Ranks like `top_k`: by the score before clipping, equal scores by item index. For an equation with factors, one
    matrix product scores a block of users. Its rounding differs from that of `top_k`, so scores that differ only in the
    last digit may swap places.

    Args:
        predictor: predicts the ratings.
        user: (N,) int32, the user of each rated pair.
        item: (N,) int32, its item, which is left out for that user.
        num_users: number of users; those without training rows get the baseline's ranking.
        num_items: number of candidates, the items with training rows.
        k: number of items per user, at most num_items.

    Returns:
        (num_users, k) int32 item indices, padded with −1 for a user with fewer items left.
    """
    is_candidate = item < num_items
    rated = np.sort(user[is_candidate] * np.int64(num_items) + item[is_candidate])  # places in the matrix of all scores
    best = np.empty((num_users, k), dtype=np.int32)
    with torch.inference_mode():
        for first, scores in _blocks_of_scores(predictor, num_users=num_users, num_items=num_items):
            stop = first + len(scores)
            begin, end = np.searchsorted(rated, [first * num_items, stop * num_items])
            scores.view(-1).index_fill_(0, torch.from_numpy(rated[begin:end] - first * num_items), -torch.inf)
            best[first:stop] = _best_columns(scores, k)
    return best


def _blocks_of_scores(predictor: Predictor, *, num_users: int, num_items: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the first user of each block and the block's scores (B, num_items), up to a constant per user."""
    block = max(1, SCORES // num_items)
    trained = min(num_users, len(predictor.baseline.user_bias) - 1)
    factors = predictor.model.factors()
    first = 0
    if factors is not None:
        item_bias = torch.zeros(1, num_items) if factors.item_bias is None else factors.item_bias.T
        memory = torch.empty(block, num_items)
        for first in range(0, trained, block):
            users = factors.user[first : min(first + block, trained)]
            yield first, torch.addmm(item_bias, users, factors.item.T, out=memory[: len(users)])
        first = trained
    item = torch.arange(num_items, dtype=torch.int32)
    few = max(1, min(block, PAIRS // num_items))
    for start in range(first, num_users, few):
        user = torch.arange(start, min(start + few, num_users), dtype=torch.int32)
        pairs = user.repeat_interleave(num_items), item.repeat(len(user))
        yield start, predictor.score(*pairs).view(len(user), num_items)


def _best_columns(scores: Tensor, k: int) -> Tensor:
    """Find the columns of the k highest scores of each row, best first; −1 for a score of −∞."""
    score, column = scores.topk(min(k + 1, scores.shape[1]))  # one more than k shows a tie at the border
    # topk promises no order of equal scores, nor which of them it returns
    is_tied = ((score[:, 1:] == score[:, :-1]) & (score[:, 1:] > -torch.inf)).any(dim=1)
    score[is_tied], column[is_tied] = (
        ranked[:, : score.shape[1]] for ranked in scores[is_tied].sort(dim=1, descending=True, stable=True)
    )
    return column.where(score > -torch.inf, -1)[:, :k]
