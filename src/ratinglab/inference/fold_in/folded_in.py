"""New users, new items, and known users with additional ratings, folded into a run without retraining it.

`given_ratings` reads ratings and features, and looks them up in the run. `rows_to_fold_in` collects the users and items
to fold in, with their ratings and features by index. `FoldInSolver` solves for their weights. `extended_model` adds the
items to the run's model, which then serves the other users, and makes a second model with only the folded-in users.
"""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ratinglab.batches import Batch
from ratinglab.errors import UserError
from ratinglab.formats.text_tables import TextTable
from ratinglab.inference.fold_in.extended_model import extended_predictor, with_items, with_users
from ratinglab.inference.fold_in.given_ratings import (
    DEFAULT_COLUMNS,
    Pairs,
    find_columns,
    find_user,
    has_users,
    look_up_ratings,
    read_features,
)
from ratinglab.inference.fold_in.rows_to_fold_in import RowsToFoldIn, rows_to_fold_in
from ratinglab.inference.lists import ListOptions, Recommender, check_k
from ratinglab.inference.run_tables import Ids, is_trained
from ratinglab.inference.trained_model import BASES, TrainedModel
from ratinglab.ratings.ids import UNKNOWN
from ratinglab.runs.record import RunRecord
from ratinglab.stars import is_liked

FOLDED_IN = "folded_in"
"""Basis of predictions of pairs with a folded-in user or item."""


class FoldedIn(Recommender):
    """Users and items folded into a run; see `Run.fold_in`.

    Methods accept folded-in users and all other users of the run. `user_id` is optional if exactly one user was folded
    in. Predictions for folded-in users do not depend on the day.

    Attributes:
        user_ids: ids of the folded-in users, as text.
        item_ids: ids of the folded-in items, as text.
        is_anonymous: whether a single user was folded in without an id.
        notes: notes on ratings and users that were left out.
        model: the model with the folded-in items, for the other users.
        users_model: the model of the folded-in users; None without any.
    """

    def __init__(
        self, run: TrainedModel, users: RowsToFoldIn, items: RowsToFoldIn, ratings: pd.DataFrame, *, is_anonymous: bool
    ) -> None:
        """Solve for the rows of the users and items; `ratings` is the result of `look_up_ratings`."""
        self.user_ids, self.item_ids, self.is_anonymous = users.ids, items.ids, is_anonymous
        self.notes = tuple(_notes(run.record, ratings, users, items))
        self._users, self.model = users, run
        self.users_model: TrainedModel | None = None
        if run.record.predicts_scores:
            rows = Batch(users.rows.row, users.rows.other, users.rows.rating, day=None)
            self.users_model = with_users(run, users, ratings, run.predictor.with_users(rows, num_users=len(users.ids)))
            return
        self._solver = solver = run.solvers["user"]
        self._item_rows = solver.other.on_last_day().repeated(solver.draws)
        if items.ids:
            self._item_rows = self._item_rows.extended(run.solvers["item"].solve(items.rows))
            user_rows = solver.own.on_last_day().repeated(solver.draws)
            predictor = extended_predictor(run, user_rows, self._item_rows, items=items)
            self.model = with_items(run, items, ratings, predictor)
        if users.ids:
            predictor = extended_predictor(self.model, solver.solve(users.rows), self._item_rows, users=users)
            self.users_model = with_users(self.model, users, ratings, predictor)

    def __repr__(self) -> str:
        return f"FoldedIn({len(self.user_ids):,} users, {len(self.item_ids):,} new items)"

    def predict(self, item_ids: Ids, *, user_ids: Ids | None = None) -> NDArray[np.float32]:
        """Predict the ratings of items by the folded-in user, or of pairs of users and items.

        Args:
            item_ids: (B,) ids as in the data.
            user_ids: (B,) ids of users; None: the only folded-in user.

        Returns:
            (B,) float32, clipped to the rating scale unless the run was trained with clip_predictions=false.

        Raises:
            UserError: user_ids is missing and the number of folded-in users is not 1, or its length differs.
        """
        return self.predict_table(item_ids, user_ids=user_ids)["prediction"].to_numpy()

    def predict_table(self, item_ids: Ids, *, user_ids: Ids | None = None) -> pd.DataFrame:
        """Predict like `predict`, with the standard deviation and basis of each prediction.

        Returns:
            prediction and standard_deviation (float32), in rating units; basis: folded_in if the user or the item was
            folded in and the equation predicts, else as in `Run.predict_table`. The standard deviation is NaN where the
            bias baseline predicts, and for other users of a run without samples.

        Raises:
            UserError: as in `predict`.
        """
        if np.ndim(item_ids) != 1:
            raise UserError(f"item_ids must be a list of ids, got {item_ids!r}")
        if user_ids is None:
            user_ids = [self._one_user(None)] * len(item_ids)
        if len(user_ids) != len(item_ids):
            raise UserError(f"predict needs as many users as items, got {len(user_ids)} and {len(item_ids)}")
        users, items = pd.Series(user_ids, dtype=object), pd.Series(item_ids, dtype=object)
        folded = self.users_model
        is_folded = np.zeros(len(users), dtype=np.bool_) if folded is None else folded.tables.trained_users(users)
        num_own = self.model.record.num_items - len(self.item_ids)
        columns = {"prediction": np.float32, "standard_deviation": np.float32, "basis": object}
        table = pd.DataFrame({name: np.full(len(users), np.nan, kind) for name, kind in columns.items()})
        for model, mask in ((folded, is_folded), (self.model, ~is_folded)):
            if model is not None and mask.any():
                block = model.predict_table(users[mask], items[mask]).astype({"basis": object})
                is_new = is_folded[mask] | (model.tables.item_ids.index_of(items[mask]) >= num_own)
                block.loc[(block["basis"] == "known").to_numpy() & is_new, "basis"] = FOLDED_IN
                table.loc[mask, block.columns] = block.set_index(table.index[mask])
        return table.astype({"basis": pd.CategoricalDtype([*BASES, FOLDED_IN])})

    def lists_by_block(self, options: ListOptions, *, user_ids: Ids | None = None) -> Iterator[pd.DataFrame]:
        """Yield the rows of `recommend_to_all` in blocks of bounded memory, at least one block."""
        models = list(self._models_of(user_ids))
        for model, ids in models:
            for block in model.lists_by_block(options, user_ids=ids):
                if len(models) > 1:  # the ids of one model can be integers, those of the other text
                    block["user_id"] = block["user_id"].astype(str)
                if "standard_deviation" not in block and not model.record.predicts_scores:
                    block["standard_deviation"] = np.float32(np.nan)
                yield block

    def _models_of(self, user_ids: Ids | None) -> Iterator[tuple[TrainedModel, Ids | None]]:
        """Yield the users in their order, with the model that predicts for them; None: all folded-in users."""
        folded = self.users_model
        if folded is None or user_ids is None or len(user_ids) == 0:
            yield folded or self.model, user_ids
            return
        ids = pd.Series(user_ids, dtype=object)
        is_folded = folded.tables.trained_users(ids)
        borders = [0, *(np.flatnonzero(np.diff(is_folded)) + 1), len(ids)]
        for start, stop in itertools.pairwise(borders):
            yield (folded if is_folded[start] else self.model), ids.iloc[start:stop]

    def explain(self, item_ids: Ids, *, user_id: int | str | None = None, k: int = 3) -> pd.DataFrame:
        """List, for each item, the user's ratings that most changed its prediction.

        The change is the prediction minus the prediction without the rating, with item weights and noise precision
        unchanged, before clipping: see `FoldInSolver.changes`.

        Args:
            item_ids: (B,) ids of items with training ratings, or folded in.
            user_id: a folded-in user; None: the only one.
            k: maximum number of ratings per item, at least 1.

        Returns:
            item_id, rated_item_id, rated_title (if the data had titles), rating and change, in the order of item_ids,
            the largest absolute change first.

        Raises:
            UserError: the user was not folded in, an item has no row, or k is below 1.
        """
        self.model.record.check_predicts_ratings()
        user_id = self._one_user(user_id)
        folded = self.users_model
        if folded is None or not folded.tables.has_user(user_id):
            raise UserError(f"user {user_id} was not folded in; Run.explain explains users of the run")
        if np.ndim(item_ids) != 1:
            raise UserError(f"item_ids must be a list of ids, got {item_ids!r}")
        check_k(k)
        tables = folded.tables
        is_known = tables.trained_items(item_ids)
        if not is_known.all():
            name = str(pd.Index(item_ids)[int(np.argmin(is_known))])
            raise UserError(f"item_ids: item {name!r} has no training ratings and was not folded in")
        item = tables.item_ids.index_of(item_ids)
        number = int(tables.user_ids.index_of([user_id])[0])
        own = self._users.rows.single(number)
        features = self._solver.features(self._item_rows, torch.from_numpy(item).long())
        changes = self._solver.changes(own, features).numpy() * folded.record.stars.unit
        best = np.argsort(-np.abs(changes), axis=1, kind="stable")[:, :k]
        row, other = np.repeat(np.arange(len(item)), best.shape[1]), own.other.numpy()[best.ravel()]
        columns = {"item_id": tables.item_ids.ids[item[row]], "rated_item_id": tables.item_ids.ids[other]}
        if tables.titles is not None:
            columns["rated_title"] = tables.titles[other]
        rating = self._users.rating[self._users.rows.row == number].numpy()[best.ravel()]
        return pd.DataFrame(columns | {"rating": rating, "change": np.take_along_axis(changes, best, axis=1).ravel()})

    def model_of(self, user_id: int | str) -> TrainedModel:
        """Return the model that predicts for a user."""
        folded = self.users_model
        return folded if folded is not None and folded.tables.has_user(user_id) else self.model

    def _one_user(self, user_id: int | str | None) -> int | str:
        """Return the id; None: that of the only folded-in user."""
        if user_id is not None:
            return user_id
        if len(self.user_ids) != 1:
            raise UserError(f"set user_id: {len(self.user_ids):,} users were folded in")
        return self.user_ids[0]


def fold_in(
    model: TrainedModel,
    *,
    ratings: Pairs | TextTable | None = None,
    users: Pairs | TextTable | None = None,
    items: TextTable | None = None,
    user_id: int | str | None = None,
    columns: Mapping[str, str | None] | None = None,
    keys: tuple[str, str] = ("users", "items"),
) -> FoldedIn:
    """Fold ratings and features into the model of a run; see `Run.fold_in`.

    If nothing is given, solves again for the user of `user_id` from the training ratings. `keys` are the names of the
    arguments `users` and `items` in messages.
    """
    tables, record = model.tables, model.record

    def columns_of(table: TextTable) -> dict[str, str]:
        return find_columns(table.names, named=columns or {}, own=record.provenance["columns"])

    rating_columns = columns_of(ratings) if isinstance(ratings, TextTable) else DEFAULT_COLUMNS
    names_users = isinstance(ratings, TextTable) and has_users(ratings.names, rating_columns)
    has_user_features = users is not None and not isinstance(users, TextTable)
    if names_users and user_id is not None:
        raise UserError(f"user_id must be None for ratings with users, got {user_id!r}")
    if names_users and has_user_features:
        raise UserError(f"{keys[0]} must be a table with the users of ratings, got the features of one user")
    is_of_one_user = ratings is not None or has_user_features or (users is None and items is None)
    single_user = find_user(tables.user_ids, user_id) if is_of_one_user and not names_users else None
    looked_up = look_up_ratings(tables, ratings, rating_columns, single_user)
    user_features = read_features(users, tables.user_ids, columns_of, single_user=single_user, key=keys[0], side="user")
    item_features = read_features(items, tables.item_ids, columns_of, key=keys[1], side="item")
    user_rows = rows_to_fold_in(model, "user", looked_up, user_features, single_user=single_user)
    item_rows = rows_to_fold_in(model, "item", looked_up, item_features)
    if record.predicts_scores and item_rows.ids:
        raise UserError(
            f"items: {record.model} folds in users, not items, and {item_rows.ids[0]} has no training ratings"
        )
    if not user_rows.ids and not item_rows.ids:
        raise UserError("nothing to fold in: no rating is of an item, or by a user, with training ratings")
    return FoldedIn(model, user_rows, item_rows, looked_up, is_anonymous=single_user is not None and user_id is None)


def explain_list(
    model: TrainedModel, folded: FoldedIn | None, user_id: int | str, item_ids: Ids, *, k: int
) -> pd.DataFrame:
    """Explain a list by the ratings of a folded-in user, as in `FoldedIn.explain`, or by another user's in training.

    Users and items without any have no rows. `model` is the run's own; `folded` is what was folded into it.
    """
    if folded is not None and folded.model_of(user_id) is folded.users_model and len(item_ids) > 0:
        return folded.explain(item_ids, user_id=user_id, k=k)
    item_ids = pd.Series(item_ids, dtype=object)[model.tables.trained_items(item_ids)]
    if len(item_ids) == 0 or not model.tables.has_user(user_id):
        return pd.DataFrame(dict.fromkeys(("item_id", "rated_item_id", "rating", "change"), np.empty(0)))
    return fold_in(model, user_id=user_id).explain(item_ids, k=k)


def _notes(record: RunRecord, rows: pd.DataFrame, users: RowsToFoldIn, items: RowsToFoldIn) -> Iterator[str]:
    """Describe the folded-in items, and the ratings and users that were left out."""
    if items.ids:
        yield f"new items folded in: {len(items.ids):,}, such as {items.ids[0]}"
    is_trained_user = is_trained(rows["user_index"].to_numpy(), record.num_users)
    left_out = rows[~is_trained_user & ~is_trained(rows["item_index"].to_numpy(), record.num_items)]
    if len(left_out) > 0:
        yield (
            f"ratings left out, since neither the item nor the user has training ratings: {len(left_out):,}, such as "
            f"that of {left_out['item'].iloc[0]}"
        )
    lost = sorted(set(left_out["user"]) - set(users.ids))
    if lost:
        reason = "since they have rated no item with training ratings"
        yield f"users left out, {reason}: {len(lost):,}, such as {lost[0]}"
    if record.predicts_scores:
        yield from _notes_on_likes(record, rows, users)


def _notes_on_likes(record: RunRecord, rows: pd.DataFrame, users: RowsToFoldIn) -> Iterator[str]:
    """Describe the new users without a rating that counts as a like, for a ranking model."""
    min_stars = record.model_options["min_stars"]
    if min_stars is None:
        return
    liked = is_liked(record.stars.to_stars(rows["rating"].to_numpy()), min_stars)
    with_likes = set(rows["user"][liked & is_trained(rows["item_index"].to_numpy(), record.num_items)])
    is_new = users.run_index == UNKNOWN
    without = [user for user, new in zip(users.ids, is_new, strict=True) if new and user not in with_likes]
    if without:
        lowest = record.stars.to_rating(min_stars)
        yield (
            f"users without a rating of at least {lowest:g} (model.min_stars), who get the most popular items, with "
            f"scores of 0: {len(without):,}, such as {without[0]}"
        )
