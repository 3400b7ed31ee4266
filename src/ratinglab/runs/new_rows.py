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
from ratinglab.models.design import Design
from ratinglab.models.equation import ColumnSource, SideName, other_side
from ratinglab.ratings.ids import UNKNOWN, WHOLE_NUMBER, IdMap
from ratinglab.ratings.side_information import Column, categories, categories_in, is_numeric, is_unknown, new_values
from ratinglab.recommend.fold_in_solver import NewRatings
from ratinglab.runs.new_ratings import Given, GivenFeatures, GivenRatings, check_features
from ratinglab.runs.storage import FEATURE_PREFIX
from ratinglab.runs.trained_model import TrainedModel, is_trained

NEW_USER = "new user"
"""Id of a new user whose ratings come without an id."""


class NewRows(NamedTuple):
    """Users or items to fold in.

    Attributes:
        ids: their ids, as text.
        run_index: (B,) int32, their indices in the run; UNKNOWN if the run lacks them.
        ratings: their ratings of items, or by users, with training ratings.
        designs: the design of each part of their side.
        features: their given features.
    """

    ids: list[str]
    run_index: NDArray[np.int32]
    ratings: NewRatings
    designs: list[Design]
    features: GivenFeatures | None

    def pairs(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the row of each rating and the index on the other side: (E,) each."""
        row, other = self.ratings.row.int().numpy(), self.ratings.other.int().numpy()
        return row, other

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


def find_user(run: TrainedModel, user_id: int | str | None) -> NamedUser:
    """Look up the user of ratings without a user column; None: a new user.

    Raises:
        UserError: the id is missing, or a number that is not whole.
    """
    if user_id is None:
        return NamedUser(NEW_USER, UNKNOWN)
    if np.ndim(user_id) > 0 or isinstance(user_id, bool):
        raise UserError(f"user_id must be one id, got {user_id!r}")
    index = run.user_ids.index_of([user_id])
    (name,) = _spelled([user_id], run.user_ids, index)
    return NamedUser(name, int(index[0]))


def look_up(run: TrainedModel, given: GivenRatings | None, one: NamedUser) -> pd.DataFrame:
    """Look up the users and the items of ratings in a run.

    Args:
        run: the run to look them up in.
        given: the ratings.
        one: the user of ratings without a user column.

    Returns:
        user and item, text as spelled in the run; user_index and item_index, UNKNOWN if the run lacks them; rating.
    """
    if given is None:
        given = GivenRatings(None, [], np.empty(0), str, str)
    _check_scale(run, given)
    item_index = run.find_items(given.items, place=given.place, may_be_new=given.user_ids is not None)
    rows = pd.DataFrame(
        {
            "user": one.id,
            "item": pd.Series(_spelled(given.items, run.item_ids, item_index), dtype=object),
            "user_index": one.run_index,
            "item_index": item_index,
            "rating": given.rating,
        }
    )
    if given.user_ids is not None:
        rows["user_index"] = run.user_ids.index_of(given.user_ids)
        rows["user"] = _spelled(given.user_ids, run.user_ids, rows["user_index"].to_numpy())
    _check_distinct(rows, given)
    return rows


def _check_scale(run: TrainedModel, given: GivenRatings) -> None:
    lowest, highest = run.rating_range
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


def new_users(run: TrainedModel, rows: pd.DataFrame, given: Given, one: NamedUser | None) -> NewRows:
    """Collect the users to fold in: those with ratings of trained items or with features, and `one`, if given.

    A user with training ratings keeps them; a given rating replaces the one of the same item.

    Args:
        run: the run to fold into.
        rows: ratings from `look_up`.
        given: features of users, from `find_features`.
        one: a user to fold in with or without ratings.
    """
    rated = rows[is_trained(rows["item_index"].to_numpy(), run.record.num_items)]
    index_of = dict(zip(rated["user"], rated["user_index"], strict=True))
    if given.users is not None and given.users.ids is not None:
        index_of |= dict(zip(given.users.ids, run.user_ids.index_of(given.users.ids), strict=True))
    if one is not None:
        index_of[one.id] = one.run_index
    ids, index = list(index_of), np.array(list(index_of.values()), dtype=np.int32)
    position = positions(ids, rated["user"])
    own = pd.DataFrame({"row": position, "other": rated["item_index"].to_numpy(), "rating": rated["rating"].to_numpy()})
    training = _training_rows(run, np.where(is_trained(index, run.record.num_users), index, UNKNOWN))
    ratings = pd.concat([own, training]).drop_duplicates(["row", "other"])  # the given ratings come first
    return _new_rows(run, "user", ids, index, ratings, given.users)


def new_items(run: TrainedModel, rows: pd.DataFrame, given: Given) -> NewRows:
    """Collect the items to fold in: items without training ratings that have features or ratings by trained users.

    Takes the arguments of `new_users`.
    """
    is_new = ~is_trained(rows["item_index"].to_numpy(), run.record.num_items)
    rated = rows[is_new & is_trained(rows["user_index"].to_numpy(), run.record.num_users)]
    index_of = dict(zip(rated["item"], rated["item_index"], strict=True))
    if given.items is not None and given.items.ids is not None:
        featured = dict(zip(given.items.ids, run.item_ids.index_of(given.items.ids), strict=True))
        index_of |= {name: index for name, index in featured.items() if not 0 <= index < run.record.num_items}
    ids, index = list(index_of), np.array(list(index_of.values()), dtype=np.int32)
    position = positions(ids, rated["item"])
    ratings = pd.DataFrame(
        {"row": position, "other": rated["user_index"].to_numpy(), "rating": rated["rating"].to_numpy()}
    )
    return _new_rows(run, "item", ids, index, ratings, given.items)


def positions(ids: Sequence[str], wanted: Iterable[str]) -> NDArray[np.intp]:
    """Find the position of each wanted id among distinct ids; −1 if missing."""
    return pd.Index(list(ids), dtype=object).get_indexer(pd.Index(list(wanted), dtype=object))


def _training_rows(run: TrainedModel, user: NDArray[np.int32]) -> pd.DataFrame:
    """Read the training ratings of users (B,), with the position of the user as `row`; UNKNOWN has no ratings."""
    if (user < 0).all():  # avoids loading the run's ratings
        none = np.empty(0, dtype=np.int64)
        return pd.DataFrame({"row": none, "other": none, "rating": none})
    number = np.full(run.record.num_users, -1)
    number[user[user >= 0]] = np.flatnonzero(user >= 0)
    rows = run.ratings[(run.ratings["part"] == 0) & np.isin(run.ratings["user"], user[user >= 0])]
    return pd.DataFrame({"row": number[rows["user"]], "other": rows["item"], "rating": rows["rating"]})


def _new_rows(
    run: TrainedModel,
    side: SideName,
    ids: list[str],
    index: NDArray[np.int32],
    ratings: pd.DataFrame,
    features: GivenFeatures | None,
) -> NewRows:
    """Sort ratings by row, and build the designs of the rows."""
    rows = ratings.sort_values("row", kind="stable")
    kinds = {"row": np.int64, "other": np.int64, "rating": np.float64}
    row, other, rating = (torch.from_numpy(rows[name].to_numpy(kind, copy=True)) for name, kind in kinds.items())
    new_ratings = NewRatings(row, other, rating, num_rows=len(ids))
    if run.record.predicts_scores:  # its rows have no parts
        if features is not None and side == "user":
            check_features(features, [], noun=side)
        return NewRows(ids, index, new_ratings, [], features)
    own, others = run.side_rows(side), run.side_rows(other_side(side))
    if features is not None and not (side == "item" and "title" in features.cells):
        check_features(features, [part.feature for part in own.parts if part.feature], noun=side)
    designs = []
    for part in own.parts:
        if part.source is ColumnSource.rated:
            designs.append(Design.from_sets(row, other.int(), num_rows=len(ids), num_columns=others.num_owners))
        else:
            column = run.feature(side, part.feature)
            trained = column[: own.num_owners]
            values = _values_of(part.feature, column, trained, ids, index, features)
            designs.append(Design.from_new_rows(values, trained))
    return NewRows(ids, index, new_ratings, designs, features)


def _values_of(
    name: str,
    column: Column,
    trained: Column,
    ids: list[str],
    index: NDArray[np.int32],
    features: GivenFeatures | None,
) -> Column:
    """Collect a feature of rows to fold in: the given value, else the run's, else unknown.

    Args:
        name: name of the feature.
        column: its values for all users or items of the run.
        trained: its values for users or items with training ratings.
        ids: (B,) ids of the rows.
        index: (B,) their indices in the run.
        features: the given features.
    """
    unknown = np.full(1, np.nan if is_numeric(column) else "", dtype=column.dtype)
    values = np.concatenate([column, unknown])[index]  # UNKNOWN is the last entry
    if not is_numeric(column):  # categories without training rows have no weights
        names = set(categories(trained)[2])
        values = np.array(["|".join(filter(names.__contains__, categories_in(cell))) for cell in values], dtype=object)
    source = name if features is not None and name in features.cells else name.removesuffix("_group")
    if features is None or source not in features.cells:
        return values
    cells, place = features.cells[source], lambda row: features.place(row, source)
    given = new_values(cells, trained, place=place, decimal=features.decimal)
    row = np.zeros(len(ids), dtype=np.intp)
    if features.ids is not None:
        row = positions(features.ids, ids)
    is_given = (row >= 0) & ~is_unknown(given)[row]
    values[is_given] = given[row[is_given]]
    return values


def given_columns(run: TrainedModel, items: NewRows) -> pd.DataFrame:
    """Build rows of the table of items for folded-in items: title and features, given or from the run."""
    known = run.items.iloc[np.maximum(items.run_index, 0)].reset_index(drop=True)
    table = pd.DataFrame({"item_id": items.ids}, dtype=object)
    for name in run.items.columns[1:]:
        is_number = run.items[name].dtype.kind == "f"
        table[name] = known[name].where(items.run_index >= 0, np.nan if is_number else "")
        cells = pd.Series(items.cells(name.removeprefix(FEATURE_PREFIX)), dtype=object)
        if not is_number:
            table[name] = table[name].where(cells == "", cells)
    return table
