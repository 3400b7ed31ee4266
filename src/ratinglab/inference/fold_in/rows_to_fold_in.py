"""Users or items to fold in, with their ratings and features by index."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.formats.text_options import SideName
from ratinglab.inference.fold_in.fold_in_solver import NewRows
from ratinglab.inference.fold_in.given_ratings import GivenFeatures, GivenUser, positions
from ratinglab.inference.run_tables import is_trained
from ratinglab.inference.trained_model import TrainedModel
from ratinglab.models.design import Design
from ratinglab.models.equation import ColumnSource, other_side
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.ratings.ids import UNKNOWN
from ratinglab.ratings.side_information import is_numeric


@dataclass(frozen=True)
class RowsToFoldIn:
    """Users or items to fold in.

    Attributes:
        ids: their ids, as text.
        run_index: (B,) int32, their indices in the run; UNKNOWN if the run lacks them.
        rows: their ratings of items, or by users, with training ratings; and their features.
        rating: (E,) float64, the ratings of `rows` in rating units.
        features: their given features.
    """

    ids: list[str]
    run_index: NDArray[np.int32]
    rows: NewRows
    rating: Tensor
    features: GivenFeatures | None

    def pairs(self) -> RatedPairs:
        """Return the row of each rating, as the user, and the index on the other side, as the item."""
        return RatedPairs(self.rows.row.int().numpy(), self.rows.other.int().numpy())


def rows_to_fold_in(
    model: TrainedModel,
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
    record, tables, other = model.record, model.tables, other_side(side)
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
        {"row": positions(names, rated[side]), "other": rated[f"{other}_index"], "rating": rated["rating"]}
    )
    if side == "user":
        old = tables.ratings_of(np.where(is_trained(run_index, record.num_users), run_index, UNKNOWN))
        old = old[old["part"] == 0].rename(columns={"user": "row", "item": "other"})
        # the given ratings come first
        entries = pd.concat([entries, old[list(entries)]]).drop_duplicates(["row", "other"])
    entries = entries[entries["row"] >= 0].sort_values("row", kind="stable")
    kinds = {"row": np.int64, "other": np.int64, "rating": np.float64}
    row, other_index, rating = (
        torch.from_numpy(entries[name].to_numpy(kind, copy=True)) for name, kind in kinds.items()
    )
    designs = _designs(model, side, names, run_index, features)
    rows = NewRows(row, other_index, record.stars.to_stars(rating), len(names), designs)
    return RowsToFoldIn(names, run_index, rows, rating, features)


def _designs(
    model: TrainedModel, side: SideName, ids: list[str], run_index: NDArray[np.int32], features: GivenFeatures | None
) -> list[Design]:
    """Build the designs of the features of rows to fold in: their given values, else the run's, else unknown."""
    if model.record.predicts_scores:  # its rows have no terms
        if features is not None and side == "user":
            features.check_used([], side=side)
        return []
    own = model.solvers[side].own
    names = [term.feature for term in own.terms if term.source is ColumnSource.feature]
    if features is not None and not (side == "item" and "title" in features.cells):
        features.check_used(names, side=side)
    designs = []
    for name in names:
        column = model.tables.feature(side, name)
        trained = column[: own.num_owners]
        values = np.append(column, np.nan if is_numeric(column) else "")[run_index]  # UNKNOWN is the last entry
        if features is not None:
            features.replace_values(values, name, ids, trained)
        designs.append(Design.from_new_rows(values, trained))
    return designs
