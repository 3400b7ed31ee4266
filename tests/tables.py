"""Tables and options for tests."""

from dataclasses import replace

import numpy as np

from ratinglab.datasets.sources import CsvOptions, ItemOptions, ScaleOptions, UserOptions
from ratinglab.formats.text_options import ColumnOptions, Decimal, Escape, Quote
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.side_information import Origin, SideInformation
from ratinglab.ratings.table import MILLISECONDS_PER_DAY, Ratings, RatingTable, SourceFile
from ratinglab.reading.cleaning_options import Duplicates

NO_SIDE_INFORMATION = SideInformation(day=None, user_features={}, item_features={})
TEXT = {
    "separator": "comma",
    "header": True,
    "encoding": "utf-8",
    "quote": Quote.double,
    "escape": Escape.none,
    "decimal": Decimal.point,
    "comment": None,
}
NO_USERS = UserOptions(**TEXT, path=None, user="user_id", numeric=[])
NO_ITEMS = ItemOptions(**TEXT, path=None, item="item_id", title="title", numeric=[])
CSV = CsvOptions(
    duplicates=Duplicates.error,
    min_rating=None,
    min_ratings_per_user=0,
    min_ratings_per_item=0,
    cache=None,
    batch_size=1,
    **TEXT,
    path=["ratings.csv"],
    columns=ColumnOptions(user="user_id", item="item_id", rating="rating", timestamp=None),
    timestamp_format=None,
    unrated=[],
    scale=ScaleOptions(lowest=None, highest=None),
    users=NO_USERS,
    items=NO_ITEMS,
    on_disk=False,
)


def csv_options(
    path: str | list[str] = "ratings.csv", *, columns: tuple[str, ...] = ("user_id", "item_id", "rating"), **changed
) -> CsvOptions:
    """Make the options of conf/data/csv.yaml without a cache, some changed; `columns` can end with a timestamp."""
    paths = [path] if isinstance(path, str) else path
    return replace(CSV, path=paths, columns=ColumnOptions(*columns, *[None] * (4 - len(columns))), **changed)


def table_of(
    user,
    item,
    rating,
    *,
    scale=(1.0, 5.0),
    timestamp=None,
    sources=(),
    titles=None,
    user_columns=None,
    item_columns=None,
) -> RatingTable:
    """Make a table of the given columns, whose indices are its ids."""
    user, item = np.asarray(user, dtype=np.int32), np.asarray(item, dtype=np.int32)
    rating = np.asarray(rating, dtype=np.float32)
    return RatingTable(
        name="table",
        ratings=Ratings(user=user, item=item, rating=rating),
        timestamp=None if timestamp is None else np.asarray(timestamp, dtype=np.int64),
        user_ids=IdMap(np.arange(user.max() + 1)),
        item_ids=IdMap(np.arange(item.max() + 1)),
        titles=titles,
        user_columns=user_columns or {},
        item_columns=item_columns or {},
        origins=(
            Origin("user", "data.users.path", "set data.users.path to its file"),
            Origin("item", "data.items.path", "set data.items.path to its file"),
        ),
        scale=scale,
        configured_scale=scale,
        sources=tuple(SourceFile(*source) for source in sources),
        merged_across_files=0,
        notes=(),
        noise_floor=None,
    )


def table_with_features() -> RatingTable:
    """Make a table of two fifths of the pairs of 30 users and 20 items, on three days.

    A user has a group, an age, or neither; an item has no, one or two genres.
    """
    random = np.random.default_rng(0)
    user, item = np.divmod(np.flatnonzero(random.random(30 * 20) < 0.4), 20)
    rating, day = random.integers(1, 6, len(user)), random.integers(0, 3, len(user))
    group = np.array(["a", "b", ""], dtype=object)[random.integers(0, 3, 30)]
    age = np.where(random.random(30) < 0.8, random.normal(size=30), np.nan)
    genres = np.array(["x", "x|y", "y|z", ""], dtype=object)[random.integers(0, 4, 20)]
    return table_of(
        user,
        item,
        rating,
        timestamp=day * MILLISECONDS_PER_DAY,
        titles=np.full(20, "title", dtype=object),
        user_columns={"group": group, "age": age},
        item_columns={"genres": genres},
    )


def table_of_one_factor(*, noise: float) -> RatingTable:
    """Generate ratings of 60 users over 40 items from biases and one factor, without a tenth of the pairs.

    Each rating has normal noise of this standard deviation, and is on the first or the second of two days.
    """
    random = np.random.default_rng(0)
    user, item = np.divmod(np.flatnonzero(random.random(2400) < 0.9), 40)
    user_bias, item_bias = random.normal(0, 0.5, 60), random.normal(0, 0.5, 40)
    p, q = random.normal(0, 1, 60), random.normal(0, 1, 40)
    rating = 3 + user_bias[user] + item_bias[item] + p[user] * q[item] + random.normal(0, noise, len(user))
    return table_of(user, item, rating, timestamp=random.integers(0, 2, len(user)) * MILLISECONDS_PER_DAY)


def rows_of(table: RatingTable) -> list[tuple]:
    """List the table's rows with their original ids, and with times if it has them."""
    ratings = table.ratings
    times = [] if table.timestamp is None else [table.timestamp.tolist()]
    user_id, item_id = table.user_ids.ids[ratings.user], table.item_ids.ids[ratings.item]
    return list(zip(user_id.tolist(), item_id.tolist(), ratings.rating.tolist(), *times, strict=True))
