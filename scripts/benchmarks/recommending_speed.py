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
from typing import Any, TypeVar

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
Table = dict[str, NDArray[Any]]
Result = TypeVar("Result")


def main() -> None:
    """Measure, print one table, and compare the two lists."""
    parser = argument_parser(__doc__)
    parser.add_argument("--users", type=int, default=138_000, help="default: %(default)s")
    parser.add_argument("--items", type=int, default=27_000, help="default: %(default)s")
    parser.add_argument("--rated", type=int, default=5_000_000, help="rated pairs (default: %(default)s)")
    parser.add_argument("--systems", nargs="+", choices=LABELS, default=list(LABELS), help="default: both")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), arguments, num_samples=1)
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


def generate(folder: Path, arguments: argparse.Namespace, *, num_samples: int) -> None:
    """Write samples of factors, and long-tailed rated pairs, sorted by user, of which a sixth may be held out."""
    random = np.random.default_rng(0)
    pairs = distinct_pairs(arguments.rated, num_users=arguments.users, num_items=arguments.items, random=random)
    users, items = (
        random.normal(0, 0.1, (num_samples, count, NUM_FACTORS)).astype(np.float32)
        for count in (arguments.users, arguments.items)
    )
    np.savez(
        folder / "table.npz",
        user=(pairs // arguments.items).astype(np.int32),
        item=(pairs % arguments.items).astype(np.int32),
        is_held_out=random.random(len(pairs)) < 1 / 6,
        user_factors=users,
        item_factors=items,
    )


def recommend_to_all(system: str, folder: str) -> Measurement:
    """Recommend to all users in this process: seconds, and the peak of memory above that of the loaded data."""
    table = dict(np.load(Path(folder) / "table.npz"))
    prepare = {"ratinglab": prepare_ratinglab, "implicit": prepare_implicit}[system]
    lists, measured = measure_call(partial(prepare, table))
    np.save(Path(folder) / f"{system}.npy", lists)
    return measured


def measure_call(prepare: Callable[[], Callable[[], Result]]) -> tuple[Result, Measurement]:
    """Prepare a function and call it: its result, its seconds, and the peak of memory above that before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets VmHWM
    before = memory_mib("VmRSS")
    call = prepare()
    started = perf_counter()
    result = call()
    seconds = perf_counter() - started
    return result, {"seconds": seconds, "peak_mib": memory_mib("VmHWM") - before}


def memory_mib(name: str) -> float:
    """Return a figure of /proc/self/status: VmRSS, the memory in use, or VmHWM, its peak."""
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        if line.startswith(f"{name}:")
    )
    return int(line.split()[1]) / 1024


def prepare_ratinglab(table: Table) -> Callable[[], NDArray[np.int32]]:
    """Return what recommend.py calls for all users, with a textbook factorization of these factors."""
    from ratinglab.recommend.topk import build_pair_matrix, select_top_k

    num_users, num_items = (table[f"{side}_factors"].shape[1] for side in ("user", "item"))
    predictor = build_predictor(table)

    def recommend() -> NDArray[np.int32]:
        seen = build_pair_matrix(table["user"], table["item"], num_users=num_users)
        all_users, candidates = (np.arange(count, dtype=np.int32) for count in (num_users, num_items))
        return np.concatenate(list(select_top_k(predictor, all_users, candidates=candidates, seen=seen, k=K)))

    return recommend


def prepare_implicit(table: Table) -> Callable[[], NDArray[np.int32]]:
    """Return a loop of implicit's recommend over batches of 1,000 users, with these factors."""
    from implicit.als import AlternatingLeastSquares
    from scipy import sparse

    (users,), (items,) = table["user_factors"], table["item_factors"]
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


def build_predictor(table: Table) -> Any:
    """Build the predictor of a textbook factorization with these factors or, if there are several, samples of it."""
    import torch

    from ratinglab.models.bias_baseline import BiasBaseline
    from ratinglab.models.equation import Equation, TrainingData
    from ratinglab.models.factors import Factors, SideFactors
    from ratinglab.models.mf import MFOptions
    from ratinglab.models.posterior import Posterior
    from ratinglab.models.predictor import Predictor
    from ratinglab.stars import Stars

    users, items = (torch.from_numpy(table[f"{side}_factors"]) for side in ("user", "item"))
    training = TrainingData(num_users=users.shape[1], num_items=items.shape[1], rating_mean=0.0)
    options = MFOptions(embedding_dim=NUM_FACTORS, regularization=0.0, init_std=0.0)
    mf = options.build(training, generator=torch.Generator())
    model: Equation = mf
    if len(users) > 1:
        model = Posterior(mf)
        for user, item in zip(users, items, strict=True):
            users_side, items_side = (SideFactors(rows, noise_precision=torch.ones(len(rows))) for rows in (user, item))
            model.samples.append(Factors(users_side, items_side, mean=0.0))
    mf.user_embedding.weight.data, mf.item_embedding.weight.data = users[0], items[0]
    baseline = BiasBaseline(num_users=training.num_users, num_items=training.num_items)
    return Predictor(model, baseline, stars=Stars(1.0, 5.0), scale=None)


if __name__ == "__main__":
    main()
