"""A loaded run, which answers requests like the methods of `Run` with the same names."""

from collections.abc import Hashable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ratinglab.errors import UserError
from ratinglab.inference.folded_in import FoldedIn
from ratinglab.inference.run import Run
from ratinglab.runs.record import has_finished
from ratinglab.serving import schemas
from ratinglab.serving.item_search import ItemSearch
from ratinglab.serving.serve_options import ServeOptions

MAX_LEVELS = 1000
"""Maximum number of steps from the lowest to the highest rating; beyond it, ratings count as continuous."""


class Service:
    """A loaded run. Its methods are thread-safe."""

    def __init__(self, run: Run, limits: ServeOptions) -> None:
        """Read all files that responses need, and answer each type of request once, to warm up."""
        self.run = run
        self._limits = limits
        train = run.part("train")
        self._num_ratings = run.tables.train_counts[1][: run.record.num_items]
        deviation = rating_deviation(train.item, train.rating, num_items=run.record.num_items)
        self._search = ItemSearch(run.tables, deviation=deviation)
        self._rating_scale = find_rating_scale(train.rating, scale=run.record.scale)
        self._loaded_at = datetime.now(UTC)
        self._metrics = run.metrics if has_finished(run.folder) else {}
        self._warm_up()

    def _warm_up(self) -> None:
        """Answer each type of request once, to detect faults and to speed up the first request."""
        user_id, item_id = str(self.run.user_ids.ids[0]), str(self.run.item_ids.ids[0])
        if not self.run.record.predicts_scores:
            self.predict(schemas.PredictRequest(pairs=[schemas.Pair(user_id=user_id, item_id=item_id)]))
        known_user = schemas.RecommendRequest(user_id=user_id, k=1, exclude_seen=False)
        new_user = schemas.FoldInRequest(ratings={item_id: self._rating_scale.highest}, k=1, exclude_seen=False)
        self.recommend(known_user)
        for answer in (
            lambda: self.recommend(known_user.model_copy(update={"why": 1})),
            lambda: self.fold_in(new_user),
            lambda: self.fold_in(new_user.model_copy(update={"why": 1, "item_ids": [item_id]})),
            lambda: self.similar(schemas.SimilarRequest(item=item_id, k=1)),
        ):
            with suppress(UserError):  # the model cannot answer such requests
                answer()

    def health(self) -> schemas.Health:
        """Describe the run."""
        record = self.run.record
        return schemas.Health(
            status="ok",
            run=str(self.run.folder),
            data=record.provenance["data_digest"],
            model=record.model,
            val_rmse=self._metrics.get("val/rmse"),
            test_rmse=self._metrics.get("test/rmse"),
            num_users=record.num_users,
            num_items=record.num_items,
            rating=self._rating_scale,
            predicts_scores=record.predicts_scores,
            is_sampled=record.is_sampled,
            loaded_at=self._loaded_at,
        )

    def predict(self, request: schemas.PredictRequest) -> schemas.PredictResponse:
        """Predict the ratings of pairs, as Run.predict_table does."""
        self._check_length("pairs", request.pairs, self._limits.max_pairs)
        times = [pair.time for pair in request.pairs if pair.time is not None]
        if 0 < len(times) < len(request.pairs):
            index = next(index for index, pair in enumerate(request.pairs) if pair.time is None)
            raise UserError(f"pairs[{index}].time must be given, since other pairs have a time")
        ids = {name: [getattr(pair, name) for pair in request.pairs] for name in ("user_id", "item_id")}
        table = self.run.predict_table(*ids.values(), times=times or None).assign(**ids)
        return schemas.PredictResponse.model_validate({"predictions": _to_dicts(table)})

    def recommend(self, request: schemas.RecommendRequest) -> schemas.RecommendResponse:
        """Recommend items to a known user, as Run.recommend does."""
        self._check_request(request)
        recommended = _list_items(self.run, request.user_id, request, unknown=request.unknown)
        return schemas.RecommendResponse.model_validate({"recommended": recommended})

    def fold_in(self, request: schemas.FoldInRequest) -> schemas.FoldInResponse:
        """Recommend items to a user with these ratings, as Run.fold_in and FoldedIn.recommend do."""
        self._check_request(request)
        self._check_length("ratings", request.ratings, self._limits.max_ratings)
        self._check_length("item_ids", request.item_ids, self._limits.max_pairs)
        folded = self.run.fold_in(request.ratings, user_id=request.user_id)
        (user_id,) = folded.folded_user_ids
        predictions = folded.predict_table(request.item_ids).assign(item_id=request.item_ids)
        recommended = _list_items(folded, user_id, request, unknown="error")
        return schemas.FoldInResponse.model_validate(
            {"recommended": recommended, "predictions": _to_dicts(predictions)}
        )

    def similar(self, request: schemas.SimilarRequest) -> schemas.SimilarResponse:
        """Find the items most similar to one, as Run.similar does."""
        self._check_request(request)
        (item,) = self.run.tables.item_names.find([request.item], place=lambda _: "item")
        table = self.run.similar(request.item, k=request.k, candidates=request.candidates)
        return schemas.SimilarResponse.model_validate(
            {"item": self._describe_item(int(item)), "similar": _to_dicts(table)}
        )

    def items(self, request: schemas.ItemsRequest) -> schemas.ItemsResponse:
        """Search for items by title or id."""
        matches = self._search.find(request.query)
        last = request.offset + request.limit
        items = [self._describe_item(int(item)) for item in matches[request.offset : last]]
        return schemas.ItemsResponse(items=items, more=last < len(matches))

    def _describe_item(self, item: int) -> schemas.Item:
        """Describe the item with this index."""
        tables = self.run.tables
        title = None if tables.titles is None else tables.titles[item]
        (item_id,) = tables.item_ids.ids[[item]].tolist()
        count = int(self._num_ratings[item]) if item < len(self._num_ratings) else 0
        return schemas.Item(item_id=item_id, title=title, num_ratings=count)

    def _check_request(self, request: schemas.ListRequest | schemas.SimilarRequest) -> None:
        if request.k > self._limits.max_k:
            raise UserError(f"k must be at most {self._limits.max_k}, got {request.k}")
        self._check_length("candidates", request.candidates or (), self._limits.max_pairs)

    @staticmethod
    def _check_length(key: str, values: Any, limit: int) -> None:
        if len(values) > limit:
            raise UserError(f"{key} must have at most {limit:,} entries, got {len(values):,}")


def _list_items(
    recommender: Run | FoldedIn, user_id: int | str, request: schemas.ListRequest, *, unknown: str
) -> list[dict[Hashable, Any]]:
    """List items for a user, each with the user's ratings that moved its prediction most, at most `request.why`."""
    table = recommender.recommend(
        user_id,
        k=request.k,
        candidates=request.candidates,
        exclude_seen=request.exclude_seen,
        unknown=unknown,
        by=request.by,
        threshold=request.threshold,
    )
    reasons: dict[Hashable, list[dict[Hashable, Any]]] = {item_id: [] for item_id in table["item_id"].tolist()}
    if request.why > 0:
        changes = recommender.explain_list(table["item_id"].tolist(), user_id=user_id, k=request.why)
        named = changes.drop(columns="item_id").rename(columns={"rated_item_id": "item_id", "rated_title": "title"})
        for item_id, reason in zip(changes["item_id"].tolist(), _to_dicts(named), strict=True):
            reasons[item_id].append(reason)
    return [{**row, "why": reasons[row["item_id"]]} for row in _to_dicts(table)]


def _to_dicts(frame: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Convert the rows of a data frame to dictionaries of plain values. NaN becomes None."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def rating_deviation(item: NDArray[np.int32], rating: NDArray[np.float32], *, num_items: int) -> NDArray[np.float64]:
    """Compute the standard deviation of each item's ratings: (N,), (N,) → (num_items,). It is 0 without ratings."""
    deviation = pd.Series(rating.astype(np.float64)).groupby(item).std(ddof=0)
    return np.asarray(deviation.reindex(range(num_items), fill_value=0.0), dtype=np.float64)


def find_rating_scale(rating: NDArray[np.float32], *, scale: Sequence[float] | None) -> schemas.RatingScale:
    """Find the lowest and highest rating, and the step between ratings, from the training ratings (N,).

    `scale` has the lowest and the highest rating, by default the extremes of the training ratings.
    """
    levels = np.unique(rating.astype(np.float64).round(6))
    lowest, highest = map(float, levels[[0, -1]] if scale is None else scale)
    width = highest - lowest
    if len(levels) < 2:
        return schemas.RatingScale(lowest=lowest, highest=highest, step=width or 1.0)
    smallest = float(np.diff(levels).min())
    steps = (np.append(levels, highest) - lowest) / smallest
    is_even = np.allclose(steps, steps.round(), atol=1e-3) and width / smallest <= MAX_LEVELS
    return schemas.RatingScale(lowest=lowest, highest=highest, step=round(smallest, 6) if is_even else width / 100)
