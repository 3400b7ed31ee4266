"""A trained run: predict, recommend and evaluate from its folder alone."""

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from ratinglab.evaluation.metrics import find_metrics
from ratinglab.evaluation.predictions import Predictions
from ratinglab.files import user_path
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.frames import Frame, read_frame
from ratinglab.ratings.ids import UNKNOWN, IdMap
from ratinglab.ratings.inputs import Columns
from ratinglab.ratings.item_names import ItemNames
from ratinglab.ratings.side_information import categories_in
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.similar import ItemSpace
from ratinglab.recommend.topk import SeenItems, top_k, top_k_of_users
from ratinglab.runs.record import RunRecord, read_metrics, read_record
from ratinglab.runs.storage import FEATURE_PREFIX, load_predictor, read_parquet, read_part, write_predictions

Ids = Sequence[int | str] | NDArray[np.generic] | pd.Series
"""Ids of users or items, as in the data; 42 and "42" are the same."""
Times = NDArray[np.datetime64] | pd.DatetimeIndex | pd.Series | Sequence[datetime]
"""Times of ratings, in any unit; those without a time zone are in UTC."""
BASES = ("known", "user_unknown", "item_unknown", "both_unknown")
"""Bases of predictions: the equation predicts known pairs, the bias baseline all others."""
DEFAULT_COLUMNS = Columns(user="user_id", item="item_id", rating="rating", timestamp=None)
"""Columns of a data frame of ratings, unless others are named."""
WITHIN_90 = 1.6449
"""Half-width of the 90 % interval of a normal distribution, in standard deviations."""


class PredictedRows(NamedTuple):
    """Rows of a part, with the predictions of the model and of the bias baseline: (N,) float32 each."""

    rows: Ratings
    model: Tensor
    baseline: Tensor

    def take(self, mask: NDArray[np.bool_]) -> "PredictedRows":
        """Select rows: mask (N,)."""
        selected = torch.from_numpy(mask)
        return PredictedRows(self.rows.take(mask), model=self.model[selected], baseline=self.baseline[selected])


@dataclass(eq=False, repr=False)
class Run:
    """A trained run, loaded from its folder.

    Attributes:
        folder: the run's folder.
        record: contents of run.json.
        predictor: the predictor with the best weights, in evaluation mode, on the CPU.
        best_epoch: number of epochs that trained the best weights.
    """

    folder: Path
    record: RunRecord
    predictor: Predictor
    best_epoch: int
    _predicted: dict[str, PredictedRows] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Load a run with its best weights.

        Raises:
            UserError: the folder is not a run, or a file is missing, damaged or from another model.
        """
        folder = user_path(str(folder), key="run")
        record = read_record(folder)
        predictor, best_epoch = load_predictor(record, folder)
        return cls(folder, record, predictor, best_epoch)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, model={self.record.model!r})"

    def _repr_html_(self) -> str:
        """Show the metrics in a notebook: a row per part and system."""
        labels = {metric.name: metric.label for metric in self.record.metric_kinds()}
        systems = {"": self.record.model, "baseline/bias/": "bias baseline", "baseline/mean/": "mean baseline"}
        metrics = self.metrics
        rows = {
            (label, system): {labels[name]: metrics.get(f"{prefix}{part}/{name}", np.nan) for name in labels}
            for part, label in (("val", "validation"), ("test", "test"))
            for prefix, system in systems.items()
            if f"{prefix}{part}/mse" in metrics
        }
        table = pd.DataFrame.from_dict(rows, orient="index").to_html(float_format="{:.4f}".format, border=0)
        return f"{table}<code>{html.escape(str(self.folder))}</code>"

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics by tag, such as test/rmse, as in metrics.json.

        Raises:
            UserError: the run has not finished.
        """
        return read_metrics(self.folder)

    @cached_property
    def user_ids(self) -> IdMap:
        """The id of each user index."""
        return IdMap(read_parquet(self.folder / "users.parquet")["user_id"].to_numpy())

    @cached_property
    def _items(self) -> pd.DataFrame:
        return read_parquet(self.folder / "items.parquet")

    @cached_property
    def item_ids(self) -> IdMap:
        """The id of each item index."""
        return IdMap(self._items["item_id"].to_numpy())

    @cached_property
    def titles(self) -> NDArray[np.object_] | None:
        """The title of each item index; None if the data had no titles."""
        return self._items["title"].to_numpy(dtype=object) if "title" in self._items else None

    @cached_property
    def _item_names(self) -> ItemNames:
        return ItemNames(self.item_ids, self.titles)

    def find_items(self, names: Sequence[int | str], *, place: Callable[[int], str]) -> NDArray[np.int32]:
        """Find the index of each item by its id or title, as `ItemNames.find` does.

        Args:
            names: (B,) ids or titles; the case, the place of the article and the year may differ from the title's.
            place: the place of a name in messages.

        Returns:
            (B,) int32. An item may lack training ratings.

        Raises:
            UserError: a name is missing, no item has it, or several items have it as their title.
        """
        return self._item_names.find(names, place=place)

    def name_of(self, item: int) -> str:
        """Return the title and the id of an item index, such as `Toy Story (1995) (id 1)`; `id 1` without a title."""
        return self._item_names.name_of(item)

    @cached_property
    def _rows(self) -> pd.DataFrame:
        return read_parquet(self.folder / "ratings.parquet")

    def part(self, name: str) -> Ratings:
        """Read the run's rows of a part: train, val or test."""
        days = ["day"] if self.predictor.model.takes_day else []
        return Ratings(*read_part(self.folder, name, ["user", "item", "rating", *days]))

    @cached_property
    def _train_pairs(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        user, item = read_part(self.folder, "train", ["user", "item"])
        return user, item

    @cached_property
    def train_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of training ratings of each user index, and of each item index."""
        user, item = self._train_pairs
        return np.bincount(user, minlength=len(self.user_ids)), np.bincount(item, minlength=len(self.item_ids))

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
        return _by_block(self.predictor, self._pairs(user_ids, item_ids, times)).numpy()

    def predict_table(self, user_ids: Ids, item_ids: Ids, *, times: Times | None = None) -> pd.DataFrame:
        """Predict like `predict`, and say what each prediction is based on.

        Returns:
            prediction (float32); standard_deviation (float32, as from `deviation`) for a run of optimizer=gibbs; basis:
            known, or user_unknown, item_unknown or both_unknown if these have no training ratings.

        Raises:
            UserError: as in `predict`.
        """
        pairs = self._pairs(user_ids, item_ids, times)
        columns = {"prediction": _by_block(self.predictor, pairs).numpy()}
        if self.record.is_sampled:
            columns["standard_deviation"] = _by_block(self.predictor.deviation, pairs).numpy()
        code = 1 * ~_is_trained(pairs.user, self.record.num_users) + 2 * ~_is_trained(pairs.item, self.record.num_items)
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
        return _by_block(self.predictor.deviation, self._pairs(user_ids, item_ids, times)).numpy()

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
        return _is_trained(self.user_ids.index_of(user_ids), self.record.num_users)

    def trained_items(self, item_ids: Ids) -> NDArray[np.bool_]:
        """Return whether each item has training ratings: (B,) bool."""
        return _is_trained(self.item_ids.index_of(item_ids), self.record.num_items)

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
        features = self._items.filter(regex=f"^{FEATURE_PREFIX}").select_dtypes(exclude="number")
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
    ) -> pd.DataFrame:
        """Recommend the k items with the highest predicted ratings.

        Args:
            user_id: the user's id, as in the data.
            k: number of items, at least 1; fewer if fewer are left.
            candidates: ids of the items to choose from; those without training ratings are ignored. None: all items.
            exclude_seen: whether to leave out the items that the user has rated in any part.
            unknown: `error` refuses a user without training ratings; `baseline` ranks by the bias baseline.

        Returns:
            rank from 1, item_id, title (if the data had titles), rating (predicted), best first.

        Raises:
            UserError: k is below 1, or the user or every candidate has no training ratings.
        """
        if np.ndim(user_id) > 0:
            raise UserError(f"user_id must be one id, got {user_id!r}; recommend_to_all takes several")
        self._check_request([user_id], k=k, unknown=unknown)
        user, chosen = int(self.user_ids.index_of([user_id])[0]), self._candidates(candidates)
        if exclude_seen:
            chosen = np.setdiff1d(chosen, self._rows["item"][self._rows["user"] == user])
        best = top_k(self.predictor, user=user, candidates=torch.from_numpy(chosen), k=k)
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
    ) -> pd.DataFrame:
        """Recommend to several users, like `recommend`; users with nothing left to recommend are absent.

        Args:
            k: see `recommend`.
            user_ids: ids of the users, in the order of the result; None: all with training ratings, in index order.
            candidates: see `recommend`.
            exclude_seen: see `recommend`.
            unknown: see `recommend`. With `baseline` and without user_ids, all users of the run are included.

        Returns:
            user_id and the columns of `recommend`, best first.

        Raises:
            UserError: as in `recommend`.
        """
        return pd.concat(
            self.recommend_by_block(
                k=k, user_ids=user_ids, candidates=candidates, exclude_seen=exclude_seen, unknown=unknown
            ),
            ignore_index=True,
        )

    def recommend_by_block(
        self, *, k: int, user_ids: Ids | None, candidates: Ids | None, exclude_seen: bool, unknown: str
    ) -> Iterator[pd.DataFrame]:
        """Recommend like `recommend_to_all` in bounded memory; yields the result in blocks, at least one."""
        if user_ids is None:
            user = np.arange(len(self.user_ids) if unknown == "baseline" else self.record.num_users, dtype=np.int32)
            ids = self.user_ids.ids[user]
        else:
            user = self.user_ids.index_of(user_ids)
            ids = self.user_ids.ids[user] if (user != UNKNOWN).all() else pd.Index(user_ids).astype(str)
        self._check_request([] if user_ids is None else user_ids, k=k, unknown=unknown)
        chosen, seen = self._candidates(candidates), None
        if exclude_seen:
            rated = (self._rows[name].to_numpy() for name in ("user", "item"))
            seen = SeenItems(*rated, num_users=len(self.user_ids))
        first = 0
        for best in top_k_of_users(self.predictor, user, candidates=chosen, seen=seen, k=k):
            row, column = np.nonzero(best >= 0)
            item = best[row, column]
            row, first = row + first, first + len(best)
            pairs = Ratings(user=user[row], item=item, rating=np.zeros(len(item), dtype=np.float32))
            listed = self._listed(item, _by_block(self.predictor, pairs).numpy()).assign(rank=column + 1)
            listed.insert(0, "user_id", ids[row])
            yield listed

    def _check_request(self, user_ids: Ids, *, k: int, unknown: str) -> None:
        if k < 1:
            raise UserError(f"k must be at least 1, got {k}")
        if unknown not in ("error", "baseline"):
            raise UserError(f"unknown must be one of error, baseline, got {unknown}")
        if unknown == "error":
            self.check_users(user_ids, place=lambda row: "user_ids" if len(user_ids) > 1 else "user_id")

    def _candidates(self, item_ids: Ids | None) -> NDArray[np.int32]:
        """Return the sorted, distinct indices of those items that have training ratings."""
        if item_ids is None:
            return np.arange(self.record.num_items, dtype=np.int32)
        item = np.unique(self.item_ids.index_of(item_ids))
        item = item[_is_trained(item, self.record.num_items)]
        if len(item) == 0:
            raise UserError(f"none of the {len(item_ids):,} candidates has training ratings")
        return item

    def similar(self, item: int | str, *, k: int, candidates: Ids | None = None) -> pd.DataFrame:
        """List the k items most similar to an item, by the model's factors.

        `recommend.similar.ItemSpace` has the equation. The items' biases do not count.

        Args:
            item: the item's id or title, as in `find_items`.
            k: number of items, at least 1; fewer if fewer are left.
            candidates: ids of the items to choose from; those without training ratings are ignored. None: all items.

        Returns:
            rank from 1, item_id, title (if the data had titles), similarity (from −1 to 1, float32), standard_deviation
            (over the samples of optimizer=gibbs, float32; no column for other fits) and shared_raters (users with
            training ratings of both, int64), most similar first.

        Raises:
            UserError: k is below 1, no or several items have the name, the item or every candidate has no training
                ratings, or the model has no factors.
        """
        if np.ndim(item) > 0:
            raise UserError(f"item must be one id or title, got {item!r}")
        if k < 1:
            raise UserError(f"k must be at least 1, got {k}")
        (index,) = self.find_items([item], place=lambda _: "item").tolist()
        if index >= self.record.num_items:
            raise UserError(f"item: {self.name_of(index)} has no training ratings, so it has no factors")
        if self._item_space.is_empty:
            raise UserError(f"run: {self.record.model} has no factors, so it finds no similar items")
        chosen, shared = np.setdiff1d(self._candidates(candidates), index), self._shared_raters(index)
        found = self._item_space.similarities(index, shared_raters=torch.from_numpy(shared))
        mean, deviation = found.mean.numpy(), found.deviation.numpy()
        best = chosen[np.argsort(-mean[chosen], kind="stable")[:k]]
        listed = self._listed(best, mean[best]).rename(columns={"rating": "similarity"})
        if self.record.is_sampled:
            listed["standard_deviation"] = deviation[best]
        return listed.assign(shared_raters=shared[best])

    @cached_property
    def _item_space(self) -> ItemSpace:
        user_count, item_count = (torch.from_numpy(count) for count in self.train_counts)
        num_users, num_items = self.record.num_users, self.record.num_items
        return ItemSpace(self.predictor.model, user_count=user_count[:num_users], item_count=item_count[:num_items])

    def _shared_raters(self, item: int) -> NDArray[np.int64]:
        """Count the users who have training ratings of an item and of each other: (num_items,)."""
        user, items = self._train_pairs
        is_rater = np.zeros(self.record.num_users, dtype=np.bool_)
        is_rater[user[items == item]] = True
        return np.bincount(items[is_rater[user]], minlength=self.record.num_items)

    def rated_highest(self, user_id: int | str, *, k: int) -> pd.DataFrame:
        """List the k items that a user rated highest in any part, with the columns of `recommend`; empty if unknown."""
        user = self.user_ids.index_of([user_id])[0]
        rows = self._rows[self._rows["user"] == user].nlargest(k, "rating", keep="first")
        return self._listed(rows["item"].to_numpy(), rows["rating"].to_numpy())

    def _listed(self, item: NDArray[np.int32], rating: NDArray[np.float32]) -> pd.DataFrame:
        listed = pd.DataFrame({"rank": np.arange(1, len(item) + 1), "item_id": self.item_ids.ids[item]})
        if "title" in self._items:
            listed["title"] = self._items["title"].array[item]
        return listed.assign(rating=rating)

    def predictions(self, part: str) -> Predictions:
        """Predict the rows of a part, val or test, with the model and with the bias baseline."""
        predicted, (user_count, item_count) = self.predicted(part), self.train_counts
        return Predictions(
            rating=predicted.rows.rating,
            model=predicted.model.numpy(),
            baseline=predicted.baseline.numpy(),
            user_count=user_count[predicted.rows.user],
            item_count=item_count[predicted.rows.item],
        )

    def predicted(self, part: str) -> PredictedRows:
        """Predict the rows of a part, val or test, once: later calls return the same arrays."""
        if part not in self._predicted:
            self._predicted[part] = self._predict_rows(self.part(part))
        return self._predicted[part]

    def _predict_rows(self, rows: Ratings) -> PredictedRows:
        model, baseline = _by_block(self.predictor, rows), _by_block(self._bias_baseline, rows)
        return PredictedRows(rows, model=model, baseline=baseline)

    def write_predictions(self, parts: Sequence[str]) -> None:
        """Keep the ratings and the predictions of some parts, val and test, in predictions.parquet."""
        predicted = {part: self.predicted(part) for part in parts}
        write_predictions(
            self.folder, {part: (each.rows.rating, each.model.numpy()) for part, each in predicted.items()}
        )

    def evaluate(
        self,
        ratings: Frame | None = None,
        *,
        columns: Mapping[str, str] | None = None,
        parts: Sequence[str] = ("val", "test"),
    ) -> dict[str, float]:
        """Evaluate the model and the baselines on the run's own validation and test rows, or on other ratings.

        A row is cold if its user or item has no training ratings, else warm. If there are cold rows, the result also
        has their number, and separate metrics for cold and warm rows.

        Args:
            ratings: data frame with the columns user_id, item_id and rating; None: the run's own rows.
            columns: other column names by role: user, item, rating, and timestamp for a model that uses days.
            parts: which of the run's own parts to evaluate.

        Returns:
            val/mse …, test/mse …, baseline/mean/test/mse …, baseline/bias/test/mse …; test/cold/rows, test/cold/mse …,
            test/warm/mse …; no entries for a part without rows. A run with samples also has test/coverage_90: the share
            of warm rows whose rating lies in the 90 % interval of its prediction. The tags of other ratings have no
            part: mse …, baseline/bias/mse ….

        Raises:
            UserError: a column or a cell of the data frame is invalid.
        """
        if ratings is not None:
            return self._evaluate_rows("", self._predict_rows(self._rows_of(ratings, columns or {})))
        metrics: dict[str, float] = {}
        for part in parts:
            metrics |= self._evaluate_rows(f"{part}/", self.predicted(part))
        return metrics

    def _rows_of(self, ratings: Frame, columns: Mapping[str, str]) -> Ratings:
        """Read the rows of a data frame."""
        if unknown := sorted(columns.keys() - set(DEFAULT_COLUMNS._fields)):
            raise UserError(f"columns: unknown role {unknown[0]!r}{did_you_mean(unknown[0], DEFAULT_COLUMNS._fields)}")
        read = read_frame(ratings, DEFAULT_COLUMNS._replace(**columns))
        return replace(self._pairs(read.user_ids, read.item_ids, read.times), rating=read.rating)

    def _evaluate_rows(self, prefix: str, predicted: PredictedRows) -> dict[str, float]:
        """Evaluate rows, and the warm and cold ones among them separately; the prefix begins all tags."""
        metrics: dict[str, float] = {}
        is_warm = _is_trained(predicted.rows.user, self.record.num_users)
        is_warm &= _is_trained(predicted.rows.item, self.record.num_items)
        groups = {prefix: predicted}
        if not is_warm.all():
            metrics[f"{prefix}cold/rows"] = int((~is_warm).sum())
            groups |= {f"{prefix}warm/": predicted.take(is_warm), f"{prefix}cold/": predicted.take(~is_warm)}
        for group, rows in groups.items():
            if len(rows.rows) > 0:
                metrics |= self._metrics_of(group, rows)
        if self.record.is_sampled and is_warm.any():
            metrics[f"{prefix}coverage_90"] = self._coverage(predicted.take(is_warm))
        return metrics

    @torch.inference_mode()
    def _metrics_of(self, prefix: str, predicted: PredictedRows) -> dict[str, float]:
        """Evaluate the model and the baselines on a group of rows, by tag."""
        rating = torch.from_numpy(predicted.rows.rating)
        systems = {
            "": predicted.model,
            "baseline/bias/": predicted.baseline,
            "baseline/mean/": self.predictor.clip(self.predictor.baseline.mean).repeat(len(rating)),
        }
        kinds = find_metrics([each["target"] for each in self.record.metrics])
        return {
            f"{system}{prefix}{metric.name}": metric(values, rating)
            for system, values in systems.items()
            for metric in kinds
        }

    def _bias_baseline(self, user: Tensor, item: Tensor, _: Tensor | None) -> Tensor:
        return self.predictor.clip(self.predictor.baseline(user, item))

    def _coverage(self, predicted: PredictedRows) -> float:
        """Compute the share of ratings within 1.645 standard deviations of their prediction."""
        rows = predicted.rows
        distance = (_by_block(self.predictor.score, rows) - torch.from_numpy(rows.rating)).abs()
        inside = distance <= WITHIN_90 * _by_block(self.predictor.deviation, rows)
        return int(inside.sum()) / len(rows)


def _in_utc(times: Times) -> NDArray[np.datetime64]:
    """Convert times to datetime64 in UTC; those without a time zone are in UTC."""
    given = pd.Index(times)
    if given.inferred_type not in ("datetime64", "datetime", "date", "empty"):
        raise UserError(f"times must be dates with times, such as datetime64, got {given.inferred_type} values")
    return pd.DatetimeIndex(pd.to_datetime(given, utc=True)).tz_localize(None).to_numpy()


def _is_trained(index: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """Return whether each index of a user or item is below `count`, the number of those with training ratings."""
    return (index >= 0) & (index < count)


def _by_block(predict: Callable[[Tensor, Tensor, Tensor | None], Tensor], rows: Ratings) -> Tensor:
    """Predict rows block by block, with bounded memory: (N,) float32."""
    with torch.inference_mode():
        return torch.cat([torch.empty(0), *(predict(user, item, day) for user, item, _, day in Blocks(rows))])
