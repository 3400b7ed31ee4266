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
        score = predictor.score_items(user, candidates)
        return candidates[score.argsort(descending=True, stable=True)[:k]]


class SeenItems:
    """The items that each user has rated, to be left out of their recommendations."""

    def __init__(self, user: NDArray[np.int32], item: NDArray[np.int32], *, num_users: int) -> None:
        """Take the rated pairs: user (N,), item (N,)."""
        self._item = item[np.argsort(user, kind="stable")]
        self._end = np.cumsum(np.bincount(user, minlength=num_users))

    def pairs_of(self, users: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
        """Return the pairs rated by users (B,): the user's position in the argument, and the item, (E,) each."""
        known = np.flatnonzero(users >= 0)
        end = self._end[users[known]]
        count = end - np.where(users[known] > 0, self._end[users[known] - 1], 0)
        pair = np.arange(count.sum()) - np.repeat(np.cumsum(count) - end, count)
        return np.repeat(known, count), self._item[pair]


def top_k_of_users(
    predictor: Predictor, users: NDArray[np.int32], *, candidates: NDArray[np.int32], seen: SeenItems | None, k: int
) -> Iterator[NDArray[np.int32]]:
    """Select for each user the candidates with the highest predicted ratings, best first.

    Ranks like `top_k`: by the score before clipping, equal scores in the candidates' order. For an equation with
    factors, one matrix product scores a block of users. Its rounding differs from that of `top_k`, so scores that
    differ only in the last digit may swap places.

    Args:
        predictor: predicts the ratings.
        users: (U,) indices; users without training rows, and UNKNOWN, get the baseline's ranking.
        candidates: (C,) distinct indices of items with training rows.
        seen: items to leave out for each user; None: none.
        k: number of items per user.

    Yields:
        Blocks of (B, min(k, C)) int32 item indices, in the order of the users, padded with −1 if fewer are left.
    """
    column_of = np.full(len(predictor.baseline.item_bias), -1, dtype=np.int32)
    column_of[candidates] = np.arange(len(candidates))
    with torch.inference_mode():
        for block, scores in _blocks_of_scores(predictor, users, candidates):
            if seen is not None:
                row, item = seen.pairs_of(block)
                is_candidate = item < len(column_of)
                row, column = row[is_candidate], column_of[item[is_candidate]]
                position = row[column >= 0] * len(candidates) + column[column >= 0]
                scores.view(-1).index_fill_(0, torch.from_numpy(position), -torch.inf)
            best = _best_columns(scores, k)
            yield np.where(best >= 0, candidates[best], np.int32(-1))


def _blocks_of_scores(
    predictor: Predictor, users: NDArray[np.int32], candidates: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.int32], Tensor]]:
    """Yield blocks of users (B,) and their scores of the candidates (B, C), up to a constant per user."""
    num_trained = len(predictor.baseline.user_bias) - 1
    item = torch.from_numpy(candidates)
    factors = predictor.model.factors()
    pairwise_size = max(1, PAIRS // len(item))
    if factors is None:
        size = pairwise_size
    else:
        size = max(1, SCORES // len(item))
        item_factors = factors.item[item].T
        item_bias = torch.zeros(1, len(item)) if factors.item_bias is None else factors.item_bias[item].T
    memory = torch.empty(min(size, len(users)), len(item))
    for block in np.split(users, range(size, len(users), size)):
        scores = memory[: len(block)]
        user = torch.from_numpy(block)
        pairwise = torch.arange(len(user))  # rows not scored by a matrix product
        if factors is not None:
            is_trained = (user >= 0) & (user < num_trained)
            torch.addmm(item_bias, factors.user[torch.where(is_trained, user, 0)], item_factors, out=scores)
            pairwise = pairwise[~is_trained]
        for row in pairwise.split(pairwise_size) if len(pairwise) > 0 else ():
            pairs = user[row].repeat_interleave(len(item)), item.repeat(len(row))
            scores[row] = predictor.score(*pairs).view(len(row), len(item))
        yield block, scores


def _best_columns(scores: Tensor, k: int) -> NDArray[np.int64]:
    """Find the columns of the k highest scores of each row, best first; −1 for a score of −∞."""
    score, column = scores.topk(min(k + 1, scores.shape[1]))  # one more than k shows a tie at the border
    # topk promises no order of equal scores, nor which of them it returns
    is_tied = ((score[:, 1:] == score[:, :-1]) & (score[:, 1:] > -torch.inf)).any(dim=1)
    score[is_tied], column[is_tied] = (
        ranked[:, : score.shape[1]] for ranked in scores[is_tied].sort(dim=1, descending=True, stable=True)
    )
    return column.where(score > -torch.inf, -1)[:, :k].numpy()
