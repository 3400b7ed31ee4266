"""The table of ratings, which readers build and splits divide: rows of indices, ids and side information."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError, format_count
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.mapped_arrays import drop_pages, row_ranges
from ratinglab.ratings.side_information import Column, Needs, Origin, SideInformation, choose_columns, feature_digest

MILLISECONDS_PER_DAY = 86_400_000
ConfiguredScale: TypeAlias = tuple[float | None, float | None]
"""Lowest and highest possible rating in the options. None if not set."""


@dataclass(frozen=True)
class Ratings:
    """Rows of ratings, by column: 12 bytes each, 16 with days.

    Attributes:
        user: (N,) int32 index into the table's user_ids.
        item: (N,) int32 index into the table's item_ids.
        rating: (N,) float32, in the unit of the file (stars, points).
        day: (N,) int32, days since 1970 in UTC, or None if not needed.
        folder: folder for further arrays of this size, or None if the rows are in memory and not in mapped files.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    rating: NDArray[np.float32]
    day: NDArray[np.int32] | None = None
    folder: Path | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.rating)

    def blocks(self) -> Iterator[tuple[slice, "Ratings"]]:
        """Yield blocks of rows as views, each after its range. Frees mapped pages before yielding the next block."""
        for rows in row_ranges(len(self)):
            yield rows, self.take(rows)
            self.drop_pages()

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "Ratings":
        """Select rows by a mask, by indices in the given order, or by a range, which returns views."""
        folder = self.folder if isinstance(rows, slice) else None
        return Ratings(**{name: column[rows] for name, column in self.columns().items()}, folder=folder)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns by name: user, item, rating and, if needed, day."""
        columns = {"user": self.user, "item": self.item, "rating": self.rating, "day": self.day}
        return {name: column for name, column in columns.items() if column is not None}

    def drop_pages(self) -> None:
        """Free the memory of mapped columns, whose values are read again at the next access."""
        drop_pages(*self.columns().values())


class SourceFile(NamedTuple):
    """Name of a file of a table, and the row after its last row, counted from 0."""

    name: str
    stop: int


@dataclass(frozen=True)
class RatingTable:
    """All ratings of a data set, with the ids and features of its users and items.

    Attributes:
        name: name of the data set in messages and headers.
        ratings: the rows, in the order of the files.
        timestamp: (N,) int64, milliseconds since 1970 in UTC, or None if not read.
        user_ids, item_ids: the ids by index.
        titles: (num_items,) text by item index, empty if unknown. None if there is no table of titles.
        user_columns, item_columns: features by name, each (num_users,) or (num_items,). Empty if there is no table.
        origins: where the user and item tables come from, for messages.
        scale: lowest and highest possible rating, configured or found in the rows before cleaning.
        configured_scale: lowest and highest possible rating in the options. None if not set.
        sources: the files, in the order of their rows.
        merged_across_files: number of user-item pairs merged from rows in several files.
        notes: one line each, on cleaning and on unusual rows.
        noise_floor: MSE of a perfect model, in squared rating units, or None unless the data are synthetic.
    """

    name: str
    ratings: Ratings
    timestamp: NDArray[np.int64] | None
    user_ids: IdMap
    item_ids: IdMap
    titles: NDArray[np.object_] | None
    user_columns: dict[str, Column]
    item_columns: dict[str, Column]
    origins: tuple[Origin, Origin]
    scale: tuple[float, float]
    configured_scale: ConfiguredScale
    sources: tuple[SourceFile, ...]
    merged_across_files: int
    notes: tuple[str, ...]
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
    def size(self) -> str:
        """Description of the size, such as `100,000 ratings of 1,000 users over 1,700 items`."""
        users, items = format_count(self.num_users, "user"), format_count(self.num_items, "item")
        return f"{format_count(len(self.ratings), 'rating')} of {users} over {items}"

    @property
    def density(self) -> float:
        """Share of the user-item pairs that have a rating."""
        return len(self.ratings) / (self.num_users * self.num_items)

    def times(self, *, needed_by: str) -> NDArray[np.int64]:
        """Return the timestamps. Raises UserError, which names `needed_by`, if none were read."""
        if self.timestamp is None:
            raise UserError(f"{needed_by} needs timestamps: set data.columns.timestamp to their column")
        return self.timestamp

    def side_information(self, needs: Needs, *, needed_by: str) -> SideInformation:
        """Select the days and columns that an equation needs. Interactions follow from the ratings.

        Raises:
            UserError: no timestamps were read, or a column is missing, empty or named twice. The message names
                `needed_by`.
        """
        day = (self.times(needed_by=needed_by) // MILLISECONDS_PER_DAY).astype(np.int32) if needs.days else None
        items = self.item_columns or (None if self.titles is None else {})
        return SideInformation(
            day=day,
            user_features=choose_columns(self.user_columns or None, needs.user_features, self.origins[0]),
            item_features=choose_columns(items, needs.item_features, self.origins[1]),
        )

    def side_digests(self, needs: Needs) -> dict[str, str]:
        """Hash the timestamps and each column that an equation needs, in the order of the rows, users or items.

        Returns:
            The hashes by name: `times`, `user_features.NAME`, `item_features.NAME`.
        """
        digests = {}
        if needs.days:
            times = np.ascontiguousarray(self.times(needed_by="a digest"), dtype="<i8")
            digests["times"] = blake2b(times.data, digest_size=16).hexdigest()
        digests |= {f"user_features.{name}": feature_digest(self.user_columns[name]) for name in needs.user_features}
        digests |= {f"item_features.{name}": feature_digest(self.item_columns[name]) for name in needs.item_features}
        return digests

    @cached_property
    def digest(self) -> str:
        """Hash of the ids and of all rows in order, without timestamps and features. Independent of the file format."""

        def hash_bytes(content: Any) -> bytes:
            return blake2b(content, digest_size=16).digest()

        def hash_column(column: NDArray[Any]) -> bytes:
            digest = blake2b(digest_size=16)
            for rows in row_ranges(len(column)):
                digest.update(np.ascontiguousarray(column[rows]).data)
                drop_pages(column)
            return digest.digest()

        columns = (self.ratings.user, self.ratings.item, self.ratings.rating)
        with ThreadPoolExecutor() as threads:  # hashing releases the GIL
            ids = threads.map(
                lambda ids: hash_bytes("\n".join(ids.ids.astype(str)).encode()), (self.user_ids, self.item_ids)
            )
            rows = threads.map(hash_column, columns)
            return hash_bytes(b"".join([*ids, *rows])).hex()
