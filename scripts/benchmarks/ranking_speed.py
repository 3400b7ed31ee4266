"""Seconds and memory of measuring the lists of all users against held-out ratings.

    python scripts/benchmarks/ranking_speed.py

138,000 users, 27,000 items, k = 10; 5 million training pairs, and 1 million held-out pairs, all relevant. The systems
are a textbook factorization with 64 factors, by predicted rating and by expected gain; a run by Gibbs sampling with 8
samples of 64 factors, by predicted rating; and the most popular items. Each runs in a process of its own, and they take
turns. Peak memory counts from the loaded factors and pairs upward, with the imports of torch.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from measurement import (
    Measurement,
    argument_parser,
    call_in_process,
    environment,
    median,
    peak_mib,
    print_table,
    take_turns,
)
from recommending_speed import NUM_FACTORS, K, Table, build_predictor, generate, measure_call

NUM_SAMPLES = 8
SYSTEMS = {
    "factors": "64 factors",
    "gain": "64 factors, by expected gain",
    "samples": "8 samples of 64 factors",
    "popular": "most popular items",
}


def main() -> None:
    """Measure, and print one table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--users", type=int, default=138_000, help="default: %(default)s")
    parser.add_argument("--items", type=int, default=27_000, help="default: %(default)s")
    parser.add_argument("--rated", type=int, default=6_000_000, help="pairs, a sixth held out (default: %(default)s)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="default: all")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), arguments, num_samples=NUM_SAMPLES)
        env = environment(threads=arguments.threads, OMP_WAIT_POLICY="PASSIVE")
        measured = take_turns(
            {system: partial(call_in_process, measure, system, folder, env=env) for system in arguments.systems},
            repeats=arguments.repeats,
        )
    rows = {
        SYSTEMS[system]: [
            median(rounds, "seconds"),
            median(rounds, "users") / median(rounds, "seconds"),
            peak_mib(rounds),
        ]
        for system, rounds in measured.items()
    }
    columns = {"seconds": ".2f", "users/s": ",.0f", "peak MiB above data": ",.0f"}
    print_table(f"median of {arguments.repeats}", columns, rows)


def measure(system: str, folder: str) -> Measurement:
    """Measure a system's lists in this process: seconds, users, and the peak of memory above that of the data."""
    table = dict(np.load(Path(folder) / "table.npz"))
    if system != "samples":  # the first sample will do
        table |= {name: table[name][:1].copy() for name in ("user_factors", "item_factors")}
    num_users, measured = measure_call(partial(prepare, system, table))
    return {**measured, "users": num_users}


def prepare(system: str, table: Table) -> Callable[[], int]:
    """Return what evaluate.py calls for a part, without reading the run; it returns the number of users."""
    import torch

    from ratinglab.models.rated_pairs import RatedPairs
    from ratinglab.ratings.table import Ratings
    from ratinglab.recommend.held_out_lists import HeldOutLists
    from ratinglab.recommend.interest import DIMS, Interest
    from ratinglab.recommend.orders import ExpectedGain

    num_users, num_items = (table[f"{side}_factors"].shape[1] for side in ("user", "item"))
    predictor, is_train = build_predictor(table), ~table["is_held_out"]
    rated, train = (RatedPairs(table["user"][mask], table["item"][mask]) for mask in (~is_train, is_train))
    held_out = Ratings(*rated, rating=np.ones(len(rated.user), dtype=np.float32))
    order = None
    if system == "gain":
        factors = (torch.from_numpy(table[f"{side}_factors"][0]) for side in ("user", "item"))
        # as many factors as interest has, whatever their values
        user, item = (table.repeat(1, sum(DIMS) // NUM_FACTORS + 1)[:, : sum(DIMS)].contiguous() for table in factors)
        order = ExpectedGain(Interest(user, item, torch.ones(num_items)), border=0.0, standard_deviation=1.0)

    def rank() -> int:
        lists = HeldOutLists(held_out, train=train, num_users=num_users, num_items=num_items)
        metrics = lists.measure_popularity(k=K) if system == "popular" else lists.measure(predictor, k=K, order=order)
        assert 0 < metrics["ndcg"] < 1
        return len(lists.users)

    return rank


if __name__ == "__main__":
    main()
