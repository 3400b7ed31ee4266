"""Adam on the rows of a table that a batch touches."""

import numpy as np
from numba import prange

from ratinglab.kernels.compiled import njit


@njit(nogil=True, parallel=True, fastmath={"reassoc", "contract", "nsz"})
def step_rows(rows, gradient, table, lr, betas, corrections, epsilon):  # type: ignore[no-untyped-def]
    """Take one step of Adam on these rows, in place. Adds up the gradients of a row that occurs more than once.

    Args:
        rows: (n,) int64.
        gradient: (n, D) float32, the gradient of each row; overwritten.
        table: three of (num_rows, D) float32, the weights and the running means of the gradient and of its square;
            and (num_rows,) int32, scratch space, all −1 before and after a step.
        lr: float32, the learning rate.
        betas: two float32, the decays of the running means.
        corrections: two float32, 1 − βᵗ of each decay.
        epsilon: float32, keeps the divisor above 0.
    """
    weight, mean, square, slot = table
    beta1, beta2 = betas
    dim = weight.shape[1]
    distinct = np.empty(len(rows), dtype=np.int64)
    count = 0
    for place in range(len(rows)):  # add the gradients of a row to its first one
        row = rows[place]
        if slot[row] < 0:
            slot[row] = place
            distinct[count] = row
            count += 1
        else:
            total, more = gradient[slot[row]], gradient[place]
            for d in range(dim):
                total[d] += more[d]
    step = lr * np.sqrt(corrections[1]) / corrections[0]
    for number in prange(count):
        row = distinct[number]
        g, w, m, v = gradient[slot[row]], weight[row], mean[row], square[row]
        slot[row] = -1
        for d in range(dim):
            m[d] = beta1 * m[d] + (np.float32(1) - beta1) * g[d]
            v[d] = beta2 * v[d] + (np.float32(1) - beta2) * g[d] * g[d]
            w[d] -= step * m[d] / (np.sqrt(v[d]) + epsilon)


def compile_loops() -> None:
    """Load the loop from the compiler's cache, or compile it in a few seconds, and start the threads."""
    table, number = np.zeros((1, 1), np.float32), np.float32(1)
    slot = np.full(1, -1, dtype=np.int32)
    pair = number, number
    step_rows(np.empty(0, np.int64), table[:0], (table, table, table, slot), number, pair, pair, number)
