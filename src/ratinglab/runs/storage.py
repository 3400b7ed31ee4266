"""The tables of a run: users, items, ratings and predictions. `weights` reads the checkpoints."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.evaluation.metrics import Predictions
from ratinglab.files import to_json, write_atomically
from ratinglab.formats.inputs import open_file
from ratinglab.formats.parquet_blocks import read_parquet_blocks, write_parquet
from ratinglab.ratings.side_information import Column
from ratinglab.runs.digests import check_file, write_with_digests
from ratinglab.runs.hydra_files import read_hydra_files
from ratinglab.runs.record import RunRecord
from ratinglab.runs.run_files import INTEREST, ITEMS, PREDICTIONS, RATINGS, RUN_RECORD, TABLES, USERS
from ratinglab.splits.split import PART_NAMES, TRAIN
from ratinglab.splits.split_ratings import SplitRatings

FEATURE_PREFIX = "feature/"
"""Prefix of feature columns in users.parquet and items.parquet."""


def write_run(folder: Path, *, record: RunRecord, ratings: SplitRatings) -> None:
    """Write the run's tables and its record, and remove the interest model. On resume, keeps intact tables."""
    table, item_order = ratings.table, ratings.item_order
    users = _frame({"user_id": table.user_ids.ids[ratings.user_order]}, ratings.side_information.user_features)
    titles = {} if table.titles is None else {"title": table.titles[item_order]}
    item_features = {name: column[item_order] for name, column in table.item_columns.items()}
    items = _frame({"item_id": table.item_ids.ids[item_order], **titles}, item_features)
    blocks = (rows.columns() | {"part": part} for rows, part in ratings.blocks())
    writers: dict[str, Callable[[BinaryIO], object]] = {
        USERS: lambda file: users.to_parquet(file, index=False),
        ITEMS: lambda file: items.to_parquet(file, index=False),
        RATINGS: lambda file: write_parquet(file, blocks),
    }
    damaged = find_damaged_files(folder, TABLES)
    for name, write in writers.items():
        path = folder / name
        if path.is_dir():
            raise UserError(f"{path} is a folder: remove it, and the file will be rewritten")
        if name in damaged or not path.exists():
            write_atomically(path, write)
    (folder / INTEREST).unlink(missing_ok=True)  # it may have been fitted to other training rows
    record = replace(record, started_with=record.started_with or read_hydra_files(folder))
    # last: run.json makes the folder a run
    write_with_digests(folder, {RUN_RECORD: to_json(asdict(record))}, written=TABLES, keep_others=False)


def _frame(columns: Mapping[str, Any], features: Mapping[str, Column]) -> pd.DataFrame:
    return pd.DataFrame({**columns, **{f"{FEATURE_PREFIX}{name}": column for name, column in features.items()}})


def find_damaged_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Check files of a run against their digests, and return a message per damaged or lost file, by name."""
    messages = {}
    for name in names:
        try:
            check_file(folder / name)
        except UserError as error:
            messages[name] = str(error)
    return messages


def write_predictions(folder: Path, predictions: Mapping[str, Predictions]) -> None:
    """Write the rating and the clipped prediction of each row to predictions.parquet, by name of the part."""
    tables = [
        pd.DataFrame({"part": np.int8(PART_NAMES.index(part)), "rating": rows.rating, "prediction": predicted})
        for part, (rows, predicted, _) in predictions.items()
    ]
    content = BytesIO()
    pd.concat(tables).to_parquet(content, index=False)
    write_with_digests(folder, {PREDICTIONS: content.getvalue()})


def count_rows_by_part(folder: Path) -> NDArray[np.intp]:
    """Count the rows of each part, in the order of PART_NAMES."""
    counts = np.zeros(len(PART_NAMES), dtype=np.intp)
    for (part,) in read_rating_blocks(folder, ["part"]):
        counts += np.bincount(part, minlength=len(PART_NAMES))
    return counts


def count_training_ratings(
    folder: Path, *, num_users: int, num_items: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the training ratings of each user index, (num_users,), and of each item index, (num_items,)."""
    users, items = (np.zeros(count, dtype=np.int64) for count in (num_users, num_items))
    for user, item, part in read_rating_blocks(folder, ["user", "item", "part"]):
        is_train = part == TRAIN
        users += np.bincount(user[is_train], minlength=num_users)
        items += np.bincount(item[is_train], minlength=num_items)
    return users, items


def read_rating_blocks(folder: Path, columns: list[str]) -> Iterator[list[NDArray[Any]]]:
    """Yield columns of all ratings in blocks, in bounded memory."""
    path = folder / RATINGS
    check_file(path)
    yield from read_parquet_blocks(path, columns)


def read_squared_errors(folder: Path, part: str) -> NDArray[np.float64] | None:
    """Read the squared errors of a part, (N,), in the order of `read_part`. Returns None without predictions."""
    path = folder / PREDICTIONS
    if not path.exists():
        check_file(path)
        return None
    rows = read_parquet(path, columns=["rating", "prediction"], filters=[("part", "==", PART_NAMES.index(part))])
    return np.square(rows["prediction"].to_numpy(np.float64) - rows["rating"].to_numpy(np.float64))


def read_parquet(
    path: Path, *, columns: list[str] | None = None, filters: list[tuple[str, str, int | list[int]]] | None = None
) -> pd.DataFrame:
    """Read a table of the run, or some of its columns and rows."""
    check_file(path)
    return pd.read_parquet(open_file(path), columns=columns, filters=filters)


def read_part(folder: Path, part: str, columns: list[str]) -> list[NDArray[Any]]:
    """Read columns of a part's rows, in the order of ratings.parquet. Memory holds only that part and a block.

    Raises:
        UserError: there is no such part.
    """
    if part not in PART_NAMES:
        raise UserError(f"a part must be one of {', '.join(PART_NAMES)}, got {part!r}")
    blocks = [
        [column[parts == PART_NAMES.index(part)] for column in block]
        for *block, parts in read_rating_blocks(folder, [*columns, "part"])
    ]
    return [np.concatenate(column) for column in zip(*blocks, strict=True)]


def read_stored_features(path: Path, names: tuple[str, ...]) -> dict[str, Column]:
    """Read features by name from users.parquet or items.parquet, one value per index."""
    if not names:
        return {}
    table = read_parquet(path)
    features = {}
    for name in names:
        key = f"{FEATURE_PREFIX}{name}"
        if key not in table:
            raise UserError(f"{path} is damaged: it has no column {key}")
        features[name] = table[key].to_numpy(dtype=np.float64 if table[key].dtype.kind == "f" else object)
    return features
