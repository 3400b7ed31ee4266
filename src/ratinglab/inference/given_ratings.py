"""Ratings to fold in, checked and looked up in a run."""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.formats.literals import parse_number
from ratinglab.formats.text_tables import TextTable
from ratinglab.inference.run_tables import RunTables
from ratinglab.ratings.ids import UNKNOWN, WHOLE_NUMBER, IdMap

Pairs = Sequence[tuple[Any, Any]]
"""Items with one user's ratings, or features with their values, as typed."""
NEW_USER = "new user"
"""Id of a new user whose ratings come without an id."""
DEFAULT_COLUMNS = {"user": "user_id", "item": "item_id", "rating": "rating"}
"""Default column names of a table of ratings, by role. A table without the user column holds one user's ratings."""


def choose_column_names(
    names: Collection[str], *, requested: Mapping[str, str | None], run_columns: Mapping[str, str]
) -> dict[str, str]:
    """Choose the columns of a table by role, given the names of all its columns.

    The column of a role is the requested one. If that is None, it is the default column or, if the table lacks that,
    the column in the run's own data.
    """
    columns = {
        role: run_columns[role] if default not in names and run_columns.get(role) in names else default
        for role, default in DEFAULT_COLUMNS.items()
    }
    return columns | {role: name for role, name in requested.items() if name is not None}


def has_user_column(names: Collection[str], columns: Mapping[str, str]) -> bool:
    """Return whether a table of ratings has the column of users, or another column with `user` in its name."""
    other_columns = set(names) - {columns["item"], columns["rating"]}
    return any(name == columns["user"] or "user" in name.lower() for name in other_columns)


class GivenUser(NamedTuple):
    """The user who gave all ratings: the id, as text, and the index in the run, UNKNOWN if the run lacks the user."""

    id: str
    run_index: int


def look_up_user(ids: IdMap, user_id: int | str | None) -> GivenUser:
    """Look up the user of ratings without a user column; None is a new user.

    Raises:
        UserError: the id is missing, or a number that is not whole.
    """
    if user_id is None:
        return GivenUser(NEW_USER, UNKNOWN)
    if np.ndim(user_id) > 0 or isinstance(user_id, bool):
        raise UserError(f"user_id must be one id, got {user_id!r}")
    index = ids.index_of([user_id])
    (name,) = spell_as_in_run([user_id], ids, index)
    return GivenUser(name, int(index[0]))


def look_up_ratings(
    tables: RunTables, ratings: Pairs | TextTable | None, columns: Mapping[str, str], single_user: GivenUser | None
) -> pd.DataFrame:
    """Look up the users and the items of given ratings in a run.

    `ratings` are one user's ratings by id or title, or a table with one rating per row, whose columns `columns` lists
    by role. `single_user` gave all ratings, unless the table has a column of users.

    Returns:
        user and item, text as spelled in the run; user_index and item_index, UNKNOWN if the run lacks them; rating.

    Raises:
        UserError: there is no rating; a rating is not a number on the run's scale; an item is unknown (unless users are
            given, who may rate new items); or a user has rated an item twice.
    """
    user_ids: list[str] = []
    if isinstance(ratings, TextTable):
        place, source_name, decimal = ratings.place, str(ratings.opened_from.file), ratings.decimal
        items = ratings.ids(columns["item"], key="columns.item", side="item").to_pylist()
        if single_user is None:
            user_ids = ratings.ids(columns["user"], key="columns.user", side="user").to_pylist()
        values = ratings.column(columns["rating"], key="columns.rating")
    else:
        place, source_name, decimal = (lambda row, column: "ratings"), "ratings", "."
        items, values = [item for item, _ in ratings or ()], [value for _, value in ratings or ()]
    if ratings is not None and not items:
        raise UserError(f"{source_name} must have at least one rating, got none")
    rating_place, item_place = (lambda row, role=role: place(row, columns[role]) for role in ("rating", "item"))
    rating = _parse_ratings(values, items, scale=tables.rating_range, decimal=decimal, place=rating_place)
    item_index = tables.item_names.find(items, place=item_place, may_be_new=single_user is None)
    user_index = tables.user_ids.index_of(user_ids)
    rows = pd.DataFrame(
        {
            "user": spell_as_in_run(user_ids, tables.user_ids, user_index) if single_user is None else single_user.id,
            "item": pd.Series(spell_as_in_run(items, tables.item_ids, item_index), dtype=object),
            "user_index": user_index if single_user is None else single_user.run_index,
            "item_index": item_index,
            "rating": rating,
        }
    )
    _check_distinct(rows, items, place=item_place)
    return rows


def _parse_ratings(
    values: Sequence[Any],
    items: Sequence[object],
    *,
    scale: tuple[float, float],
    decimal: str,
    place: Callable[[int], str],
) -> NDArray[np.float64]:
    """Parse the ratings of items.

    Raises:
        UserError: a rating is not a finite number on the scale.
    """

    def parse(value: Any) -> float:
        try:
            parsed = parse_number(value.strip(), decimal=decimal) if isinstance(value, str) else float(value)
        except (TypeError, ValueError, OverflowError):
            return math.nan
        return parsed if math.isfinite(parsed) and not isinstance(value, bool | np.bool_) else math.nan

    rating, (lowest, highest) = np.array([parse(value) for value in values], dtype=np.float64), scale
    for is_wrong, rule, as_text in (
        (np.isnan(rating), "a number", repr),
        ((rating < lowest) | (rating > highest), f"from {lowest:g} to {highest:g}", str),
    ):
        if is_wrong.any():
            row = int(is_wrong.argmax())
            fault = f"the rating of {str(items[row])!r} must be {rule}, got {as_text(values[row])}"
            raise UserError(f"{place(row)}: {fault}")
    return rating


def _check_distinct(rows: pd.DataFrame, items: Sequence[object], *, place: Callable[[int], str]) -> None:
    """Raise UserError if a user has rated an item twice."""
    pairs = rows[["user", "item"]]
    is_repeated = pairs.duplicated().to_numpy()
    if is_repeated.any():
        second = int(is_repeated.argmax())
        first = int((pairs == pairs.loc[second]).all(axis=1).to_numpy().argmax())
        names = [str(items[row]) for row in (first, second)]
        if names[0] != names[1]:
            raise UserError(f"{place(second)}: {names[0]!r} and {names[1]!r} are the same item")
        raise UserError(f"{place(second)}: {names[1]!r} is rated twice by the same user")


def spell_as_in_run(names: Sequence[object], ids: IdMap, index: NDArray[np.int32]) -> list[str]:
    """Return names as the run spells the ids at `index`. Names with index UNKNOWN lose a trailing `.0`."""
    run_ids = ids.ids[np.where(index >= 0, index, 0)].astype(str)
    return [
        run_id if is_known else re.sub(WHOLE_NUMBER, r"\1", str(name).strip())
        for name, is_known, run_id in zip(names, (index >= 0).tolist(), run_ids, strict=True)
    ]


def find_positions(ids: list[str], wanted_ids: Sequence[str] | pd.Series) -> NDArray[np.intp]:
    """Find the position of each wanted id among distinct ids; −1 for a missing id."""
    return pd.Index(ids, dtype=object).get_indexer(pd.Index(wanted_ids, dtype=object))
