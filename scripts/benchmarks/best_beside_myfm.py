"""Test RMSE of recipe=best and of myFM with the same information, on several tables.

    pip install -e . myfm
    python scripts/benchmarks/best_beside_myfm.py DATA

DATA has the folders ml-100k (u.data, items.csv, users.csv), ml-latest-small (ratings.csv, movies.csv) and filmtrust
(ratings.txt). Test rows are u1's in MovieLens 100K, a random fifth in the other tables. Both systems train on all other
rows, and their settings are the same for all tables. myFM gets blocks for what recipe=best uses: implicit feedback
on both sides, each user's days, the columns of users and items. Only ratinglab has a drift and a noise level per user
and item.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from defaults import read_tables
from measurement import print_table
from numpy.typing import NDArray
from peer_fits import Ratings, myfm_blocks, sample_myfm

import ratinglab
from ratinglab.datasets.demo import generate
from ratinglab.models.design import Design
from ratinglab.runs.record import RunRecord

DAY = 86_400
SHUFFLE = 42
"""Seed of the random fifths; that of latest-small is the one in its protocol."""


class Table(NamedTuple):
    """A table of ratings, those for test first, and tables of users and items, if there are any."""

    ratings: pd.DataFrame
    num_test: int
    users: pd.DataFrame | None = None
    items: pd.DataFrame | None = None


def main() -> None:
    """Fit both systems to each table, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the tables")
    parser.add_argument("--tables", nargs="+", help="names of tables (default: all)")
    parser.add_argument("--seeds", type=int, default=2, help="number of fits (default: %(default)s)")
    parser.add_argument("--rank", type=int, default=10, help="factors of myFM (default: %(default)s)")
    parser.add_argument("--sweeps", type=int, default=300, help="iterations of myFM (default: %(default)s)")
    arguments = parser.parse_args()
    rows: dict[str, list[float | None]] = {}
    for name, table in read(arguments.data):
        if arguments.tables and name not in arguments.tables:
            continue
        pairs = [measure(table, seed, rank=arguments.rank, sweeps=arguments.sweeps) for seed in range(arguments.seeds)]
        ours, theirs = zip(*pairs, strict=True)
        rows[name] = [*ours, *theirs, sum(ours) / sum(theirs)]
        print(f"{name}:", *(f"{rmse:.4f}" for rmse in rows[name]), flush=True)
    labels = [f"{system}, seed {seed}" for system in ("best", "myFM") for seed in range(arguments.seeds)]
    print()
    print_table("test RMSE", dict.fromkeys([*labels, "best / myFM"], ".4f"), rows)


def read(folder: Path) -> Iterator[tuple[str, Table]]:
    """Read each table by name."""
    users, items = (pd.read_csv(folder / "ml-100k" / f"{side}.csv") for side in ("users", "items"))
    movies = pd.read_csv(folder / "ml-latest-small" / "movies.csv").rename(columns={"movieId": "item_id"})
    for name, ratings in read_tables(folder).items():
        if ratings is None:
            ratings = generate(0).ratings
        if "latest" in name:
            yield name, Table(*test_first(ratings), items=movies)
        elif name in ("demo", "filmtrust"):
            yield name, Table(*test_first(ratings))
        else:
            yield f"{name}, u1", Table(ratings, 20_000, users, items)


def test_first(ratings: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Put the rows in random order: the table, and how many of its first rows are a fifth."""
    order = np.random.default_rng(SHUFFLE).permutation(len(ratings))
    return ratings.iloc[order].reset_index(drop=True), round(len(ratings) / 5)


def measure(table: Table, seed: int, *, rank: int, sweeps: int) -> tuple[float, float]:
    """Fit recipe=best, then myFM with what that run says it uses: the test RMSE of both."""
    side_tables: dict[str, Any] = {"users": table.users, "items": table.items}
    has_times = "timestamp" in table.ratings
    with TemporaryDirectory() as folder:
        run = ratinglab.train(
            "split=rows", "split.test_start=0", f"split.test_stop={table.num_test}", "split.validation=0",
            "logger=none", *(["data.columns.timestamp=timestamp"] if has_times else []),
            ratings=table.ratings, recipe="best", seed=seed, folder=Path(folder) / "run", verbose=False,
            **{side: frame for side, frame in side_tables.items() if frame is not None},
        )  # fmt: skip
        return run.metrics["test/rmse"], myfm_rmse(table, run.record, seed=seed, rank=rank, sweeps=sweeps)


def myfm_rmse(table: Table, record: RunRecord, *, seed: int, rank: int, sweeps: int) -> float:
    """Fit myFM with the parts of a run: its test RMSE, clipped to the scale of the training ratings."""
    ratings, ids = number_ids(pd.concat([table.ratings[table.num_test :], table.ratings[: table.num_test]]))
    num_train = len(ratings.user) - table.num_test
    frames, features = {"user": table.users, "item": table.items}, {}
    for side, frame in frames.items():
        names = record.model_options[f"{side}_features"]
        rows = None if frame is None else frame.set_index(f"{side}_id").reindex(ids[side])
        features[f"{side}_features"] = [] if rows is None else [encode(rows[name]) for name in names]
    blocks = myfm_blocks(record.model, ratings, num_train=num_train, **features)
    training, test = ratings.rating[:num_train], ratings.rating[num_train:]
    _, predicted = sample_myfm(blocks, training, rank=rank, sweeps=sweeps, seed=seed)
    return float(np.sqrt(np.mean((np.clip(predicted, training.min(), training.max()) - test) ** 2)))


def number_ids(frame: pd.DataFrame) -> tuple[Ratings, dict[str, NDArray[Any]]]:
    """Number users and items from 0: the ratings, and the id of each index by side."""
    (user_id, user), (item_id, item) = (np.unique(frame[name], return_inverse=True) for name in ("user_id", "item_id"))
    seconds = frame["timestamp"].to_numpy() if "timestamp" in frame else np.zeros(len(frame), dtype=np.int64)
    rating = frame["rating"].to_numpy(dtype=np.float32)
    ratings = Ratings(user.astype(np.int32), item.astype(np.int32), rating, (seconds // DAY).astype(np.int32))
    return ratings, {"user": user_id, "item": item_id}


def encode(column: pd.Series) -> Any:
    """Encode a column as ratinglab does: a sparse matrix, a row per user or item."""
    from scipy import sparse

    is_number = pd.api.types.is_numeric_dtype(column)
    values = column.to_numpy(dtype=np.float64) if is_number else column.fillna("").to_numpy(dtype=object)
    design = Design.from_feature(values, key=str(column.name))
    start, index, scale = (column.numpy() for column in (design.start, design.column, design.scale))
    shape = len(values), design.num_columns
    return sparse.csr_matrix((np.repeat(scale, np.diff(start)), index, start), shape=shape)


if __name__ == "__main__":
    main()
