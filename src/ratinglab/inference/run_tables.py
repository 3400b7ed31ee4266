"""The tables in a run's folder: ids, items, the ratings of each part, and what is counted or fitted from them."""

import hashlib
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ratinglab.errors import UserError
from ratinglab.files import write_atomically
from ratinglab.inference.indexed_tables import IndexedTables
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.side_information import Column
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.interest import Interest, fit_interest
from ratinglab.recommend.orders import find_rating_levels
from ratinglab.recommend.topk import order_by_popularity
from ratinglab.runs.digests import DIFFERS, read_digests
from ratinglab.runs.record import RunRecord
from ratinglab.runs.run_files import INTEREST, ITEMS, RATINGS, USERS
from ratinglab.runs.storage import (
    count_rows_by_part,
    count_training_ratings,
    read_parquet,
    read_part,
    read_stored_features,
)
from ratinglab.sides import SideName
from ratinglab.stars import is_liked

MAX_RATINGS_IN_MEMORY = 200_000_000
"""Number of ratings (about 10 GB) above which they are never all read at once."""


class RunTables(IndexedTables):
    """The tables in a run's folder. Each is read when it is first used.

    Attributes:
        folder: the run's folder.
        record: contents of run.json.
    """

    def __init__(self, folder: Path, record: RunRecord) -> None:
        self.folder, self.record = folder, record

    @cached_property
    def user_ids(self) -> IdMap:
        return IdMap(read_parquet(self.folder / USERS)["user_id"].to_numpy())

    @cached_property
    def items(self) -> pd.DataFrame:
        return read_parquet(self.folder / ITEMS)

    @cached_property
    def ratings(self) -> pd.DataFrame:
        """The ratings of all parts: user, item, rating and part, and the day if the equation takes days."""
        return read_parquet(self.folder / RATINGS)

    @cached_property
    def _num_ratings(self) -> int:
        return int(count_rows_by_part(self.folder).sum())

    @property
    def _exceeds_memory(self) -> bool:
        return "ratings" not in vars(self) and self._num_ratings > MAX_RATINGS_IN_MEMORY

    def _check_fits_memory(self, *, what: str, instead: str) -> None:
        """Raise UserError if the run has too many ratings to load into memory."""
        if self._exceeds_memory:
            raise UserError(f"{what} needs all {self._num_ratings:,} ratings of the run in memory: {instead}")

    def _select_ratings(self, user: NDArray[np.int32]) -> pd.DataFrame:
        """Select the ratings of users. Reads only these if the run has very many ratings."""
        if self._exceeds_memory:
            return read_parquet(self.folder / RATINGS, filters=[("user", "in", user.tolist())])
        return super()._select_ratings(user)

    def seen_items(self) -> csr_array:
        """Build the matrix of the items that each user has rated; see `build_pair_matrix`.

        Raises:
            UserError: the run has too many ratings to load into memory.
        """
        self._check_fits_memory(what="exclude_seen=true", instead="recommend to one user at a time")
        return super().seen_items()

    @cached_property
    def train_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of training ratings of each user index, and of each item index."""
        return count_training_ratings(self.folder, num_users=len(self.user_ids), num_items=len(self.item_ids))

    @cached_property
    def items_by_popularity(self) -> NDArray[np.int32]:
        return order_by_popularity(self.train_counts[1][: self.record.num_items])

    @cached_property
    def interest(self) -> Interest:
        """The interest of users in items. It is fitted to the training ratings only once, then read from the folder."""
        interest = read_interest(self.folder)
        if interest is None:
            self._check_fits_memory(what="by=expected_gain", instead="by=prediction does not")
            num_users, num_items = self.record.num_users, self.record.num_items
            interest = fit_interest(self.train_pairs, num_users=num_users, num_items=num_items)
            write_interest(self.folder, interest)
        return interest

    @cached_property
    def rating_range(self) -> tuple[float, float]:
        """The lowest and the highest rating."""
        if self.record.scale is not None:
            return self.record.scale
        return float(self.ratings["rating"].min()), float(self.ratings["rating"].max())

    @cached_property
    def rating_levels(self) -> NDArray[np.float32]:
        """The distinct training ratings, ascending."""
        (rating,) = read_part(self.folder, "train", ["rating"])
        return find_rating_levels(rating)

    def lowest_liked(self, threshold: float | None) -> float:
        """Return the lowest training rating that counts as liked; the threshold if none reaches it."""
        threshold = self.record.stars.liked_threshold(threshold)
        levels = self.rating_levels
        return float(min(levels[is_liked(levels, threshold, unit=self.record.stars.unit)], default=threshold))

    @cached_property
    def train_pairs(self) -> RatedPairs:
        """The user and the item of each training rating."""
        return RatedPairs(*read_part(self.folder, "train", ["user", "item"]))

    @cached_property
    def held_out(self) -> dict[str, Ratings]:
        """The rows of val and test, without days."""
        return {part: Ratings(*read_part(self.folder, part, ["user", "item", "rating"])) for part in ("val", "test")}

    def read_features(self, side: SideName, names: tuple[str, ...]) -> dict[str, Column]:
        """Read features of all users or items, one value per index. The equation must use them."""
        return read_stored_features(self.folder / (USERS if side == "user" else ITEMS), names)


def read_interest(folder: Path) -> Interest | None:
    """Read the interest model. Returns None if it has not been fitted yet."""
    path = folder / INTEREST
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as tables:
            interest = Interest(*(torch.from_numpy(tables[name]) for name in Interest._fields))
            if str(tables["digest"]) != _digest_of_interest(folder, interest):
                raise ValueError(DIFFERS)
    except Exception as error:  # an incomplete or foreign file can raise anything
        raise UserError(f"{path} is damaged or belongs to another run: delete it to have it refitted") from error
    return interest


def write_interest(folder: Path, interest: Interest) -> None:
    """Write the interest model. Does nothing if the folder is read-only: each process then fits the model again."""
    tables = {name: table.numpy() for name, table in interest._asdict().items()}
    tables["digest"] = np.array(_digest_of_interest(folder, interest))
    with suppress(OSError):
        write_atomically(folder / INTEREST, lambda file: np.savez(file, **tables))


def _digest_of_interest(folder: Path, interest: Interest) -> str:
    """Compute the SHA-256 of the interest model and of the ratings' digest.

    interest.npz holds it, because only the training process may write digests.json.
    """
    sha256 = hashlib.sha256(str(read_digests(folder).get(RATINGS)).encode())
    for table in interest:
        sha256.update(np.ascontiguousarray(table.numpy()).tobytes())
    return sha256.hexdigest()
