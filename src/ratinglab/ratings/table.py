"""The table of ratings, as arrays."""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ratinglab.ratings.ids import IdMap


@dataclass(frozen=True)
class Ratings:
    """Rows of ratings, by column.

    Attributes:
        user: (N,) int32 index into the table's user_ids.
        item: (N,) int32 index into the table's item_ids.
        rating: (N,) float32, in the unit of the file (stars, points).
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    rating: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rating)

    def take(self, rows: NDArray[np.int64]) -> "Ratings":
        """The named rows, in the order named."""
        return Ratings(user=self.user[rows], item=self.item[rows], rating=self.rating[rows])


@dataclass(frozen=True)
class RatingTable:
    """All the ratings of a data set and the ids of its users and items.

    Attributes:
        name: what the data set is called in headers.
        ratings: the rows, in the order of the file.
        user_ids: the id of each user index.
        item_ids: the id of each item index.
        titles: (num_items,) text by item index, empty where there is none; None without a table of titles.
        noise_floor: the MSE of a perfect model, known for generated data only, in squared rating units.
    """

    name: str
    ratings: Ratings
    user_ids: IdMap
    item_ids: IdMap
    titles: NDArray[np.object_] | None
    noise_floor: float | None

    @property
    def num_users(self) -> int:
        """Number of users with at least one row."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """Number of items with at least one row."""
        return len(self.item_ids)

    @property
    def density(self) -> float:
        """Rows over users × items."""
        return len(self.ratings) / (self.num_users * self.num_items)

    @property
    def num_repeated(self) -> int:
        """Rows whose pair of user and item an earlier row has too."""
        pair = self.ratings.user.astype(np.int64) * self.num_items + self.ratings.item
        return len(pair) - len(np.unique(pair))

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest rating."""
        return float(self.ratings.rating.min()), float(self.ratings.rating.max())

    def digest(self) -> str:
        """A hash of the ids and of all rows in their order; the form of the file does not count."""
        hashed = blake2b(digest_size=16)
        for ids in (self.user_ids, self.item_ids):
            hashed.update("\n".join(ids.ids.astype(str)).encode())
            hashed.update(b"\0")
        for column in (self.ratings.user, self.ratings.item, self.ratings.rating):
            hashed.update(np.ascontiguousarray(column).data)
        return hashed.hexdigest()
