"""Predictions and recommendation lists by id, from a predictor and the tables of its users and items."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import partial
from numbers import Integral, Real
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.batches import EvaluationLoader
from ratinglab.errors import UserError, did_you_mean
from ratinglab.evaluation.list_options import OrderBy, OrderOptions, UnknownUsers
from ratinglab.inference.indexed_tables import Ids, IndexedTables, check_ids, check_pairs, is_trained
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.ids import UNKNOWN
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.orders import ExpectedGain, Order, lower_bound
from ratinglab.recommend.topk import select_top_k
from ratinglab.stars import TOLERANCE

SHORT_LIST = 10
"""Default length of lists, also in conf/recommend.yaml and conf/similar.yaml. Valid even if there are fewer items."""
Times = NDArray[np.datetime64] | pd.DatetimeIndex | pd.Series | Sequence[datetime]
"""Timestamps of ratings, in any unit. Timestamps without a time zone are in UTC."""
BASES = ("known", "user_unknown", "item_unknown", "both_unknown")
"""Values of `basis`. The index is 1 for an unknown user plus 2 for an unknown item. Only known pairs use the model."""
Choice = TypeVar("Choice", bound=Enum)


@dataclass
class OrderArguments(OrderOptions):
    """Order of lists by the arguments `by` and `threshold` of a Python call or a request."""

    key_prefix = ""


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """Options of lists: the arguments of `Recommender.recommend`, with `by` and `threshold` in `order`."""

    k: int
    candidates: Ids | None
    exclude_seen: bool
    unknown: UnknownUsers
    order: OrderOptions

    def __post_init__(self) -> None:
        """Raise UserError for an invalid number of items, or if `exclude_seen` is no boolean."""
        check_k(self.k)
        if self.exclude_seen not in (True, False):
            raise UserError(f"exclude_seen must be True or False, got {self.exclude_seen!r}")


class Recommender(ABC):
    """A predictor with the ids, items and ratings of its users and items.

    Attributes:
        predictor: predicts from indices of users and items, with the best weights, on the CPU.
        tables: the ids, items and ratings.
        record: contents of run.json, with the numbers of users and items that the model predicts.
    """

    def __init__(self, predictor: Predictor, tables: IndexedTables) -> None:
        """Combine a predictor and its tables."""
        self.predictor, self.tables, self.record = predictor, tables, tables.record

    def _predict_pairs(self, user_ids: Ids, item_ids: Ids, times: Times | None = None) -> pd.DataFrame:
        """Predict pairs of users and items; see `Run.predict_table`."""
        pairs = self._look_up_pairs(user_ids, item_ids, times)
        is_new_user = ~is_trained(pairs.user, self.record.num_users)
        is_new_item = ~is_trained(pairs.item, self.record.num_items)
        basis = pd.Categorical.from_codes(1 * is_new_user + 2 * is_new_item, pd.Index(BASES))
        return pd.DataFrame(self._predict_columns(pairs) | {"basis": basis})

    def _look_up_pairs(self, user_ids: Ids, item_ids: Ids, times: Times | None = None) -> Ratings:
        """Look up pairs of users and items. Their ratings are 0 in the result."""
        self.record.check_predicts_ratings()
        check_pairs(user_ids, item_ids)
        if times is not None:
            if not self.predictor.model.takes_day:
                raise UserError(f"{self.record.model} takes no timestamps: it predicts the same on all days")
            if len(times) != len(user_ids):
                raise UserError(f"times and user_ids must have the same length, got {len(times)} and {len(user_ids)}")
            times = _to_utc(times)
            if np.isnat(times).any():
                raise UserError(f"times: entry {int(np.isnat(times).argmax())} is NaT")
        return Ratings(
            day=None if times is None else times.astype("datetime64[D]").astype(np.int32),
            user=self.tables.user_ids.index_of(user_ids),
            item=self.tables.item_ids.index_of(item_ids),
            rating=np.zeros(len(user_ids), dtype=np.float32),
        )

    def _predict_columns(self, rows: Ratings) -> dict[str, NDArray[np.generic]]:
        """Predict rows: score, or prediction and, for a run with samples, standard_deviation. (N,) float32 each."""
        predicted = predict_by_block(self.predictor, rows).numpy()
        if self.record.predicts_scores:
            return {"score": predicted}
        if not self.record.is_sampled:
            return {"prediction": predicted}
        deviation = predict_by_block(self.predictor.standard_deviation, rows).numpy()
        return {"prediction": predicted, "standard_deviation": deviation}

    def recommend(
        self,
        user_id: int | str | None = None,
        *,
        k: int = SHORT_LIST,
        candidates: Ids | None = None,
        exclude_seen: bool = True,
        unknown: str = "error",
        by: str = "expected_gain",
        threshold: float | None = None,
    ) -> pd.DataFrame:
        """Recommend k items to one user; `recommend_to_all` recommends to several or all users.

        By default, the expected gain orders the list. It is the user's interest in the item, estimated from implicit
        feedback (who rated what), times the probability of a rating of at least `threshold`; see `recommend.orders`.
        Ties go to the item with more training ratings.

        Args:
            user_id: the user's id, as in the data; by default the only folded-in user.
            k: maximum number of items, at least 1.
            candidates: ids of the items to choose from, by default all. Items that have no training ratings and were
                not folded in are ignored.
            exclude_seen: whether to exclude items that the user has rated in any part.
            unknown: `error` refuses a user without training ratings; `baseline` uses the bias baseline or, with a
                ranking model, lists the most popular items.
            by: `expected_gain`; `prediction`, before clipping; or `lower_bound`, the prediction minus its standard
                deviation, for a run of optimizer=gibbs and for folded-in users. A model that predicts scores orders by
                scores, and refuses `lower_bound`.
            threshold: lowest rating that counts as liked, in rating units; by default 4 of 5 stars, on any scale.

        Returns:
            The best items first, with the columns rank, from 1; item_id; title, if the data had titles; and prediction,
            or score for a model that predicts scores. A run of optimizer=gibbs and a fold-in add standard_deviation,
            which is NaN for predictions that have none.

        Raises:
            UserError: k is not an integer of at least 1, the user or every candidate has no training ratings, there is
                no such order, or the threshold is above the highest rating.
        """
        user_id = self._resolve_user(user_id)
        if np.ndim(user_id) > 0:
            raise UserError(f"user_id must be one id, got {user_id!r}; recommend_to_all(user_ids=…) takes several")
        lists = self.recommend_to_all(
            k=k,
            user_ids=[user_id],
            candidates=candidates,
            exclude_seen=exclude_seen,
            unknown=unknown,
            by=by,
            threshold=threshold,
        )
        return lists.drop(columns="user_id")

    def recommend_to_all(
        self,
        *,
        k: int = SHORT_LIST,
        user_ids: Ids | None = None,
        candidates: Ids | None = None,
        exclude_seen: bool = True,
        unknown: str = "error",
        by: str = "expected_gain",
        threshold: float | None = None,
    ) -> pd.DataFrame:
        """Recommend k items to each of several users. Users for whom no candidate is left get no rows.

        Takes the arguments of `recommend`, and raises its errors. `user_ids` are the users in the order of the result.
        None stands for all folded-in users. If there are none, it stands for all users with training ratings, by index,
        or with unknown=`baseline` for all users of the run.

        Returns:
            user_id and the columns of `recommend`, best first.
        """
        if user_ids is not None:
            check_ids(user_ids, name="user_ids")
        options = ListOptions(
            k=k,
            candidates=candidates,
            exclude_seen=exclude_seen,
            unknown=_parse_choice(UnknownUsers, unknown, name="unknown"),
            order=parse_order(by, threshold),
        )
        return pd.concat(self.lists_by_block(options, user_ids=user_ids), ignore_index=True)

    def _resolve_user(self, user_id: int | str | None) -> int | str:
        """Return the id of the user to recommend to. None is allowed if there is a single user."""
        if user_id is None:
            raise UserError("user_id must be given; recommend_to_all() recommends to all users")
        return user_id

    def lists_by_block(self, options: ListOptions, *, user_ids: Ids | None = None) -> Iterator[pd.DataFrame]:
        """Yield the rows of `recommend_to_all` in blocks of bounded memory, at least one block."""
        tables = self.tables
        if user_ids is None:
            includes_unknown = options.unknown is UnknownUsers.baseline
            user = np.arange(len(tables.user_ids) if includes_unknown else self.record.num_users, dtype=np.int32)
            ids = tables.user_ids.ids[user]
        else:
            if options.unknown is UnknownUsers.error:
                tables.check_users(user_ids, place=lambda row: "user_ids" if len(user_ids) > 1 else "user_id")
            user = tables.user_ids.index_of(user_ids)
            ids = tables.user_ids.ids[user] if (user != UNKNOWN).all() else pd.Index(user_ids).astype(str)
        candidates, seen = tables.candidates(options.candidates), None
        if options.exclude_seen and len(user) == 1:
            candidates = candidates[~np.isin(candidates, tables.ratings_of_users(user)["item"])]
        elif options.exclude_seen:
            seen = tables.seen_items()
        self._check_threshold(options.order)
        first, order = 0, self._build_order(options.order)
        for best in select_top_k(self.predictor, user, candidates=candidates, seen=seen, k=options.k, order=order):
            row, column = np.nonzero(best >= 0)
            item = best[row, column]
            rows = Ratings(user[first + row], item, rating=np.zeros(len(item), dtype=np.float32))
            lists = tables.list_items(item, self._predict_columns(rows)).assign(rank=column + 1)
            lists.insert(0, "user_id", ids[first + row])
            first += len(best)
            yield lists

    def _check_threshold(self, order: OrderOptions) -> None:
        """Raise UserError if expected gain orders the lists, but no rating on the scale would count as liked."""
        threshold, stars = order.threshold, self.record.stars
        if threshold is None or order.by is not OrderBy.expected_gain or self.record.predicts_scores:
            return
        if threshold > stars.highest + TOLERANCE * stars.unit:
            rule = f"at most {stars.highest:g}, the highest rating"
            raise UserError(f"{order.key_prefix}threshold must be {rule}, got {threshold:g}")

    def _build_order(self, options: OrderOptions) -> Order | None:
        """Build the order of lists. Returns None if the model's own ratings or scores order them.

        Raises:
            UserError: lower bounds need samples, and the run has none.
        """
        if options.by is OrderBy.lower_bound:
            if not self.record.is_sampled:
                raise UserError(
                    f"{options.key_prefix}by=lower_bound needs standard deviations: a run of optimizer=gibbs, or "
                    f"folded-in users; got a run of optimizer={self.record.fit['optimizer']}"
                )
            return partial(lower_bound, predictor=self.predictor)
        if options.by is OrderBy.prediction or self.record.predicts_scores:
            return None
        return self._build_expected_gain(options.threshold)

    @abstractmethod
    def _build_expected_gain(self, threshold: float | None) -> ExpectedGain:
        """Build the order by expected gain. A rating counts as liked from `threshold`, by default 4 of 5 stars."""

    def rated_highest(self, user_id: int | str, *, k: int) -> pd.DataFrame:
        """List the k items that a user rated highest: rank, item_id, title, rating. An unknown user has none."""
        user = self.tables.user_ids.index_of([user_id])
        rows = self.tables.ratings_of_users(user).nlargest(k, "rating", keep="first")
        return self.tables.list_items(rows["item"].to_numpy(), {"rating": rows["rating"].to_numpy()})

    def knows_user(self, user_id: int | str) -> bool:
        """Return whether a user has training ratings or was folded in."""
        return bool(self.tables.are_users_trained([user_id])[0])


def check_k(k: int) -> None:
    """Raise UserError unless k is an integer of at least 1."""
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise UserError(f"k must be an integer, got {k!r}")
    if k < 1:
        raise UserError(f"k must be at least 1, got {k}")


def _parse_choice(choices: type[Choice], text: str, *, name: str) -> Choice:
    """Parse the argument `name`. Raises UserError if there is no such choice."""
    names = [choice.value for choice in choices]
    if text not in names:
        raise UserError(f"{name} must be one of {', '.join(names)}, got {text!r}{did_you_mean(str(text), names)}")
    return choices(text)


def check_list_length(k: int, *, num_items: int) -> None:
    """Raise UserError if k exceeds both the number of items and SHORT_LIST."""
    if k > max(num_items, SHORT_LIST):
        raise UserError(f"k must be at most {num_items}, the number of items, got {k}")


def parse_order(by: str, threshold: float | None) -> OrderArguments:
    """Parse the arguments for the order of lists; see `Recommender.recommend`.

    Raises:
        UserError: there is no such order, or the threshold is not a finite number.
    """
    is_number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if threshold is not None and not (is_number and np.isfinite(threshold)):
        raise UserError(f"threshold must be a finite number, got {threshold!r}")
    return OrderArguments(_parse_choice(OrderBy, by, name="by"), threshold)


def _to_utc(times: Times) -> NDArray[np.datetime64]:
    """Convert timestamps to datetime64 in UTC. Timestamps without a time zone are in UTC."""
    index = pd.Index(times)
    if index.inferred_type not in ("datetime64", "datetime", "date", "empty"):
        unit = ", unit='s'" if index.inferred_type in ("integer", "floating") else ""
        raise UserError(
            f"times must be timestamps, such as datetime64, got {index.inferred_type} values; "
            f"pd.to_datetime(times{unit}) converts them"
        )
    return pd.DatetimeIndex(pd.to_datetime(index, utc=True)).tz_localize(None).to_numpy()


def predict_by_block(predict: Callable[[Tensor, Tensor, Tensor | None], Tensor], rows: Ratings) -> Tensor:
    """Predict rows in blocks, with bounded memory: (N,) float32."""
    with torch.inference_mode():
        return torch.cat([torch.empty(0), *(predict(user, item, day) for user, item, _, day in EvaluationLoader(rows))])
