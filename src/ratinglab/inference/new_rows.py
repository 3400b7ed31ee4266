"""The users or items to fold in, with their ratings and features by index, and notes on what was left out."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.errors import UserError, format_count
from ratinglab.inference.fold_in_input import GivenData, GivenFeatures, find_positions
from ratinglab.inference.indexed_tables import is_trained
from ratinglab.models.design import Design
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.ratings.ids import UNKNOWN
from ratinglab.ratings.side_information import is_numeric
from ratinglab.recommend.fold_in_solver import Observations
from ratinglab.runs.record import RunRecord
from ratinglab.sides import SideName, other_side
from ratinglab.splits.split import TRAIN
from ratinglab.stars import is_liked

if TYPE_CHECKING:
    from ratinglab.inference.run import Run


@dataclass(frozen=True)
class NewRows:
    """The users, or the items, to fold in.

    Attributes:
        side: whether they are users or items.
        ids: (B,) their ids, as text.
        run_index: (B,) int32, their indices in the run, or UNKNOWN if not in the run.
        observations: their ratings of items (or by users) with training ratings, and their features.
        rating: (E,) float64, the ratings of `observations` in rating units.
        features: the features given by the caller, or None if there are none.
        num_replaced: number of training ratings that given ratings of the same items replace.
    """

    side: SideName
    ids: list[str]
    run_index: NDArray[np.int32]
    observations: Observations
    rating: Tensor
    features: GivenFeatures | None
    num_replaced: int

    def pairs(self) -> RatedPairs:
        """Return who rated what: the position in `ids` as the user, the index on the other side as the item."""
        return RatedPairs(self.observations.row.int().numpy(), self.observations.other.int().numpy())


def collect_users_and_items(run: "Run", given: GivenData) -> tuple[NewRows, NewRows]:
    """Collect the users and the items that have features or a usable rating, and the single user.

    A given rating is usable if its other side has training ratings. A user with training ratings keeps them, but
    a given rating replaces the training rating of the same item. An item with training ratings is not folded in.

    Raises:
        UserError: there are neither users nor items, or there are items but the model folds in only users.
    """
    users, items = _collect_rows(run, "user", given), _collect_rows(run, "item", given)
    if not users.ids and not items.ids:
        if (features := given.features["item"]) is not None:
            raise UserError(f"{features.key}: all of these items have training ratings; only new items are folded in")
        raise UserError("nothing to fold in: neither the users nor the items of these ratings have training ratings")
    if run.record.predicts_scores and items.ids:
        name = items.ids[0]
        raise UserError(f"items: {run.record.model} folds in users, not items, and {name} has no training ratings")
    return users, items


def _collect_rows(run: "Run", side: SideName, given: GivenData) -> NewRows:
    """Collect the users, or the items, to fold in."""
    features = given.features[side]
    num_others = run.record.num_items if side == "user" else run.record.num_users
    usable = given.ratings[is_trained(given.ratings[f"{other_side(side)}_index"].to_numpy(), num_others)]
    index_of = _find_ids(run, side, usable, given)
    ids, run_index = list(index_of), np.array(list(index_of.values()), dtype=np.int32)
    ratings, num_replaced = _collect_ratings(run, side, usable, ids, run_index)
    dtypes = {"row": np.int64, "other": np.int64, "rating": np.float64}
    row, other, rating = (torch.from_numpy(ratings[name].to_numpy(dtype, copy=True)) for name, dtype in dtypes.items())
    designs = _build_designs(run, side, ids, run_index, features)
    observations = Observations(row, other, run.record.stars.to_stars(rating), len(ids), designs)
    return NewRows(side, ids, run_index, observations, rating, features, num_replaced)


def _find_ids(run: "Run", side: SideName, usable: pd.DataFrame, given: GivenData) -> dict[str, int]:
    """Find the users or items to fold in: the index in the run of each id, UNKNOWN if not in the run."""
    features = given.features[side]
    index_of = dict(zip(usable[side], usable[f"{side}_index"], strict=True))
    if features is not None:
        run_ids = run.user_ids if side == "user" else run.item_ids
        index_of |= dict(zip(features.ids, run_ids.index_of(features.ids), strict=True))
    if side == "item":
        return {name: index for name, index in index_of.items() if not 0 <= index < run.record.num_items}
    if given.single_user is not None:
        index_of[given.single_user.id] = given.single_user.run_index
    return index_of


def _collect_ratings(
    run: "Run", side: SideName, usable: pd.DataFrame, ids: list[str], run_index: NDArray[np.int32]
) -> tuple[pd.DataFrame, int]:
    """Collect the usable given ratings and, of users, the training ratings.

    Returns row (position in `ids`), other (index on the other side) and rating, sorted by row. Also returns the number
    of training ratings that given ratings replace.
    """
    ratings = pd.DataFrame(
        {
            "row": find_positions(ids, usable[side]),
            "other": usable[f"{other_side(side)}_index"],
            "rating": usable["rating"],
        }
    )
    if side == "user":
        is_known = is_trained(run_index, run.record.num_users)
        run_ratings = run.tables.ratings_of_users(np.where(is_known, run_index, UNKNOWN))
        train = run_ratings[run_ratings["part"] == TRAIN].rename(columns={"user": "row", "item": "other"})
        ratings = pd.concat([ratings, train[list(ratings)]])
    ratings = ratings[ratings["row"] >= 0].sort_values("row", kind="stable")
    is_replaced = ratings.duplicated(["row", "other"]).to_numpy()  # the given ratings come first
    return ratings[~is_replaced], int(is_replaced.sum())


def _build_designs(
    run: "Run",
    side: SideName,
    ids: list[str],
    run_index: NDArray[np.int32],
    features: GivenFeatures | None,
) -> list[Design]:
    """Build the design of each feature. A value that is not given is the run's, or unknown if the run has none."""
    if run.record.predicts_scores:  # ranking models have no features
        if features is not None and side == "user":
            features.check_used([], side=side)
        return []
    trained_rows = run.solvers[side].trained_rows
    names = tuple(term.feature for term in trained_rows.new_row_terms if term.feature is not None)
    if features is not None and not (side == "item" and "title" in features.cells):
        features.check_used(names, side=side)
    designs = []
    for name, column in run.tables.read_features(side, names).items():
        trained = column[: trained_rows.num_owners]
        values = np.append(column, np.nan if is_numeric(column) else "")[run_index]  # UNKNOWN is the last entry
        if features is not None:
            features.replace_values(values, name, ids, trained)
        designs.append(Design.encode(values, like=trained))
    return designs


def notes_on_fold_in(record: RunRecord, ratings: pd.DataFrame, users: NewRows, items: NewRows) -> Iterator[str]:
    """Describe the folded-in items, and the ratings and users that were replaced or left out.

    `ratings` are all given ratings, as in `GivenData`.
    """
    if items.ids:
        yield f"folded in {_count_with_example(items.ids, 'new item')}"
    known_items = [] if items.features is None else sorted(set(items.features.ids) - set(items.ids))
    if known_items:
        yield f"skipped {_count_with_example(known_items, 'item')}: items with training ratings keep their weights"
    if users.num_replaced > 0:
        yield f"the given ratings replace {format_count(users.num_replaced, 'training rating')} of the same items"
    is_user_trained = is_trained(ratings["user_index"].to_numpy(), record.num_users)
    is_item_trained = is_trained(ratings["item_index"].to_numpy(), record.num_items)
    left_out = ratings[~is_user_trained & ~is_item_trained]
    if len(left_out) > 0:
        rating = _count_with_example(left_out["item"].tolist(), "rating", example="that of item ")
        yield f"skipped {rating}: neither the item nor the user has training ratings"
    users_left_out = sorted(set(left_out["user"]) - set(users.ids))
    if users_left_out:
        yield f"skipped {_count_with_example(users_left_out, 'user')}: they have rated no item with training ratings"
    if record.predicts_scores:
        yield from notes_on_likes(record, ratings, users)


def notes_on_likes(record: RunRecord, ratings: pd.DataFrame, users: NewRows) -> Iterator[str]:
    """Describe the users who have neither training rows nor a rating that counts as a like, for a ranking model."""
    min_stars = record.model_options["min_stars"]
    if min_stars is None:
        return
    is_like = is_liked(record.stars.to_stars(ratings["rating"].to_numpy()), min_stars)
    is_like &= is_trained(ratings["item_index"].to_numpy(), record.num_items)
    users_with_likes = set(ratings["user"][is_like])
    is_known = is_trained(users.run_index, record.num_users)
    without_likes = [user for user in itertools.compress(users.ids, ~is_known) if user not in users_with_likes]
    if without_likes:
        lowest = record.stars.to_rating(min_stars)
        yield (
            f"{_count_with_example(without_likes, 'user')}, gave no rating of at least {lowest:g} (model.min_stars): "
            "the most popular items are listed, with scores of 0"
        )


def _count_with_example(names: Sequence[str], noun: str, *, example: str = "") -> str:
    """Count things, and name the first: `1 user, ann` or `3 users, such as ann`."""
    first = f"{example}{names[0]}"
    return f"{format_count(len(names), noun)},{'' if len(names) == 1 else ' such as'} {first}"
