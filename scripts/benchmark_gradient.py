"""What Lightning costs beside a bare torch loop, and what sparse_adam gains on large tables.

    python scripts/benchmark_gradient.py                    the demo data
    python scripts/benchmark_gradient.py --root ml-100k     MovieLens 100K

Both are whole fits of biased_mf at dim 64 without validation; each is a process of its own, and the two take turns.
The loop has the same equation, batches of the same size and the same fused Adam, and nothing else.
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

MODEL = ["model=biased_mf", "model.embedding_dim=64", "split.test=0", "split.validation=0", "logger=none"]
NUM_USERS, NUM_ITEMS = 138_000, 27_000


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder with MovieLens 100K's u.data")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        run, epochs = arguments.one
        print(json.dumps(bare_loop(Path(run), epochs=int(epochs))))
        return
    data = ["data=demo"]
    if arguments.root:
        data = ["data=movielens_100k", f"data.root={arguments.root.resolve()}"]
    with tempfile.TemporaryDirectory() as folder:
        compare_with_loop(Path(folder), data, arguments)
        compare_sparse(Path(folder), arguments)


def compare_with_loop(folder: Path, data: list[str], arguments: argparse.Namespace) -> None:
    """Ten epochs at batches of 1,024."""
    taken: dict[str, list[float]] = {"ratinglab, adam": [], "bare torch loop, adam": []}
    ours, theirs = taken.values()
    for _ in range(arguments.repeats):
        fit = [*data, *MODEL, "data.batch_size=1024", "trainer.max_epochs=10"]
        run = train(fit, folder, threads=arguments.threads)
        ours.append(run["rows"] / run["seconds"])
        loop = [sys.executable, __file__, "--one", run["folder"], "10"]
        theirs.append(json.loads(execute(loop, folder, threads=arguments.threads))["speed"])
    print_table("batches of 1,024, 10 epochs", taken)


def compare_sparse(folder: Path, arguments: argparse.Namespace) -> None:
    """One epoch of a million ratings at batches of 8,192 on large tables."""
    random = np.random.default_rng(0)
    pairs = random.permutation(distinct_pairs(1_000_000, num_users=NUM_USERS, num_items=NUM_ITEMS, random=random))
    import pandas as pd

    rating = random.integers(1, 11, len(pairs)) / 2
    columns = {"user_id": pairs // NUM_ITEMS, "item_id": pairs % NUM_ITEMS, "rating": rating}
    pd.DataFrame(columns).to_parquet(folder / "ratings.parquet")
    data = ["data=csv", f"data.path={folder / 'ratings.parquet'}", "data.batch_size=8192", "trainer.max_epochs=1"]
    taken: dict[str, list[float]] = {"adam": [], "sparse_adam": []}
    for _ in range(arguments.repeats):
        for name, speeds in taken.items():
            fit = [*data, *MODEL, f"optimizer={name}", "optimizer.lr=0.003"]
            speeds.append(train(fit, folder, threads=arguments.threads)["step_speed"])
    print_table("138,000 users, 27,000 items, batches of 8,192; inside training steps", taken)


def print_table(title: str, taken: dict[str, list[float]]) -> None:
    """Medians, and the ratio to the first row in the same round."""
    first = next(iter(taken.values()))
    print(f"\n{title}; median of {len(first)}\n{'':28}{'ratings/s':>12}{'ratio':>8}")
    for name, speeds in taken.items():
        ratio = statistics.median(speed / own for speed, own in zip(speeds, first, strict=True))
        print(f"{name:28}{statistics.median(speeds):12,.0f}{ratio:8.2f}")


def train(arguments: list[str], folder: Path, *, threads: int) -> dict:
    """Run train.py; the run's folder, rows trained on, seconds of the fit, and ratings a second inside steps."""
    script = Path(__file__).with_name("train.py")
    shown = execute([sys.executable, str(script), *arguments], folder, threads=threads)
    run = folder / shown.splitlines()[-1]
    metrics = json.loads((run / "metrics.json").read_text())
    import pandas as pd

    rows = len(pd.read_parquet(run / "ratings.parquet", columns=["user"]))
    return {
        "folder": str(run),
        "rows": rows * metrics["fit/epochs"],
        "seconds": metrics["fit/seconds"],
        "step_speed": metrics["fit/ratings_per_second"],
    }


def execute(command: list[str], folder: Path, *, threads: int) -> str:
    """What a process prints."""
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=variables)
    if done.returncode:
        raise SystemExit(f"{command} has failed: {done.stderr}")
    return done.stdout


def bare_loop(run: Path, *, epochs: int) -> dict[str, float]:
    """The same fit as that of a run, by torch alone; ratings a second."""
    import torch

    from ratinglab.datamodule import as_tensors
    from ratinglab.runs import Run

    loaded = Run.load(run)
    user, item, rating, _ = as_tensors(loaded.part("train"))
    model = loaded.predictor.model
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003, fused=True)
    started = perf_counter()
    for _ in range(epochs):
        order = torch.randperm(len(user))
        for u, i, r in zip(*(column[order].split(1024) for column in (user, item, rating)), strict=True):
            optimizer.zero_grad()
            ((model(u, i) - r).square().mean() + model.penalty(u, i)).backward()
            optimizer.step()
    return {"speed": epochs * len(user) / (perf_counter() - started)}


if __name__ == "__main__":
    main()
