"""What the order of the rows gains in block SGD, how its time grows with the number of ratings, and what it costs.

    python scripts/benchmark_block_order.py
    python scripts/benchmark_block_order.py --root ml-100k      and the RMSE on the published split u1, by order

One process, the kernels alone, dim 64; medians of the epochs after the first. In random order there is one block, and
so one thread: the second row of each table is the fair comparison.
"""

import argparse
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numba
import numpy as np
from benchmark import NUM_ITEMS, NUM_USERS
from benchmark_reading import distinct_pairs

from ratinglab.fitting.block_sgd import balanced_slices, slices_for
from ratinglab.fitting.kernels.block_sgd import Rule, Weights, epoch, load, move_to_blocks, sort_blocks_by_user

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


class Measured(NamedTuple):
    """Seconds of the ordering, ratings a second, and the weights."""

    ordering: float
    speed: float
    weights: list[np.ndarray]


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder with MovieLens 100K's u.data")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 5_000_000, 25_000_000])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    load()
    print(f"{'':42}{'order s':>9}{'M ratings/s':>13}{'ratio':>7}")
    for count in arguments.rows:
        # as real tables: about 180 ratings a user at every size
        num_users = max(1, NUM_USERS * count // 25_000_000)
        rows = generated(count, num_users=num_users)
        for name, threads, slices in (("random order", 1, None), ("blocks", 1, slices_for(count)),
                                      ("blocks", arguments.threads, slices_for(count))):  # fmt: skip
            numba.set_num_threads(threads)
            found = measure(rows, slices=slices, epochs=5, lr=0.005, regularization=0.05, init_std=0.01)
            if slices is None:
                first = found.speed
            label = f"{count:,} ratings, {name}, {threads} thread{'s' if threads > 1 else ''}"
            print(f"{label:42}{found.ordering:9.2f}{found.speed / 1e6:13.1f}{found.speed / first:7.2f}")
        del rows
    if arguments.root:
        print_errors(arguments.root)


def generated(count: int, *, num_users: int) -> Rows:
    """Long-tailed ratings in random order."""
    random = np.random.default_rng(0)
    pairs = random.permutation(distinct_pairs(count, num_users=num_users, num_items=NUM_ITEMS, random=random))
    user, item = (pairs // NUM_ITEMS).astype(np.int32), (pairs % NUM_ITEMS).astype(np.int32)
    return user, item, (random.integers(1, 11, count) / 2).astype(np.float32)


def measure(
    rows: Rows, *, slices: int | None, epochs: int, lr: float, regularization: float, init_std: float
) -> Measured:
    """Fit on a copy of the rows, in blocks or, for None, in the order that they have."""
    user, item, rating = (column.copy() for column in rows)
    num_users, num_items = int(user.max()) + 1, int(item.max()) + 1
    started = perf_counter()
    start = np.array([0, len(user)])
    if slices is not None:
        cuts = [balanced_slices(np.bincount(index), slices) for index in (user, item)]
        start = move_to_blocks(user, item, rating, *cuts, slices)
        sort_blocks_by_user(user, item, rating, start)
    ordering = perf_counter() - started
    random = np.random.default_rng(0)
    weights = [random.normal(0, init_std, (count, 64)).astype(np.float32) for count in (num_users, num_items)]
    weights += [np.zeros((count, 1), dtype=np.float32) for count in (num_users, num_items)]
    seconds = []
    for number in range(epochs):
        rule, started = Rule(rating.mean(), np.float32(lr * 0.97**number), np.float32(regularization)), perf_counter()
        equal_rates = np.empty(0, np.float32), np.empty(0, np.float32)
        epoch(user, item, rating, start, random.permutation(slices or 1), Weights(*weights, *equal_rates), rule)
        seconds.append(perf_counter() - started)
    return Measured(ordering, len(user) / median(seconds[1:]), weights)


def print_errors(root: Path) -> None:
    """RMSE on u1's test rows by order, with the settings of experiment=movielens_100k_u1_block_sgd."""
    user, item, rating, _ = np.loadtxt(root / "u.data", dtype=np.int64).T
    rows = (user - 1).astype(np.int32), (item - 1).astype(np.int32), rating.astype(np.float32)
    test, train = (tuple(column[part] for column in rows) for part in (slice(0, 20_000), slice(20_000, None)))
    train = tuple(column[np.random.default_rng(0).permutation(80_000)] for column in train)
    print(f"\n{'MovieLens 100K, u1':34}" + "".join(f"{epochs:>4} epochs" for epochs in (20, 35, 50)))
    for name, slices in (("random order", None), ("4 × 4 blocks", 4), ("8 × 8 blocks", 8), ("16 × 16 blocks", 16)):
        errors = []
        for epochs in (20, 35, 50):
            user_factors, item_factors, user_bias, item_bias = measure(
                train, slices=slices, epochs=epochs, lr=0.01, regularization=0.08, init_std=0.005
            ).weights
            known = (test[0] < len(user_bias)) & (test[1] < len(item_bias))
            u, i = test[0][known], test[1][known]
            predicted = np.full(len(known), train[2].mean())
            predicted[known] += user_bias[u, 0] + item_bias[i, 0] + (user_factors[u] * item_factors[i]).sum(axis=1)
            errors.append(np.sqrt(np.mean((np.clip(predicted, 1, 5) - test[2]) ** 2)))
        print(f"{name:34}" + "".join(f"{error:11.4f}" for error in errors))


if __name__ == "__main__":
    main()
