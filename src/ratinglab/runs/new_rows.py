"""Ratings and features of new users and items, looked up in a run: the rows to solve for."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.models.design import Design
from ratinglab.models.equation import Source
from ratinglab.ratings.side_information import Column, is_numeric, new_values
from ratinglab.recommend.fold_in import NewRatings
from ratinglab.runs.new_ratings import GivenFeatures, GivenRatings, check_features
from ratinglab.runs.trained_model import TrainedModel

NEW_USER = "new user"
"""Id of a new user whose ratings are given without one."""


class NewRows(NamedTuple):
    """Users or items to fold in.

    Attributes:
        ids: their ids, as text.
        known: (B,) int32, the index of each in the run; −1 if it has no training ratings.
        ratings: their ratings of items, or by users, with training ratings.
        designs: the design of each part of their side.
        titles: their titles, "" if unknown; for items.
    """

    ids: list[str]
    known: NDArray[np.int32]
    ratings: NewRatings
    designs: list[Design]
    titles: list[str]

    def single_row(self, number: int) -> tuple[NewRatings, list[Design]]:
        """Return the ratings and designs of one row."""
        is_own = self.ratings.row == number
        other, rating = self.ratings.other[is_own], self.ratings.rating[is_own]
        ratings = NewRatings(torch.zeros_like(other), other, rating, num_rows=1)
        return ratings, [design.single_row(number) for design in self.designs]


def check_ratings(run: TrainedModel, given: GivenRatings) -> None:
    """Raise UserError if a rating lies outside the scale of the run's ratings."""
    lowest, highest = run.rating_range
    wrong = (given.rating < lowest) | (given.rating > highest)
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(
            f"{given.place(row)}: the rating of {str(given.items[row])!r} must be from {lowest:g} to {highest:g}, got "
            f"{given.rating[row]:g}"
        )


def new_users(
    run: TrainedModel,
    given: GivenRatings,
    item: NDArray[np.int32],
    features: GivenFeatures | None,
    *,
    user_id: str | None,
) -> NewRows:
    """Collect the users to fold in: those with ratings of trained items, and new ones with features.

    A known user keeps the training ratings; a given rating replaces the one of the same item.

    Args:
        run: the run.
        given: the ratings.
        item: (E,) index of each item.
        features: features of new users.
        user_id: id of the user of ratings without users; None: a new user.

    Raises:
        UserError: a user has rated an item twice, or a feature is unknown.
    """
    is_one = given.user_ids is None and (features is None or features.ids is None)
    labels = [user_id or NEW_USER] * len(item) if given.user_ids is None else list(given.user_ids)
    featured = [] if features is None else (features.ids or [user_id or NEW_USER])
    names = list(dict.fromkeys([*labels, *featured, *([user_id or NEW_USER] if is_one else [])]))
    known = _known(run.user_ids.index_of(names), count=run.record.num_users)
    if is_one and user_id is None:
        known[:] = -1
    row = pd.Index(names).get_indexer(pd.Index(labels)).astype(np.int32)
    is_rated = _known(item, count=run.record.num_items) >= 0
    rows = pd.DataFrame({"row": row[is_rated], "other": item[is_rated], "rating": given.rating[is_rated]})
    if (twice := rows.duplicated(["row", "other"])).any():
        place = int(np.flatnonzero(is_rated)[int(twice.argmax())])
        raise UserError(f"{given.place(place)}: {str(given.items[place])!r} is rated twice by the same user")
    is_folded = np.bincount(rows["row"], minlength=len(names)) > 0
    is_folded |= (known < 0) & np.isin(names, featured) | is_one
    rows = pd.concat([rows, _training_rows(run, np.where(is_folded, known, -1))])
    rows = rows.drop_duplicates(["row", "other"])  # the given ratings come first
    return _new_rows(run, "user", [*np.array(names)[is_folded]], known[is_folded], rows, is_folded, features)


def new_items(
    run: TrainedModel,
    given: GivenRatings,
    item: NDArray[np.int32],
    features: GivenFeatures | None,
    *,
    user_id: str | None,
) -> NewRows:
    """Collect the items to fold in: those rated by users with training ratings, and those with features.

    Takes the arguments of `new_users`, with the features of new items.
    """
    labels = [user_id or NEW_USER] * len(item) if given.user_ids is None else given.user_ids
    rater = _known(run.user_ids.index_of(labels), count=run.record.num_users)
    if given.user_ids is None and user_id is None:
        rater[:] = -1
    is_rated = (_known(item, count=run.record.num_items) < 0) & (rater >= 0)
    rated = [str(given.items[row]) for row in np.flatnonzero(is_rated).tolist()]
    featured = [] if features is None or features.ids is None else list(features.ids)
    names = list(dict.fromkeys([*rated, *(name for name in featured if not run.trained_items([name])[0])]))
    row = pd.Index(names, dtype=object).get_indexer(pd.Index(rated, dtype=object))
    rows = pd.DataFrame({"row": row, "other": rater[is_rated], "rating": given.rating[is_rated]})
    known, all_folded = np.full(len(names), -1, dtype=np.int32), np.ones(len(names), dtype=np.bool_)
    return _new_rows(run, "item", names, known, rows, all_folded, features)


def _known(index: NDArray[np.int32], *, count: int) -> NDArray[np.int32]:
    """Replace indices of users or items without training ratings by −1."""
    return np.where(index < count, index, np.int32(-1))


def _training_rows(run: TrainedModel, user: NDArray[np.int32]) -> pd.DataFrame:
    """Read the training ratings of users, (B,), −1 for none, with their position in the argument as `row`."""
    if (user < 0).all():  # the run's ratings, which may be many, are not needed
        none = np.empty(0, dtype=np.int64)
        return pd.DataFrame({"row": none, "other": none, "rating": none})
    number = np.full(run.record.num_users, -1)
    number[user[user >= 0]] = np.flatnonzero(user >= 0)
    rows = run.ratings[(run.ratings["part"] == 0) & np.isin(run.ratings["user"], user[user >= 0])]
    return pd.DataFrame({"row": number[rows["user"]], "other": rows["item"], "rating": rows["rating"]})


def _new_rows(
    run: TrainedModel,
    side: str,
    names: Sequence[str],
    known: NDArray[np.int32],
    rows: pd.DataFrame,
    is_folded: NDArray[np.bool_],
    features: GivenFeatures | None,
) -> NewRows:
    """Sort ratings by row, number the rows that are folded in, and make their designs."""
    number = np.cumsum(is_folded) - 1
    rows = rows[is_folded[rows["row"]]].assign(row=lambda kept: number[kept["row"]]).sort_values("row", kind="stable")
    kinds = {"row": np.int64, "other": np.int64, "rating": np.float64}
    row, other, rating = (torch.from_numpy(rows[name].to_numpy(kind, copy=True)) for name, kind in kinds.items())
    ratings = NewRatings(row, other, rating, num_rows=len(names))
    own, others = run.side_rows(side), run.side_rows("item" if side == "user" else "user")
    if features is not None:
        check_features(features, [part.feature for part in own.parts if part.feature], key=f"{side}_features")
    designs = []
    for part in own.parts:
        if part.source is Source.rated:
            designs.append(Design.of_sets(row, other.int(), num_rows=len(names), num_columns=others.num_owners))
        else:
            column = run.feature(side, part.feature)[: own.num_owners]
            values = _values_of(part.feature, column, names, known, features)
            designs.append(Design.of_new_rows(values, column))
    titles = [""] * len(names)
    if features is not None and "title" in features.cells:
        given = dict(zip(features.ids or (), features.cells["title"], strict=True))
        titles = [given.get(name, "") for name in names]
    return NewRows(list(names), known, ratings, designs, titles)


def _values_of(
    name: str, trained: Column, ids: Sequence[str], known: NDArray[np.int32], features: GivenFeatures | None
) -> Column:
    """Collect a feature of rows to fold in: those given, else that of a known row, else unknown."""
    values: Column = np.full(len(ids), np.nan if is_numeric(trained) else "", dtype=trained.dtype)  # type: ignore[assignment]
    values[known >= 0] = trained[known[known >= 0]]
    source = name if features is not None and name in features.cells else name.removesuffix("_group")
    if features is None or source not in features.cells:
        return values
    given = new_values(features.cells[source], trained, place=lambda row: features.place(row, source))
    if features.ids is None:
        return given
    row = pd.Index(features.ids).get_indexer(pd.Index(ids))
    values[row >= 0] = given[row[row >= 0]]
    return values
