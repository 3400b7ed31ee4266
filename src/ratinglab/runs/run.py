"""A trained run, loaded from its folder: predictions, metrics and evaluation."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.batches import Batch
from ratinglab.errors import UserError, did_you_mean
from ratinglab.evaluation.metrics import find_metrics
from ratinglab.evaluation.predictions import Predictions
from ratinglab.evaluation.ranking import LABELS, OrderOptions, check_threshold
from ratinglab.files import user_path
from ratinglab.formats.frames import Frame, frame_file, read_frame
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_options import ColumnOptions
from ratinglab.formats.text_tables import TextTable, read_text_table
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.held_out_lists import HeldOutLists
from ratinglab.recommend.item_space import ItemSpace
from ratinglab.runs.folded_in import FoldedIn, explain_trained, fold_in
from ratinglab.runs.new_ratings import DEFAULT_COLUMNS, Given, Pairs, RatingColumns, find_columns, read_given
from ratinglab.runs.recommender import Recommender, order_options
from ratinglab.runs.record import read_metrics, read_record
from ratinglab.runs.storage import load_predictor, read_part, write_predictions
from ratinglab.runs.trained_model import Ids, is_trained, predict_by_block

FRAME_COLUMNS = ColumnOptions(*DEFAULT_COLUMNS, timestamp=None)
"""Default column names of a data frame of ratings to evaluate."""
POPULARITY = "baseline/popularity/"
"""Prefix of the tags of the most popular items' lists."""
WITHIN_90 = 1.6449
"""Half-width of the 90% interval of a normal distribution, in standard deviations."""


@dataclass(eq=False, repr=False)
class Run(Recommender):
    """A trained run, loaded from its folder.

    Attributes:
        best_epoch: number of epochs that trained the best weights.
    """

    best_epoch: int
    _predictions: dict[str, Predictions] = field(default_factory=dict, init=False, repr=False)

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
        if self.record.predicts_scores:
            lengths = self.record.list_lengths()
            labels = {f"{name}@{k}": f"{label}@{k}" for k in lengths for name, label in LABELS.items()}
            systems = {"": self.record.model, POPULARITY: "most popular"}
        metrics = self.metrics
        rows = {
            (label, system): {labels[name]: metrics.get(f"{prefix}{part}/{name}", np.nan) for name in labels}
            for part, label in (("val", "validation"), ("test", "test"))
            for prefix, system in systems.items()
            if any(f"{prefix}{part}/{name}" in metrics for name in labels)
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
    def _train_pairs(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        user, item = read_part(self.folder, "train", ["user", "item"])
        return user, item

    def fold_in(
        self,
        ratings: Mapping[int | str, float] | Frame | None = None,
        *,
        user_id: int | str | None = None,
        users: Mapping[str, Any] | Frame | None = None,
        items: Frame | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> FoldedIn:
        """Add users, items and ratings that the model was not trained on, without retraining it.

        Computes the weights of a new user with the item weights fixed, and of a new item with the user weights fixed:
        in closed form, in each sample for a run of optimizer=gibbs. A known user keeps the training ratings and
        adds the given ones. All other weights stay unchanged. See `FoldInSolver` for the equations.

        Args:
            ratings: one user's ratings by item id or title; or a data frame with the columns item_id, rating and
                user_id; without user_id, all are one user's. A rating of an unknown item folds the item in if its user
                has training ratings.
            user_id: id of the user if the ratings have no user_id; None: a new user.
            users: features of users that the model uses: one user's values by name, or a data frame with user_id.
            items: features and titles of new items: a data frame with item_id.
            columns: other column names of the data frames by role: user, item, rating. A column may also have the name
                that it has in the run's own data.

        Returns:
            an object that predicts for these users and items, recommends to them, and explains.

        Raises:
            UserError: a rating is invalid or off the scale, an item is unknown or rated twice, or the model has no
                factors.
        """
        named, roles = columns or {}, RatingColumns._fields
        if unknown := sorted(set(named) - set(roles)):
            raise UserError(f"columns: unknown role {unknown[0]!r}{did_you_mean(unknown[0], roles)}")
        given = read_given(
            _pairs_or_table(ratings, name="ratings"),
            _pairs_or_table(users, name="users"),
            None if items is None else _table(items, name="items"),
            columns_of=lambda names: find_columns(names, named=named, own=self.record.column_names),
            keys=("users", "items"),
        )
        if user_id is not None and given.ratings is not None and given.ratings.user_ids is not None:
            raise UserError(f"user_id must be None for ratings with users, got {user_id!r}")
        return fold_in(self, given, user_id=user_id)

    def explain(self, user_id: int | str, item_ids: Ids, *, k: int = 3) -> pd.DataFrame:
        """List, for each item, the user's training ratings that most changed its prediction.

        Solves again for the user's weights, with the item weights fixed; see `FoldedIn.explain`. For an equation with
        days, this excludes the user's drift, so that the explained prediction differs from `predict`.

        Raises:
            UserError: the user or an item has no training ratings.
        """
        self.check_users([user_id], place=lambda _: "user_id")
        return fold_in(self, Given(None, None, None), user_id=user_id).explain(item_ids, k=k)

    def explain_list(self, user_id: int | str, item_ids: Ids, *, k: int) -> pd.DataFrame:
        """Explain like `explain`, but return no rows for items or users without training ratings."""
        return explain_trained(self, user_id, item_ids, k=k)

    def similar(self, item: int | str, *, k: int, candidates: Ids | None = None) -> pd.DataFrame:
        """List the k items most similar to an item, by the model's factors.

        `recommend.item_space.ItemSpace` has the equation. It ignores the items' biases.

        Args:
            item: the item's id or title, as in `find_items`.
            k: maximum number of items, at least 1.
            candidates: ids of the items to choose from; items without training ratings are ignored. None: all items.

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

    def predictions(self, part: str) -> Predictions:
        """Predict the rows of a part, val or test. Later calls return the same arrays.

        Raises:
            UserError: the model predicts scores.
        """
        self.check_predicts_ratings()
        if part not in self._predictions:
            self._predictions[part] = self._predict_rows(self.part(part))
        return self._predictions[part]

    def _predict_rows(self, rows: Ratings) -> Predictions:
        model, baseline = predict_by_block(self.predictor, rows), predict_by_block(self._bias_baseline, rows)
        return Predictions(rows, model=model.numpy(), baseline=baseline.numpy())

    def write_predictions(self, parts: Sequence[str]) -> None:
        """Write the ratings and predictions of parts, val and test, to predictions.parquet."""
        predictions = {part: self.predictions(part) for part in parts}
        write_predictions(self.folder, {part: (each.rows.rating, each.model) for part, each in predictions.items()})

    def evaluate(
        self,
        ratings: Frame | None = None,
        *,
        columns: Mapping[str, str] | None = None,
        parts: Sequence[str] = ("val", "test"),
    ) -> dict[str, float]:
        """Evaluate the model and the baselines on the run's own validation and test rows, or on other ratings.

        A row is cold if its user or item has no training ratings, else warm. If there are cold rows, the result
        includes their number and separate metrics for cold and warm rows.

        Args:
            ratings: data frame with the columns user_id, item_id and rating; None: the run's own rows.
            columns: other column names by role: user, item, rating, and timestamp for a model that uses days.
            parts: the run's own parts to evaluate.

        Returns:
            val/mse …, test/mse …, baseline/mean/test/mse …, baseline/bias/test/mse …; test/cold/rows, test/cold/mse …,
            test/warm/mse …; no entries for a part without rows. A run with samples also has test/coverage_90: the share
            of warm rows whose rating lies in the 90% interval of its prediction. The tags of other ratings have no
            part: mse …, baseline/bias/mse …. A model that predicts scores has no metrics of ratings: {}.

        Raises:
            UserError: a column or a cell of the data frame is invalid.
        """
        if self.record.predicts_scores and ratings is None:
            return {}
        if ratings is not None:
            return self._evaluate_rows("", self._predict_rows(self._rows_of(ratings, columns or {})))
        metrics: dict[str, float] = {}
        for part in parts:
            metrics |= self._evaluate_rows(f"{part}/", self.predictions(part))
        return metrics

    def evaluate_ranking(
        self,
        *,
        k: int,
        by: str = "expected_gain",
        threshold: float | None = None,
        parts: Sequence[str] = ("val", "test"),
    ) -> dict[str, float]:
        """Measure the model's lists of k items, and lists of popular items, against the run's validation and test rows.

        Candidates are the items with training ratings that the user has not rated in training or, for test, in
        validation. The metrics are means over the users with training ratings and at least one relevant rating in the
        part; `evaluation.ranking` has the equations.

        Args:
            k: number of items per list, at least 1.
            by: order of the lists; see `recommend`.
            threshold: lowest rating that makes an item relevant; see `recommend`.
            parts: the run's own parts to measure on.

        Returns:
            test/ndcg@10 and so on for precision, recall, map, mrr, hit_rate, coverage and novelty, and the same of the
            most popular items as baseline/popularity/test/ndcg@10 …; numbers of users: test/ranked_users (measured),
            test/users_without_relevant (left out: none of their ratings in the part is relevant) and
            test/users_without_training (left out: a relevant rating, but no training ratings). No entries for a part
            without rows, and no metrics for one without users.

        Raises:
            UserError: k is below 1, no held-out rating reaches the threshold, or the run cannot order lists so.
        """
        if k < 1:
            raise UserError(f"k must be at least 1, got {k}")
        order = order_options(by, threshold)
        check_threshold(self.liked_from(threshold), [self._held_out[part].rating for part in parts])
        return self._measure_lists([k], order, parts=parts)

    def evaluate_own_ranking(self, *, parts: Sequence[str]) -> dict[str, float]:
        """Measure lists by the run's own options, as in `evaluate_ranking`; {} if they request none."""
        return self._measure_lists(self.record.list_lengths(), self.record.order_options(), parts=parts)

    @cached_property
    def _held_out(self) -> dict[str, Ratings]:
        """The held-out rows by part, without days."""
        return {part: Ratings(*read_part(self.folder, part, ["user", "item", "rating"])) for part in ("val", "test")}

    def _history(self, part: str) -> Batch | None:
        """Read the rows from which a part's users are folded in, with ratings in stars; None without such rows."""
        columns = read_part(self.folder, f"{part}_history", ["user", "item", "rating"])
        user, item, rating = map(torch.from_numpy, columns)
        return Batch(user, item, self.record.stars.to_stars(rating), day=None) if len(user) > 0 else None

    def _measure_lists(self, lengths: Sequence[int], order: OrderOptions, *, parts: Sequence[str]) -> dict[str, float]:
        """Measure the lists of the model and of the most popular items on parts, by tag."""
        metrics: dict[str, float] = {}
        for part in parts if lengths else ():
            rows, val = self._held_out[part], self._held_out["val"]
            if len(rows) == 0:
                continue
            lists = HeldOutLists(
                rows,
                train=RatedPairs(*self._train_pairs),
                rated_between=RatedPairs(val.user, val.item) if part == "test" else None,
                history=self._history(part),
                num_users=self.record.num_users,
                num_items=self.record.num_items,
                threshold=self.liked_from(order.threshold),
            )
            metrics[f"{part}/ranked_users"] = len(lists.users)
            metrics[f"{part}/users_without_relevant"] = lists.num_without_relevant
            metrics[f"{part}/users_without_training"] = lists.num_without_training
            for k in lengths:
                measured = lists.measure(self.predictor, k=k, order=self.order(order))
                systems = {"": measured, POPULARITY: lists.measure_popularity(k=k)}
                for system, found in systems.items():
                    metrics |= {f"{system}{part}/{name}@{k}": value for name, value in found.items()}
        return metrics

    def _rows_of(self, ratings: Frame, columns: Mapping[str, str]) -> Ratings:
        """Read the rows of a data frame."""
        if unknown := sorted(columns.keys() - vars(FRAME_COLUMNS).keys()):
            raise UserError(f"columns: unknown role {unknown[0]!r}{did_you_mean(unknown[0], vars(FRAME_COLUMNS))}")
        read = read_frame(ratings, replace(FRAME_COLUMNS, **columns))
        return replace(self._pairs(read.user_ids, read.item_ids, read.times), rating=read.rating)

    def _evaluate_rows(self, prefix: str, predictions: Predictions) -> dict[str, float]:
        """Evaluate rows, and warm and cold rows separately; all tags begin with the prefix."""
        metrics: dict[str, float] = {}
        is_warm = is_trained(predictions.rows.user, self.record.num_users)
        is_warm &= is_trained(predictions.rows.item, self.record.num_items)
        groups = {prefix: predictions}
        if not is_warm.all():
            metrics[f"{prefix}cold/rows"] = int((~is_warm).sum())
            groups |= {f"{prefix}warm/": predictions.take(is_warm), f"{prefix}cold/": predictions.take(~is_warm)}
        for group, members in groups.items():
            if len(members.rows) > 0:
                metrics |= self._metrics_of(group, members)
        if self.record.is_sampled and is_warm.any():
            metrics[f"{prefix}coverage_90"] = self._coverage(predictions.rows.take(is_warm))
        return metrics

    @torch.inference_mode()
    def _metrics_of(self, prefix: str, predictions: Predictions) -> dict[str, float]:
        """Evaluate the model and the baselines on a group of rows, by tag."""
        rating = torch.from_numpy(predictions.rows.rating)
        systems = {
            "": torch.from_numpy(predictions.model),
            "baseline/bias/": torch.from_numpy(predictions.baseline),
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

    def _coverage(self, rows: Ratings) -> float:
        """Compute the share of ratings within 1.645 standard deviations of their prediction."""
        distance = (predict_by_block(self.predictor.predict_unclipped, rows) - torch.from_numpy(rows.rating)).abs()
        inside = distance <= WITHIN_90 * predict_by_block(self.predictor.deviation, rows)
        return int(inside.sum()) / len(rows)


def _pairs_or_table(values: Mapping[Any, Any] | Frame | None, *, name: str) -> Pairs | TextTable | None:
    """Convert a mapping of single values to pairs, and anything else to a table."""
    if values is None:
        return None
    if isinstance(values, Mapping) and all(np.ndim(value) == 0 for value in values.values()):
        return list(values.items())
    return _table(values, name=name)


def _table(frame: Frame, *, name: str) -> TextTable:
    if isinstance(frame, str | Path):
        raise UserError(f"{name} must be a data frame or a mapping, got {str(frame)!r}; read the file first")
    return read_text_table(frame_file(frame, name=name), TextDialect(",", "utf-8"), header=True)
