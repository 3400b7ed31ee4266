"""A trained run, loaded from its folder."""

import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean
from ratinglab.evaluation.metrics import Predictions
from ratinglab.evaluation.ranking import METRIC_LABELS
from ratinglab.files import user_path
from ratinglab.formats.frames import Frame, column_names, make_reusable, read_frame
from ratinglab.formats.text_options import ColumnOptions, check_timestamp_format
from ratinglab.inference.fold_in_input import (
    DEFAULT_COLUMNS,
    choose_column_names,
    read_given_data,
    to_pairs_or_table,
    to_table,
)
from ratinglab.inference.folded_in import FoldedIn
from ratinglab.inference.indexed_tables import Ids, check_id
from ratinglab.inference.recommender import SHORT_LIST, Recommender, Times, check_k, parse_order, predict_by_block
from ratinglab.inference.run_evaluation import (
    BASELINES,
    PART_LABELS,
    POPULARITY,
    check_parts,
    evaluate_lists,
    measure_errors,
    measure_lists,
    predict_rows,
)
from ratinglab.inference.run_tables import RunTables
from ratinglab.models.factors import SideSamples
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.fold_in_solver import FoldInSolver
from ratinglab.recommend.item_similarity import ItemSimilarity
from ratinglab.recommend.orders import ExpectedGain
from ratinglab.runs.hydra_files import put_config_dir_on_path
from ratinglab.runs.record import read_metrics, read_record
from ratinglab.runs.storage import read_part
from ratinglab.runs.weights import load_predictor
from ratinglab.sides import SideName


class Run(Recommender):
    """A trained run, loaded from its folder.

    Attributes:
        folder: the run's folder.
        best_epoch: number of epochs that trained the best weights.
        predictor: the model with its best weights and the bias baseline, on the CPU; predicts from indices.
        tables: the ids, items and ratings in the run's folder.
        record: contents of run.json.
    """

    tables: RunTables

    def __init__(self, predictor: Predictor, tables: RunTables, *, best_epoch: int) -> None:
        """Wrap a loaded predictor and its tables; use `load` to read both from a folder."""
        super().__init__(predictor, tables)
        self.folder, self.best_epoch = tables.folder, best_epoch
        self._predictions: dict[str, Predictions] = {}

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Load a run with its best weights.

        Raises:
            UserError: the folder is not a run, or a file is missing, damaged or from another model.
        """
        folder = user_path(str(folder), key="run")
        record = read_record(folder)
        if record.has_own_classes:
            put_config_dir_on_path(folder)
        predictor, best_epoch = load_predictor(record, folder)
        return cls(predictor, RunTables(folder, record), best_epoch=best_epoch)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, model={self.record.model!r})"

    def _repr_html_(self) -> str | None:
        """Show the metrics in a notebook, in a row per part and system. Returns None if there are none."""
        labels = {metric.name: metric.label for metric in self.record.metric_kinds()}
        systems = {"": self.record.model, **BASELINES}
        if self.record.predicts_scores:
            lengths = self.record.list_lengths()
            labels = {f"{name}@{k}": f"{label}@{k}" for k in lengths for name, label in METRIC_LABELS.items()}
            systems = {"": self.record.model, POPULARITY: "most popular"}
        try:
            metrics = self.metrics
        except UserError:  # the run has not finished, or its folder is gone
            return None
        rows = {
            (label, system): {labels[name]: metrics.get(f"{prefix}{part}/{name}", np.nan) for name in labels}
            for part, label in PART_LABELS.items()
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

    @property
    def user_ids(self) -> IdMap:
        """The id of each user index."""
        return self.tables.user_ids

    @property
    def item_ids(self) -> IdMap:
        """The id of each item index."""
        return self.tables.item_ids

    def part(self, name: str) -> Ratings:
        """Read the run's rows of a part: train, val or test."""
        days = ["day"] if self.predictor.model.takes_day else []
        return Ratings(*read_part(self.tables.folder, name, ["user", "item", "rating", *days]))

    def predict(self, user_ids: Ids, item_ids: Ids, *, times: Times | None = None) -> NDArray[np.float32]:
        """Predict the rating of each pair of a user and an item.

        Users and items without training ratings get the bias baseline's prediction: μ + b_i for an unknown user,
        μ + b_u for an unknown item, μ for both.

        Args:
            user_ids: (B,) ids as in the data; 42 and "42" are the same.
            item_ids: (B,) ids as in the data.
            times: (B,) timestamps, for a model that takes days; by default each user's last day with training rows.

        Returns:
            (B,) float32, clipped to the rating scale unless the run was trained with clip_predictions=false.

        Raises:
            UserError: the numbers of users, items and timestamps differ, a timestamp is NaT, the model takes no
                timestamps, or it predicts scores.
        """
        return predict_by_block(self.predictor, self._look_up_pairs(user_ids, item_ids, times)).numpy()

    def predict_table(self, user_ids: Ids, item_ids: Ids, *, times: Times | None = None) -> pd.DataFrame:
        """Predict like `predict`, with the basis of each prediction.

        Returns:
            prediction (float32); standard_deviation (float32, as from `standard_deviation`) for a run of
            optimizer=gibbs; basis: known, or user_unknown, item_unknown or both_unknown if these have no training
            ratings.
        """
        return self._predict_pairs(user_ids, item_ids, times)

    def standard_deviation(self, user_ids: Ids, item_ids: Ids, *, times: Times | None = None) -> NDArray[np.float32]:
        """Compute the standard deviation of each pair's rating around its prediction, for a run of optimizer=gibbs.

        Takes the arguments of `predict`, and raises its errors. If the user has no training rows on a day, the nearest
        day on which the user has training rows takes its place. The deviation then leaves out the user's drift between
        the two days.

        Returns:
            (B,) float32, in rating units, or NaN for a user or item without training ratings.

        Raises:
            UserError: the run has no samples.
        """
        if not self.record.is_sampled:
            raise UserError(f"{self.folder} has no samples, so no standard deviation")
        pairs = self._look_up_pairs(user_ids, item_ids, times)
        return predict_by_block(self.predictor.standard_deviation, pairs).numpy()

    @cached_property
    def _noise_variance(self) -> float:
        """MSE of validation rows or, if there are none, training rows, in squared rating units."""
        rows = self.part("val") or self.part("train")
        return float((predict_by_block(self.predictor, rows) - torch.from_numpy(rows.rating)).double().square().mean())

    def _build_expected_gain(self, threshold: float | None) -> ExpectedGain:
        return ExpectedGain.from_rating_levels(
            self.tables.interest,
            self.tables.rating_levels,
            threshold=self.record.stars.liked_threshold(threshold),
            mse=self._noise_variance,
            stars=self.record.stars,
        )

    def similar(self, item: int | str, *, k: int = SHORT_LIST, candidates: Ids | None = None) -> pd.DataFrame:
        """List the k items most similar to an item, by the model's factors.

        `recommend.item_similarity.ItemSimilarity` has the equation. The similarity ignores the items' biases.

        Args:
            item: the item's id or title. The case, the position of the article and the year need not match.
            k: maximum number of items, at least 1.
            candidates: ids of the items to choose from, by default all. Items without training ratings are ignored.

        Returns:
            The most similar items first, with the columns rank, from 1; item_id; title, if the data had titles;
            similarity, float32, from −1 to 1; standard_deviation, float32, over the samples, for a run of
            optimizer=gibbs; and shared_raters, int64, the number of users with training ratings of both items.

        Raises:
            UserError: k is below 1, the name fits no item or several items, the item or every candidate has no training
                ratings, or the model has no factors.
        """
        if np.ndim(item) > 0:
            raise UserError(f"item must be one id or title, got {item!r}")
        check_k(k)
        tables = self.tables
        (index,) = tables.item_names.find([item], place=lambda _: "item").tolist()
        if index >= self.record.num_items:
            raise UserError(f"item: {tables.item_names.name_of(index)} has no training ratings, so it has no factors")
        if self._item_similarity.is_empty:
            raise UserError(f"run: {self.record.model} has no factors, so it finds no similar items")
        user, rated_item = tables.train_pairs
        is_rater = np.zeros(self.record.num_users, dtype=np.bool_)
        is_rater[user[rated_item == index]] = True
        shared = np.bincount(rated_item[is_rater[user]], minlength=self.record.num_items)
        other_items = np.setdiff1d(tables.candidates(candidates), index)
        similarities = self._item_similarity.similarities(index, shared_raters=torch.from_numpy(shared))
        mean, deviation = (values.numpy() for values in similarities)
        best = other_items[np.argsort(-mean[other_items], kind="stable")[:k]]
        deviations = {"standard_deviation": deviation[best]} if self.record.is_sampled else {}
        return tables.list_items(best, {"similarity": mean[best], **deviations, "shared_raters": shared[best]})

    @cached_property
    def _item_similarity(self) -> ItemSimilarity:
        user_count, item_count = map(torch.from_numpy, self.tables.train_counts)
        return ItemSimilarity(
            self.predictor.model,
            user_count=user_count[: self.record.num_users],
            item_count=item_count[: self.record.num_items],
        )

    def fold_in(
        self,
        ratings: Mapping[int | str, float] | Frame | None = None,
        *,
        user_id: int | str | None = None,
        users: Mapping[str, Any] | Frame | None = None,
        items: Frame | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> FoldedIn:
        """Fold in users, items and ratings that the model was not trained on, without retraining it.

        Solves for the weights of a new user with the item weights fixed, and of a new item with the user weights fixed,
        in closed form; for a run of optimizer=gibbs, in each sample. See `FoldInSolver` for the equations. A ranking
        model scores items from the given ratings. A known user keeps the training ratings and adds the given ones,
        which replace training ratings of the same items. All other weights stay unchanged.

        Args:
            ratings: one user's ratings by item id or title; or a data frame with the columns item_id, rating and
                user_id. Without the column user_id, one user gave all ratings. A rating of an unknown item folds the
                item in if its user has training ratings.
            user_id: id of the user if the ratings have no user_id; by default a new user.
            users: features of users that the model uses: one user's values by name, or a data frame with user_id.
            items: features and titles of new items: a data frame with item_id.
            columns: other column names of the data frames by role: user, item, rating. A column may also have the name
                that it has in the run's own data.

        Returns:
            an object that predicts for these users and items, recommends to them, and explains.

        Raises:
            UserError: a rating is invalid or off the scale, an item is unknown or rated twice, or the model is neither
                a factor equation nor a ranking model.
        """
        _check_roles(columns or {}, DEFAULT_COLUMNS)
        given = read_given_data(
            self.tables,
            ratings=to_pairs_or_table(ratings, name="ratings"),
            users=to_pairs_or_table(users, name="users"),
            items=None if items is None else to_table(items, name="items"),
            user_id=user_id,
            columns=columns,
        )
        if user_id is not None and ratings is not None and given.single_user is None:
            raise UserError(f"user_id must be None for ratings with users, got {user_id!r}")
        return FoldedIn(self, given)

    def explain(self, user_id: int | str, item_ids: Ids, *, k: int = 3) -> pd.DataFrame:
        """List, for each item, the user's training ratings that most changed its prediction.

        Solves for the user's weights again, with the item weights fixed; see `FoldedIn.explain`. For an equation with
        days, this excludes the user's drift, so the explained prediction differs from `predict`.

        Raises:
            UserError: the user or an item has no training ratings.
        """
        check_id(user_id)
        self.tables.check_users([user_id], place=lambda _: "user_id", for_lists=False)
        return self.fold_in(user_id=user_id).explain(item_ids, k=k)

    def explain_list(self, item_ids: Ids, *, user_id: int | str, k: int) -> pd.DataFrame:
        """Explain a list like `explain`, but without the items that have no training ratings.

        The result is empty for a user without training ratings.
        """
        item_ids = pd.Series(item_ids, dtype=object)[self.tables.are_items_trained(item_ids)]
        if len(item_ids) == 0 or not self.knows_user(user_id):
            return pd.DataFrame(dict.fromkeys(("item_id", "rated_item_id", "rating", "change"), np.empty(0)))
        return self.fold_in(user_id=user_id).explain(item_ids, k=k)

    @cached_property
    def solvers(self) -> dict[SideName, FoldInSolver]:
        """The solvers for the weights of folded-in users and of folded-in items.

        Raises:
            UserError: the model has no factors.
        """
        users, items = self._side_rows("user"), self._side_rows("item")
        return {"user": FoldInSolver(users, items, is_item=False), "item": FoldInSolver(items, users, is_item=True)}

    def _side_rows(self, side: SideName) -> SideSamples:
        """Return the weights of a side, with the noise precision of a rating, in stars.

        Without samples, the noise is constant.
        """
        rows = self.predictor.model.side_samples(side)
        if rows is None:
            raise UserError(f"model={self.record.model} cannot fold in or explain ratings: only factor equations can")
        if rows.samples[0].noise_precision is not None:
            return rows
        precision = self.record.stars.unit**2 / self._noise_variance if side == "user" else 1.0
        precisions = torch.full((rows.num_owners,), precision)
        return rows._replace(samples=[sample._replace(noise_precision=precisions) for sample in rows.samples])

    def predictions(self, part: str) -> Predictions:
        """Predict the rows of a part, val or test, in the order of `part`. Later calls return the same arrays.

        Raises:
            UserError: the model predicts scores.
        """
        self.record.check_predicts_ratings()
        if part not in self._predictions:
            self._predictions[part] = predict_rows(self, self.part(part))
        return self._predictions[part]

    def evaluate(
        self,
        ratings: Frame | None = None,
        *,
        columns: Mapping[str, str] | None = None,
        timestamp_format: str | None = None,
        parts: Sequence[str] = ("val", "test"),
    ) -> dict[str, float]:
        """Evaluate the model and the baselines on the run's own validation and test rows, or on other ratings.

        A row is cold if its user or item has no training ratings, and warm otherwise. If there are cold rows, the
        result includes their number and separate metrics for cold and warm rows.

        Args:
            ratings: data frame to evaluate in place of the run's own rows. Its columns are user_id, item_id and rating,
                or have the names of the run's own data. A model that uses days reads the timestamps in the column
                that has them in the run's data. If the frame lacks that column, the model predicts for each user's last
                day in training.
            columns: other column names by role: user, item, rating, and timestamp for a model that uses days.
            timestamp_format: format of the data frame's timestamps; `ratinglab.train` has the values. By default, it is
                that of the run's own data if the column has the same name, and is detected otherwise.
            parts: the run's own parts to evaluate: train, val or test.

        Returns:
            The metrics by tag: val/mse …, test/mse …, baseline/mean/test/mse …, baseline/bias/test/mse …; if there are
            cold rows, also test/cold/rows, test/cold/mse … and test/warm/mse …. A run with samples also has
            test/coverage_90: the share of warm rows whose rating lies in its 90% prediction interval. A part that has
            no rows has no metrics. The tags for a data frame name no part: mse …, baseline/bias/mse …. The result is {}
            for a model that predicts scores, because it has no metrics of ratings.

        Raises:
            UserError: a column or a cell of the data frame is invalid, ratings are given to a model that predicts
                scores, or there is no such part.
        """
        if ratings is not None:
            rows = self._read_frame(ratings, columns or {}, timestamp_format)
            return measure_errors(self, predict_rows(self, rows), prefix="")
        metrics: dict[str, float] = {}
        check_parts(parts, valid=("train", *PART_LABELS))
        for part in parts:
            if not self.record.predicts_scores:
                metrics |= measure_errors(self, self.predictions(part), prefix=f"{part}/")
        return metrics

    def _read_frame(self, ratings: Frame, columns: Mapping[str, str], timestamp_format: str | None) -> Ratings:
        """Read a data frame, and look up its users and items."""
        check_timestamp_format(timestamp_format, key="timestamp_format")
        _check_roles(columns, [*DEFAULT_COLUMNS, "timestamp"])
        ratings, own = make_reusable(ratings, name="ratings"), self.record.provenance
        names = column_names(ratings, name="ratings")
        chosen = choose_column_names(names, self.record, requested=columns)
        own_timestamp = own["columns"].get("timestamp")
        if self.predictor.model.takes_day and own_timestamp in names:
            chosen.setdefault("timestamp", own_timestamp)
        if timestamp_format is None and chosen.get("timestamp") == own_timestamp:
            timestamp_format = own["timestamp_format"]
        frame_columns = ColumnOptions(timestamp=chosen.pop("timestamp", None), **chosen)
        user_ids, item_ids, rating, times = read_frame(ratings, frame_columns, timestamp_format=timestamp_format)
        return replace(self._look_up_pairs(user_ids, item_ids, times), rating=rating)

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
        part. The equations are in `evaluation.ranking`.

        Args:
            k: number of items per list, at least 1.
            by: order of the lists; `recommend` has the values.
            threshold: lowest rating that makes an item relevant; `recommend` has the default.
            parts: the run's own parts to measure on.

        Returns:
            The metrics by tag: test/ndcg@10, and likewise precision, recall, map, mrr, hit_rate, coverage and novelty.
            The same metrics of the most popular items are baseline/popularity/test/ndcg@10 and so on. There are three
            numbers of users: test/ranked_users were measured; test/users_without_relevant have no relevant rating in
            the part; test/users_without_training have a relevant rating, but no training ratings. A part that has no
            rows has no entries. A part in which no user was measured has only the numbers of users.

        Raises:
            UserError: k is below 1, a part is not val or test, no held-out rating reaches the threshold, or the run
                cannot order lists that way.
        """
        check_k(k)
        return evaluate_lists(self, k, parse_order(by, threshold), parts=parts)

    def evaluate_own_ranking(self, *, parts: Sequence[str]) -> dict[str, float]:
        """Measure the lists that the run's options request, by the metrics of `evaluate_ranking`, or {} if none.

        Raises:
            UserError: a part is not val or test.
        """
        check_parts(parts)
        lengths, order = self.record.list_lengths(), self.record.order_options()
        if not lengths:
            return {}
        return measure_lists(self, lengths, order, parts=parts)


def _check_roles(columns: Mapping[str, str], roles: Collection[str]) -> None:
    """Raise UserError if `columns` names a role that is not one of `roles`."""
    if unknown := sorted(set(columns) - set(roles)):
        raise UserError(f"columns: unknown role {unknown[0]!r}{did_you_mean(unknown[0], roles)}")
