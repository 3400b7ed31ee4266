"""Exact top-k for all users: scores of blocks of users against all items, and a compiled scan of the scores."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.models.predictor import Predictor

SCORES = 1 << 24
"""Number of scores held at once: 64 MiB."""
PAIRS = 1 << 18
"""Number of pairs that an equation without factors predicts at once: each can take a few KB."""
CHUNK = 64
"""Number of scores compared at once with the worst of the k best."""


class Rated(NamedTuple):
    """The items that each user has rated.

    Attributes:
        start: (num_users + 1,) int64, where each user's items begin in `item`.
        item: (N,) int32.
    """

    start: NDArray[np.int64]
    item: NDArray[np.int32]


def rated_by_user(user: NDArray[np.int32], item: NDArray[np.int32], *, num_users: int) -> Rated:
    """Group items by user, in the order of the rows: user (N,) int32, item (N,) int32."""
    start = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=num_users))])
    by_user = np.empty(len(item), dtype=np.int32)
    _move(user, item, start.copy(), by_user)
    return Rated(start=start, item=by_user)


def top_k_of_all(predictor: Predictor, rated: Rated, *, num_items: int, k: int) -> NDArray[np.int32]:
    """For each user, select the unrated items with the highest predicted ratings, best first.

    Ranks like `top_k`: by the score before clipping, equal scores by item index. For an equation with factors, one
    matrix product scores a block of users. Its rounding differs from that of `top_k`, so scores that differ only in the
    last digit may swap places.

    Args:
        predictor: predicts the ratings.
        rated: items to leave out, by user; users without training rows get the baseline's ranking.
        num_items: number of candidates, the items with training rows.
        k: number of items per user.

    Returns:
        (num_users, k) int32 item indices, padded with −1 for a user with fewer items left.
    """
    num_users = len(rated.start) - 1
    found = np.full((num_users, k), -1, dtype=np.int32)
    block = max(1, SCORES // num_items)
    with torch.inference_mode():
        for first, scores in _scores(predictor, num_users=num_users, num_items=num_items, block=block):
            users = slice(first, first + len(scores))
            _select(scores.numpy(), rated.start[first : first + len(scores) + 1], rated.item, found[users])
    return found


def _scores(predictor: Predictor, *, num_users: int, num_items: int, block: int) -> Iterator[tuple[int, Tensor]]:
    """For each block, its first user and its scores (B, num_items), up to a constant per user."""
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


@njit(cache=True, nogil=True)
def _move(user, item, place, by_user):  # type: ignore[no-untyped-def]
    """Write each row's item to its user's next place."""
    for row in range(len(user)):
        by_user[place[user[row]]] = item[row]
        place[user[row]] += 1


@njit(cache=True, nogil=True, parallel=True)
def _select(scores, start, rated, found):  # type: ignore[no-untyped-def]
    """Write the k best unrated items of each row of scores. Overwrites the scores of rated items.

    Args:
        scores: (B, num_items) float32.
        start: (B + 1,) int64, where the items of each row begin in `rated`.
        rated: (N,) int32.
        found: (B, k) int32, filled with −1; written.
    """
    num_items, k = scores.shape[1], found.shape[1]
    for row in prange(len(scores)):
        score, best = scores[row], found[row]
        for place in range(start[row], start[row + 1]):
            if rated[place] < num_items:
                score[rated[place]] = -np.inf
        best_score = np.full(k, -np.inf, dtype=np.float32)
        for first in range(0, num_items, CHUNK):
            stop = min(first + CHUNK, num_items)
            if _any_above(score[first:stop], best_score[k - 1]):
                for item in range(first, stop):
                    _insert(score[item], item, best_score, best)


@njit(cache=True, nogil=True)
def _any_above(score, bound):  # type: ignore[no-untyped-def]
    above = 0
    for place in range(len(score)):  # no early exit, so that the compiler vectorizes the loop
        above += score[place] > bound
    return above > 0


@njit(cache=True, nogil=True)
def _insert(score, item, best_score, best):  # type: ignore[no-untyped-def]
    """Insert an item among the best, after those with the same score, if its score is high enough."""
    place = len(best)
    while place > 0 and score > best_score[place - 1]:
        place -= 1
    if place == len(best):
        return
    for after in range(len(best) - 1, place, -1):
        best_score[after], best[after] = best_score[after - 1], best[after - 1]
    best_score[place], best[place] = score, item
