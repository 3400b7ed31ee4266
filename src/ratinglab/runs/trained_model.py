"""The model of a run in use: predict and recommend by ids."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.batches import Blocks
from ratinglab.errors import UserError, did_you_mean
from ratinglab.evaluation.ranking import OrderBy, liked_from
from ratinglab.models.equation import SideRows
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.ids import UNKNOWN, IdMap
from ratinglab.ratings.item_names import ItemNames
from ratinglab.ratings.side_information import Column, categories_in
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.fold_in import FoldInSolver
from ratinglab.recommend.interest import Interest, RatedPairs, fit_interest
from ratinglab.recommend.orders import ExpectedGain, LowerBound, Order, levels_of
from ratinglab.recommend.topk import SeenItems, by_popularity, top_k, top_k_of_users
from ratinglab.runs.record import RunRecord
from ratinglab.runs.storage import (
    FEATURE_PREFIX,
    PARTS,
    count_rows,
    read_features,
    read_interest,
    read_parquet,
    read_part,
    write_interest,
)

Ids = Sequence[int | str] | NDArray[np.generic] | pd.Series
"""Ids of users or items, as in the data; 42 and "42" are the same."""
Times = NDArray[np.datetime64] | pd.DatetimeIndex | pd.Series | Sequence[datetime]
"""Times of ratings, in any unit; those without a time zone are in UTC."""
BASES = ("known", "user_unknown", "item_unknown", "both_unknown")
"""Bases of predictions: the equation predicts known pairs, the bias baseline all others."""


@dataclass(eq=False, repr=False)
class TrainedModel:
    """The model of a run, with the ids and the ratings that its folder holds.

    Attributes:
        folder: the run's folder.
        record: contents of run.json.
        predictor: the predictor with the best weights, in evaluation mode, on the CPU.
    """

    folder: Path
    record: RunRecord
    predictor: Predictor
    _fold_in_solvers: dict[str, FoldInSolver] = field(default_factory=dict, init=False, repr=False)
    extension: "Extension | None" = field(default=None, init=False, repr=False)
    """The users or items that were folded in; None for a run's own model."""

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
            place: the place of a name in messages.
            may_be_new: whether a name that no item has is a new id.

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
    def train_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of training ratings of each user index, and of each item index."""
        user, item = read_part(self.folder, "train", ["user", "item"])
        return np.bincount(user, minlength=len(self.user_ids)), np.bincount(item, minlength=len(self.item_ids))

    @cached_property
    def items_by_popularity(self) -> NDArray[np.int32]:
        """The items with training ratings, most rated first, then those folded in: the order of candidates."""
        return by_popularity(self.train_counts[1][: self.record.num_items])

    @cached_property
    def interest(self) -> Interest:
        """Who would rate what, read from the folder, or fitted to the training ratings and kept there."""
        if self.extension is not None:
            return self.extension.interest()
        sizes = {"num_users": self.record.num_users, "num_items": self.record.num_items}
        interest = read_interest(self.folder, **sizes)
        if interest is None:
            interest = fit_interest(RatedPairs(*read_part(self.folder, "train", ["user", "item"])), **sizes)
            write_interest(self.folder, interest)
        return interest

    def order(self, by: OrderBy, threshold: float | None) -> Order | None:
        """Return the order of lists; None: by prediction. `threshold`: see `recommend`.

        Raises:
            UserError: there are no samples, and so no lower bounds.
        """
        if by is OrderBy.prediction:
            return None
        if by is OrderBy.lower_bound:
            if not self.record.is_sampled:
                raise UserError("by=lower_bound needs a run of optimizer=gibbs: others have no standard deviations")
            return LowerBound(self.predictor)
        run = self
        while run.extension is not None:  # the errors and the scale are those of the run's own ratings
            run = run.extension.base
        return ExpectedGain.from_levels(
            self.interest,
            run._rating_levels,
            threshold=self.liked_from(threshold),
            mse=run._noise_variance,
            stars=self.record.stars,
        )

    def liked_from(self, threshold: float | None) -> float:
        """Return the lowest rating that counts as liked: the threshold; None: 4 of 5 stars.

        Raises:
            UserError: the threshold is not finite.
        """
        if threshold is not None and not np.isfinite(threshold):
            raise UserError(f"threshold must be finite, got {threshold}")
        return liked_from(threshold, self.record.stars)

    def lowest_liked(self, threshold: float | None) -> float:
        """Return the lowest training rating that counts as liked; the threshold if none does."""
        liked_from = self.liked_from(threshold)
        return float(min(self._rating_levels[self._rating_levels >= liked_from], default=liked_from))

    @cached_property
    def _rating_levels(self) -> NDArray[np.float32]:
        (rating,) = read_part(self.folder, "train", ["rating"])
        return levels_of(rating)

    @cached_property
    def rating_range(self) -> tuple[float, float]:
        """The lowest and the highest rating."""
        if self.record.scale is not None:
            return self.record.scale
        return float(self.ratings["rating"].min()), float(self.ratings["rating"].max())

    def feature(self, side: str, name: str) -> Column:
        """Read a feature that the equation uses, of all users or items (side user or item) by index."""
        return read_features(self.folder / f"{side}s.parquet", (name,))[name]

    def side_rows(self, side: str) -> SideRows:
        """Return the weights of a side, user or item, with the noise of a rating, in stars.

        Without samples, the noise is the same everywhere: the MSE of validation rows or, without any, training rows.

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
        """MSE of validation rows or, without any, training rows, in squared rating units."""
        part = "val" if count_rows(self.folder)[PARTS.index("val")] > 0 else "train"
        rows = self.part(part)
        return float((predict_by_block(self.predictor, rows) - torch.from_numpy(rows.rating)).double().square().mean())

    def fold_in_solver(self, side: str) -> FoldInSolver:
        """Return the solver for new rows of a side, user or item."""
        if side not in self._fold_in_solvers:
            own, other = (self.side_rows(name) for name in (("user", "item") if side == "user" else ("item", "user")))
            self._fold_in_solvers[side] = FoldInSolver(own, other, is_item=side == "item")
        return self._fold_in_solvers[side]

    def part(self, name: str) -> Ratings:
        """Read the run's rows of a part: train, val or test."""
        days = ["day"] if self.predictor.model.takes_day else []
        return Ratings(*read_part(self.folder, name, ["user", "item", "rating", *days]))

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
            UserError: the numbers of users, items and times differ, a time is NaT, or the model takes no times.
        """
        return predict_by_block(self.predictor, self._pairs(user_ids, item_ids, times)).numpy()

    def predict_table(self, user_ids: Ids, item_ids: Ids, *, times: Times | None = None) -> pd.DataFrame:
        """Predict like `predict`, and say what each prediction is based on.

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

    def check_users(self, user_ids: Ids, *, place: Callable[[int], str]) -> None:
        """Raise UserError with the nearest id if a user has no training ratings; `place` names the place of a row."""
        is_trained = self.trained_users(user_ids)
        if not is_trained.all():
            row = int(np.argmin(is_trained))
            nearest = self.user_ids.did_you_mean(user_ids[row], among=self.record.num_users)
            raise UserError(
                f"{place(row)}: no user {str(user_ids[row])!r} has training ratings (unknown=error){nearest}"
            )

    def items_of(self, genres: Sequence[str], *, column: str = "genres") -> Ids:
        """List the ids of the items that have at least one of these genres.

        Args:
            genres: names of genres, spelled as in the data.
            column: column of categories in the run's copy of the table of items.

        Raises:
            UserError: the run has no such column, or no item has one of the genres.
        """
        features = self.items.filter(regex=f"^{FEATURE_PREFIX}").select_dtypes(exclude="number")
        names = [str(name).removeprefix(FEATURE_PREFIX) for name in features]
        if column not in names:
            listed = f"only {', '.join(names)}" if names else "since its data had none (data.titles.path)"
            raise UserError(
                f"genres: {self.folder} has no item categories {column!r}, {listed}{did_you_mean(column, names)}"
            )
        of_items = features[f"{FEATURE_PREFIX}{column}"].map(lambda text: set(categories_in(text)))
        known = set().union(*of_items)
        for genre in genres:
            if genre not in known:
                raise UserError(f"genres: no item has the genre {genre!r}{did_you_mean(genre, known)}")
        wanted = set(genres)
        return self.item_ids.ids[[not wanted.isdisjoint(each) for each in of_items]].to_numpy()

    def recommend(
        self,
        user_id: int | str,
        *,
        k: int,
        candidates: Ids | None = None,
        exclude_seen: bool = True,
        unknown: str = "error",
        by: str = "expected_gain",
        threshold: float | None = None,
    ) -> pd.DataFrame:
        """Recommend k items.

        The list is ordered by the expected gain: the estimated interest of the user in the item, from who rated what,
        times the probability of a rating of at least `threshold`; see `recommend.orders`. Of items with the same value,
        the one with more training ratings comes first.

        Args:
            user_id: the user's id, as in the data.
            k: number of items, at least 1; fewer if fewer are left.
            candidates: ids of the items to choose from; those without training ratings are ignored. None: all items.
            exclude_seen: whether to leave out the items that the user has rated in any part.
            unknown: `error` refuses a user without training ratings; `baseline` predicts by the bias baseline.
            by: `expected_gain`; `prediction`, before clipping; or `lower_bound`, the prediction minus its standard
                deviation, for a run of optimizer=gibbs.
            threshold: lowest rating that counts as liked, in rating units; None: 4 of 5 stars, on any scale.

        Returns:
            rank from 1, item_id, title (if the data had titles), rating (predicted), best first.

        Raises:
            UserError: k is below 1, or the user or every candidate has no training ratings.
        """
        if np.ndim(user_id) > 0:
            raise UserError(f"user_id must be one id, got {user_id!r}; recommend_to_all takes several")
        self._check_request([user_id], k=k, unknown=unknown, by=by)
        user, chosen = int(self.user_ids.index_of([user_id])[0]), self._candidates(candidates)
        if exclude_seen:
            chosen = chosen[~np.isin(chosen, self.ratings["item"][self.ratings["user"] == user])]
        order = self.order(order_by(by), threshold)
        best = top_k(self.predictor, user=user, candidates=torch.from_numpy(chosen), k=k, order=order)
        with torch.inference_mode():
            rating = self.predictor(torch.full_like(best, user), best)
        return self._listed(best.numpy(), rating.numpy())

    def recommend_to_all(
        self,
        *,
        k: int,
        user_ids: Ids | None = None,
        candidates: Ids | None = None,
        exclude_seen: bool = True,
        unknown: str = "error",
        by: str = "expected_gain",
        threshold: float | None = None,
    ) -> pd.DataFrame:
        """Recommend to several users, like `recommend`; users with nothing left to recommend are absent.

        Args:
            k: see `recommend`.
            user_ids: ids of the users, in the order of the result; None: all with training ratings, in index order.
            candidates: see `recommend`.
            exclude_seen: see `recommend`.
            unknown: see `recommend`. With `baseline` and without user_ids, all users of the run are included.
            by: see `recommend`.
            threshold: see `recommend`.

        Returns:
            user_id and the columns of `recommend`, best first.

        Raises:
            UserError: as in `recommend`.
        """
        return pd.concat(
            self.recommend_by_block(
                k=k,
                user_ids=user_ids,
                candidates=candidates,
                exclude_seen=exclude_seen,
                unknown=unknown,
                by=by,
                threshold=threshold,
            ),
            ignore_index=True,
        )

    def recommend_by_block(
        self,
        *,
        k: int,
        user_ids: Ids | None,
        candidates: Ids | None,
        exclude_seen: bool,
        unknown: str,
        by: str,
        threshold: float | None,
    ) -> Iterator[pd.DataFrame]:
        """Recommend like `recommend_to_all` in bounded memory; yields the result in blocks, at least one."""
        if user_ids is None:
            user = np.arange(len(self.user_ids) if unknown == "baseline" else self.record.num_users, dtype=np.int32)
            ids = self.user_ids.ids[user]
        else:
            user = self.user_ids.index_of(user_ids)
            ids = self.user_ids.ids[user] if (user != UNKNOWN).all() else pd.Index(user_ids).astype(str)
        self._check_request([] if user_ids is None else user_ids, k=k, unknown=unknown, by=by)
        chosen, seen = self._candidates(candidates), None
        if exclude_seen:
            rated = (self.ratings[name].to_numpy() for name in ("user", "item"))
            seen = SeenItems(*rated, num_users=len(self.user_ids))
        first, order = 0, self.order(order_by(by), threshold)
        for best in top_k_of_users(self.predictor, user, candidates=chosen, seen=seen, k=k, order=order):
            row, column = np.nonzero(best >= 0)
            item = best[row, column]
            row, first = row + first, first + len(best)
            pairs = Ratings(user=user[row], item=item, rating=np.zeros(len(item), dtype=np.float32))
            listed = self._listed(item, predict_by_block(self.predictor, pairs).numpy()).assign(rank=column + 1)
            listed.insert(0, "user_id", ids[row])
            yield listed

    def _check_request(self, user_ids: Ids, *, k: int, unknown: str, by: str) -> None:
        if k < 1:
            raise UserError(f"k must be at least 1, got {k}")
        if unknown not in ("error", "baseline"):
            raise UserError(f"unknown must be one of error, baseline, got {unknown}")
        order_by(by)
        if unknown == "error":
            self.check_users(user_ids, place=lambda row: "user_ids" if len(user_ids) > 1 else "user_id")

    def _candidates(self, item_ids: Ids | None) -> NDArray[np.int32]:
        """Return the distinct indices of those items that have training ratings, most popular first."""
        if item_ids is None:
            return self.items_by_popularity
        item = np.unique(self.item_ids.index_of(item_ids))
        item = item[is_trained(item, self.record.num_items)]
        if len(item) == 0:
            if len(item_ids) == 0:
                raise UserError("candidates must have at least one item, got none")
            raise UserError(f"none of the {len(item_ids):,} candidates has training ratings")
        is_chosen = np.zeros(self.record.num_items, dtype=np.bool_)
        is_chosen[item] = True
        return self.items_by_popularity[is_chosen[self.items_by_popularity]]

    def rated_highest(self, user_id: int | str, *, k: int) -> pd.DataFrame:
        """List the k items that a user rated highest in any part, with the columns of `recommend`; empty if unknown."""
        user = self.user_ids.index_of([user_id])[0]
        rows = self.ratings[self.ratings["user"] == user].nlargest(k, "rating", keep="first")
        return self._listed(rows["item"].to_numpy(), rows["rating"].to_numpy())

    def _listed(self, item: NDArray[np.int32], rating: NDArray[np.float32]) -> pd.DataFrame:
        listed = pd.DataFrame({"rank": np.arange(1, len(item) + 1), "item_id": self.item_ids.ids[item]})
        if "title" in self.items:
            listed["title"] = self.items["title"].array[item]
        return listed.assign(rating=rating)


class Extension(NamedTuple):
    """Users or items folded into a model.

    Attributes:
        base: the model without them.
        side: user, for users in place of the model's own; item, for items after the model's own.
        pairs: who rated what, with the positions of these users or items among one another.
        number: number of users or items folded in.
    """

    base: TrainedModel
    side: str
    pairs: RatedPairs
    number: int

    def interest(self) -> Interest:
        """Solve for the interest of the users, or in the items."""
        interest = self.base.interest
        with_rows = interest.with_users if self.side == "user" else interest.with_items
        return with_rows(self.pairs, self.number)


def _in_utc(times: Times) -> NDArray[np.datetime64]:
    """Convert times to datetime64 in UTC; those without a time zone are in UTC."""
    given = pd.Index(times)
    if given.inferred_type not in ("datetime64", "datetime", "date", "empty"):
        raise UserError(f"times must be dates with times, such as datetime64, got {given.inferred_type} values")
    return pd.DatetimeIndex(pd.to_datetime(given, utc=True)).tz_localize(None).to_numpy()


def order_by(name: str) -> OrderBy:
    """Find an order of lists by name.

    Raises:
        UserError: there is none of this name.
    """
    names = [each.value for each in OrderBy]
    if name not in names:
        raise UserError(f"by must be one of {', '.join(names)}, got {name!r}{did_you_mean(str(name), names)}")
    return OrderBy(name)


def is_trained(index: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """Return whether each index of a user or item is below `count`, the number of those with training ratings."""
    return (index >= 0) & (index < count)


def predict_by_block(predict: Callable[[Tensor, Tensor, Tensor | None], Tensor], rows: Ratings) -> Tensor:
    """Predict rows block by block, with bounded memory: (N,) float32."""
    with torch.inference_mode():
        return torch.cat([torch.empty(0), *(predict(user, item, day) for user, item, _, day in Blocks(rows))])
