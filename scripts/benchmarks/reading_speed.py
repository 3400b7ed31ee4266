"""Seconds and memory of reading a file of ratings, and of a bare pandas.read_csv.

    python scripts/benchmarks/reading_speed.py              32 million rows: 0.9 GB on disk, 3 GiB of memory
    python scripts/benchmarks/reading_speed.py --rows 1000000

Each reading runs in a process of its own and is timed after the imports; the readers take turns. The synthetic file has
200,948 users, 84,432 items and 4 columns, as MovieLens 32M.
"""

import shutil
import tempfile
from functools import partial
from pathlib import Path
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

NUM_USERS, NUM_ITEMS = 200_948, 84_432
MAX_TEXT_ROWS = 5_000_000
MIN_ROWS = 500_000
"""ratinglab keeps no table of a smaller file in its cache."""
READERS = {
    "pandas": "pandas.read_csv(path), 4 columns",
    "dtypes": "pandas.read_csv, given dtypes, C engine",
    "ratings": "ratinglab: user, item, rating",
    "timestamps": "ratinglab: user, item, rating, timestamp",
    "to_cache": "ratinglab, timestamps, and writes its cache",
    "from_cache": "ratinglab, from its cache",
}


def main() -> None:
    """Generate the files unless they exist, measure, and print two tables."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=32_000_000, help="rows of the file (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="keep the files here; by default they are removed at the end")
    arguments = parser.parse_args()
    if arguments.rows < MIN_ROWS:
        parser.error(f"--rows must be at least {MIN_ROWS:,}: ratinglab does not cache the table of a smaller file")
    repeats, threads = arguments.repeats, arguments.threads
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        compare_readers(folder, rows=arguments.rows, repeats=repeats, threads=threads)
        compare_ids(folder, rows=min(MAX_TEXT_ROWS, arguments.rows), repeats=repeats, threads=threads)


def compare_readers(folder: Path, *, rows: int, repeats: int, threads: int) -> None:
    """Print a row per reader; ratios are to pandas."""
    path = file_of_ratings(folder, rows=rows)
    measures = {
        reader: partial(call_in_process, read, reader, str(path), str(folder), env=environment(threads=threads))
        for reader in READERS
    }
    print(f"{rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB")
    print_readings(take_turns(measures, repeats=repeats), labels=READERS)


def compare_ids(folder: Path, *, rows: int, repeats: int, threads: int) -> None:
    """Print a row for integer and one for text ids; ratios are to integer ids."""
    labels = {"integer": "ratinglab, integer ids", "text": "ratinglab, text ids such as u123 and i456"}
    env = environment(threads=threads)
    measures = {}
    for kind in labels:
        path = file_of_ratings(folder, rows=rows, text_ids=kind == "text")
        measures[kind] = partial(call_in_process, read, "ratings", str(path), str(folder), env=env)
    print(f"\n{rows:,} rows")
    print_readings(take_turns(measures, repeats=repeats), labels=labels)


def print_readings(measured: dict[str, list[Measurement]], *, labels: dict[str, str]) -> None:
    """Print medians, and their ratios to the first row."""
    reference = next(iter(measured.values()))
    rows = {
        labels[name]: [median(rounds, "seconds"), median_ratio(rounds, reference, "seconds"), peak_mib(rounds)]
        for name, rounds in measured.items()
    }
    columns = {"seconds": ".2f", "ratio": ".2f", "peak MiB": ",.0f"}
    print_table(f"median of {len(reference)}", columns, rows)


def read(reader: str, path: str, folder: str) -> Measurement:
    """Read the file in this process; `folder` holds the cache."""
    import pandas as pd

    from ratinglab.config.job import compose_call
    from ratinglab.options import quote_for_hydra
    from ratinglab.reading import rating_files  # noqa: F401  (reading imports it; now, before the clock)

    columns = {"user": "userId", "item": "movieId", "timestamp": "null" if reader == "ratings" else "timestamp"}
    cache = quote_for_hydra(folder) if "cache" in reader else "null"
    settings = [f"data.columns.{role}={name}" for role, name in columns.items()]
    data = ["data=csv", f"data.path={quote_for_hydra(path)}", f"data.cache={cache}"]
    options = compose_call([*data, *settings], config_dir=None).options
    if reader == "to_cache":
        for cached in Path(folder).glob("tables/*"):
            shutil.rmtree(cached)
    started = perf_counter()
    if reader == "pandas":
        pd.read_csv(path)
    elif reader == "dtypes":
        dtypes = {"userId": "int32", "movieId": "int32", "rating": "float32", "timestamp": "int64"}
        pd.read_csv(path, engine="c", dtype=dtypes)
    else:
        options.data.load()
    return {"seconds": perf_counter() - started}


def file_of_ratings(folder: Path, *, rows: int, text_ids: bool = False) -> Path:
    """Return a CSV of long-tailed ratings without repeated pairs, sorted by user; generate it unless it exists."""
    import pyarrow as pa
    import pyarrow.csv

    path = folder / f"{'text' if text_ids else 'ratings'}-{rows}.csv"
    if path.exists():
        return path
    random = np.random.default_rng(0)
    pairs = distinct_pairs(rows, num_users=NUM_USERS, num_items=NUM_ITEMS, random=random)
    item_id = random.permutation(np.arange(1, 292_758))[:NUM_ITEMS]
    ids = {"userId": pairs // NUM_ITEMS + 1, "movieId": item_id[pairs % NUM_ITEMS]}
    if text_ids:
        ids = {name: np.char.add(name[0], column.astype(str)) for name, column in ids.items()}
    half_stars, seconds = random.integers(1, 11, rows) / 2, random.integers(789_652_009, 1_697_164_147, rows)
    table = pa.table({**ids, "rating": half_stars, "timestamp": seconds})
    pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(quoting_style="none"))
    return path


if __name__ == "__main__":
    main()
