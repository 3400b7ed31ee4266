"""Ratings and features to fold in: the arguments of a fold-in, looked up in a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ratinglab.errors import UserError, did_you_mean
from ratinglab.formats.text_tables import TextTable
from ratinglab.inference.given_ratings import (
    DEFAULT_COLUMNS,
    GivenUser,
    Pairs,
    choose_column_names,
    find_positions,
    has_user_column,
    look_up_ratings,
    look_up_user,
    spell_as_in_run,
)
from ratinglab.inference.run_tables import RunTables
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.side_information import Column, is_unknown, parse_new_values
from ratinglab.sides import SideName


@dataclass(frozen=True)
class GivenFeatures:
    """Features of users or items.

    Attributes:
        ids: (B,) their ids, as text as spelled in the run.
        cells: (B,) text per feature, empty if unknown.
        place: returns the place of a cell for messages, given its row and feature.
        key: name of the argument in messages.
        decimal: decimal point of numbers.
    """

    ids: list[str]
    cells: Mapping[str, list[str]]
    place: Callable[[int, str], str]
    key: str
    decimal: str = "."

    def check_used(self, names: Sequence[str], *, side: SideName) -> None:
        """Raise UserError if none of the features is one of `names`, which the model uses."""
        if not names:
            raise UserError(f"{self.key}: the model uses no features of {side}s")
        sources = [*names, *(name.removesuffix("_group") for name in names)]
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
        source = name if name in self.cells else name.removesuffix("_group")
        if source in self.cells:
            cells, place = self.cells[source], lambda row: self.place(row, source)
            new = parse_new_values(cells, trained, place=place, decimal=self.decimal)
            row = find_positions(self.ids, ids)
            is_given = (row >= 0) & ~is_unknown(new)[row]
            values[is_given] = new[row[is_given]]

    def select_cells(self, ids: list[str], name: str) -> pd.Series:
        """Return the cells of a column, such as title, for these ids: (N,) text, empty for an id without a row."""
        return pd.Series(self.cells[name], self.ids, dtype=object).reindex(ids, fill_value="").reset_index(drop=True)


@dataclass(frozen=True)
class GivenData:
    """Ratings and features to fold in.

    Attributes:
        ratings: the ratings, from `look_up_ratings`.
        features: the features of users and of items; None if there are none.
        single_user: the user who gave all ratings and user features; None if the tables name the users.
        is_anonymous: whether the single user has no id.
    """

    ratings: pd.DataFrame
    features: dict[SideName, GivenFeatures | None]
    single_user: GivenUser | None
    is_anonymous: bool


def read_given_data(
    tables: RunTables,
    *,
    ratings: Pairs | TextTable | None,
    users: Pairs | TextTable | None,
    items: TextTable | None,
    user_id: int | str | None,
    columns: Mapping[str, str | None],
    keys: tuple[str, str],
) -> GivenData:
    """Check the arguments of `Run.fold_in`, and look up their users and items in a run."""

    def choose_columns(table: TextTable) -> dict[str, str]:
        return choose_column_names(table.names, requested=columns, run_columns=tables.record.provenance["columns"])

    rating_columns = choose_columns(ratings) if isinstance(ratings, TextTable) else DEFAULT_COLUMNS
    has_users = isinstance(ratings, TextTable) and has_user_column(ratings.names, rating_columns)
    has_features_of_one_user = users is not None and not isinstance(users, TextTable)
    if has_users and user_id is not None:
        raise UserError(f"user_id must be None for ratings with users, got {user_id!r}")
    if has_users and has_features_of_one_user:
        raise UserError(f"{keys[0]} must be a table with the users of ratings, got the features of one user")
    has_no_tables = users is None and items is None  # without ratings too, the user is solved for again
    has_one_user = not has_users and (ratings is not None or has_features_of_one_user or has_no_tables)
    single_user = look_up_user(tables.user_ids, user_id) if has_one_user else None
    indexed_ratings = look_up_ratings(tables, ratings, rating_columns, single_user)
    user_features = _read_features(
        users, tables.user_ids, choose_columns, single_user=single_user, key=keys[0], side="user"
    )
    item_features = _read_features(items, tables.item_ids, choose_columns, key=keys[1], side="item")
    features: dict[SideName, GivenFeatures | None] = {"user": user_features, "item": item_features}
    is_anonymous = single_user is not None and user_id is None
    return GivenData(indexed_ratings, features, single_user, is_anonymous)


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
        UserError: a name or an id occurs twice, or there is no column of ids.
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
        return GivenFeatures(feature_ids, cells, features.place, key, features.decimal)
    assert single_user is not None, "pairs are of a single user"
    for name, value in features:
        if str(name) in cells:
            raise UserError(f"{key}: {str(name)!r} is given twice")
        text = "" if value is None else str(value).strip()
        cells[str(name)] = ["" if text == "null" else text]
    return GivenFeatures([single_user.id], cells, lambda _, name: f"{key}: {name}", key)
