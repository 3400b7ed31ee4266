"""Ids, items and ratings by index: the tables behind predictions and lists."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from ratinglab.errors import UserError, did_you_mean, format_count
from ratinglab.ratings.ids import UNKNOWN, IdMap
from ratinglab.ratings.item_names import ItemNames
from ratinglab.ratings.side_information import categories_in
from ratinglab.recommend.interest import Interest
from ratinglab.recommend.topk import build_pair_matrix
from ratinglab.runs.record import RunRecord
from ratinglab.runs.storage import FEATURE_PREFIX

Ids = Sequence[int | str] | NDArray[np.generic] | pd.Series
"""Ids of users or items, as in the data; 42 and "42" are the same."""


def check_ids(ids: Ids, *, name: str) -> None:
    """Raise UserError unless the argument `name` is a list of ids, not a single id, a table or a mask."""
    is_list = isinstance(ids, Collection) and not isinstance(ids, str | bytes) and getattr(ids, "ndim", 1) == 1
    is_list = is_list and not isinstance(ids, Tensor)
    if not is_list or isinstance(next(iter(ids), None), list | tuple | np.ndarray | bool | np.bool_):
        raise UserError(f"{name} must be a list of ids, got {' '.join(repr(ids).split())}")


def check_id(user_id: object) -> None:
    """Raise UserError unless this is one id."""
    if np.ndim(user_id) > 0 or isinstance(user_id, bool):  # type: ignore[arg-type]
        raise UserError(f"user_id must be one id, got {user_id!r}")


def check_pairs(user_ids: Ids, item_ids: Ids) -> None:
    """Raise UserError unless both are lists of ids, of the same length."""
    check_ids(user_ids, name="user_ids")
    check_ids(item_ids, name="item_ids")
    if len(user_ids) != len(item_ids):
        raise UserError(f"user_ids and item_ids must have the same length, got {len(user_ids)} and {len(item_ids)}")


class IndexedTables(ABC):
    """Ids, items and ratings of a recommender, by index.

    The users and items that the model predicts have the lowest indices. They have training ratings or were folded in.
    `RunTables` reads the tables of a run. `TablesWithItems` and `TablesWithUsers` add folded-in items and users.

    Attributes:
        record: contents of run.json, with the numbers of users and items that the model predicts.
    """

    record: RunRecord

    @property
    @abstractmethod
    def user_ids(self) -> IdMap:
        """The id of each user index."""

    @property
    @abstractmethod
    def items(self) -> pd.DataFrame:
        """The table of items by index: item_id, title if the data had titles, and features."""

    @property
    @abstractmethod
    def ratings(self) -> pd.DataFrame:
        """All ratings, with the columns user, item and rating. A run's own tables also have the part."""

    @property
    @abstractmethod
    def items_by_popularity(self) -> NDArray[np.int32]:
        """The items with training ratings, most rated first, then folded-in items: the order of candidates."""

    @property
    @abstractmethod
    def interest(self) -> Interest:
        """The interest of users in items, estimated from who rated what."""

    @cached_property
    def item_ids(self) -> IdMap:
        """The id of each item index."""
        return IdMap(self.items["item_id"].to_numpy())

    @cached_property
    def titles(self) -> NDArray[np.object_] | None:
        """The title of each item index, or None if the data had no titles."""
        return self.items["title"].to_numpy(dtype=object) if "title" in self.items else None

    @cached_property
    def item_names(self) -> ItemNames:
        """All items by id and title. Some items may have no training ratings."""
        return ItemNames(self.item_ids, self.titles)

    def ratings_of_users(self, user: NDArray[np.int32]) -> pd.DataFrame:
        """Return the ratings of these distinct users: (B,) int32, UNKNOWN allowed.

        The column `user` of the result is the position in the argument, not the index.
        """
        known = np.flatnonzero(user != UNKNOWN)
        if len(known) == 0:  # avoids loading all ratings
            dtypes = {"user": np.int32, "item": np.int32, "rating": np.float32, "part": np.int8}
            return pd.DataFrame({name: np.empty(0, dtype) for name, dtype in dtypes.items()})
        position = np.empty(len(self.user_ids), dtype=np.int32)
        position[user[known]] = known
        rows = self._select_ratings(user[known])
        return rows.assign(user=position[rows["user"]])

    def _select_ratings(self, user: NDArray[np.int32]) -> pd.DataFrame:
        """Select the ratings of users: (B,) int32, at least one."""
        rater = self.ratings["user"]
        # for one user, a comparison takes a third of the time of np.isin
        return self.ratings[rater == user[0] if len(user) == 1 else np.isin(rater, user)]

    def seen_items(self) -> csr_array:
        """Build the matrix of the items that each user has rated; see `build_pair_matrix`."""
        user, item = (self.ratings[name].to_numpy() for name in ("user", "item"))
        return build_pair_matrix(user, item, num_users=len(self.user_ids))

    def are_users_trained(self, user_ids: Ids) -> NDArray[np.bool_]:
        """Return whether each user has training ratings or was folded in: (B,) bool."""
        return is_trained(self.user_ids.index_of(user_ids), self.record.num_users)

    def are_items_trained(self, item_ids: Ids) -> NDArray[np.bool_]:
        """Return whether each item has training ratings or was folded in: (B,) bool."""
        return is_trained(self.item_ids.index_of(item_ids), self.record.num_items)

    def check_users(self, user_ids: Ids, *, place: Callable[[int], str], for_lists: bool = True) -> None:
        """Raise UserError if a user has no training ratings and was not folded in.

        `place` returns the place of a row for the message; with `for_lists`, the message suggests unknown=baseline.
        """
        is_known = self.are_users_trained(user_ids)
        if not is_known.all():
            row = int(np.argmin(is_known))
            nearest = self.user_ids.did_you_mean(user_ids[row], among=self.record.num_users)
            advice = f"; unknown=baseline recommends {self.record.baseline_list}" if for_lists else ""
            raise UserError(f"{place(row)}: {str(user_ids[row])!r} has no training ratings{advice}{nearest}")

    def candidates(self, item_ids: Ids | None) -> NDArray[np.int32]:
        """Return the distinct indices of the items that can be recommended, most popular first.

        With None, returns all items that have training ratings or were folded in. All other items are left out.

        Raises:
            UserError: `item_ids` is not a list, or none of the items can be recommended.
        """
        if item_ids is None:
            return self.items_by_popularity
        check_ids(item_ids, name="candidates")
        item = self.item_ids.index_of(item_ids)
        item = item[is_trained(item, self.record.num_items)]
        if len(item) == 0:
            if len(item_ids) == 0:
                raise UserError("candidates must have at least one item, got none")
            first = next(iter(item_ids))
            count = format_count(len(item_ids), "id")
            raise UserError(f"candidates: no item has training ratings among {count}, such as {str(first)!r}")
        return self.items_by_popularity[np.isin(self.items_by_popularity, item)]

    def items_with_genres(self, genres: Sequence[str], *, column: str = "genres") -> Ids:
        """List the ids of the items that have at least one of these genres, spelled as in the data.

        `column` is the column of categories in the table of items.

        Raises:
            UserError: the run has no such column, or no item has one of the genres.
        """
        features = self.items.filter(regex=f"^{FEATURE_PREFIX}").select_dtypes(exclude="number")
        names = [str(name).removeprefix(FEATURE_PREFIX) for name in features]
        if column not in names:
            available = f"only {', '.join(names)}" if names else "since its data had none (data.items.path)"
            hint = did_you_mean(column, names)
            raise UserError(f"genres: the run has no item categories {column!r}, {available}{hint}")
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
    """Return whether each index is one of the first `count`, whose users or items the model predicts: (B,) → (B,)."""
    return (index >= 0) & (index < count)
