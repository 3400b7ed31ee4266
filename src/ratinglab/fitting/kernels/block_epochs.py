"""Stochastic gradient descent over blocks of users × items, rating by rating.

Y. Zhuang, W.-S. Chin, Y.-C. Juan, C.-J. Lin, "A Fast Parallel SGD for Matrix Factorization in Shared Memory Systems",
RecSys 2013.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def move_to_blocks(user, item, rating, user_slice, item_slice, num_slices):  # type: ignore[no-untyped-def]
    """Reorder rows in place so that each block is contiguous (American flag sort).

    Block `a · num_slices + b` holds the rows of user slice a and item slice b.

    Args:
        user: (N,) int32.
        item: (N,) int32.
        rating: (N,) float32.
        user_slice: (num_users,) int32, the slice of each user.
        item_slice: (num_items,) int32.
        num_slices: slices per side.

    Returns:
        (num_slices² + 1,) int64, the first row of each block, and N.

    Source: McIlroy, Bostic, McIlroy, "Engineering Radix Sort", Computing Systems 6(1), 1993.
    """
    num_blocks = num_slices * num_slices
    start = np.zeros(num_blocks + 1, dtype=np.int64)
    for row in range(len(user)):
        start[user_slice[user[row]] * num_slices + item_slice[item[row]] + 1] += 1
    for block in range(num_blocks):
        start[block + 1] += start[block]
    head = start[:-1].copy()
    for block in range(num_blocks):
        while head[block] < start[block + 1]:
            row = head[block]
            held_user, held_item, held_rating = user[row], item[row], rating[row]
            target = user_slice[held_user] * num_slices + item_slice[held_item]
            while target != block:
                place = head[target]
                head[target] += 1
                user[place], held_user = held_user, user[place]
                item[place], held_item = held_item, item[place]
                rating[place], held_rating = held_rating, rating[place]
                target = user_slice[held_user] * num_slices + item_slice[held_item]
            user[row], item[row], rating[row] = held_user, held_item, held_rating
            head[block] += 1
    return start


@njit(cache=True, nogil=True, parallel=True)
def sort_blocks_by_user(user, item, rating, start):  # type: ignore[no-untyped-def]
    """Sort the rows of each block by user, in place, so that a user's weights stay in the processor's cache.

    Args:
        user: (N,) int32.
        item: (N,) int32.
        rating: (N,) float32.
        start: (num_blocks + 1,) int64, the first row of each block.
    """
    for block in prange(len(start) - 1):
        rows = slice(start[block], start[block + 1])
        if start[block] < start[block + 1]:
            _sort_by_user(user[rows], item[rows], rating[rows])


@njit(cache=True, nogil=True)
def _sort_by_user(user, item, rating):  # type: ignore[no-untyped-def]
    first = user.min()
    place = np.zeros(user.max() - first + 2, dtype=np.int64)
    for row in range(len(user)):
        place[user[row] - first + 1] += 1
    for entry in range(1, len(place)):
        place[entry] += place[entry - 1]
    old_user, old_item, old_rating = user.copy(), item.copy(), rating.copy()
    for row in range(len(user)):
        entry = old_user[row] - first
        to = place[entry]
        place[entry] += 1
        user[to], item[to], rating[to] = old_user[row], old_item[row], old_rating[row]


class BlockedRows(NamedTuple):
    """Training rows in the order of their blocks.

    Attributes:
        user: (N,) int32.
        item: (N,) int32.
        rating: (N,) float32.
        start: (num_slices² + 1,) int64, the first row of each block, and N.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    rating: NDArray[np.float32]
    start: NDArray[np.int64]


class BlockWeights(NamedTuple):
    """Weights that an epoch changes in place, all float32.

    Attributes:
        user_factors: (num_users, D).
        item_factors: (num_items, D).
        user_bias: (num_users, 1); (0, 1) without biases.
        item_bias: (num_items, 1); (0, 1) without biases.
        user_squares: (num_users,), Σ ‖g‖² / D over each row's steps, bias included; (0,) if all rows have the same
            learning rate.
        item_squares: (num_items,), likewise.
    """

    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    user_bias: NDArray[np.float32]
    item_bias: NDArray[np.float32]
    user_squares: NDArray[np.float32]
    item_squares: NDArray[np.float32]


class StepRule(NamedTuple):
    """Parameters of an epoch's predictions and steps.

    Attributes:
        mean: float32, added to every prediction.
        lr: float32, the learning rate.
        regularization: float32, λ.
    """

    mean: np.float32
    lr: np.float32
    regularization: np.float32


@njit(cache=True, nogil=True, parallel=True, fastmath={"reassoc", "contract", "nsz"})
def epoch(blocked, diagonals, weights, rule):  # type: ignore[no-untyped-def]
    """Make one pass over all rows, with a step against the gradient g of (r − r̂)² + λ · penalty on each row.

    The step of a factor row and its bias is −lr · g or, with sums of squares, −lr / √(1 + Σ g² / D) · g, where the sum
    runs over the row's earlier steps (Chin et al. 2015 also start it at 1).

    Blocks of a diagonal share no user and no item: they run in parallel, and the weights are the same, bit for bit,
    for any number of threads.

    Args:
        blocked: BlockedRows.
        diagonals: (num_slices,) int64, the order of the diagonals.
        weights: BlockWeights, changed in place.
        rule: StepRule.

    Returns:
        (num_slices²,) float64, the sum of squared errors in each block, each row predicted before its step.
    """
    user, item, rating, start = blocked.user, blocked.item, blocked.rating, blocked.start
    num_slices = len(diagonals)
    errors = np.zeros(num_slices * num_slices, dtype=np.float64)
    for diagonal in diagonals:
        for slice_ in prange(num_slices):
            block = slice_ * num_slices + (slice_ + diagonal) % num_slices
            rows = slice(start[block], start[block + 1])
            errors[block] = _block(user[rows], item[rows], rating[rows], weights, rule)
    return errors


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _block(user, item, rating, weights, rule):  # type: ignore[no-untyped-def]
    dim = weights.user_factors.shape[1]
    has_biases, is_adaptive = len(weights.user_bias) > 0, len(weights.user_squares) > 0
    decay = rule.regularization
    squares = 0.0
    for row in range(len(user)):
        u, i = user[row], item[row]
        p, q = weights.user_factors[u], weights.item_factors[i]
        predicted = rule.mean
        if has_biases:
            predicted += weights.user_bias[u, 0] + weights.item_bias[i, 0]
        dot = np.float32(0)
        for d in range(dim):
            dot += p[d] * q[d]
        error = rating[row] - (predicted + dot)
        squares += np.float64(error) * np.float64(error)
        user_step = np.float32(2) * rule.lr
        item_step = user_step
        if is_adaptive:
            user_step /= np.sqrt(np.float32(1) + weights.user_squares[u])
            item_step /= np.sqrt(np.float32(1) + weights.item_squares[i])
            _add_squares(u, i, p, q, dot, error, weights, decay)
        user_pull, user_decay = user_step * error, user_step * decay
        item_pull, item_decay = item_step * error, item_step * decay
        for d in range(dim):
            old = p[d]
            p[d] += user_pull * q[d] - user_decay * old
            q[d] += item_pull * old - item_decay * q[d]
        if has_biases:
            weights.user_bias[u, 0] += user_pull - user_decay * weights.user_bias[u, 0]
            weights.item_bias[i, 0] += item_pull - item_decay * weights.item_bias[i, 0]
    return squares


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _add_squares(u, i, p, q, dot, error, weights, decay):  # type: ignore[no-untyped-def]
    """Add ‖g‖² / D of both rows, from ‖e q − λ p‖² = e² ‖q‖² − 2 e λ p·q + λ² ‖p‖², and of their biases."""
    pp = np.float32(0)
    qq = np.float32(0)
    for d in range(len(p)):
        pp += p[d] * p[d]
        qq += q[d] * q[d]
    both = error * error
    cross = np.float32(2) * error * decay * dot
    user_square = both * qq - cross + decay * decay * pp
    item_square = both * pp - cross + decay * decay * qq
    if len(weights.user_bias) > 0:
        user_pull, item_pull = error - decay * weights.user_bias[u, 0], error - decay * weights.item_bias[i, 0]
        user_square += user_pull * user_pull
        item_square += item_pull * item_pull
    share = np.float32(4) / np.float32(len(p))
    weights.user_squares[u] += share * user_square
    weights.item_squares[i] += share * item_square


def load() -> None:
    """Load the loops from the compiler's cache, or compile them in a few seconds, and start the threads."""
    index, value, table = np.empty(0, np.int32), np.empty(0, np.float32), np.zeros((1, 1), np.float32)
    start = move_to_blocks(index, index, value, np.zeros(1, np.int32), np.zeros(1, np.int32), 1)
    sort_blocks_by_user(index, index, value, start)
    number = np.float32(0)
    weights = BlockWeights(table, table, table, table, value, value)
    epoch(
        BlockedRows(index, index, value, start),
        np.zeros(1, np.int64),
        weights,
        StepRule(number, number, number),
    )
