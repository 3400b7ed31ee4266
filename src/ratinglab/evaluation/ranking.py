"""Metrics of recommendation lists at k, with binary relevance, averaged over users. Imports nothing slow.

A user has the list i_1, …, i_k, best first, and the relevant held-out items R, at least one. rel_j is 1 if i_j ∈ R,
else 0. A list is shorter than k if fewer candidates remain; missing ranks count as not relevant. Relevant items
without training ratings are in no list, but count in |R|.

precision@k  = (1 / k) Σ_j rel_j
recall@k     = (1 / |R|) Σ_j rel_j
ndcg@k       = Σ_j rel_j / log2(j + 1), divided by its highest possible value, Σ_{j ≤ min(k, |R|)} 1 / log2(j + 1)
map@k        = mean over users of AP@k = (1 / |R|) Σ_j rel_j · precision@j
mrr@k        = mean over users of 1 / (the lowest j with rel_j = 1), or 0 if the list has no relevant item
hit_rate@k   = share of users with at least one relevant item in their list
coverage@k   = number of distinct items in all lists / number of items with training ratings
novelty@k    = mean over all items of all lists of −log2(share of the users with training ratings who rated the item),
               in bits

AP@k divides by |R|, as trec_eval (map_cut_k) and ranx do. Libraries that divide by min(k, |R|) print higher values.

Sources: Järvelin, Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques", ACM TOIS 2002, for NDCG; Manning,
Raghavan, Schütze, "Introduction to Information Retrieval", 2008, chapter 8, for precision, recall and MAP; Voorhees,
"The TREC-8 Question Answering Track Report", 1999, for MRR; Ge, Delgado-Battenfeld, Jannach, "Beyond Accuracy:
Evaluating Recommender Systems by Coverage and Serendipity", RecSys 2010, for coverage; Zhou et al., "Solving the
Apparent Diversity–Accuracy Dilemma of Recommender Systems", PNAS 2010 (surprisal), and Vargas, Castells, "Rank and
Relevance in Novelty and Diversity Metrics for Recommender Systems", RecSys 2011, for novelty.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.stars import is_liked

if TYPE_CHECKING:
    from scipy.sparse import csr_array

PER_USER_LABELS = {
    "precision": "precision",
    "recall": "recall",
    "ndcg": "NDCG",
    "map": "MAP",
    "mrr": "MRR",
    "hit_rate": "hit rate",
}
"""Labels of metrics averaged over users; higher is better."""
METRIC_LABELS = PER_USER_LABELS | {"coverage": "coverage", "novelty": "novelty"}
"""Labels of all metrics. Coverage and novelty describe all lists together, and do not depend on relevance."""


def check_threshold(threshold: float, ratings: Iterable[NDArray[np.float32]], *, unit: float, key: str) -> None:
    """Raise UserError if there are held-out ratings, (N,) per part, but none is liked.

    `unit` is `Stars.unit`. `key` names the threshold in the message.
    """
    rating = np.concatenate([np.empty(0, np.float32), *ratings])
    if len(rating) > 0 and not is_liked(rating, threshold, unit=unit).any():
        raise UserError(
            f"{key} must be at most {rating.max():g}, the highest held-out rating, got {threshold:g}: "
            "no item would be relevant"
        )


def ranking_metrics_per_user(
    is_hit: NDArray[np.bool_], num_relevant: NDArray[np.int64], *, k: int
) -> dict[str, NDArray[np.float64]]:
    """Compute the metrics of PER_USER_LABELS for each user's list; the module's docstring has the equations.

    Args:
        is_hit: (B, K) whether each item of each list is relevant, K ≤ k.
        num_relevant: (B,) number of relevant items, at least 1.
        k: maximum length of a list.

    Returns:
        (B,) float64 by name.
    """
    num_best = np.minimum(num_relevant, k)  # hits of an ideal list
    hits, rank = is_hit.astype(np.float64), np.arange(1, max(is_hit.shape[1], num_best.max()) + 1)
    discount = 1 / np.log2(rank + 1)
    ideal_dcg = np.cumsum(discount)[num_best - 1]
    precision_at = np.cumsum(hits, axis=1) / rank[: hits.shape[1]]
    count, has_hit = hits.sum(axis=1), is_hit.any(axis=1)
    first_hit = is_hit.argmax(axis=1) if is_hit.shape[1] > 0 else np.zeros(len(is_hit), dtype=np.intp)
    return {
        "precision": count / k,
        "recall": count / num_relevant,
        "ndcg": (hits * discount[: hits.shape[1]]).sum(axis=1) / ideal_dcg,
        "map": (hits * precision_at).sum(axis=1) / num_relevant,
        "mrr": has_hit / (first_hit + 1),
        "hit_rate": has_hit.astype(np.float64),
    }


def mean_ranking_metrics(
    users: NDArray[np.int32],
    lists: Iterable[NDArray[np.int32]],
    relevant: csr_array,
    *,
    k: int,
    share: NDArray[np.float64],
) -> dict[str, float]:
    """Compute all metrics of METRIC_LABELS over the lists of users.

    Memory holds one block of lists, and eight bytes per user and metric.

    Args:
        users: (U,), each with a relevant item.
        lists: blocks of lists (B, K) of items with training ratings, in the order of the users, best first, K ≤ k,
            padded with −1.
        relevant: matrix with a nonzero entry where an item is relevant to a user, rows by user index.
        k: maximum length of a list.
        share: (I,) share of the users with training ratings who rated each item in training.

    Returns:
        The metrics by name, such as ndcg, or {} without users. Novelty is missing if all lists are empty.
    """
    if len(users) == 0:
        return {}
    metrics_by_block: list[dict[str, NDArray[np.float64]]] = []
    num_relevant = np.diff(relevant.indptr)
    times_listed, first = np.zeros(len(share), dtype=np.int64), 0
    for block in lists:
        block_users, first = users[first : first + len(block)], first + len(block)
        is_in_range = (block >= 0) & (block < relevant.shape[1])
        entries: Any = relevant[block_users[:, None], np.where(is_in_range, block, 0)]  # the stubs say ndarray
        is_hit = is_in_range & entries.toarray().astype(np.bool_)
        metrics_by_block.append(ranking_metrics_per_user(is_hit, num_relevant[block_users], k=k))
        times_listed += np.bincount(block[block >= 0], minlength=len(share))
    metrics = {
        name: float(np.concatenate([block_metrics[name] for block_metrics in metrics_by_block]).mean())
        for name in PER_USER_LABELS
    }
    metrics["coverage"] = float(np.count_nonzero(times_listed) / len(times_listed))
    if times_listed.any():
        metrics["novelty"] = float((times_listed * -np.log2(share)).sum() / times_listed.sum())
    return metrics
