"""Users or items to fold in, with their ratings and features by index."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.inference.given_data import GivenData, GivenFeatures
from ratinglab.inference.given_ratings import find_positions
from ratinglab.inference.recommender_tables import is_trained
from ratinglab.inference.trained_run import TrainedRun
from ratinglab.models.design import Design
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.ratings.ids import UNKNOWN
from ratinglab.ratings.side_information import is_numeric
from ratinglab.recommend.fold_in_solver import Observations
from ratinglab.sides import SideName, other_side
from ratinglab.splits.split import TRAIN


@dataclass(frozen=True)
class UsersOrItems:
    """The users, or the items, to fold in.

    Attributes:
        ids: (B,) their ids, as text.
        run_index: (B,) int32, their indices in the run; UNKNOWN if the run lacks them.
        observations: their ratings of items (or by users) with training ratings, and their features.
        rating: (E,) float64, the ratings of `observations` in rating units.
        features: the features given by the caller; None if there are none.
    """

    ids: list[str]
    run_index: NDArray[np.int32]
    observations: Observations
    rating: Tensor
    features: GivenFeatures | None

    def pairs(self) -> RatedPairs:
        """Return who rated what: the position in `ids` as the user, the index on the other side as the item."""
        return RatedPairs(self.observations.row.int().numpy(), self.observations.other.int().numpy())


def collect(run: TrainedRun, side: SideName, given: GivenData) -> UsersOrItems:
    """Collect the users or items to fold in: those with features or with a usable rating, and the single user.

    A given rating is usable if its other side has training ratings. A user with training ratings keeps them, but
    a given rating replaces the training rating of the same item. An item with training ratings is not folded in.
    """
    record, features = run.record, given.features[side]
    index_of = _find_ids(run, side, given)
    ids, run_index = list(index_of), np.array(list(index_of.values()), dtype=np.int32)
    ratings = _collect_ratings(run, side, given.ratings, ids, run_index)
    dtypes = {"row": np.int64, "other": np.int64, "rating": np.float64}
    row, other, rating = (torch.from_numpy(ratings[name].to_numpy(dtype, copy=True)) for name, dtype in dtypes.items())
    designs = _build_designs(run, side, ids, run_index, features)
    observations = Observations(row, other, record.stars.to_stars(rating), len(ids), designs)
    return UsersOrItems(ids, run_index, observations, rating, features)


def _select_usable(run: TrainedRun, side: SideName, ratings: pd.DataFrame) -> pd.DataFrame:
    """Select the given ratings whose other side has training ratings."""
    num_others = run.record.num_items if side == "user" else run.record.num_users
    return ratings[is_trained(ratings[f"{other_side(side)}_index"].to_numpy(), num_others)]


def _find_ids(run: TrainedRun, side: SideName, given: GivenData) -> dict[str, int]:
    """Find the users or items to fold in: the index in the run of each id, UNKNOWN if the run lacks it."""
    run_ids = run.tables.user_ids if side == "user" else run.tables.item_ids
    rated, features = _select_usable(run, side, given.ratings), given.features[side]
    index_of = dict(zip(rated[side], rated[f"{side}_index"], strict=True))
    if features is not None:
        index_of |= dict(zip(features.ids, run_ids.index_of(features.ids), strict=True))
    if side == "item":
        return {name: index for name, index in index_of.items() if not 0 <= index < run.record.num_items}
    if given.single_user is not None:
        index_of[given.single_user.id] = given.single_user.run_index
    return index_of


def _collect_ratings(
    run: TrainedRun, side: SideName, given: pd.DataFrame, ids: list[str], run_index: NDArray[np.int32]
) -> pd.DataFrame:
    """Collect the usable given ratings and, of users, the training ratings.

    Returns row (position in `ids`), other (index on the other side) and rating, sorted by row.
    """
    rated = _select_usable(run, side, given)
    ratings = pd.DataFrame(
        {
            "row": find_positions(ids, rated[side]),
            "other": rated[f"{other_side(side)}_index"],
            "rating": rated["rating"],
        }
    )
    if side == "user":
        is_known = is_trained(run_index, run.record.num_users)
        run_ratings = run.tables.ratings_of_users(np.where(is_known, run_index, UNKNOWN))
        train = run_ratings[run_ratings["part"] == TRAIN].rename(columns={"user": "row", "item": "other"})
        # the given ratings come first, so that they replace training ratings
        ratings = pd.concat([ratings, train[list(ratings)]]).drop_duplicates(["row", "other"])
    return ratings[ratings["row"] >= 0].sort_values("row", kind="stable")


def _build_designs(
    run: TrainedRun,
    side: SideName,
    ids: list[str],
    run_index: NDArray[np.int32],
    features: GivenFeatures | None,
) -> list[Design]:
    """Build the design of each feature. A value that is not given is the run's, or unknown if the run lacks it."""
    if run.record.predicts_scores:  # ranking models have no features
        if features is not None and side == "user":
            features.check_used([], side=side)
        return []
    trained_rows = run.solvers[side].trained_rows
    names = [term.feature for term in trained_rows.new_row_terms if term.feature]
    if features is not None and not (side == "item" and "title" in features.cells):
        features.check_used(names, side=side)
    designs = []
    for name in names:
        column = run.tables.read_feature(side, name)
        trained = column[: trained_rows.num_owners]
        values = np.append(column, np.nan if is_numeric(column) else "")[run_index]  # UNKNOWN is the last entry
        if features is not None:
            features.replace_values(values, name, ids, trained)
        designs.append(Design.from_new_rows(values, trained))
    return designs
