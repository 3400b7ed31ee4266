"""Fit synthetic ratings by MLlib's ALS in local mode and by ratinglab's, in turns; print seconds, RMSE and memory.

    python scripts/benchmarks/spark_als.py --rows 5000000 --repeats 1

Both minimize the same objective at the same λ, rank and number of iterations, from different random factors. Memory is
the peak of the whole command, with Spark's JVM if there is one. Needs pip install -e '.[spark]', and Java.
"""

import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from measurement import Measurement, argument_parser, environment, median, print_table, take_turns, train
from peers import generate_ratings, write_parquet

COLUMNS = {"seconds": ".1f", "test RMSE": ".4f", "train RMSE": ".4f", "peak MiB": ",.0f"}
SETTINGS = (
    "model=mf",
    "model.embedding_dim=16",
    "model.regularization=0.1",
    "trainer.max_epochs=20",
    "callbacks.early_stopping.patience=null",
    "logger=none",
)
PAGES_PER_MIB = (1 << 20) / os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Generate, fit in turns, print."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="ratings (default: %(default)s)")
    parser.add_argument("--memory", default="4g", help="spark.driver.memory (default: %(default)s)")
    parser.add_argument("settings", nargs="*", help="settings of both, such as model.embedding_dim=64")
    arguments = parser.parse_args()
    spark = [
        "optimizer=spark_als",
        f"optimizer.master=local[{arguments.threads}]",
        f"optimizer.conf={{spark.driver.memory: {arguments.memory}}}",
    ]
    fits = {"MLlib, spark_als": spark, "ratinglab, als": ["optimizer=als", "optimizer.damping=0"]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_parquet(folder, generate_ratings(arguments.rows), num_test=arguments.rows // 10)
        common = [*source, *SETTINGS, *arguments.settings]
        measures = {
            label: lambda settings=settings: fitted([*common, *settings], folder=folder, threads=arguments.threads)
            for label, settings in fits.items()
        }
        measured = take_turns(measures, repeats=arguments.repeats)
    figures = ("fit/seconds", "test/rmse", "train/rmse", "tree_mib")
    rows = {label: [median(rounds, figure) for figure in figures] for label, rounds in measured.items()}
    print_table(f"{arguments.rows:,} ratings", COLUMNS, rows)


def fitted(settings: Sequence[str], *, folder: Path, threads: int) -> Measurement:
    """Train, and add `train/rmse` after the last epoch and `tree_mib`, the peak memory of all processes together."""
    peaks, is_done = [0.0], threading.Event()

    def watch() -> None:
        while not is_done.wait(0.2):
            peaks.append(memory_of_descendants())

    watcher = threading.Thread(target=watch)
    watcher.start()
    run = folder / f"run-{time.monotonic_ns()}"
    try:
        figures = train([*settings, f"hydra.run.dir={run}"], folder=folder, env=environment(threads=threads))
    finally:
        is_done.set()
        watcher.join()
    columns, *_, last = [line.split(",") for line in (run / "epochs.csv").read_text(encoding="utf-8").splitlines()]
    return {**figures, "train/rmse": float(last[columns.index("train/mse")]) ** 0.5, "tree_mib": max(peaks)}


def memory_of_descendants() -> float:
    """Add the resident memory of all processes below this one, in MiB."""
    parents, pages = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            pages[int(path.name)] = int((path / "statm").read_text(encoding="utf-8").split()[1])
        except (OSError, ValueError):  # it has ended
            continue
    below = added = {os.getpid()}
    while added:
        added = {pid for pid, parent in parents.items() if parent in below} - below
        below |= added
    return sum(pages.get(pid, 0) for pid in below - {os.getpid()}) / PAGES_PER_MIB


if __name__ == "__main__":
    main()
