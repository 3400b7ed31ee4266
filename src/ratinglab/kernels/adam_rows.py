"""Adam on the rows of a table that a batch touches."""

import numpy as np
from numba import prange

from ratinglab.kernels.compiled import njit


@njit(parallel=True, fastmath=True)
def step_rows(rows, gradient, weights, moments, slots, lr, betas, corrections, epsilon):  # type: ignore[no-untyped-def]
    """Take one step of Adam on these rows of weights, in place. The gradients of a repeated row are summed.

    Args:
        rows: (n,) int64.
        gradient: (n, D) float32, the gradient of each row; overwritten.
        weights: (num_rows, D) float32, changed.
        moments: two of (num_rows, D) float32, the running means of the gradient and of its square; changed.
        slots: (num_rows,) int32, scratch space, all −1 before and after a step.
        lr: float32, the learning rate.
        betas: two float32, the decays of the running means.
        corrections: two float32, 1 − βᵗ of each decay.
        epsilon: float32, keeps the divisor above 0.
    """
    mean, square = moments
    beta1, beta2 = betas
    dim = weights.shape[1]
    distinct = np.empty(len(rows), dtype=np.int64)
    count = 0
    for entry in range(len(rows)):  # sum the gradients of each row in its first entry
        row = rows[entry]
        if slots[row] < 0:
            slots[row] = entry
            distinct[count] = row
            count += 1
        else:
            total, addend = gradient[slots[row]], gradient[entry]
            for d in range(dim):
                total[d] += addend[d]
    step = lr * np.sqrt(corrections[1]) / corrections[0]
    for index in prange(count):
        row = distinct[index]
        g, w, m, v = gradient[slots[row]], weights[row], mean[row], square[row]
        slots[row] = -1
        for d in range(dim):
            m[d] = beta1 * m[d] + (np.float32(1) - beta1) * g[d]
            v[d] = beta2 * v[d] + (np.float32(1) - beta2) * g[d] * g[d]
            w[d] -= step * m[d] / (np.sqrt(v[d]) + epsilon)


def compile_adam_loops() -> None:
    """Compile the loop, and start numba's threads."""
    table, number = np.zeros((1, 1), np.float32), np.float32(1)
    slots = np.full(1, -1, dtype=np.int32)
    pair = number, number
    step_rows(np.empty(0, np.int64), table[:0], table, (table, table), slots, number, pair, pair, number)
