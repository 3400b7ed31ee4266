"""The arguments of a fold-in: one user's values or tables of ratings and features, checked and looked up in a run."""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean
from ratinglab.formats.frames import Frame, frame_file
from ratinglab.formats.literals import WHOLE_NUMBER, parse_number
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_tables import TextTable, open_text_table
from ratinglab.inference.indexed_tables import check_id
from ratinglab.inference.run_tables import RunTables
from ratinglab.ratings.ids import UNKNOWN, IdMap
from ratinglab.ratings.side_information import GROUP_SUFFIX, Column, is_unknown, parse_new_values
from ratinglab.runs.record import RunRecord
from ratinglab.sides import SideName

Pairs = Sequence[tuple[Any, Any]]
"""Items with one user's ratings, or features with their values, as typed."""
NEW_USER = "new user"
"""Id of a new user whose ratings come without an id."""
DEFAULT_COLUMNS = {"user": "user_id", "item": "item_id", "rating": "rating"}
"""Default column names of a table of ratings, by role. A table without the user column holds one user's ratings."""


def choose_column_names(
    names: Collection[str], record: RunRecord, *, requested: Mapping[str, str | None]
) -> dict[str, str]:
    """Choose the columns of a table by role, given the names of all its columns.

    The column of a role is the requested one. If that is None, it is the default column or, if the table has none, the
    column in the run's own data.
    """
    run_columns = record.provenance["columns"]
    columns = {
        role: run_columns[role] if default not in names and run_columns.get(role) in names else default
        for role, default in DEFAULT_COLUMNS.items()
    }
    return columns | {role: name for role, name in requested.items() if name is not None}


class GivenUser(NamedTuple):
    """The user who gave all ratings: the id, as text, and the index in the run, UNKNOWN if not in the run."""

    id: str
    run_index: int


@dataclass(frozen=True)
class GivenFeatures:
    """Features of users or items.

    Attributes:
        ids: (B,) their ids, as text, spelled as in the run.
        cells: (B,) text per feature, empty if unknown.
        place: returns the place of a cell for messages, given its row and feature.
        key: name of the argument in messages.
        dialect: dialect of the text file that holds the cells, for its decimal point. None means a point.
    """

    ids: list[str]
    cells: Mapping[str, list[str]]
    place: Callable[[int, str], str]
    key: str
    dialect: TextDialect | None = None

    def check_used(self, names: Sequence[str], *, side: SideName) -> None:
        """Raise UserError if none of the features is one of `names`, which the model uses."""
        if not names:
            raise UserError(f"{self.key}: the model uses no features of {side}s")
        sources = [*names, *(name.removesuffix(GROUP_SUFFIX) for name in names)]
        if not any(name in self.cells for name in sources):
            given = ", ".join(self.cells) or "none"
            hint = next(filter(None, (did_you_mean(name, sources) for name in self.cells)), "")
            raise UserError(
                f"{self.key} must have at least one of the model's features, {' or '.join(names)}, got {given}{hint}"
            )

    def replace_values(self, values: Column, name: str, ids: list[str], trained: Column) -> None:
        """Replace values of a feature in place.

        `values` (N,) belong to the users or items `ids`. A value stays unchanged if its cell here is empty or missing.
        `trained` is the column that the model was trained on.
        """
        source = name if name in self.cells else name.removesuffix(GROUP_SUFFIX)
        if source in self.cells:
            cells, place = self.cells[source], lambda row: self.place(row, source)
            new = parse_new_values(cells, trained, place=place, dialect=self.dialect)
            row = find_positions(self.ids, ids)
            is_given = (row >= 0) & ~is_unknown(new)[row]
            values[is_given] = new[row[is_given]]


@dataclass(frozen=True)
class GivenData:
    """Ratings and features to fold in.

    Attributes:
        ratings: user and item, as text, spelled as in the run; user_index and item_index, UNKNOWN if not in the run;
            and rating, in rating units.
        features: the features of users and of items, or None if there are none.
        single_user: the user who gave all ratings and user features, or None if the tables name the users.
        is_anonymous: whether the single user has no id.
    """

    ratings: pd.DataFrame
    features: dict[SideName, GivenFeatures | None]
    single_user: GivenUser | None
    is_anonymous: bool


def read_given_data(
    tables: RunTables,
    *,
    ratings: Pairs | TextTable | None = None,
    users: Pairs | TextTable | None = None,
    items: Pairs | TextTable | None = None,
    user_id: int | str | None = None,
    columns: Mapping[str, str | None] | None = None,
    keys: tuple[str, str] = ("users", "items"),
) -> GivenData:
    """Check the arguments of `Run.fold_in`, and look up their users and items in a run.

    Without ratings, users and items, the training ratings of the user `user_id` are folded in. `user_id` is ignored if
    the ratings name their users: in the column of users, or in any column with `user` in its name, which is then
    reported as misnamed. `keys` are the names of the arguments `users` and `items` in messages.
    """

    def choose_columns(table: TextTable) -> dict[str, str]:
        return choose_column_names(table.names, tables.record, requested=columns or {})

    rating_columns, has_users = DEFAULT_COLUMNS, False
    if isinstance(ratings, TextTable):
        rating_columns = choose_columns(ratings)
        other_columns = set(ratings.names) - {rating_columns["item"], rating_columns["rating"]}
        has_users = any(name == rating_columns["user"] or "user" in name.lower() for name in other_columns)
    has_features_of_one_user = users is not None and not isinstance(users, TextTable)
    if has_users and has_features_of_one_user:
        raise UserError(f"{keys[0]} must be a table with the users of ratings, got the features of one user")
    has_no_tables = users is None and items is None  # without ratings too, the user is solved for again
    has_one_user = not has_users and (ratings is not None or has_features_of_one_user or has_no_tables)
    single_user = _look_up_user(tables.user_ids, user_id) if has_one_user else None
    indexed_ratings = _look_up_ratings(tables, ratings, rating_columns, single_user)
    user_features = _read_features(
        users, tables.user_ids, choose_columns, single_user=single_user, key=keys[0], side="user"
    )
    item_features = _read_features(items, tables.item_ids, choose_columns, key=keys[1], side="item")
    features: dict[SideName, GivenFeatures | None] = {"user": user_features, "item": item_features}
    is_anonymous = single_user is not None and user_id is None
    return GivenData(indexed_ratings, features, single_user, is_anonymous)


def _look_up_user(ids: IdMap, user_id: int | str | None) -> GivenUser:
    """Look up the user of ratings without a user column. None stands for a new user.

    Raises:
        UserError: the id is missing, or a number that is not whole.
    """
    if user_id is None:
        return GivenUser(NEW_USER, UNKNOWN)
    check_id(user_id)
    index = ids.index_of([user_id])
    (name,) = spell_as_in_run([user_id], ids, index)
    return GivenUser(name, int(index[0]))


def _look_up_ratings(
    tables: RunTables, ratings: Pairs | TextTable | None, columns: Mapping[str, str], single_user: GivenUser | None
) -> pd.DataFrame:
    """Look up the users and the items of given ratings in a run. Returns the table `GivenData.ratings`.

    `ratings` are one user's ratings by id or title, or a table with one rating per row, whose columns `columns` lists
    by role. `single_user` gave all ratings, unless the table has a column of users.

    Raises:
        UserError: there is no rating; a rating is not a number on the run's scale; an item is unknown (unless users are
            given, who may rate new items); or a user has rated an item twice.
    """
    user_ids: list[str] = []
    if isinstance(ratings, TextTable):
        place, source_name, dialect = ratings.place, str(ratings.opened_from.file), ratings.opened_from.dialect
        items = ratings.ids(columns["item"], key="columns.item", side="item").to_pylist()
        if single_user is None:
            user_ids = ratings.ids(columns["user"], key="columns.user", side="user").to_pylist()
        values = ratings.column(columns["rating"], key="columns.rating")
    else:
        place, source_name, dialect = (lambda row, column: "ratings"), "ratings", None
        items, values = [item for item, _ in ratings or ()], [value for _, value in ratings or ()]
    if ratings is not None and not items:
        raise UserError(f"{source_name} must have at least one rating, got none")
    rating_place, item_place = (lambda row, role=role: place(row, columns[role]) for role in ("rating", "item"))
    rating = _parse_ratings(values, items, scale=tables.rating_range, dialect=dialect, place=rating_place)
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
    dialect: TextDialect | None,
    place: Callable[[int], str],
) -> NDArray[np.float64]:
    """Parse the ratings of items. `dialect` is the dialect of their text file, or None if they are not from one.

    Raises:
        UserError: a rating is not a finite number on the scale.
    """
    decimal = "." if dialect is None else dialect.decimal

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
            hint = "" if dialect is None else dialect.decimal_hint(values[row])
            raise UserError(f"{place(row)}: {fault}{hint}")
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


def _read_features(
    features: Pairs | TextTable | None,
    ids: IdMap,
    choose_columns: Callable[[TextTable], Mapping[str, str]],
    *,
    single_user: GivenUser | None = None,
    key: str,
    side: SideName,
) -> GivenFeatures | None:
    """Read features of users or items: a table with one row each, or the names and values of the single user.

    The values None and null are unknown. `choose_columns` returns the columns of a table by role; `key` is the name of
    the argument in messages.

    Raises:
        UserError: a name or an id occurs twice, or there is no id column.
    """
    if features is None:
        return None
    cells: dict[str, list[str]] = {}
    if isinstance(features, TextTable):
        column = choose_columns(features)[side]
        names = features.ids(column, key=f"columns.{side}", side=side).to_pylist()
        feature_ids = spell_as_in_run(names, ids, ids.index_of(names))
        is_repeated = pd.Index(feature_ids).duplicated()
        if is_repeated.any():
            row = int(is_repeated.argmax())
            raise UserError(f"{features.place(row, column)}: {side} {feature_ids[row]} already has a row")
        cells = {name: features.column(name, key=key) for name in features.names if name != column}
        return GivenFeatures(feature_ids, cells, features.place, key, features.opened_from.dialect)
    assert single_user is not None, "pairs are of a single user"
    for name, value in features:
        if str(name) in cells:
            raise UserError(f"{key}: {str(name)!r} is given twice")
        text = "" if value is None else str(value).strip()
        cells[str(name)] = ["" if text == "null" else text]
    return GivenFeatures([single_user.id], cells, lambda _, name: f"{key}: {name}", key)


def spell_as_in_run(names: Sequence[object], ids: IdMap, index: NDArray[np.int32]) -> list[str]:
    """Return names as the run spells the ids at `index`. Names with index UNKNOWN lose a trailing `.0`."""
    run_ids = ids.ids[np.where(index >= 0, index, 0)].astype(str)
    return [
        run_id if is_known else re.sub(WHOLE_NUMBER, r"\1", str(name).strip())
        for name, is_known, run_id in zip(names, (index >= 0).tolist(), run_ids, strict=True)
    ]


def find_positions(ids: list[str], wanted_ids: Sequence[str] | pd.Series) -> NDArray[np.intp]:
    """Find the position of each wanted id among distinct ids, or −1 for a missing id."""
    return pd.Index(ids, dtype=object).get_indexer(pd.Index(wanted_ids, dtype=object))


def to_pairs_or_table(values: Mapping[Any, Any] | Frame | None, *, name: str) -> Pairs | TextTable | None:
    """Convert a mapping of single values, the argument `name`, to pairs, and a data frame to a table of texts."""
    if values is None:
        return None
    if isinstance(values, pd.Series):  # values by item id
        return list(values.items())
    if isinstance(values, Mapping) and all(np.ndim(value) == 0 for value in values.values()):
        return list(values.items())
    return to_table(values, name=name)


def to_table(frame: Frame, *, name: str) -> TextTable:
    """Convert a data frame, the argument `name`, to a table of texts."""
    if isinstance(frame, str | Path):
        raise UserError(f"{name} must be a data frame or a mapping, got {str(frame)!r}; read the file first")
    return open_text_table(frame_file(frame, name=name), TextDialect(",", "utf-8")).read()
