"""Users or items to fold in, with their ratings and features by index."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.inference.given_ratings import GivenFeatures, GivenUser, find_positions
from ratinglab.inference.run_tables import is_trained
from ratinglab.inference.trained_recommender import TrainedRecommender
from ratinglab.models.design import Design
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.ratings.ids import UNKNOWN
from ratinglab.ratings.side_information import is_numeric
from ratinglab.recommend.fold_in_solver import NewRows
from ratinglab.sides import SideName, other_side
from ratinglab.splits.split import TRAIN


@dataclass(frozen=True)
class RowsToFoldIn:
    """Users or items to fold in.

    Attributes:
        ids: their ids, as text.
        run_index: (B,) int32, their indices in the run; UNKNOWN if the run lacks them.
        new_rows: their ratings, of items or by users with training ratings, and their features.
        rating: (E,) float64, the ratings of `new_rows` in rating units.
        features: the features given by the caller.
    """

    ids: list[str]
    run_index: NDArray[np.int32]
    new_rows: NewRows
    rating: Tensor
    features: GivenFeatures | None

    def pairs(self) -> RatedPairs:
        """Return the row of each rating, as the user, and the index on the other side, as the item."""
        return RatedPairs(self.new_rows.row.int().numpy(), self.new_rows.other.int().numpy())


def collect_rows(
    run: TrainedRecommender,
    side: SideName,
    ratings: pd.DataFrame,
    features: GivenFeatures | None,
    *,
    single_user: GivenUser | None = None,
) -> RowsToFoldIn:
    """Collect the users or items to fold in: those with features or with ratings that count, and `single_user`.

    A rating from `look_up_ratings` counts if its other side has training ratings. A user with training ratings keeps
    them; a given rating replaces the one of the same item. An item with training ratings is not folded in.
    """
    record, tables, other = run.record, run.tables, other_side(side)
    ids, num_others = {"user": (tables.user_ids, record.num_items), "item": (tables.item_ids, record.num_users)}[side]
    rated = ratings[is_trained(ratings[f"{other}_index"].to_numpy(), num_others)]
    index_of = dict(zip(rated[side], rated[f"{side}_index"], strict=True))
    if features is not None:
        index_of |= dict(zip(features.ids, ids.index_of(features.ids), strict=True))
    if single_user is not None:
        index_of[single_user.id] = single_user.run_index
    if side == "item":
        index_of = {name: index for name, index in index_of.items() if not 0 <= index < record.num_items}
    names, run_index = list(index_of), np.array(list(index_of.values()), dtype=np.int32)
    entries = pd.DataFrame(
        {"row": find_positions(names, rated[side]), "other": rated[f"{other}_index"], "rating": rated["rating"]}
    )
    if side == "user":
        run_ratings = tables.ratings_of_users(np.where(is_trained(run_index, record.num_users), run_index, UNKNOWN))
        train = run_ratings[run_ratings["part"] == TRAIN].rename(columns={"user": "row", "item": "other"})
        # the given ratings come first, so that they replace training ratings
        entries = pd.concat([entries, train[list(entries)]]).drop_duplicates(["row", "other"])
    entries = entries[entries["row"] >= 0].sort_values("row", kind="stable")
    dtypes = {"row": np.int64, "other": np.int64, "rating": np.float64}
    row, other_index, rating = (
        torch.from_numpy(entries[name].to_numpy(dtype, copy=True)) for name, dtype in dtypes.items()
    )
    designs = _build_designs(run, side, names, run_index, features)
    new_rows = NewRows(row, other_index, record.stars.to_stars(rating), len(names), designs)
    return RowsToFoldIn(names, run_index, new_rows, rating, features)


def _build_designs(
    run: TrainedRecommender,
    side: SideName,
    ids: list[str],
    run_index: NDArray[np.int32],
    features: GivenFeatures | None,
) -> list[Design]:
    """Build the designs of the features of rows to fold in: their given values, else the run's, else unknown."""
    if run.record.predicts_scores:  # ranking models have no features
        if features is not None and side == "user":
            features.check_used([], side=side)
        return []
    trained_rows = run.solvers[side].trained_rows
    names = [term.feature for term in trained_rows.terms if term.feature]
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
