"""Given ratings and features of new users and items: checked, but not yet looked up in a run."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean
from ratinglab.formats.numbers import parsed_number
from ratinglab.formats.text_tables import TextTable

Pairs = Sequence[tuple[Any, Any]]
"""One user's items and ratings, or features and values, as typed."""


class RatingColumns(NamedTuple):
    """Column names of a table of ratings. A table without the user column holds one user's ratings."""

    user: str
    item: str
    rating: str


DEFAULT_COLUMNS = RatingColumns(user="user_id", item="item_id", rating="rating")
"""Default column names of a table of ratings."""


def find_columns(names: Collection[str], *, named: Mapping[str, str | None], own: Mapping[str, str]) -> RatingColumns:
    """Find the columns of a table by role: the named ones, else DEFAULT_COLUMNS, else the names in the run's own data.

    Args:
        names: names of the table's columns.
        named: columns by role, as typed; None: not named.
        own: columns of the run's own data by role; used if the table lacks the default column.
    """
    found = DEFAULT_COLUMNS._asdict()
    for role, default in DEFAULT_COLUMNS._asdict().items():
        if default not in names and own.get(role) in names:
            found[role] = own[role]
    return RatingColumns(**found | {role: name for role, name in named.items() if name is not None})


@dataclass(frozen=True)
class GivenRatings:
    """Ratings to fold in.

    Attributes:
        user_ids: (E,) the user of each rating; None: one user gave all ratings.
        items: (E,) the id or title of each item.
        rating: (E,) float64.
        place: returns the place of a row's item for messages.
        rating_place: returns the place of a row's rating.
    """

    user_ids: Sequence[str] | None
    items: Sequence[str | int]
    rating: NDArray[np.float64]
    place: Callable[[int], str]
    rating_place: Callable[[int], str]


@dataclass(frozen=True)
class GivenFeatures:
    """Features of users or items.

    Attributes:
        ids: (B,) their ids; None: features of a single user without an id.
        cells: (B,) text per feature, empty if unknown.
        place: returns the place of a cell for messages, given its row and feature.
        key: name of the argument in messages.
        decimal: decimal point of numbers.
    """

    ids: Sequence[str] | None
    cells: Mapping[str, Sequence[str]]
    place: Callable[[int, str], str]
    key: str
    decimal: str = "."


class FoldInInput(NamedTuple):
    """Ratings and features to fold in."""

    ratings: GivenRatings | None
    users: GivenFeatures | None
    items: GivenFeatures | None

    @property
    def is_of_one_user(self) -> bool:
        """Whether ratings or features belong to a single user without an id."""
        ratings, users = self.ratings, self.users
        return (ratings is not None and ratings.user_ids is None) or (users is not None and users.ids is None)


def read_fold_in_input(
    ratings: Pairs | TextTable | None,
    users: Pairs | TextTable | None,
    items: TextTable | None,
    *,
    find_columns: Callable[[Collection[str]], RatingColumns],
    keys: tuple[str, str],
) -> FoldInInput:
    """Read ratings, features of users and features of items.

    Args:
        ratings: one user's ratings by item, or a table.
        users: one user's features by name, or a table.
        items: a table of features.
        find_columns: finds the columns of a table from the names of all its columns, as the function of this name does.
        keys: names of the arguments `users` and `items` in messages.

    Raises:
        UserError: a column is missing, or a name or a value is invalid.
    """
    given_ratings = given_users = given_items = None
    if isinstance(ratings, TextTable):
        given_ratings = _ratings_in_table(ratings, find_columns(ratings.names))
    elif ratings is not None:
        given_ratings = _ratings_by_item(ratings)
    if isinstance(users, TextTable):
        given_users = _features_in_table(users, find_columns(users.names).user, key=keys[0], noun="user")
    elif users is not None:
        given_users = _features_by_name(users, key=keys[0])
    if items is not None:
        given_items = _features_in_table(items, find_columns(items.names).item, key=keys[1], noun="item")
    if given_users is not None and given_users.ids is None and given_ratings is not None and given_ratings.user_ids:
        raise UserError(f"{keys[0]} must be a table with the users of ratings, got the features of one user")
    return FoldInInput(given_ratings, given_users, given_items)


def _ratings_by_item(pairs: Pairs) -> GivenRatings:
    """Read one user's ratings: pairs of an item's id or title and a rating."""
    if not pairs:
        raise UserError("ratings must have at least one rating, got none")
    items = [item for item, _ in pairs]
    twice = _repeated(map(str, items))
    if twice is not None:
        raise UserError(f"ratings: {twice!r} is given twice")
    rating = np.array([_number(value, decimal=".") for _, value in pairs])
    if np.isnan(rating).any():
        item, value = pairs[int(np.isnan(rating).argmax())]
        raise UserError(f"ratings: the rating of {item!r} must be a number, got {value!r}")
    return GivenRatings(None, items, rating, lambda _: "ratings", lambda _: "ratings")


def _ratings_in_table(table: TextTable, columns: RatingColumns) -> GivenRatings:
    """Read the ratings of a table, one per row."""
    items = table.ids(columns.item, key="columns.item", noun="item").to_pylist()
    user_ids = None
    others = set(table.names) - {columns.item, columns.rating}
    if any(name == columns.user or "user" in name.lower() for name in others):
        user_ids = table.ids(columns.user, key="columns.user", noun="user").to_pylist()
    texts = table.column(columns.rating, key="columns.rating")
    rating = np.array([_number(text, decimal=table.decimal) for text in texts])
    if len(rating) == 0:
        raise UserError(f"{table.source.file} has no ratings")
    if np.isnan(rating).any():
        row = int(np.isnan(rating).argmax())
        raise UserError(f"{table.place(row, columns.rating)}: the rating must be a number, got {texts[row]!r}")
    item_place, rating_place = (
        lambda row, name=name: table.place(row, name) for name in (columns.item, columns.rating)
    )
    return GivenRatings(user_ids, items, rating, item_place, rating_place)


def _number(value: Any, *, decimal: str) -> float:
    """Parse a finite number; NaN for anything else."""
    try:
        number = parsed_number(value.strip(), decimal=decimal) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) and not isinstance(value, bool | np.bool_) else math.nan


def _features_by_name(pairs: Pairs, *, key: str) -> GivenFeatures:
    """Read one user's features: pairs of a name and a value; None and null are unknown."""
    twice = _repeated(str(name) for name, _ in pairs)
    if twice is not None:
        raise UserError(f"{key}: {twice!r} is given twice")
    texts = {str(name): "" if value is None else str(value).strip() for name, value in pairs}
    cells = {name: ["" if text == "null" else text] for name, text in texts.items()}
    return GivenFeatures(None, cells, lambda _, name: f"{key}: {name}", key)


def _features_in_table(table: TextTable, id_column: str, *, key: str, noun: str) -> GivenFeatures:
    """Read the features in a table of users or items, one per row."""
    ids = table.ids(id_column, key=f"columns.{noun}", noun=noun).to_pylist()
    cells = {name: table.column(name, key=key) for name in table.names if name != id_column}
    return GivenFeatures(ids, cells, table.place, key, table.decimal)


def _repeated(names: Any) -> str | None:
    """Return the first repeated name."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def check_features(given: GivenFeatures, names: Sequence[str], *, noun: str) -> None:
    """Raise UserError if the model uses none of the given features; `names` are those that it uses."""
    if not names:
        raise UserError(f"{given.key}: the model uses no features of {noun}s")
    sources = [*names, *(name.removesuffix("_group") for name in names)]
    if not any(name in given.cells for name in sources):
        found = ", ".join(given.cells) or "none"
        hint = next(filter(None, (did_you_mean(name, sources) for name in given.cells)), "")
        raise UserError(
            f"{given.key} must have at least one of the model's features, {' or '.join(names)}, got {found}{hint}"
        )
