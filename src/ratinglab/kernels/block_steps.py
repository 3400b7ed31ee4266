"""Stochastic gradient descent over blocks of users × items, rating by rating; see BlockSGDFit for the source."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from ratinglab.kernels.compiled import njit
from ratinglab.ratings.table import Ratings

FLOATS_PER_CACHE_LINE = 16
"""Number of float32 in a cache line of 64 bytes."""
PREFETCH_DISTANCE = 8
"""Number of ratings ahead at which the item's factors are fetched: a block's factors may not fit into the caches."""


def move_to_blocks(
    rows: Ratings, user_slice: NDArray[np.int32], item_slice: NDArray[np.int32], num_slices: int
) -> NDArray[np.int64]:
    """Reorder rows in place so that each block is contiguous (American flag sort).

    Block `a · num_slices + b` holds the rows of user slice a and item slice b. The sort touches a few pages of each
    block at a time. It therefore also suits rows in mapped files, whose pages it drops.

    `user_slice` (num_users,) int32 and `item_slice` (num_items,) int32 are the slices of users and items. Returns the
    first row of each block, and the number of rows: (num_slices² + 1,) int64.

    Source: McIlroy, Bostic, McIlroy, "Engineering Radix Sort", Computing Systems 6(1), 1993.
    """
    count = np.zeros(num_slices * num_slices, dtype=np.int64)
    for _, part in rows.blocks():
        _count_by_block(part.user, part.item, user_slice, item_slice, num_slices, count)
    start = np.concatenate([[0], np.cumsum(count)])
    next_slot = start[:-1].copy()
    for block in range(len(count)):
        _fill_block(block, rows.user, rows.item, rows.rating, user_slice, item_slice, num_slices, start, next_slot)
        rows.drop_pages()
    return start


@njit()
def _count_by_block(user, item, user_slice, item_slice, num_slices, count):  # type: ignore[no-untyped-def]
    for row in range(len(user)):
        count[user_slice[user[row]] * num_slices + item_slice[item[row]]] += 1


@njit()
def _fill_block(block, user, item, rating, user_slice, item_slice, num_slices, start, next_slot):  # type: ignore[no-untyped-def]
    """Move all rows of a block into it, in place.

    next_slot (num_slices²,) int64 is the first slot of each block that may hold another block's row; advanced in place.
    """
    while next_slot[block] < start[block + 1]:
        row = next_slot[block]
        held_user, held_item, held_rating = user[row], item[row], rating[row]
        target = user_slice[held_user] * num_slices + item_slice[held_item]
        while target != block:
            slot = next_slot[target]
            next_slot[target] += 1
            user[slot], held_user = held_user, user[slot]
            item[slot], held_item = held_item, item[slot]
            rating[slot], held_rating = held_rating, rating[slot]
            target = user_slice[held_user] * num_slices + item_slice[held_item]
        user[row], item[row], rating[row] = held_user, held_item, held_rating
        next_slot[block] += 1


def sort_blocks_by_user(rows: Ratings, start: NDArray[np.int64]) -> None:
    """Sort the rows of each block by user, in place, so that a user's weights stay in the processor's cache.

    `start` is the result of move_to_blocks.
    """
    num_slices = round((len(start) - 1) ** 0.5)
    for first in range(0, len(start) - 1, num_slices):
        _sort_blocks(rows.user, rows.item, rows.rating, start[first : first + num_slices + 1])
        rows.drop_pages()


@njit(parallel=True)
def _sort_blocks(user, item, rating, start):  # type: ignore[no-untyped-def]
    for block in prange(len(start) - 1):
        rows = slice(start[block], start[block + 1])
        if start[block] < start[block + 1]:
            _sort_by_user(user[rows], item[rows], rating[rows])


@njit()
def _sort_by_user(user, item, rating):  # type: ignore[no-untyped-def]
    first_user = user.min()
    next_slot = np.zeros(user.max() - first_user + 2, dtype=np.int64)
    for row in range(len(user)):
        next_slot[user[row] - first_user + 1] += 1
    for index in range(1, len(next_slot)):
        next_slot[index] += next_slot[index - 1]
    old_user, old_item, old_rating = user.copy(), item.copy(), rating.copy()
    for row in range(len(user)):
        index = old_user[row] - first_user
        slot = next_slot[index]
        next_slot[index] += 1
        user[slot], item[slot], rating[slot] = old_user[row], old_item[row], old_rating[row]


@intrinsic
def _prefetch(_context: Any, array: Any, row: Any, column: Any) -> Any:
    """Load the cache line of array[row, column] into the caches, without waiting for it. Changes no value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type = signature.args[0]
        indices = [
            context.cast(builder, value, value_type, types.intp)
            for value, value_type in zip(arguments[1:], signature.args[1:], strict=True)
        ]
        struct = context.make_array(array_type)(context, builder, arguments[0])
        pointer = cgutils.get_item_pointer(context, builder, array_type, struct, indices, wraparound=False)
        byte_pointer = ir.IntType(8).as_pointer()
        int32 = ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", (byte_pointer,), ir.FunctionType(ir.VoidType(), [byte_pointer, int32, int32, int32])
        )
        # 1: for writing; 3: keep in all caches; 1: data, not instructions
        flags = [ir.Constant(int32, value) for value in (1, 3, 1)]
        builder.call(function, [builder.bitcast(pointer, byte_pointer), *flags])
        return context.get_dummy_value()

    return types.void(array, row, column), generate


@njit(parallel=True, fastmath=True)
def sgd_over_diagonal(user, item, rating, start, diagonal, weights, mean, lr, regularization, errors):  # type: ignore[no-untyped-def]
    """Take one step per row of a diagonal of blocks: −lr times the gradient of (r − r̂)² + penalty.

    The blocks of a diagonal share no user and no item, so they run in parallel. All diagonals make an epoch.

    Args:
        user: (N,) int32, block by block.
        item: (N,) int32.
        rating: (N,) float32.
        start: (num_slices² + 1,) int64, the first row of each block, and N.
        diagonal: number of the diagonal, from 0 to num_slices − 1: the item slice of the first user slice's block.
        weights: the factors of users and items, (num_users, D) and (num_items, D), and their biases, (num_users, 1) and
            (num_items, 1). The tables of biases are (0, 1) if the equation has none. All float32, changed in place.
        mean: float32, added to every prediction.
        lr: float32, the learning rate.
        regularization: float32, λ.
        errors: (num_slices, num_slices) float64, the sum of the squared errors of each block, in which each row is
            predicted before its step. Written for the blocks of the diagonal.
    """
    num_slices = len(errors)
    for slice_ in prange(num_slices):
        item_slice = (slice_ + diagonal) % num_slices
        block = slice_ * num_slices + item_slice
        rows = slice(start[block], start[block + 1])
        squares = _sgd_over_block(user[rows], item[rows], rating[rows], weights, mean, lr, regularization)
        errors[slice_, item_slice] = squares


@njit(fastmath=True)
def _sgd_over_block(user, item, rating, weights, mean, lr, regularization):  # type: ignore[no-untyped-def]
    """Take one step per row of a block. Returns the sum of the squared errors before each step, float64."""
    user_factors, item_factors, user_bias, item_bias = weights
    dim = user_factors.shape[1]
    has_biases = len(user_bias) > 0
    step = np.float32(2) * lr
    decay = step * regularization
    squares = 0.0
    for row in range(len(user)):
        u, i = user[row], item[row]
        next_item = item[min(row + PREFETCH_DISTANCE, len(item) - 1)]
        for d in range(0, dim, FLOATS_PER_CACHE_LINE):
            _prefetch(item_factors, next_item, d)
        p, q = user_factors[u], item_factors[i]
        predicted = mean
        if has_biases:
            predicted += user_bias[u, 0] + item_bias[i, 0]
        dot = np.float32(0)
        for d in range(dim):
            dot += p[d] * q[d]
        error = rating[row] - (predicted + dot)
        squares += np.float64(error) * np.float64(error)
        pull = step * error
        for d in range(dim):
            old = p[d]
            p[d] += pull * q[d] - decay * old
            q[d] += pull * old - decay * q[d]
        if has_biases:
            user_bias[u, 0] += pull - decay * user_bias[u, 0]
            item_bias[i, 0] += pull - decay * item_bias[i, 0]
    return squares


def compile_block_loops() -> None:
    """Compile the loops, and start numba's threads."""
    index, value, table = np.empty(0, np.int32), np.empty(0, np.float32), np.zeros((1, 1), np.float32)
    slice_, number = np.zeros(1, np.int32), np.float32(0)
    rows, tables = Ratings(index, index, value), (table, table, table, table)
    start = move_to_blocks(rows, slice_, slice_, 1)
    sort_blocks_by_user(rows, start)
    sgd_over_diagonal(index, index, value, start, 0, tables, number, number, number, np.zeros((1, 1)))
