"""Ratings and features of new users and items, as given: checked, but not yet looked up in a run."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean
from ratinglab.ratings.faults import parsed_number
from ratinglab.ratings.text_tables import TextTable


class RatingColumns(NamedTuple):
    """Names of the columns of a table of ratings. A table without the user's column holds one user's ratings."""

    user: str
    item: str
    rating: str


@dataclass(frozen=True)
class GivenRatings:
    """Ratings to fold in.

    Attributes:
        user_ids: (E,) the user of each rating; None: all are one new user's.
        items: (E,) the id or the title of each item.
        rating: (E,) float64.
        place: names the place of a rating in messages.
    """

    user_ids: Sequence[str] | None
    items: Sequence[str | int]
    rating: NDArray[np.float64]
    place: Callable[[int], str]


@dataclass(frozen=True)
class GivenFeatures:
    """Features of new users or items.

    Attributes:
        ids: (B,) their ids; None: those of one new user.
        cells: (B,) text per feature, empty if unknown.
        place: names the place of a cell in messages, given its row and feature.
    """

    ids: Sequence[str] | None
    cells: Mapping[str, Sequence[str]]
    place: Callable[[int, str], str]


def ratings_by_item(pairs: Sequence[tuple[str | int, Any]], *, key: str) -> GivenRatings:
    """Take one user's ratings: pairs of an item's id or title and the rating.

    Raises:
        UserError: there is none, an item occurs twice, or a rating is not a number.
    """
    if not pairs:
        raise UserError(f"{key} must have at least one rating, got none")
    items = [item for item, _ in pairs]
    twice = next((item for item, count in Counter(map(str, items)).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"{key}: {twice!r} is given twice")
    rating = np.array([_number(value, decimal=".") for _, value in pairs])
    if np.isnan(rating).any():
        item, value = pairs[int(np.isnan(rating).argmax())]
        raise UserError(f"{key}: the rating of {item!r} must be a number, got {value!r}")
    return GivenRatings(None, items, rating, lambda _: key)


def ratings_in_table(table: TextTable, columns: RatingColumns, *, key: str) -> GivenRatings:
    """Take the ratings of a table.

    Args:
        table: one rating per row.
        columns: names of its columns.
        key: beginning of the keys that name the columns, such as `columns`.

    Raises:
        UserError: a column is missing, or a cell is invalid.
    """
    items = table.ids(columns.item, key=f"{key}.item", noun="item").to_pylist()
    user_ids = None
    if columns.user in table.names or any("user" in name.lower() for name in table.names):
        user_ids = table.ids(columns.user, key=f"{key}.user", noun="user").to_pylist()
    decimal = "." if table.dialect is None else table.dialect.decimal
    texts = table.column(columns.rating, key=f"{key}.rating")
    rating = np.array([_number(text, decimal=decimal) for text in texts])
    if len(rating) == 0:
        raise UserError(f"{table.file} has no ratings")
    if np.isnan(rating).any():
        row = int(np.isnan(rating).argmax())
        raise UserError(f"{table.place(row, columns.rating)}: the rating must be a number, got {texts[row]!r}")
    return GivenRatings(user_ids, items, rating, lambda row: table.place(row, columns.item))


def _number(value: Any, *, decimal: str) -> float:
    """Parse a finite number; NaN if it is none."""
    try:
        number = parsed_number(value.strip(), decimal=decimal) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) and not isinstance(value, bool) else math.nan


def features_by_name(features: Sequence[tuple[str, Any]], *, key: str) -> GivenFeatures:
    """Take the features of one new user: pairs of a feature's name and its value."""
    missing = {None, ""}
    cells = {str(name): ["" if value in missing else str(value).strip()] for name, value in features}
    if len(cells) < len(features):
        twice = next(name for name, count in Counter(str(name) for name, _ in features).items() if count > 1)
        raise UserError(f"{key}: {twice!r} is given twice")
    return GivenFeatures(None, cells, lambda _, name: f"{key}: {name}")


def features_in_table(table: TextTable, id_column: str, *, key: str, noun: str) -> GivenFeatures:
    """Take the features of a table of users or items.

    Raises:
        UserError: the column of ids is missing, an id is blank or occurs twice.
    """
    ids = table.ids(id_column, key=f"{key}.{noun}", noun=noun).to_pylist()
    twice = next((each for each, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        place = table.place(ids.index(twice, ids.index(twice) + 1), id_column)
        raise UserError(f"{place}: {noun} {twice} has an earlier row")
    cells = {name: table.column(name, key=key) for name in table.names if name != id_column}
    return GivenFeatures(ids, cells, table.place)


def check_features(given: GivenFeatures, names: Sequence[str], *, key: str) -> None:
    """Raise UserError if none of the model's features, `names`, is given, or if it has none."""
    if not names:
        raise UserError(f"{key}: the model uses no features of these, so they cannot change its predictions")
    sources = [*names, *(name.removesuffix("_group") for name in names)]
    if not any(name in given.cells for name in sources):
        found = ", ".join(given.cells) or "no columns"
        hint = next(filter(None, (did_you_mean(name, sources) for name in given.cells)), "")
        raise UserError(f"{key} must have {' or '.join(names)}, which the model uses, got {found}{hint}")
