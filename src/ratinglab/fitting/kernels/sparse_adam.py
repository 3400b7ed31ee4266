"""Adam on the rows of a table that a batch has touched."""

import numpy as np
from numba import njit, prange


@njit(cache=True, nogil=True, parallel=True, fastmath={"reassoc", "contract", "nsz"})
def step_rows(rows, gradient, weight, mean, square, slot, lr, beta1, beta2, correction1, correction2, epsilon):  # type: ignore[no-untyped-def]
    """One step of Adam on the rows named, in place; the gradients of a row that is named more than once are added.

    Args:
        rows: (n,) int64, the rows.
        gradient: (n, D) float32, theirs.
        weight: (num_rows, D) float32; so are mean and square.
        mean: the running mean of the gradient.
        square: the running mean of its square.
        slot: (num_rows,) int32, −1 throughout, before and after.
        lr: float32, the learning rate; beta1, beta2 and epsilon as in the paper.
        correction1: float32, 1 − beta1ᵗ.
        correction2: float32, 1 − beta2ᵗ.
    """
    dim = weight.shape[1]
    distinct = np.empty(len(rows), dtype=np.int64)
    count = 0
    for place in range(len(rows)):  # the first gradient of each row gathers the others
        row = rows[place]
        if slot[row] < 0:
            slot[row] = place
            distinct[count] = row
            count += 1
        else:
            total, more = gradient[slot[row]], gradient[place]
            for d in range(dim):
                total[d] += more[d]
    step = lr * np.sqrt(correction2) / correction1
    for number in prange(count):
        row = distinct[number]
        g, w, m, v = gradient[slot[row]], weight[row], mean[row], square[row]
        slot[row] = -1
        for d in range(dim):
            m[d] = beta1 * m[d] + (np.float32(1) - beta1) * g[d]
            v[d] = beta2 * v[d] + (np.float32(1) - beta2) * g[d] * g[d]
            w[d] -= step * m[d] / (np.sqrt(v[d]) + epsilon)


def load() -> None:
    """Load the loop from the compiler's cache, or compile it, which takes seconds; and start the threads."""
    table, number = np.zeros((1, 1), np.float32), np.float32(1)
    slot = np.full(1, -1, dtype=np.int32)
    step_rows(np.empty(0, np.int64), table[:0], table, table, table, slot, *[number] * 6)
