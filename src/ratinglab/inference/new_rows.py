"""Rows to fold in: ratings and features of new users and items, looked up in a run."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.inference.new_ratings import GivenFeatures, GivenRatings, check_features
from ratinglab.inference.run_tables import RunTables, is_trained
from ratinglab.inference.trained_model import TrainedModel
from ratinglab.models.design import Design
from ratinglab.models.equation import ColumnSource, SideName, other_side
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.ratings.ids import UNKNOWN, WHOLE_NUMBER, IdMap
from ratinglab.ratings.side_information import Column, categories, categories_in, is_numeric, is_unknown, new_values
from ratinglab.recommend.fold_in_solver import NewRatings
from ratinglab.runs.storage import FEATURE_PREFIX

NEW_USER = "new user"
"""Id of a new user whose ratings come without an id."""


class NewRows(NamedTuple):
    """Users or items to fold in.

    Attributes:
        ids: their ids, as text.
        run_index: (B,) int32, their indices in the run; UNKNOWN if the run lacks them.
        ratings: their ratings of items, or by users, with training ratings.
        designs: the design of each term of their side.
        features: their given features.
    """

    ids: list[str]
    run_index: NDArray[np.int32]
    ratings: NewRatings
    designs: list[Design]
    features: GivenFeatures | None

    def pairs(self) -> RatedPairs:
        """Return the row of each rating, as the user, and the index on the other side, as the item."""
        return RatedPairs(self.ratings.row.int().numpy(), self.ratings.other.int().numpy())

    def single_row(self, number: int) -> tuple[NewRatings, list[Design]]:
        """Return the ratings and designs of one row."""
        is_own = self.ratings.row == number
        other, rating = self.ratings.other[is_own], self.ratings.rating[is_own]
        ratings = NewRatings(torch.zeros_like(other), other, rating, num_rows=1)
        return ratings, [design.single_row(number) for design in self.designs]

    def cells(self, name: str) -> list[str]:
        """Return the given cells of a column, such as title: (B,) text, empty if unknown."""
        if self.features is None or name not in self.features.cells:
            return [""] * len(self.ids)
        given = dict(zip(self.features.ids or (), self.features.cells[name], strict=True))
        return [given.get(each, "") for each in self.ids]


class NamedUser(NamedTuple):
    """A user's id, as text, and index in the run; UNKNOWN if the run lacks the user."""

    id: str
    run_index: int


def find_user(ids: IdMap, user_id: int | str | None) -> NamedUser:
    """Look up the user of ratings without a user column; None: a new user.

    Raises:
        UserError: the id is missing, or a number that is not whole.
    """
    if user_id is None:
        return NamedUser(NEW_USER, UNKNOWN)
    if np.ndim(user_id) > 0 or isinstance(user_id, bool):
        raise UserError(f"user_id must be one id, got {user_id!r}")
    index = ids.index_of([user_id])
    (name,) = _spelled([user_id], ids, index)
    return NamedUser(name, int(index[0]))


def look_up(tables: RunTables, given: GivenRatings | None, single_user: NamedUser) -> pd.DataFrame:
    """Look up the users and the items of ratings in a run.

    Args:
        tables: the run's tables.
        given: the ratings.
        single_user: the user of ratings without a user column.

    Returns:
        user and item, text as spelled in the run; user_index and item_index, UNKNOWN if the run lacks them; rating.
    """
    if given is None:
        given = GivenRatings(None, [], np.empty(0), str, str)
    _check_scale(tables.rating_range, given)
    item_index = tables.item_names.find(given.items, place=given.place, may_be_new=given.user_ids is not None)
    rows = pd.DataFrame(
        {
            "user": single_user.id,
            "item": pd.Series(_spelled(given.items, tables.item_ids, item_index), dtype=object),
            "user_index": single_user.run_index,
            "item_index": item_index,
            "rating": given.rating,
        }
    )
    if given.user_ids is not None:
        rows["user_index"] = tables.user_ids.index_of(given.user_ids)
        rows["user"] = _spelled(given.user_ids, tables.user_ids, rows["user_index"].to_numpy())
    _check_distinct(rows, given)
    return rows


def _check_scale(scale: tuple[float, float], given: GivenRatings) -> None:
    lowest, highest = scale
    wrong = (given.rating < lowest) | (given.rating > highest)
    if wrong.any():
        row = int(wrong.argmax())
        value = float(given.rating[row])
        raise UserError(
            f"{given.rating_place(row)}: the rating of {str(given.items[row])!r} must be from {lowest:g} to "
            f"{highest:g}, got {value if value != float(f'{value:g}') else f'{value:g}'}"
        )


def _check_distinct(rows: pd.DataFrame, given: GivenRatings) -> None:
    """Raise UserError if a user has rated an item twice."""
    twice = rows.duplicated(["user", "item"])
    if twice.any():
        second = int(twice.to_numpy().argmax())
        same = (rows["user"] == rows["user"][second]) & (rows["item"] == rows["item"][second])
        names = [str(given.items[row]) for row in (int(same.to_numpy().argmax()), second)]
        if names[0] != names[1]:
            raise UserError(f"{given.place(second)}: {names[0]!r} and {names[1]!r} are the same item")
        raise UserError(f"{given.place(second)}: {names[1]!r} is rated twice by the same user")


def _spelled(names: Sequence[object], ids: IdMap, index: NDArray[np.int32]) -> list[str]:
    """Normalize names to the run's spelling; unknown ids lose a trailing `.0`."""
    known = ids.ids[np.where(index >= 0, index, 0)].astype(str)
    return [
        each if place >= 0 else re.sub(WHOLE_NUMBER, r"\1", str(name).strip())
        for name, place, each in zip(names, index.tolist(), known, strict=True)
    ]


def find_features(ids: IdMap, given: GivenFeatures | None, *, id_column: str, noun: str) -> GivenFeatures | None:
    """Normalize the ids of features to the run's spelling.

    Raises:
        UserError: an id occurs twice.
    """
    if given is None or given.ids is None:
        return given
    spelled = pd.Index(_spelled(given.ids, ids, ids.index_of(given.ids)), dtype=object)
    if not spelled.is_unique:
        row = int(spelled.duplicated().argmax())
        raise UserError(f"{given.place(row, id_column)}: {noun} {spelled[row]} has an earlier row")
    return replace(given, ids=list(spelled))


def new_rows(
    model: TrainedModel,
    side: SideName,
    rows: pd.DataFrame,
    features: GivenFeatures | None,
    *,
    single_user: NamedUser | None = None,
) -> NewRows:
    """Collect the users or items to fold in: those with features or with ratings that count, and `single_user`.

    A rating counts if its other side has training ratings. A user with training ratings keeps them; a given rating
    replaces the one of the same item. An item with training ratings is not folded in.

    Args:
        model: the model to fold into.
        side: user or item.
        rows: ratings from `look_up`.
        features: features of this side, from `find_features`.
        single_user: a user to fold in with or without ratings.
    """
    record, tables, other = model.record, model.tables, other_side(side)
    ids, num_others = {"user": (tables.user_ids, record.num_items), "item": (tables.item_ids, record.num_users)}[side]
    rated = rows[is_trained(rows[f"{other}_index"].to_numpy(), num_others)]
    index_of = dict(zip(rated[side], rated[f"{side}_index"], strict=True))
    if features is not None and features.ids is not None:
        index_of |= dict(zip(features.ids, ids.index_of(features.ids), strict=True))
    if single_user is not None:
        index_of[single_user.id] = single_user.run_index
    if side == "item":
        index_of = {name: index for name, index in index_of.items() if not 0 <= index < record.num_items}
    index = np.array(list(index_of.values()), dtype=np.int32)
    found = pd.DataFrame(
        {"row": positions(index_of, rated[side]), "other": rated[f"{other}_index"], "rating": rated["rating"]}
    )
    if side == "user":
        old = tables.ratings_of(np.where(is_trained(index, record.num_users), index, UNKNOWN))
        old = old[old["part"] == 0].rename(columns={"user": "row", "item": "other"})
        found = pd.concat([found, old[list(found)]]).drop_duplicates(["row", "other"])  # the given ratings come first
    found = found[found["row"] >= 0].sort_values("row", kind="stable")
    kinds = {"row": np.int64, "other": np.int64, "rating": np.float64}
    row, other_index, rating = (torch.from_numpy(found[name].to_numpy(kind, copy=True)) for name, kind in kinds.items())
    ratings = NewRatings(row, other_index, rating, num_rows=len(index))
    new = NewRows(list(index_of), index, ratings, [], features)
    return new._replace(designs=_designs(model, side, new))


def positions(ids: Iterable[str], wanted: Iterable[str]) -> NDArray[np.intp]:
    """Find the position of each wanted id among distinct ids; −1 if missing."""
    return pd.Index(list(ids), dtype=object).get_indexer(pd.Index(list(wanted), dtype=object))


def _designs(model: TrainedModel, side: SideName, new: NewRows) -> list[Design]:
    """Build the design of each term of the side, for rows to fold in."""
    features = new.features
    if model.record.predicts_scores:  # its rows have no terms
        if features is not None and side == "user":
            check_features(features, [], noun=side)
        return []
    own, others = model.solvers[side].own, model.solvers[side].other
    if features is not None and not (side == "item" and "title" in features.cells):
        check_features(features, [term.feature for term in own.terms if term.feature], noun=side)
    designs = []
    for term in own.terms:
        if term.source is ColumnSource.rated:
            row, other, _, num_rows = new.ratings
            designs.append(Design.from_sets(row, other.int(), num_rows=num_rows, num_columns=others.num_owners))
        else:
            column = model.tables.feature(side, term.feature)
            trained = column[: own.num_owners]
            designs.append(Design.from_new_rows(_values_of(term.feature, column, trained, new), trained))
    return designs


def _values_of(name: str, column: Column, trained: Column, new: NewRows) -> Column:
    """Collect a feature of rows to fold in: the given value, else the run's, else unknown.

    Args:
        name: name of the feature.
        column: its values for all users or items of the run.
        trained: its values for users or items with training ratings.
        new: the rows.
    """
    features, unknown = new.features, np.full(1, np.nan if is_numeric(column) else "", dtype=column.dtype)
    values = np.concatenate([column, unknown])[new.run_index]  # UNKNOWN is the last entry
    if not is_numeric(column):  # categories without training rows have no weights
        names = set(categories(trained)[2])
        values = np.array(["|".join(filter(names.__contains__, categories_in(cell))) for cell in values], dtype=object)
    source = name if features is not None and name in features.cells else name.removesuffix("_group")
    if features is None or source not in features.cells:
        return values
    cells, place = features.cells[source], lambda row: features.place(row, source)
    given = new_values(cells, trained, place=place, decimal=features.decimal)
    row = np.zeros(len(new.ids), dtype=np.intp)
    if features.ids is not None:
        row = positions(features.ids, new.ids)
    is_given = (row >= 0) & ~is_unknown(given)[row]
    values[is_given] = given[row[is_given]]
    return values


def given_columns(old: pd.DataFrame, items: NewRows) -> pd.DataFrame:
    """Build rows of the table of items for folded-in items: title and features, given or from the run's table."""
    known = old.iloc[np.maximum(items.run_index, 0)].reset_index(drop=True)
    table = pd.DataFrame({"item_id": items.ids}, dtype=object)
    for name in old.columns[1:]:
        is_number = old[name].dtype.kind == "f"
        table[name] = known[name].where(items.run_index >= 0, np.nan if is_number else "")
        cells = pd.Series(items.cells(name.removeprefix(FEATURE_PREFIX)), dtype=object)
        if not is_number:
            table[name] = table[name].where(cells == "", cells)
    return table
