"""Top-k for all users beside implicit's, on the same factors: pip install 'ratinglab[bench]', then

    python scripts/benchmark_recommending.py

138,000 users, 27,000 items, 64 factors, 5 million rated pairs left out, k = 10. Each measurement is a process of
its own with the same number of threads; the two take turns; peak memory is that above the factors and the pairs,
imports included.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from benchmark_reading import distinct_pairs

SYSTEMS = {"ratinglab": "ratinglab", "implicit": "implicit's recommend"}


def main() -> None:
    """Measure, compare what both recommend, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=138_000)
    parser.add_argument("--items", type=int, default=27_000)
    parser.add_argument("--rated", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        system, folder = arguments.one
        print(json.dumps(measure(system, Path(folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), arguments)
        limits = {f"{name}_NUM_THREADS": str(arguments.threads) for name in ("OMP", "NUMBA", "OPENBLAS", "MKL")}
        limits["OPENBLAS_NUM_THREADS"] = "1"  # implicit's own threads call it
        taken: dict[str, list[dict[str, float]]] = {system: [] for system in SYSTEMS}
        for _ in range(arguments.repeats):
            for system, done in taken.items():
                own = {"OMP_WAIT_POLICY": "PASSIVE"} if system == "ratinglab" else {}  # as its commands set it
                process = subprocess.run(
                    [sys.executable, __file__, "--one", system, folder],
                    check=True,
                    capture_output=True,
                    text=True,
                    env={**os.environ, **limits, **own},
                )
                done.append(json.loads(process.stdout.splitlines()[-1]))
        ours, theirs = (np.load(Path(folder) / f"{system}.npy") for system in SYSTEMS)
    print(f"the same item in {np.mean(ours == theirs):.4%} of all places")
    print(f"{'median of ' + str(arguments.repeats):24}{'seconds':>9}{'users/s':>10}{'ratio':>8}{'peak MiB above':>16}")
    for system, done in taken.items():
        seconds = statistics.median(one["seconds"] for one in done)
        pairs = zip(taken["ratinglab"], done, strict=True)
        ratio = statistics.median(own["seconds"] / other["seconds"] for own, other in pairs)
        peak = max(one["peak_mib"] for one in done)
        print(f"{SYSTEMS[system]:24}{seconds:9.2f}{arguments.users / seconds:10,.0f}{ratio:8.2f}{peak:16,.0f}")


def generate(folder: Path, arguments: argparse.Namespace) -> None:
    """Factors, and long-tailed rated pairs, sorted by user."""
    random = np.random.default_rng(0)
    pairs = distinct_pairs(arguments.rated, num_users=arguments.users, num_items=arguments.items, random=random)
    np.savez(
        folder / "table.npz",
        user=(pairs // arguments.items).astype(np.int32),
        item=(pairs % arguments.items).astype(np.int32),
        user_factors=random.normal(0, 0.1, (arguments.users, 64)).astype(np.float32),
        item_factors=random.normal(0, 0.1, (arguments.items, 64)).astype(np.float32),
    )


def measure(system: str, folder: Path) -> dict[str, float]:
    """Recommend to all users; the seconds, and the peak of memory above that of the loaded data."""
    table = dict(np.load(folder / "table.npz"))
    Path("/proc/self/clear_refs").write_text("5")  # Linux alone tells the peak from here on
    before = resident("VmRSS")
    recommend = {"ratinglab": prepare_ratinglab, "implicit": prepare_implicit}[system](table)
    started = perf_counter()
    found = recommend()
    seconds = perf_counter() - started
    np.save(folder / f"{system}.npy", found)
    return {"seconds": seconds, "peak_mib": resident("VmHWM") - before}


def resident(name: str) -> float:
    """MiB of memory in use, or its peak."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def prepare_ratinglab(table: dict[str, np.ndarray]):
    """What a run does for all its users, on a textbook factorization with these factors."""
    import torch

    from ratinglab.models.baselines import BiasBaseline
    from ratinglab.models.mf import MF, Options
    from ratinglab.models.predictor import Predictor
    from ratinglab.recommend.all_users import rated_by_user, top_k_of_all

    users, items = (torch.from_numpy(table[f"{side}_factors"]) for side in ("user", "item"))
    numbers = {"num_users": len(users), "num_items": len(items)}
    options = Options(embedding_dim=64, regularization=0.0, init_std=0.0)
    model = MF(options, **numbers, rating_mean=0.0, generator=torch.Generator())
    model.user_embedding.weight.data, model.item_embedding.weight.data = users, items
    predictor = Predictor(model, BiasBaseline(**numbers), scale=None)

    def recommend(count: int = len(users)) -> np.ndarray:
        rows = table["user"] < count
        rated = rated_by_user(table["user"][rows], table["item"][rows], num_users=count)
        return top_k_of_all(predictor, rated, num_items=len(items), k=10)

    recommend(1)  # compiled, or read from the compiler's cache
    return recommend


def prepare_implicit(table: dict[str, np.ndarray]):
    """implicit's own loop over batches of users, with the same factors."""
    from implicit.als import AlternatingLeastSquares
    from scipy import sparse

    users, items = table["user_factors"], table["item_factors"]
    model = AlternatingLeastSquares(factors=64, use_gpu=False)
    model.user_factors, model.item_factors = users, items
    shape = len(users), len(items)

    def recommend() -> np.ndarray:
        ones = np.ones(len(table["user"]), dtype=np.float32)
        rated = sparse.csr_matrix((ones, (table["user"], table["item"])), shape=shape)
        batches = [np.arange(start, min(start + 1_000, len(users))) for start in range(0, len(users), 1_000)]
        return np.concatenate(
            [model.recommend(batch, rated[batch], N=10, filter_already_liked_items=True)[0] for batch in batches]
        )

    return recommend


if __name__ == "__main__":
    main()
