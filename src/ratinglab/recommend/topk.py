"""Exact top-k, from the scores of all candidates.

Candidates are in the order of `order_by_popularity`, and ties keep it: items with more training ratings come first.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from ratinglab.models.factors import Factors
from ratinglab.models.predictor import Predictor
from ratinglab.recommend.orders import Order

SCORES_AT_ONCE = 1 << 24
"""Number of scores of candidates in a block of users: 64 MiB."""
ORDER_MEMORY_FACTOR = 8
"""SCORES_AT_ONCE is divided by this if several tables of scores are in memory: with an order, or without factors."""


def order_by_popularity(item_count: NDArray[np.int64]) -> NDArray[np.int32]:
    """Order items by number of training ratings, most first, then by index: (I,) → (I,)."""
    return np.argsort(-item_count, kind="stable").astype(np.int32)


def build_pair_matrix(user: NDArray[np.int32], item: NDArray[np.int32], *, num_users: int = 0) -> csr_array:
    """Build a matrix with 1 for each pair: (N,), (N,) → (at least num_users, highest item + 1), rows by user index."""
    ones, num_users = np.ones(len(user), dtype=np.int8), max(num_users, int(user.max(initial=0)) + 1)
    return csr_array((ones, (user, item)), shape=(num_users, int(item.max(initial=0)) + 1))


def select_top_k(
    predictor: Predictor,
    users: NDArray[np.int32],
    *,
    candidates: NDArray[np.int32],
    seen: csr_array | None,
    k: int,
    order: Order | None = None,
) -> Iterator[NDArray[np.int32]]:
    """Select the best candidates of each user, best first.

    Does not clip predictions, so items that would clip to the highest rating stay distinct. Equal scores keep the
    candidates' order. For an equation with factors, one matrix product scores a block of users. It rounds differently
    from the scores of a single user, so items whose scores differ only in the last digit may swap places.

    Args:
        users: (U,) int32 indices; users without training rows, and UNKNOWN, get the baseline's ranking.
        candidates: (C,) distinct indices of items with training rows, in the order of `order_by_popularity`.
        seen: items to exclude for each user, a `build_pair_matrix`. With None, no item is excluded.
        k: number of items per user.
        order: computes the scores from the predicted ratings, which by default are the scores.

    Yields:
        Blocks of (B, min(k, C)) int32 item indices, in the order of the users, padded with −1 if fewer are left.
    """
    column_of = _map_items_to_columns(candidates)
    with torch.inference_mode():
        for block, scores in _score_by_block(predictor, users, candidates, order):
            if seen is not None:
                position = torch.from_numpy(_find_seen_positions(seen, block, column_of, len(candidates)))
                scores.view(-1).index_fill_(0, position.to(scores.device), -torch.inf)
            best = _find_best_columns(scores, k)
            yield np.where(best >= 0, candidates[best], np.int32(-1))


def select_most_popular(
    users: NDArray[np.int32], *, candidates: NDArray[np.int32], seen: csr_array, k: int
) -> Iterator[NDArray[np.int32]]:
    """Select the most popular remaining candidates of each user, without a model.

    Takes the arguments of `select_top_k`. The user UNKNOWN has no seen items.

    Yields:
        Blocks of (B, min(k, C)) int32 item indices, in the order of the users, padded with −1 if fewer are left.
    """
    column_of, count = _map_items_to_columns(candidates), len(candidates)
    size = max(1, SCORES_AT_ONCE // count)
    for block in np.split(users, range(size, len(users), size)):
        row, column = np.divmod(_find_seen_positions(seen, block, column_of, count), count)
        # at most width - k candidates are skipped per user
        width = min(count, k + int(np.bincount(row).max(initial=0)))
        is_left, is_within = np.ones((len(block), width), dtype=np.bool_), column < width
        is_left[row[is_within], column[is_within]] = False
        rank = is_left.cumsum(axis=1, dtype=np.int32) - 1  # of each item in its user's list, from 0
        row, column = np.nonzero(is_left & (rank < k))
        best = np.full((len(block), min(k, count)), -1, dtype=np.int32)
        best[row, rank[row, column]] = candidates[column]
        yield best


def _map_items_to_columns(candidates: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the column of each candidate by item index, up to the highest: (max + 1,), −1 for other items."""
    column_of = np.full(candidates.max(initial=0) + 1, -1)
    column_of[candidates] = np.arange(len(candidates))
    return column_of


def _find_seen_positions(
    seen: csr_array, users: NDArray[np.int32], column_of: NDArray[np.int64], num_columns: int
) -> NDArray[np.int64]:
    """Find the seen candidates of users (B,), as positions in the flattened table of users and candidates: (E,)."""
    known = np.flatnonzero(users >= 0)
    rated = seen[users[known]]
    row, item = np.repeat(known, np.diff(rated.indptr)), rated.indices
    is_in_range = item < len(column_of)
    row, column = row[is_in_range], column_of[item[is_in_range]]
    return row[column >= 0] * num_columns + column[column >= 0]


def _score_by_block(
    predictor: Predictor, users: NDArray[np.int32], candidates: NDArray[np.int32], order: Order | None
) -> Iterator[tuple[NDArray[np.int32], Tensor]]:
    """Yield blocks of users (B,) with their scores of the candidates (B, C).

    Without an order, scores compare only within a user.
    """
    device = predictor.baseline.mean.device  # a GPU, perhaps, during a fit
    item = torch.from_numpy(candidates).to(device)
    factors = None if len(users) == 1 else predictor.model.factors()  # for one user, all factors would be slower
    table_size = SCORES_AT_ONCE if factors is not None and order is None else SCORES_AT_ONCE // ORDER_MEMORY_FACTOR
    size = max(1, table_size // max(1, len(item)))
    score = None if order is None else order(item)
    if factors is not None:
        factors = factors._replace(item=factors.item.take(item))
        memory = torch.empty(min(size, len(users)), len(item), device=device)  # reused: large new tables are slow
    for block in np.split(users, range(size, len(users), size)):
        user = torch.from_numpy(block).to(device)
        if factors is None:
            scores = predictor.predict_table_unclipped(user, item)
        else:
            scores = memory[: len(block)]
            _multiply_factors(factors, predictor, user, item, is_ordered=order is not None, out=scores)
        yield block, scores if score is None else score(user, scores)


def _multiply_factors(
    factors: Factors, predictor: Predictor, user: Tensor, item: Tensor, *, is_ordered: bool, out: Tensor
) -> None:
    """Write to `out` the scores of users for all items in `factors`. They are in rating units if `is_ordered`."""
    users, items, is_known = factors.user, factors.item, predictor.baseline.is_known_user(user)
    row = torch.where(is_known, user, 0)
    item_bias = torch.zeros(1, len(item), device=item.device) if items.bias is None else items.bias.T
    torch.addmm(item_bias, users.factors[row], items.factors.T, out=out)
    if is_ordered:
        user_bias = 0.0 if users.bias is None else users.bias[row]
        out.copy_(predictor.stars.to_rating(out.add_(factors.mean + user_bias)))
    out[~is_known] = predictor.baseline(user[~is_known, None], item)


def _find_best_columns(scores: Tensor, k: int) -> NDArray[np.int64]:
    """Find the columns of the k highest scores of each row, best first, or −1 for a score of −∞."""
    score, column = scores.topk(min(k + 1, scores.shape[1]))  # one more than k detects a tie at the border
    # topk guarantees neither the order of equal scores nor which of them it returns
    is_tied = ((score[:, 1:] == score[:, :-1]) & (score[:, 1:] > -torch.inf)).any(dim=1)
    score[is_tied], column[is_tied] = (
        ranked[:, : score.shape[1]] for ranked in scores[is_tied].sort(dim=1, descending=True, stable=True)
    )
    return column.where(score > -torch.inf, -1)[:, :k].cpu().numpy()
