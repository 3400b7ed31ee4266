"""Adam on the rows of a table that a batch touches."""

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray


class AdamTable(NamedTuple):
    """A table of weights and its moments.

    Attributes:
        weight: (num_rows, D) float32.
        mean: (num_rows, D) float32, the running mean of the gradient.
        square: (num_rows, D) float32, the running mean of the squared gradient.
        slot: (num_rows,) int32, scratch space; all −1 before and after a step.
    """

    weight: NDArray[np.float32]
    mean: NDArray[np.float32]
    square: NDArray[np.float32]
    slot: NDArray[np.int32]


class AdamStep(NamedTuple):
    """Parameters of a step, all float32.

    Attributes:
        lr: the learning rate.
        beta1: decay of the gradient's running mean.
        beta2: decay of the squared gradient's running mean.
        correction1: 1 − beta1ᵗ.
        correction2: 1 − beta2ᵗ.
        epsilon: keeps the divisor above 0.
    """

    lr: np.float32
    beta1: np.float32
    beta2: np.float32
    correction1: np.float32
    correction2: np.float32
    epsilon: np.float32


@njit(cache=True, nogil=True, parallel=True, fastmath={"reassoc", "contract", "nsz"})
def step_rows(rows, gradient, table, rule):  # type: ignore[no-untyped-def]
    """Take one step of Adam on these rows, in place. Adds up the gradients of a row that occurs more than once.

    Args:
        rows: (n,) int64.
        gradient: (n, D) float32, the gradient of each row.
        table: AdamTable.
        rule: AdamStep.
    """
    weight, mean, square, slot = table.weight, table.mean, table.square, table.slot
    beta1, beta2, epsilon = rule.beta1, rule.beta2, rule.epsilon
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
    step = rule.lr * np.sqrt(rule.correction2) / rule.correction1
    for number in prange(count):
        row = distinct[number]
        g, w, m, v = gradient[slot[row]], weight[row], mean[row], square[row]
        slot[row] = -1
        for d in range(dim):
            m[d] = beta1 * m[d] + (np.float32(1) - beta1) * g[d]
            v[d] = beta2 * v[d] + (np.float32(1) - beta2) * g[d] * g[d]
            w[d] -= step * m[d] / (np.sqrt(v[d]) + epsilon)


def load() -> None:
    """Load the loop from the compiler's cache, or compile it in a few seconds, and start the threads."""
    table, number = np.zeros((1, 1), np.float32), np.float32(1)
    slot = np.full(1, -1, dtype=np.int32)
    step_rows(np.empty(0, np.int64), table[:0], AdamTable(table, table, table, slot), AdamStep(*[number] * 6))
