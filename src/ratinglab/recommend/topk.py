"""Exact top-k, from the scores of all candidates.

Candidates come in the order of `by_popularity`, and ties preserve it: of two items with the same score, the one
with more training ratings comes first.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.models.predictor import Predictor
from ratinglab.recommend.orders import Order

SCORES = 1 << 24
"""Number of scores held at once: 64 MiB."""
ORDERED = 8
"""Divides SCORES if an order makes the scores, which takes several tables of their size."""
PAIRS = 1 << 18
"""Number of pairs that an equation without factors predicts at once: each can take a few KB."""


def by_popularity(item_count: NDArray[np.int64]) -> NDArray[np.int32]:
    """Order items by their number of training ratings, most first; equal numbers by the lower index: (I,) → (I,)."""
    return np.argsort(-item_count, kind="stable").astype(np.int32)


def top_k(predictor: Predictor, *, user: int, candidates: Tensor, k: int, order: Order | None = None) -> Tensor:
    """Select the best candidates of a user, best first.

    Predictions are not clipped, which tells apart items that clip to the highest rating. Equal scores keep the
    candidates' order.

    Args:
        predictor: predicts the ratings.
        user: index of the user; a user without training rows gets the baseline's ranking.
        candidates: (C,) int32 item indices, in the order of `by_popularity`.
        k: number of items; fewer if there are fewer candidates.
        order: computes the scores from the predicted ratings; None: these are the scores.

    Returns:
        (min(k, C),) int32 item indices.
    """
    with torch.inference_mode():
        score = predictor.predict_items_unclipped(user, candidates)
        if order is not None:
            score = order.sort_keys(torch.tensor([user]), candidates, score[None])[0]
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
    predictor: Predictor,
    users: NDArray[np.int32],
    *,
    candidates: NDArray[np.int32],
    seen: SeenItems | None,
    k: int,
    order: Order | None = None,
) -> Iterator[NDArray[np.int32]]:
    """Select the best candidates of each user, best first.

    Ranks like `top_k`. For an equation with factors, one matrix product scores a block of users. Its rounding differs
    from that of `top_k`, so scores that differ only in the last digit may swap places.

    Args:
        predictor: predicts the ratings.
        users: (U,) indices; users without training rows, and UNKNOWN, get the baseline's ranking.
        candidates: (C,) distinct indices of items with training rows, in the order of `by_popularity`.
        seen: items to leave out for each user; None: none.
        k: number of items per user.
        order: computes the scores from the predicted ratings; None: these are the scores.

    Yields:
        Blocks of (B, min(k, C)) int32 item indices, in the order of the users, padded with −1 if fewer are left.
    """
    column_of = _columns(candidates)
    with torch.inference_mode():
        for block, scores in _blocks_of_scores(predictor, users, candidates, order):
            if seen is not None:
                position = torch.from_numpy(_seen_positions(seen, block, column_of, len(candidates)))
                scores.view(-1).index_fill_(0, position.to(scores.device), -torch.inf)
            best = _best_columns(scores, k)
            yield np.where(best >= 0, candidates[best], np.int32(-1))


def most_popular_of_users(
    users: NDArray[np.int32], *, candidates: NDArray[np.int32], seen: SeenItems, k: int
) -> Iterator[NDArray[np.int32]]:
    """Select for each user the first candidates that are left, the most popular ones, without a model.

    Args:
        users: (U,) indices; UNKNOWN has seen nothing.
        candidates: (C,) distinct item indices, in the order of `by_popularity`.
        seen: items to leave out for each user.
        k: number of items per user.

    Yields:
        Blocks of (B, min(k, C)) int32 item indices, in the order of the users, padded with −1 if fewer are left.
    """
    column_of, count = _columns(candidates), len(candidates)
    place = np.arange(min(k, count))
    for block in _split(users, size=max(1, SCORES // count)):
        row, column = np.divmod(np.unique(_seen_positions(seen, block, column_of, count)), count)
        # before the n-th seen column of a row, `left` columns are not seen; it shifts the places from `left` on by one
        left = column - (np.arange(len(row)) - np.searchsorted(row, row))
        is_near = left < len(place)
        shifted = np.bincount(row[is_near] * len(place) + left[is_near], minlength=len(block) * len(place))
        chosen = place + shifted.reshape(len(block), len(place)).cumsum(axis=1)
        yield np.where(chosen < count, candidates[np.minimum(chosen, count - 1)], np.int32(-1))


def _columns(candidates: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the column of each item index up to the highest candidate: (max + 1,); −1 for others."""
    column_of = np.full(candidates.max(initial=0) + 1, -1)
    column_of[candidates] = np.arange(len(candidates))
    return column_of


def _seen_positions(
    seen: SeenItems, users: NDArray[np.int32], column_of: NDArray[np.int64], num_columns: int
) -> NDArray[np.int64]:
    """Find the seen candidates of users (B,), as positions in the flattened table of users and candidates: (E,)."""
    row, item = seen.pairs_of(users)
    can_be = item < len(column_of)
    row, column = row[can_be], column_of[item[can_be]]
    return row[column >= 0] * num_columns + column[column >= 0]


def _split(users: NDArray[np.int32], *, size: int) -> list[NDArray[np.int32]]:
    """Split users into blocks; the last may be smaller."""
    return np.split(users, range(size, len(users), size))


def _blocks_of_scores(
    predictor: Predictor, users: NDArray[np.int32], candidates: NDArray[np.int32], order: Order | None
) -> Iterator[tuple[NDArray[np.int32], Tensor]]:
    """Yield blocks of users (B,) and their scores of the candidates (B, C); without an order, up to scale per user."""
    num_trained = len(predictor.baseline.user_bias) - 1
    device = predictor.baseline.mean.device  # that of a fit under way may be a GPU
    item = torch.from_numpy(candidates).to(device)
    factors = predictor.model.factors()
    pairwise_size = max(1, PAIRS // len(item))
    is_whole = factors is not None or predictor.model.has_score_table  # whole rows of scores at once
    # a table has the scores of all items, not of the candidates only
    row_size = len(item) if factors is not None else len(predictor.baseline.item_bias)
    size = max(1, (SCORES if order is None else SCORES // ORDERED) // row_size) if is_whole else pairwise_size
    if factors is not None:
        item_factors = factors.item[item].T
        item_bias = torch.zeros(1, len(item), device=device) if factors.item_bias is None else factors.item_bias[item].T
    memory = torch.empty(min(size, len(users)), len(item), device=device)
    for block in _split(users, size=size):
        scores = memory[: len(block)]
        user = torch.from_numpy(block).to(device)
        is_trained = (user >= 0) & (user < num_trained)
        pairwise = torch.arange(len(user), device=device)  # users whose pairs are scored one by one
        if is_whole:
            pairwise = pairwise[~is_trained]
        if factors is None and is_whole:
            table = predictor.model.score_table(torch.where(is_trained, user, 0))
            scores.copy_(predictor.stars.to_rating(table[:, item]))
        if factors is not None:
            torch.addmm(item_bias, factors.user[torch.where(is_trained, user, 0)], item_factors, out=scores)
            if order is not None:
                user_bias = 0.0 if factors.user_bias is None else factors.user_bias[torch.where(is_trained, user, 0)]
                scores.copy_(predictor.stars.to_rating(scores.add_(factors.mean + user_bias)))
        for row in pairwise.split(pairwise_size) if len(pairwise) > 0 else ():
            pairs = user[row].repeat_interleave(len(item)), item.repeat(len(row))
            scores[row] = predictor.predict_unclipped(*pairs).view(len(row), len(item))
        yield block, scores if order is None else order.sort_keys(user, item, scores)


def _best_columns(scores: Tensor, k: int) -> NDArray[np.int64]:
    """Find the columns of the k highest scores of each row, best first; −1 for a score of −∞."""
    score, column = scores.topk(min(k + 1, scores.shape[1]))  # one more than k shows a tie at the border
    # topk promises no order of equal scores, nor which of them it returns
    is_tied = ((score[:, 1:] == score[:, :-1]) & (score[:, 1:] > -torch.inf)).any(dim=1)
    score[is_tied], column[is_tied] = (
        ranked[:, : score.shape[1]] for ranked in scores[is_tied].sort(dim=1, descending=True, stable=True)
    )
    return column.where(score > -torch.inf, -1)[:, :k].cpu().numpy()
