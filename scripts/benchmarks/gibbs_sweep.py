"""Seconds of a sweep of Gibbs sampling, by equation, and their ratios to biased_mf; also myFM's, if it is installed.

    python scripts/benchmarks/gibbs_sweep.py
    python scripts/benchmarks/gibbs_sweep.py --rows 80000 1000000

Ratings are synthetic, long-tailed in users and items, with about 12 ratings per user and day. Each equation has the
options of its recipe, without features. It runs in a process of its own, and the equations take turns. A process counts
its fastest sweep, which suffers least from other load on the machine, and keeps no samples.

myFM gets the same blocks at the same rank: users and items; for svdpp also implicit feedback on both sides, as relation
blocks; for timesvdpp also the day, one block per user and day. It has no drift and always runs on one thread.
"""

import argparse
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from time import perf_counter

import numpy as np
from measurement import (
    Measurement,
    argument_parser,
    call_in_process,
    distinct_pairs,
    environment,
    median,
    median_ratio,
    peak_mib,
    print_table,
    take_turns,
)
from numpy.typing import NDArray
from peer_fits import Ratings, column_groups, myfm_blocks, relation_blocks

SHAPES = {80_000: (943, 1_682), 1_000_000: (6_040, 3_700), 8_000_000: (70_000, 10_000)}
"""Users and items by number of ratings, as in MovieLens 100K's training rows, 1M and 10M."""
RATINGS_PER_DAY = 12
EQUATIONS = ("biased_mf", "svdpp", "timesvdpp")
RANK, DAY = 16, 86_400
MAX_ROWS_OF_MYFM = 1_000_000
"""With more, an iteration of myFM takes minutes."""


def main() -> None:
    """Measure, and print one table per number of rows."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", choices=SHAPES, default=list(SHAPES), help="numbers of ratings")
    parser.add_argument("--sweeps", type=int, default=5, help="measured sweeps per process (default: %(default)s)")
    arguments = parser.parse_args()
    for rows in arguments.rows:
        print_results(rows, arguments)


def print_results(rows: int, arguments: argparse.Namespace) -> None:
    """Measure and print the systems on one number of rows."""
    env = environment(threads=arguments.threads, OMP_WAIT_POLICY="PASSIVE")  # as the commands set it
    systems: dict[str, Callable[..., Measurement]] = dict.fromkeys(EQUATIONS, sweep_seconds)
    if find_spec("myfm") and rows <= MAX_ROWS_OF_MYFM:
        systems |= {f"myFM, as {name}": myfm_seconds for name in EQUATIONS}
    measures = {
        label: partial(call_in_process, function, label, str(rows), str(arguments.sweeps), env=env)
        for label, function in systems.items()
    }
    measured = take_turns(measures, repeats=arguments.repeats)
    figures = {
        label: [median(rounds, "seconds"), median_ratio(rounds, measured["biased_mf"], "seconds"), peak_mib(rounds)]
        for label, rounds in measured.items()
    }
    print_table(f"{rows:,} ratings", {"s per sweep": ".4f", "ratio": ".2f", "peak MiB": ".0f"}, figures)


def generate_ratings(rows: int) -> dict[str, NDArray[np.generic]]:
    """Generate ratings from biases, one factor and noise: user_id, item_id, rating and timestamp, in random order."""
    random, (num_users, num_items) = np.random.default_rng(0), SHAPES[rows]
    pairs = random.permutation(distinct_pairs(rows, num_users=num_users, num_items=num_items, random=random))
    user, item = pairs // num_items, pairs % num_items
    means = [random.normal(0, 0.4, count) for count in (num_users, num_items)]
    factors = [random.normal(0, 0.5, count) for count in (num_users, num_items)]
    true = 3.5 + means[0][user] + means[1][item] + factors[0][user] * factors[1][item]
    days = -(-np.bincount(user, minlength=num_users) // RATINGS_PER_DAY)
    day = 30 * random.integers(0, days[user])
    rating = np.clip(np.round(true + random.normal(0, 0.9, rows)), 1, 5)
    return {"user_id": user, "item_id": item, "rating": rating, "timestamp": (10_000 + day) * DAY}


def sweep_seconds(equation: str, rows: str, sweeps: str) -> Measurement:
    """Return the seconds of the fastest sweep in this process; the arguments are text, from the command line."""
    import pandas as pd
    import pytorch_lightning as pl

    import ratinglab

    class Clock(pl.Callback):
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_train_batch_start(self, *_: object) -> None:
            self.started = perf_counter()

        def on_train_batch_end(self, *_: object) -> None:
            self.seconds.append(perf_counter() - self.started)

    table, clock, count = pd.DataFrame(generate_ratings(int(rows))), Clock(), int(sweeps)
    fit, data = ratinglab.lightning(
        f"recipe={equation}_gibbs", *(["model.item_features=[]"] if equation == "timesvdpp" else []),
        f"model.embedding_dim={RANK}", f"optimizer.burn_in={count}", f"trainer.max_epochs={count + 1}",
        "split.validation=0", "split.test=0", ratings=table, columns={"timestamp": "timestamp"},
    )  # fmt: skip
    trainer = pl.Trainer(
        max_epochs=count, accelerator="cpu", logger=False, callbacks=[clock], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(fit, datamodule=data)
    return {"seconds": min(clock.seconds)}


def myfm_seconds(label: str, rows: str, sweeps: str) -> Measurement:
    """Return the seconds of the fastest iteration of myFM in this process."""
    import myfm

    equation, table = label.removeprefix("myFM, as "), generate_ratings(int(rows))
    user, item = (np.unique(table[name], return_inverse=True)[1] for name in ("user_id", "item_id"))
    rating, day = np.asarray(table["rating"], dtype=np.float32), np.asarray(table["timestamp"]) // DAY
    blocks = myfm_blocks(equation, Ratings(user, item, rating, day), num_train=len(rating))
    ends = []

    def at_end(*_: object) -> tuple[bool, None]:
        ends.append(perf_counter())
        return False, None

    model = myfm.MyFMRegressor(rank=RANK, random_seed=0)
    model.fit(None, rating, X_rel=relation_blocks(blocks, slice(None)), n_iter=int(sweeps) + 1, n_kept_samples=1,
              grouping=column_groups(blocks), callback=at_end)  # fmt: skip
    return {"seconds": float(np.diff(ends).min())}


if __name__ == "__main__":
    main()
