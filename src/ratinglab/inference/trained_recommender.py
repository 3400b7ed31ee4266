"""Predictions and recommendation lists by ids, from a predictor with or without folded-in users and items."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.batches import Blocks
from ratinglab.errors import UserError
from ratinglab.evaluation.ranking import OrderBy, OrderOptions, UnknownUsers
from ratinglab.inference.lists import ListOptions, Recommender
from ratinglab.inference.recommender_tables import Ids, RecommenderTables, check_pairs, is_trained
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.ids import UNKNOWN
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.orders import ExpectedGain, LowerBound, Order
from ratinglab.recommend.topk import select_top_k

Times = NDArray[np.datetime64] | pd.DatetimeIndex | pd.Series | Sequence[datetime]
"""Timestamps of ratings, in any unit. Timestamps without a time zone are in UTC."""
BASES = ("known", "user_unknown", "item_unknown", "both_unknown")
"""Values of `basis`: the model predicts known pairs, the bias baseline all other pairs."""


class TrainedRecommender(Recommender):
    """A predictor with the ids, items and ratings of its users and items.

    Attributes:
        predictor: predicts from indices of users and items; with the best weights, on the CPU.
        tables: the ids, items and ratings.
        record: contents of run.json.
    """

    def __init__(self, predictor: Predictor, tables: RecommenderTables) -> None:
        self.predictor, self.tables, self.record = predictor, tables, tables.record

    def _look_up_pairs(self, user_ids: Ids, item_ids: Ids, times: Times | None = None) -> Ratings:
        """Look up pairs of users and items, whose ratings are 0 in the result."""
        self.record.check_predicts_ratings()
        check_pairs(user_ids, item_ids)
        if times is not None:
            if not self.predictor.model.takes_day:
                raise UserError(f"{self.record.model} takes no times: it predicts the same on all days")
            if len(times) != len(user_ids):
                raise UserError(f"predict needs as many times as users, got {len(times)} and {len(user_ids)}")
            times = _to_utc(times)
            if np.isnat(times).any():
                raise UserError(f"times: entry {int(np.isnat(times).argmax())} is NaT")
        return Ratings(
            day=None if times is None else times.astype("datetime64[D]").astype(np.int32),
            user=self.tables.user_ids.index_of(user_ids),
            item=self.tables.item_ids.index_of(item_ids),
            rating=np.zeros(len(user_ids), dtype=np.float32),
        )

    def predict_table(self, user_ids: Ids, item_ids: Ids, *, times: Times | None = None) -> pd.DataFrame:
        """Predict like `Run.predict`, with the basis of each prediction.

        Returns:
            prediction (float32); standard_deviation (float32, as from `Run.standard_deviation`) for a run of
            optimizer=gibbs; basis: known, or user_unknown, item_unknown or both_unknown if these have no training
            ratings.
        """
        pairs, record = self._look_up_pairs(user_ids, item_ids, times), self.record
        code = 1 * ~is_trained(pairs.user, record.num_users) + 2 * ~is_trained(pairs.item, record.num_items)
        return pd.DataFrame(self._predict_columns(pairs) | {"basis": pd.Categorical.from_codes(code, pd.Index(BASES))})

    def _predict_columns(self, rows: Ratings) -> dict[str, NDArray[np.generic]]:
        """Predict rows: score, or prediction and, for a run with samples, standard_deviation. (N,) float32 each."""
        predicted = predict_by_block(self.predictor, rows).numpy()
        if self.record.predicts_scores:
            return {"score": predicted}
        if not self.record.is_sampled:
            return {"prediction": predicted}
        deviation = predict_by_block(self.predictor.standard_deviation, rows).numpy()
        return {"prediction": predicted, "standard_deviation": deviation}

    def _build_order(self, options: OrderOptions) -> Order | None:
        """Build the order of lists. Returns None if the model's own ratings or scores order them.

        Raises:
            UserError: lower bounds need samples, which the run lacks.
        """
        if options.by is OrderBy.lower_bound:
            if not self.record.is_sampled:
                raise UserError(
                    "by=lower_bound needs standard deviations: a run of optimizer=gibbs, or folded-in users"
                )
            return LowerBound(self.predictor)
        if options.by is OrderBy.prediction or self.record.predicts_scores:
            return None
        return self._build_expected_gain(options.threshold)

    @abstractmethod
    def _build_expected_gain(self, threshold: float | None) -> ExpectedGain:
        """Build the order by expected gain. A rating of at least `threshold` (None: 4 of 5 stars) counts as liked."""

    def lists_by_block(self, options: ListOptions, *, user_ids: Ids | None = None) -> Iterator[pd.DataFrame]:
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
        first, order = 0, self._build_order(options.order)
        for best in select_top_k(self.predictor, user, candidates=candidates, seen=seen, k=options.k, order=order):
            row, column = np.nonzero(best >= 0)
            item = best[row, column]
            rows = Ratings(user[first + row], item, rating=np.zeros(len(item), dtype=np.float32))
            lists = tables.list_items(item, self._predict_columns(rows)).assign(rank=column + 1)
            lists.insert(0, "user_id", ids[first + row])
            first += len(best)
            yield lists

    def rated_highest(self, user_id: int | str, *, k: int) -> pd.DataFrame:
        """List the k items that a user rated highest: rank, item_id, title, rating. An unknown user has none."""
        user = self.tables.user_ids.index_of([user_id])
        rows = self.tables.ratings_of_users(user).nlargest(k, "rating", keep="first")
        return self.tables.list_items(rows["item"].to_numpy(), {"rating": rows["rating"].to_numpy()})


class ExtendedRecommender(TrainedRecommender):
    """A recommender whose users or items were folded into another recommender, its `base`."""

    def __init__(self, base: TrainedRecommender, predictor: Predictor, tables: RecommenderTables) -> None:
        super().__init__(predictor, tables)
        self._base = base

    def _build_expected_gain(self, threshold: float | None) -> ExpectedGain:
        """Keep the base's noise and scale, which come from the run's own ratings, but not its interest."""
        return replace(self._base._build_expected_gain(threshold), interest=self.tables.interest)


def _to_utc(times: Times) -> NDArray[np.datetime64]:
    """Convert timestamps to datetime64 in UTC. Timestamps without a time zone are in UTC."""
    index = pd.Index(times)
    if index.inferred_type not in ("datetime64", "datetime", "date", "empty"):
        raise UserError(f"times must be dates with times, such as datetime64, got {index.inferred_type} values")
    return pd.DatetimeIndex(pd.to_datetime(index, utc=True)).tz_localize(None).to_numpy()


def predict_by_block(predict: Callable[[Tensor, Tensor, Tensor | None], Tensor], rows: Ratings) -> Tensor:
    """Predict rows in blocks, with bounded memory: (N,) float32."""
    with torch.inference_mode():
        return torch.cat([torch.empty(0), *(predict(user, item, day) for user, item, _, day in Blocks(rows))])
