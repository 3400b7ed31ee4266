"""How long a file of ratings takes to be read, beside a bare pandas.read_csv, and what memory it takes.

    python scripts/benchmark_reading.py              32 million rows: 0.9 GB on the disk and 3 GiB of memory
    python scripts/benchmark_reading.py --rows 1000000

Every figure is the median of --repeats fresh processes, the readers taking turns; a process is timed from after its
imports. The file has 200,948 users, 84,432 items and 4 columns, as MovieLens 32M.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

NUM_USERS, NUM_ITEMS = 200_948, 84_432
STRING_ROWS = 5_000_000
FEWEST_ROWS = 500_000
READERS = {
    "pandas": "pandas.read_csv, 4 columns, C engine, given dtypes",
    "ratings": "ratinglab: user, item, rating",
    "times": "ratinglab: and timestamp",
    "first": "ratinglab, and the cache is written",
    "cached": "ratinglab, from the cache",
}


def main() -> None:
    """Generate the files where they are not there, measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the files here; by default they are removed at the end")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows < FEWEST_ROWS:
        parser.error(f"--rows must be at least {FEWEST_ROWS:,}: of smaller files no table is kept in the cache")
    if arguments.one:
        print(json.dumps(measure(*arguments.one)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print_readers(folder, rows=arguments.rows, repeats=arguments.repeats)
        print_strings(folder, rows=min(STRING_ROWS, arguments.rows), repeats=arguments.repeats)


def print_readers(folder: Path, *, rows: int, repeats: int) -> None:
    """A row for each reader, with its time over that of pandas."""
    path = folder / f"ratings-{rows}.csv"
    if not path.exists():
        generate(path, rows=rows)
    taken = {reader: [] for reader in READERS}
    for _ in range(repeats):
        for reader in READERS:
            if reader == "first":
                for kept in folder.glob("tables/*/*"):
                    kept.unlink()
            taken[reader].append(run(reader, path, folder))
    print(f"{rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB, median of {repeats}")
    print_table(READERS, taken, against="pandas")


def print_strings(folder: Path, *, rows: int, repeats: int) -> None:
    """Text ids beside integers."""
    labels = {"integers": "integer ids", "strings": "text ids: u123, i456"}
    paths = {"integers": folder / f"ratings-{rows}.csv", "strings": folder / f"text-{rows}.csv"}
    for kind, path in paths.items():
        if not path.exists():
            generate(path, rows=rows, text_ids=kind == "strings")
    taken = {kind: [] for kind in labels}
    for _ in range(repeats):
        for kind, path in paths.items():
            taken[kind].append(run("ratings", path, folder))
    print(f"\n{rows:,} rows, ratinglab: user, item, rating; median of {repeats}")
    print_table(labels, taken, against="integers")


def print_table(labels: dict[str, str], taken: dict[str, list[dict[str, float]]], *, against: str) -> None:
    """Median seconds, their ratio to one of them in the same round, and the highest peak of memory."""
    print(f"{'':52}{'seconds':>9}{'ratio':>8}{'peak MiB':>10}")
    for name, label in labels.items():
        ratios = [own["seconds"] / other["seconds"] for own, other in zip(taken[name], taken[against], strict=True)]
        seconds = statistics.median(one["seconds"] for one in taken[name])
        peak = max(one["peak_mib"] for one in taken[name])
        print(f"{label:52}{seconds:9.2f}{statistics.median(ratios):8.2f}{peak:10,.0f}")


def run(reader: str, path: Path, folder: Path) -> dict[str, float]:
    """One measurement, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", reader, str(path), str(folder)], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def measure(reader: str, path: str, folder: str) -> dict[str, float]:
    """Read the file, and tell the seconds and the peak of memory."""
    import pandas as pd

    from ratinglab.ratings import demo, plain, table_cache  # noqa: F401  (with all that reading imports)
    from ratinglab.ratings.sources import ColumnOptions, CsvOptions, Duplicates, ScaleOptions, TitleOptions

    options = CsvOptions(
        path=path, separator="comma", header=True, encoding="utf-8", duplicates=Duplicates.error,
        columns=ColumnOptions("userId", "movieId", "rating", None if reader == "ratings" else "timestamp"),
        scale=ScaleOptions(None, None), titles=TitleOptions(None, "comma", "utf-8", "item_id", "title", None),
        min_ratings_per_user=0, min_ratings_per_item=0, cache=folder if reader in ("first", "cached") else None,
        batch_size=1,
    )  # fmt: skip
    started = perf_counter()
    if reader == "pandas":
        dtypes = {"userId": "int32", "movieId": "int32", "rating": "float32", "timestamp": "int64"}
        pd.read_csv(path, engine="c", dtype=dtypes)
    else:
        options.load()
    seconds = perf_counter() - started
    return {"seconds": seconds, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def generate(path: Path, *, rows: int, text_ids: bool = False) -> None:
    """Long-tailed ratings without a repeated pair, sorted by user, in half stars, with Unix times."""
    import pyarrow as pa
    import pyarrow.csv

    random = np.random.default_rng(0)
    pairs = distinct_pairs(rows, num_users=NUM_USERS, num_items=NUM_ITEMS, random=random)
    item_id = random.permutation(np.arange(1, 292_758))[:NUM_ITEMS]
    ids = {"userId": pairs // NUM_ITEMS + 1, "movieId": item_id[pairs % NUM_ITEMS]}
    if text_ids:
        ids = {name: np.char.add(name[0], column.astype(str)) for name, column in ids.items()}
    table = pa.table(
        {
            **ids,
            "rating": random.integers(1, 11, rows) / 2,
            "timestamp": random.integers(789_652_009, 1_697_164_147, rows),
        }
    )
    pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(quoting_style="none"))


def distinct_pairs(rows: int, *, num_users: int, num_items: int, random: np.random.Generator) -> np.ndarray:
    """(rows,) int64, sorted: user · num_items + item, long-tailed in users and items, none twice."""
    activity, popularity = random.lognormal(0, 1.2, num_users), (np.arange(num_items) + 50.0) ** -1.0
    pairs = np.empty(0, dtype=np.int64)
    while len(pairs) < rows:
        wanted = int((rows - len(pairs)) * 1.3) + 1000
        user, item = (_drawn(weight, wanted, random) for weight in (activity, popularity))
        pairs = np.unique(np.concatenate([pairs, user * num_items + item]))
    return np.sort(random.permutation(pairs)[:rows])


def _drawn(weight: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    cumulative = np.cumsum(weight / weight.sum())
    return np.searchsorted(cumulative, random.random(count)).clip(0, len(weight) - 1)


if __name__ == "__main__":
    main()
