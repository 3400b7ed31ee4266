"""Seconds and memory of top-k lists for all users, by ratinglab and implicit, on the same factors.

    pip install 'ratinglab[bench]'
    python scripts/benchmarks/recommending_speed.py

138,000 users, 27,000 items, 64 factors, k = 10; 5 million rated pairs are left out. Each system runs in a process of
its own, both with the same number of threads, and they take turns. Peak memory counts from the loaded factors and pairs
upward, so that it includes the imports of each system.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

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

NUM_FACTORS, K = 64, 10
LABELS = {"ratinglab": "ratinglab", "implicit": "implicit's recommend"}
VARIABLES = {
    "ratinglab": {"OMP_WAIT_POLICY": "PASSIVE"},  # as its commands set it
    "implicit": {},
}


def main() -> None:
    """Measure, print one table, and compare the two lists."""
    parser = argument_parser(__doc__)
    parser.add_argument("--users", type=int, default=138_000, help="default: %(default)s")
    parser.add_argument("--items", type=int, default=27_000, help="default: %(default)s")
    parser.add_argument("--rated", type=int, default=5_000_000, help="rated pairs (default: %(default)s)")
    parser.add_argument("--systems", nargs="+", choices=LABELS, default=list(LABELS), help="default: both")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), arguments)
        measured = take_turns(
            {system: in_process(system, folder, threads=arguments.threads) for system in arguments.systems},
            repeats=arguments.repeats,
        )
        lists = [np.load(Path(folder) / f"{system}.npy") for system in measured]
    print_results(measured, num_users=arguments.users)
    if len(lists) > 1:
        print(f"both recommend the same item in {np.mean(lists[0] == lists[1]):.4%} of all places")


def in_process(system: str, folder: str, *, threads: int) -> Callable[[], Measurement]:
    """Return a function that measures a system once."""
    # implicit calls BLAS from threads of its own
    env = environment(threads=threads, OPENBLAS_NUM_THREADS="1", **VARIABLES[system])
    return partial(call_in_process, recommend_to_all, system, folder, env=env)


def print_results(measured: dict[str, list[Measurement]], *, num_users: int) -> None:
    """Print medians; the ratio is of seconds, to the first system."""
    reference = next(iter(measured.values()))
    rows = {}
    for system, rounds in measured.items():
        seconds, ratio = median(rounds, "seconds"), median_ratio(rounds, reference, "seconds")
        rows[LABELS[system]] = [seconds, ratio, num_users / seconds, peak_mib(rounds)]
    columns = {"seconds": ".2f", "ratio": ".2f", "users/s": ",.0f", "peak MiB above data": ",.0f"}
    print_table(f"median of {len(reference)}", columns, rows)


def generate(folder: Path, arguments: argparse.Namespace) -> None:
    """Write factors, and long-tailed rated pairs, sorted by user."""
    random = np.random.default_rng(0)
    pairs = distinct_pairs(arguments.rated, num_users=arguments.users, num_items=arguments.items, random=random)
    np.savez(
        folder / "table.npz",
        user=(pairs // arguments.items).astype(np.int32),
        item=(pairs % arguments.items).astype(np.int32),
        user_factors=random.normal(0, 0.1, (arguments.users, NUM_FACTORS)).astype(np.float32),
        item_factors=random.normal(0, 0.1, (arguments.items, NUM_FACTORS)).astype(np.float32),
    )


def recommend_to_all(system: str, folder: str) -> Measurement:
    """Recommend to all users in this process: seconds, and the peak of memory above that of the loaded data."""
    table = dict(np.load(Path(folder) / "table.npz"))
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets VmHWM
    before = memory_mib("VmRSS")
    recommend = {"ratinglab": prepare_ratinglab, "implicit": prepare_implicit}[system](table)
    started = perf_counter()
    lists = recommend()
    seconds = perf_counter() - started
    np.save(Path(folder) / f"{system}.npy", lists)
    return {"seconds": seconds, "peak_mib": memory_mib("VmHWM") - before}


def memory_mib(name: str) -> float:
    """Return a figure of /proc/self/status: VmRSS, the memory in use, or VmHWM, its peak."""
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        if line.startswith(f"{name}:")
    )
    return int(line.split()[1]) / 1024


def prepare_ratinglab(table: dict[str, NDArray[Any]]) -> Callable[[], NDArray[np.int32]]:
    """Return what recommend.py calls for all users, with a textbook factorization of these factors."""
    import torch

    from ratinglab.models.bias_baseline import BiasBaseline
    from ratinglab.models.equation import TrainingData
    from ratinglab.models.mf import MFOptions
    from ratinglab.models.predictor import Predictor
    from ratinglab.recommend.topk import build_seen_matrix, select_top_k
    from ratinglab.stars import Stars

    users, items = (torch.from_numpy(table[f"{side}_factors"]) for side in ("user", "item"))
    training = TrainingData(num_users=len(users), num_items=len(items), rating_mean=0.0)
    options = MFOptions(embedding_dim=NUM_FACTORS, regularization=0.0, init_std=0.0)
    model = options.build(training, generator=torch.Generator())
    model.user_embedding.weight.data, model.item_embedding.weight.data = users, items
    baseline = BiasBaseline(num_users=len(users), num_items=len(items))
    predictor = Predictor(model, baseline, stars=Stars(1.0, 5.0), scale=None)

    def recommend() -> NDArray[np.int32]:
        seen = build_seen_matrix(table["user"], table["item"], num_users=len(users))
        all_users, candidates = (np.arange(len(side), dtype=np.int32) for side in (users, items))
        return np.concatenate(list(select_top_k(predictor, all_users, candidates=candidates, seen=seen, k=K)))

    return recommend


def prepare_implicit(table: dict[str, NDArray[Any]]) -> Callable[[], NDArray[np.int32]]:
    """Return a loop of implicit's recommend over batches of 1,000 users, with these factors."""
    from implicit.als import AlternatingLeastSquares
    from scipy import sparse

    users, items = table["user_factors"], table["item_factors"]
    model = AlternatingLeastSquares(factors=NUM_FACTORS, use_gpu=False)
    model.user_factors, model.item_factors = users, items
    shape = len(users), len(items)

    def recommend() -> NDArray[np.int32]:
        ones = np.ones(len(table["user"]), dtype=np.float32)
        rated = sparse.csr_matrix((ones, (table["user"], table["item"])), shape=shape)
        batches = [np.arange(start, min(start + 1_000, len(users))) for start in range(0, len(users), 1_000)]
        return np.concatenate(
            [model.recommend(batch, rated[batch], N=K, filter_already_liked_items=True)[0] for batch in batches]
        )

    return recommend


if __name__ == "__main__":
    main()
