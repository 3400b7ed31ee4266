"""Evaluation of a run on its own held-out rows, and on other ratings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.batches import Batch
from ratinglab.errors import UserError, did_you_mean
from ratinglab.evaluation.metrics import find_metrics
from ratinglab.evaluation.predictions import Predictions
from ratinglab.evaluation.ranking import OrderOptions, check_threshold
from ratinglab.formats.frames import Frame, read_frame
from ratinglab.formats.text_options import ColumnOptions
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.held_out_lists import HeldOutLists
from ratinglab.runs.new_ratings import DEFAULT_COLUMNS
from ratinglab.runs.recommender import Recommender, check_k, order_options
from ratinglab.runs.storage import read_part, write_predictions
from ratinglab.runs.trained_model import is_trained, predict_by_block

FRAME_COLUMNS = ColumnOptions(*DEFAULT_COLUMNS, timestamp=None)
"""Default column names of a data frame of ratings to evaluate."""
POPULARITY = "baseline/popularity/"
"""Prefix of the tags of the most popular items' lists."""
WITHIN_90 = 1.6449
"""Half-width of the 90% interval of a normal distribution, in standard deviations."""


@dataclass(eq=False, repr=False)
class EvaluatedRun(Recommender):
    """A run that is measured on the rows it held out, or on other ratings."""

    _predictions: dict[str, Predictions] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def _train_pairs(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        user, item = read_part(self.folder, "train", ["user", "item"])
        return user, item

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
        check_k(k)
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
        user_ids, item_ids, rating, times = read_frame(ratings, replace(FRAME_COLUMNS, **columns))
        return replace(self._pairs(user_ids, item_ids, times), rating=rating)

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
