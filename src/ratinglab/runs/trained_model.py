"""The model of a run in use: predictions by ids."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.batches import Blocks
from ratinglab.errors import UserError
from ratinglab.models.equation import SideName, SideRows, other_side
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.item_names import ItemNames
from ratinglab.ratings.side_information import Column
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.fold_in_solver import FoldInSolver
from ratinglab.runs.record import RunRecord
from ratinglab.runs.storage import (
    PARTS,
    count_ratings,
    count_rows,
    count_training_ratings,
    read_features,
    read_parquet,
    read_part,
)

Ids = Sequence[int | str] | NDArray[np.generic] | pd.Series
"""Ids of users or items, as in the data; 42 and "42" are the same."""
Times = NDArray[np.datetime64] | pd.DatetimeIndex | pd.Series | Sequence[datetime]
"""Times of ratings, in any unit; those without a time zone are in UTC."""
MANY_RATINGS = 200_000_000
"""Maximum number of ratings loaded into memory: about 10 GB."""
BASES = ("known", "user_unknown", "item_unknown", "both_unknown")
"""Values of `basis`: the equation predicts known pairs, the bias baseline all others."""


@dataclass(eq=False, repr=False)
class TrainedModel:
    """The model of a run, with the ids and ratings in its folder.

    Attributes:
        folder: the run's folder.
        record: contents of run.json.
        predictor: the predictor with the best weights, in evaluation mode, on the CPU.
    """

    folder: Path
    record: RunRecord
    predictor: Predictor
    _fold_in_solvers: dict[SideName, FoldInSolver] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def user_ids(self) -> IdMap:
        """The id of each user index."""
        return IdMap(read_parquet(self.folder / "users.parquet")["user_id"].to_numpy())

    @cached_property
    def items(self) -> pd.DataFrame:
        """The table of items by index: item_id, title if the data had titles, and features."""
        return read_parquet(self.folder / "items.parquet")

    @cached_property
    def item_ids(self) -> IdMap:
        """The id of each item index."""
        return IdMap(self.items["item_id"].to_numpy())

    @cached_property
    def titles(self) -> NDArray[np.object_] | None:
        """The title of each item index; None if the data had no titles."""
        return self.items["title"].to_numpy(dtype=object) if "title" in self.items else None

    @cached_property
    def _item_names(self) -> ItemNames:
        return ItemNames(self.item_ids, self.titles)

    def find_items(
        self, names: Sequence[int | str], *, place: Callable[[int], str], may_be_new: bool = False
    ) -> NDArray[np.int32]:
        """Find the index of each item by its id or title, as `ItemNames.find` does.

        Args:
            names: (B,) ids or titles; the case, the place of the article and the year may differ from the title's.
            place: returns the place of a name for messages.
            may_be_new: whether unknown names are new ids.

        Returns:
            (B,) int32, UNKNOWN for a new id. An item may lack training ratings.

        Raises:
            UserError: a name is missing, no item has it (unless it may be new), or several have it as their title.
        """
        return self._item_names.find(names, place=place, may_be_new=may_be_new)

    def name_of(self, item: int) -> str:
        """Return the title and the id of an item index, such as `Toy Story (1995) (id 1)`; `id 1` without a title."""
        return self._item_names.name_of(item)

    @cached_property
    def ratings(self) -> pd.DataFrame:
        """The ratings of all parts: user, item, rating and part, and the day if the equation takes days."""
        return read_parquet(self.folder / "ratings.parquet")

    @cached_property
    def num_ratings(self) -> int:
        """Number of ratings of all parts."""
        return count_ratings(self.folder)

    def rated_by(self, user: int) -> pd.DataFrame:
        """Return the ratings of one user index, like `ratings`. Reads only these if the run has very many ratings."""
        if "ratings" not in vars(self) and self.num_ratings > MANY_RATINGS:
            return read_parquet(self.folder / "ratings.parquet", filters=[("user", "==", user)])
        return self.ratings[self.ratings["user"] == user]

    def check_fits_memory(self, *, what: str, instead: str) -> None:
        """Raise UserError if the run has too many ratings to load into memory."""
        if "ratings" not in vars(self) and self.num_ratings > MANY_RATINGS:
            raise UserError(f"{what} needs all {self.num_ratings:,} ratings of the run in memory: {instead}")

    @cached_property
    def train_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of training ratings of each user index, and of each item index."""
        return count_training_ratings(self.folder, num_users=len(self.user_ids), num_items=len(self.item_ids))

    @cached_property
    def rating_range(self) -> tuple[float, float]:
        """The lowest and the highest rating."""
        if self.record.scale is not None:
            return self.record.scale
        return float(self.ratings["rating"].min()), float(self.ratings["rating"].max())

    def feature(self, side: SideName, name: str) -> Column:
        """Read a feature of all users or items by index. The equation must use it."""
        return read_features(self.folder / f"{side}s.parquet", (name,))[name]

    def side_rows(self, side: SideName) -> SideRows:
        """Return the weights of a side, with the noise precision of a rating, in stars.

        Without samples, the noise is constant: the MSE of the validation rows or, if there are none, training rows.

        Raises:
            UserError: the model has no factors.
        """
        rows = self.predictor.model.side_rows(side)
        if rows is None:
            raise UserError(f"model={self.record.model} cannot fold in or explain ratings: it has no factors")
        if rows.precision is not None:
            return rows
        precision = self.record.stars.unit**2 / self._noise_variance if side == "user" else 1.0
        return rows._replace(precision=[torch.full((rows.num_owners,), precision)])

    @cached_property
    def _noise_variance(self) -> float:
        """MSE of validation rows or, if there are none, training rows, in squared rating units."""
        part = "val" if count_rows(self.folder)[PARTS.index("val")] > 0 else "train"
        rows = self.part(part)
        return float((predict_by_block(self.predictor, rows) - torch.from_numpy(rows.rating)).double().square().mean())

    def fold_in_solver(self, side: SideName) -> FoldInSolver:
        """Return the solver for new rows of a side."""
        if side not in self._fold_in_solvers:
            own, other = self.side_rows(side), self.side_rows(other_side(side))
            self._fold_in_solvers[side] = FoldInSolver(own, other, is_item=side == "item")
        return self._fold_in_solvers[side]

    def part(self, name: str) -> Ratings:
        """Read the run's rows of a part: train, val or test."""
        days = ["day"] if self.predictor.model.takes_day else []
        return Ratings(*read_part(self.folder, name, ["user", "item", "rating", *days]))

    def check_predicts_ratings(self) -> None:
        """Raise UserError for a model that predicts scores."""
        if self.record.predicts_scores:
            raise UserError(f"run: {self.record.model} predicts scores to order lists by, not ratings")

    def predict(self, user_ids: Ids, item_ids: Ids, *, times: Times | None = None) -> NDArray[np.float32]:
        """Predict the rating of each pair of a user and an item.

        Users and items without training ratings get the bias baseline's prediction: μ + b_i for an unknown user,
        μ + b_u for an unknown item, μ for both.

        Args:
            user_ids: (B,) ids as in the data; 42 and "42" are the same.
            item_ids: (B,) ids as in the data.
            times: (B,) dates with times, for a model that takes days; None: each user's last day with training rows.

        Returns:
            (B,) float32, clipped to the rating scale unless the run was trained with clip_predictions=false.

        Raises:
            UserError: the numbers of users, items and times differ, a time is NaT, or the model takes no times or
                predicts scores.
        """
        return predict_by_block(self.predictor, self._pairs(user_ids, item_ids, times)).numpy()

    def predict_table(self, user_ids: Ids, item_ids: Ids, *, times: Times | None = None) -> pd.DataFrame:
        """Predict like `predict`, with the basis of each prediction.

        Returns:
            prediction (float32); standard_deviation (float32, as from `deviation`) for a run of optimizer=gibbs; basis:
            known, or user_unknown, item_unknown or both_unknown if these have no training ratings.

        Raises:
            UserError: as in `predict`.
        """
        pairs = self._pairs(user_ids, item_ids, times)
        columns = {"prediction": predict_by_block(self.predictor, pairs).numpy()}
        if self.record.is_sampled:
            columns["standard_deviation"] = predict_by_block(self.predictor.deviation, pairs).numpy()
        code = 1 * ~is_trained(pairs.user, self.record.num_users) + 2 * ~is_trained(pairs.item, self.record.num_items)
        return pd.DataFrame(columns | {"basis": pd.Categorical.from_codes(code, pd.Index(BASES))})

    def deviation(self, user_ids: Ids, item_ids: Ids, *, times: Times | None = None) -> NDArray[np.float32]:
        """Compute the standard deviation of each pair's rating around its prediction, for a run of optimizer=gibbs.

        Takes the arguments of `predict`. A day without training rows counts as the user's nearest day with some, and
        the deviation excludes the user's drift since.

        Returns:
            (B,) float32, in rating units; NaN for a user or item without training ratings.

        Raises:
            UserError: as in `predict`, or the run has no samples.
        """
        if not self.record.is_sampled:
            raise UserError(f"{self.folder} has no samples, so no standard deviation")
        return predict_by_block(self.predictor.deviation, self._pairs(user_ids, item_ids, times)).numpy()

    def _pairs(self, user_ids: Ids, item_ids: Ids, times: Times | None) -> Ratings:
        self.check_predicts_ratings()
        if len(user_ids) != len(item_ids):
            raise UserError(f"predict needs as many users as items, got {len(user_ids)} and {len(item_ids)}")
        if times is not None:
            if not self.predictor.model.takes_day:
                raise UserError(f"{self.record.model} takes no times: it predicts the same on all days")
            if len(times) != len(user_ids):
                raise UserError(f"predict needs as many times as users, got {len(times)} and {len(user_ids)}")
            times = _in_utc(times)
            if np.isnat(times).any():
                raise UserError(f"times: entry {int(np.isnat(times).argmax())} is NaT")
        return Ratings(
            day=None if times is None else times.astype("datetime64[D]").astype(np.int32),
            user=self.user_ids.index_of(user_ids),
            item=self.item_ids.index_of(item_ids),
            rating=np.zeros(len(user_ids), dtype=np.float32),
        )

    def trained_users(self, user_ids: Ids) -> NDArray[np.bool_]:
        """Return whether each user has training ratings: (B,) bool."""
        return is_trained(self.user_ids.index_of(user_ids), self.record.num_users)

    def trained_items(self, item_ids: Ids) -> NDArray[np.bool_]:
        """Return whether each item has training ratings: (B,) bool."""
        return is_trained(self.item_ids.index_of(item_ids), self.record.num_items)

    def has_user(self, user_id: int | str) -> bool:
        """Return whether a user has training ratings."""
        return bool(self.trained_users([user_id])[0])

    def check_users(self, user_ids: Ids, *, place: Callable[[int], str]) -> None:
        """Raise UserError if a user has no training ratings; `place` returns the place of a row for the message."""
        is_trained = self.trained_users(user_ids)
        if not is_trained.all():
            row = int(np.argmin(is_trained))
            nearest = self.user_ids.did_you_mean(user_ids[row], among=self.record.num_users)
            raise UserError(
                f"{place(row)}: no user {str(user_ids[row])!r} has training ratings (unknown=error){nearest}"
            )


def _in_utc(times: Times) -> NDArray[np.datetime64]:
    """Convert times to datetime64 in UTC; those without a time zone are in UTC."""
    given = pd.Index(times)
    if given.inferred_type not in ("datetime64", "datetime", "date", "empty"):
        raise UserError(f"times must be dates with times, such as datetime64, got {given.inferred_type} values")
    return pd.DatetimeIndex(pd.to_datetime(given, utc=True)).tz_localize(None).to_numpy()


def is_trained(index: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """Return whether each user or item index has training ratings: `count` is the number of those that have."""
    return (index >= 0) & (index < count)


def predict_by_block(predict: Callable[[Tensor, Tensor, Tensor | None], Tensor], rows: Ratings) -> Tensor:
    """Predict rows in blocks, with bounded memory: (N,) float32."""
    with torch.inference_mode():
        return torch.cat([torch.empty(0), *(predict(user, item, day) for user, item, _, day in Blocks(rows))])
