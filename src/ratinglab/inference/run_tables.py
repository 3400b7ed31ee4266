"""The tables of a run in use: ids, items and ratings by index."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean
from ratinglab.evaluation.ranking import like_threshold
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.ratings.ids import UNKNOWN, IdMap
from ratinglab.ratings.item_names import ItemNames
from ratinglab.ratings.side_information import Column, categories_in
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.orders import find_rating_levels
from ratinglab.recommend.topk import order_by_popularity
from ratinglab.runs.record import RunRecord
from ratinglab.runs.run_files import ITEMS, RATINGS, USERS
from ratinglab.runs.storage import (
    FEATURE_PREFIX,
    count_rows,
    count_training_ratings,
    read_parquet,
    read_part,
    read_stored_features,
)
from ratinglab.sides import SideName
from ratinglab.stars import is_liked

Ids = Sequence[int | str] | NDArray[np.generic] | pd.Series
"""Ids of users or items, as in the data; 42 and "42" are the same."""
MAX_RATINGS_IN_MEMORY = 200_000_000
"""Number of ratings, about 10 GB, above which they are never read all at once."""


def check_ids(ids: Ids, *, name: str) -> None:
    """Raise UserError unless the argument `name` is a list of ids, not a single id or a table."""
    is_list = isinstance(ids, Collection) and not isinstance(ids, str | bytes) and getattr(ids, "ndim", 1) == 1
    if not is_list or isinstance(next(iter(ids), None), list | tuple | np.ndarray):
        raise UserError(f"{name} must be a list of ids, got {' '.join(repr(ids).split())}")


def check_pairs(user_ids: Ids, item_ids: Ids) -> None:
    """Raise UserError unless both are lists of ids, of the same length."""
    check_ids(user_ids, name="user_ids")
    check_ids(item_ids, name="item_ids")
    if len(user_ids) != len(item_ids):
        raise UserError(f"predict needs as many users as items, got {len(user_ids)} and {len(item_ids)}")


@dataclass(eq=False)
class RunTables:
    """The tables in a run's folder, each read when first used.

    `ExtendedTables` replaces some of them, to add users and items that are folded in.

    Attributes:
        folder: the run's folder.
        record: contents of run.json.
    """

    folder: Path
    record: RunRecord

    @cached_property
    def user_ids(self) -> IdMap:
        """The id of each user index."""
        return IdMap(read_parquet(self.folder / USERS)["user_id"].to_numpy())

    @cached_property
    def items(self) -> pd.DataFrame:
        """The table of items by index: item_id, title if the data had titles, and features."""
        return read_parquet(self.folder / ITEMS)

    @cached_property
    def item_ids(self) -> IdMap:
        """The id of each item index."""
        return IdMap(self.items["item_id"].to_numpy())

    @cached_property
    def titles(self) -> NDArray[np.object_] | None:
        """The title of each item index; None if the data had no titles."""
        return self.items["title"].to_numpy(dtype=object) if "title" in self.items else None

    @cached_property
    def item_names(self) -> ItemNames:
        """All items by id and title. An item may lack training ratings."""
        return ItemNames(self.item_ids, self.titles)

    @cached_property
    def ratings(self) -> pd.DataFrame:
        """The ratings of all parts: user, item, rating and part, and the day if the equation takes days."""
        return read_parquet(self.folder / RATINGS)

    @cached_property
    def _num_ratings(self) -> int:
        return int(count_rows(self.folder).sum())

    @property
    def _exceeds_memory(self) -> bool:
        return "ratings" not in vars(self) and self._num_ratings > MAX_RATINGS_IN_MEMORY

    def ratings_of_users(self, user: NDArray[np.int32]) -> pd.DataFrame:
        """Return the ratings of these distinct users: (B,) int32, UNKNOWN allowed.

        Reads only these if the run has very many ratings. The column `user` of the result is the position in the
        argument, not the index.
        """
        known = np.flatnonzero(user != UNKNOWN)
        if len(known) == 0:  # avoids loading all ratings
            dtypes = {"user": np.int32, "item": np.int32, "rating": np.float32, "part": np.int8}
            return pd.DataFrame({name: np.empty(0, dtype) for name, dtype in dtypes.items()})
        position = np.empty(len(self.user_ids), dtype=np.int32)
        position[user[known]] = known
        if self._exceeds_memory:
            rows = read_parquet(self.folder / RATINGS, filters=[("user", "in", user[known].tolist())])
        else:
            owner = self.ratings["user"]
            # for one user, a comparison takes a third of the time of np.isin
            rows = self.ratings[owner == user[known[0]] if len(known) == 1 else np.isin(owner, user[known])]
        return rows.assign(user=position[rows["user"]])

    def check_fits_memory(self, *, what: str, instead: str) -> None:
        """Raise UserError if the run has too many ratings to load into memory."""
        if self._exceeds_memory:
            raise UserError(f"{what} needs all {self._num_ratings:,} ratings of the run in memory: {instead}")

    @cached_property
    def train_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of training ratings of each user index, and of each item index."""
        return count_training_ratings(self.folder, num_users=len(self.user_ids), num_items=len(self.item_ids))

    @cached_property
    def items_by_popularity(self) -> NDArray[np.int32]:
        """The items with training ratings, most rated first, then folded-in items: the order of candidates."""
        return order_by_popularity(self.train_counts[1][: self.record.num_items])

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
        threshold = like_threshold(threshold, self.record.stars)
        levels = self.rating_levels
        return float(min(levels[is_liked(levels, threshold, unit=self.record.stars.unit)], default=threshold))

    @cached_property
    def train_pairs(self) -> RatedPairs:
        """Who rated what in training."""
        return RatedPairs(*read_part(self.folder, "train", ["user", "item"]))

    @cached_property
    def held_out(self) -> dict[str, Ratings]:
        """The rows of val and test, without days."""
        return {part: Ratings(*read_part(self.folder, part, ["user", "item", "rating"])) for part in ("val", "test")}

    def read_feature(self, side: SideName, name: str) -> Column:
        """Read a feature of all users or items by index. The equation must use it."""
        return read_stored_features(self.folder / (USERS if side == "user" else ITEMS), (name,))[name]

    def are_users_trained(self, user_ids: Ids) -> NDArray[np.bool_]:
        """Return whether each user has training ratings: (B,) bool."""
        return is_trained(self.user_ids.index_of(user_ids), self.record.num_users)

    def are_items_trained(self, item_ids: Ids) -> NDArray[np.bool_]:
        """Return whether each item has training ratings: (B,) bool."""
        return is_trained(self.item_ids.index_of(item_ids), self.record.num_items)

    def is_user_trained(self, user_id: int | str) -> bool:
        """Return whether a user has training ratings."""
        return bool(self.are_users_trained([user_id])[0])

    def check_users(self, user_ids: Ids, *, place: Callable[[int], str], for_lists: bool = True) -> None:
        """Raise UserError if a user has no training ratings.

        `place` returns the place of a row for the message; with `for_lists`, the message suggests unknown=baseline.
        """
        is_known = self.are_users_trained(user_ids)
        if not is_known.all():
            row = int(np.argmin(is_known))
            nearest = self.user_ids.did_you_mean(user_ids[row], among=self.record.num_users)
            advice = f"; unknown=baseline recommends {self.record.baseline_list}" if for_lists else ""
            raise UserError(f"{place(row)}: {str(user_ids[row])!r} has no training ratings{advice}{nearest}")

    def candidates(self, item_ids: Ids | None) -> NDArray[np.int32]:
        """Return the distinct indices of those items that have training ratings, most popular first; None: all items.

        Raises:
            UserError: `item_ids` is not a list, or has no item with training ratings.
        """
        if item_ids is None:
            return self.items_by_popularity
        check_ids(item_ids, name="candidates")
        item = self.item_ids.index_of(item_ids)
        item = item[is_trained(item, self.record.num_items)]
        if len(item) == 0:
            if len(item_ids) == 0:
                raise UserError("candidates must have at least one item, got none")
            raise UserError(f"none of the {len(item_ids):,} candidates has training ratings")
        return self.items_by_popularity[np.isin(self.items_by_popularity, item)]

    def items_with_genres(self, genres: Sequence[str], *, column: str = "genres") -> Ids:
        """List the ids of the items that have at least one of these genres.

        Args:
            genres: names of genres, spelled as in the data.
            column: column of categories in the table of items.

        Raises:
            UserError: the run has no such column, or no item has one of the genres.
        """
        features = self.items.filter(regex=f"^{FEATURE_PREFIX}").select_dtypes(exclude="number")
        names = [str(name).removeprefix(FEATURE_PREFIX) for name in features]
        if column not in names:
            available = f"only {', '.join(names)}" if names else "since its data had none (data.items.path)"
            raise UserError(
                f"genres: {self.folder} has no item categories {column!r}, {available}{did_you_mean(column, names)}"
            )
        genres_by_item = features[f"{FEATURE_PREFIX}{column}"].map(lambda text: set(categories_in(text)))
        known = set().union(*genres_by_item)
        for genre in genres:
            if genre not in known:
                raise UserError(f"genres: no item has the genre {genre!r}{did_you_mean(genre, known)}")
        return self.item_ids.ids[[not item_genres.isdisjoint(genres) for item_genres in genres_by_item]].to_numpy()

    def list_items(self, item: NDArray[np.int32], values: Mapping[str, NDArray[np.generic]]) -> pd.DataFrame:
        """Make a table of items, best first: rank, item_id, title if the data had titles, and the values, (B,) each."""
        table = pd.DataFrame({"rank": np.arange(1, len(item) + 1), "item_id": self.item_ids.ids[item]})
        if "title" in self.items:
            table["title"] = self.items["title"].array[item]
        return table.assign(**values)


def is_trained(index: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """Return whether each index is of a user or item with training ratings, the first `count` indices: (B,) → (B,)."""
    return (index >= 0) & (index < count)
