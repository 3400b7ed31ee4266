"""RMSE of every model and fit at its defaults over that of the bias baseline, on several tables.

    python scripts/benchmarks/defaults.py DATA --part val
    python scripts/benchmarks/defaults.py DATA

DATA has the folders ml-100k (u.data), ml-latest-small (ratings.csv) and filmtrust (ratings.txt). The tables are these,
the demo data, a tenth of the rows of latest-small, and MovieLens 100K on a scale of 1 to 100 and of −10 to 10. Each
table is split at random, with one seed. All runs take half an hour or more.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from measurement import print_table

import ratinglab

BY_GRADIENTS = ("adam", "adamw", "sgd")
FITS = {
    "bias": (*BY_GRADIENTS, "sparse_adam"),
    "mf": (*BY_GRADIENTS, "sparse_adam", "als", "block_sgd", "gibbs"),
    "nmf": (*BY_GRADIENTS, "sparse_adam"),
    "biased_mf": (*BY_GRADIENTS, "sparse_adam", "als", "block_sgd", "gibbs"),
    "svdpp": (*BY_GRADIENTS, "als", "gibbs"),
    "timesvdpp": (*BY_GRADIENTS, "als", "gibbs"),
}
"""Fits of each model: all valid pairs but those of `mean`, which needs no fit."""
COLUMNS = ["user_id", "item_id", "rating", "timestamp"]


def main() -> None:
    """Train all runs, and print a line for each pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the tables")
    parser.add_argument(
        "--part", choices=("val", "test"), default="test", help="rows to measure (default: %(default)s)"
    )
    parser.add_argument("--pairs", nargs="+", help="pairs such as biased_mf,als, or models (default: all)")
    parser.add_argument("--tables", nargs="+", help="names of tables (default: all)")
    parser.add_argument("--settings", nargs="*", default=(), help="options of every run")
    arguments = parser.parse_args()
    tables = read_tables(arguments.data)
    chosen = {name: tables[name] for name in arguments.tables or tables}
    pairs = [(model, fit) for model, fits in FITS.items() for fit in fits]
    rows: dict[str, list[float | None]] = {}
    for model, fit in pairs:
        if arguments.pairs and not {model, f"{model},{fit}"} & set(arguments.pairs):
            continue
        settings = [f"model={model}", f"optimizer={fit}", *arguments.settings]
        rows[f"{model}, {fit}"] = [
            measure(table, settings, arguments.part, has_times="timesvdpp" in model) for table in chosen.values()
        ]
        print(
            f"{model}, {fit}:",
            *("–" if ratio is None else f"{ratio:.4f}" for ratio in rows[f"{model}, {fit}"]),
            flush=True,
        )
    print()
    print_table(f"{arguments.part} RMSE over the bias baseline's", dict.fromkeys(chosen, ".4f"), rows)


def read_tables(folder: Path) -> dict[str, pd.DataFrame | None]:
    """Read the tables by name; None stands for the demo data."""
    movielens = pd.read_csv(folder / "ml-100k" / "u.data", sep="\t", names=COLUMNS)
    latest = pd.read_csv(folder / "ml-latest-small" / "ratings.csv", header=0, names=COLUMNS)
    filmtrust = pd.read_csv(folder / "filmtrust" / "ratings.txt", sep=" ", names=COLUMNS[:3])
    return {
        "demo": None,
        "ml-100k": movielens,
        "latest-small": latest,
        "filmtrust": filmtrust.drop_duplicates(COLUMNS[:2], keep="last"),
        "latest/10": latest.sample(frac=0.1, random_state=0),
        "1…100": movielens.assign(rating=1 + (movielens["rating"] - 1) * 99 / 4),
        "−10…10": movielens.assign(rating=-10 + (movielens["rating"] - 1) * 5),
    }


def measure(table: pd.DataFrame | None, settings: list[str], part: str, *, has_times: bool) -> float | None:
    """Train a run, and return its RMSE over the bias baseline's; None for a table without the times that it needs."""
    if has_times and table is not None and "timestamp" not in table:
        return None
    times = ["data.columns.timestamp=timestamp"] if has_times and table is not None else []
    data: dict[str, Any] = {} if table is None else {"ratings": table}
    with TemporaryDirectory() as folder:
        run = ratinglab.train(
            *settings,
            *times,
            "logger=none",
            f"test={str(part == 'test').lower()}",
            folder=Path(folder) / "run",
            verbose=False,
            **data,
        )
        return run.metrics[f"{part}/rmse"] / run.metrics[f"baseline/bias/{part}/rmse"]


if __name__ == "__main__":
    main()
