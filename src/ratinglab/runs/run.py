"""A trained run, loaded from its folder."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean
from ratinglab.evaluation.ranking import LABELS
from ratinglab.files import user_path
from ratinglab.formats.frames import Frame, frame_file
from ratinglab.formats.text_dialects import TextDialect
from ratinglab.formats.text_tables import TextTable, read_text_table
from ratinglab.recommend.item_space import ItemSpace
from ratinglab.runs.evaluated_run import POPULARITY, EvaluatedRun
from ratinglab.runs.folded_in import FoldedIn, explain_trained, fold_in
from ratinglab.runs.new_ratings import Given, Pairs, RatingColumns, find_columns, read_given
from ratinglab.runs.recommender import SHORT_LIST, check_k
from ratinglab.runs.record import read_metrics, read_record
from ratinglab.runs.trained_model import Ids
from ratinglab.runs.weights import load_predictor


@dataclass(eq=False, repr=False)
class Run(EvaluatedRun):
    """A trained run, loaded from its folder.

    Attributes:
        best_epoch: number of epochs that trained the best weights.
    """

    best_epoch: int

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

    def similar(self, item: int | str, *, k: int = SHORT_LIST, candidates: Ids | None = None) -> pd.DataFrame:
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
        check_k(k)
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
    return read_text_table(frame_file(frame, name=name), TextDialect(",", "utf-8"))
