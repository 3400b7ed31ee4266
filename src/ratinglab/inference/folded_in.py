"""New users, new items, and known users with additional ratings, folded into a run without retraining it.

`given_ratings` reads ratings and features, and looks them up in the run. `rows_to_fold_in` collects the users and items
to fold in, with their ratings and features by index. `FoldInSolver` solves for their weights. `extended_recommender`
makes two recommenders, both with the folded-in items: one for the folded-in users, one for all other users of the run.
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
from ratinglab.inference.extended_recommender import build_extended_predictor, with_items, with_users
from ratinglab.inference.given_ratings import (
    DEFAULT_COLUMNS,
    Pairs,
    choose_column_names,
    has_user_column,
    look_up_ratings,
    look_up_user,
    read_given_features,
)
from ratinglab.inference.lists import ListOptions, Recommender, check_k
from ratinglab.inference.run_tables import Ids, check_ids, check_pairs, is_trained
from ratinglab.inference.trained_recommender import BASES, TrainedRecommender
from ratinglab.inference.users_or_items import RowsToFoldIn, collect_rows
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
        folded_users: recommender for the folded-in users; None without any.
        other_users: recommender for all other users of the run, with the folded-in items.
    """

    def __init__(
        self,
        run: TrainedRecommender,
        users: RowsToFoldIn,
        items: RowsToFoldIn,
        ratings: pd.DataFrame,
        *,
        is_anonymous: bool,
    ) -> None:
        """Solve for the rows of the users and items; `ratings` is the result of `look_up_ratings`."""
        self.user_ids, self.item_ids, self.is_anonymous = users.ids, items.ids, is_anonymous
        self.notes = tuple(_notes(run.record, ratings, users, items))
        self._users, self.other_users = users, run
        self.folded_users: TrainedRecommender | None = None
        if run.record.predicts_scores:
            new_rows = users.new_rows
            rows = Batch(new_rows.row, new_rows.other, new_rows.rating, day=None)
            predictor = run.predictor.with_users(rows, num_users=len(users.ids))
            self.folded_users = with_users(run, users, ratings, predictor)
            return
        self._solver = solver = run.solvers["user"]
        self._item_rows = solver.fixed_rows.select_last_day().repeat_samples(solver.num_draws)
        if items.ids:
            self._item_rows = self._item_rows.append(run.solvers["item"].solve(items.new_rows))
            user_rows = solver.trained_rows.select_last_day().repeat_samples(solver.num_draws)
            predictor = build_extended_predictor(run, user_rows, self._item_rows, items=items)
            self.other_users = with_items(run, items, ratings, predictor)
        if users.ids:
            user_rows = solver.solve(users.new_rows)
            predictor = build_extended_predictor(self.other_users, user_rows, self._item_rows, users=users)
            self.folded_users = with_users(self.other_users, users, ratings, predictor)

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
            UserError: item_ids and user_ids differ in length, user_ids is None although not exactly one user was folded
                in, or the model predicts scores.
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
        check_ids(item_ids, name="item_ids")
        if user_ids is None:
            user_ids = [self._resolve_user(None)] * len(item_ids)
        check_pairs(user_ids, item_ids)
        users, items = pd.Series(user_ids, dtype=object), pd.Series(item_ids, dtype=object)
        folded = self.folded_users
        is_folded = np.zeros(len(users), dtype=np.bool_) if folded is None else folded.tables.are_users_trained(users)
        num_run_items = self.other_users.record.num_items - len(self.item_ids)
        dtypes = {"prediction": np.float32, "standard_deviation": np.float32, "basis": object}
        table = pd.DataFrame({name: np.full(len(users), np.nan, dtype) for name, dtype in dtypes.items()})
        for recommender, mask in ((folded, is_folded), (self.other_users, ~is_folded)):
            if recommender is not None and mask.any():
                block = recommender.predict_table(users[mask], items[mask]).astype({"basis": object})
                is_new = is_folded[mask] | (recommender.tables.item_ids.index_of(items[mask]) >= num_run_items)
                block.loc[(block["basis"] == "known").to_numpy() & is_new, "basis"] = FOLDED_IN
                table.loc[mask, block.columns] = block.set_index(table.index[mask])
        return table.astype({"basis": pd.CategoricalDtype([*BASES, FOLDED_IN])})

    def lists_by_block(self, options: ListOptions, *, user_ids: Ids | None = None) -> Iterator[pd.DataFrame]:
        groups = list(self._split_by_recommender(user_ids))
        for recommender, ids in groups:
            for block in recommender.lists_by_block(options, user_ids=ids):
                if len(groups) > 1:  # the ids of one recommender can be integers, those of the other text
                    block["user_id"] = block["user_id"].astype(str)
                if "standard_deviation" not in block and "prediction" in block:
                    block["standard_deviation"] = np.float32(np.nan)
                yield block

    def _split_by_recommender(self, user_ids: Ids | None) -> Iterator[tuple[TrainedRecommender, Ids | None]]:
        """Yield consecutive users of one recommender, in the order of `user_ids`; None: all folded-in users."""
        folded = self.folded_users
        if folded is None or user_ids is None or len(user_ids) == 0:
            yield folded or self.other_users, user_ids
            return
        ids = pd.Series(user_ids, dtype=object)
        is_folded = folded.tables.are_users_trained(ids)
        borders = [0, *(np.flatnonzero(np.diff(is_folded)) + 1), len(ids)]
        for start, stop in itertools.pairwise(borders):
            yield (folded if is_folded[start] else self.other_users), ids.iloc[start:stop]

    def explain(self, item_ids: Ids, *, user_id: int | str | None = None, k: int = 3) -> pd.DataFrame:
        """List, for each item, the user's ratings that most changed its prediction.

        The change is the prediction minus the prediction without the rating, with item weights and noise precision
        unchanged, before clipping: see `FoldInSolver.rating_influences`.

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
        self.other_users.record.check_predicts_ratings()
        user_id = self._resolve_user(user_id)
        folded = self.folded_users
        if folded is None or not folded.tables.is_user_trained(user_id):
            raise UserError(f"user {user_id} was not folded in; Run.explain explains users of the run")
        check_ids(item_ids, name="item_ids")
        check_k(k)
        tables = folded.tables
        is_known = tables.are_items_trained(item_ids)
        if not is_known.all():
            name = str(pd.Index(item_ids)[int(np.argmin(is_known))])
            raise UserError(f"item_ids: item {name!r} has no training ratings and was not folded in")
        item = tables.item_ids.index_of(item_ids)
        number = int(tables.user_ids.index_of([user_id])[0])
        user_row = self._users.new_rows.extract_row(number)
        regressors = self._solver.compute_regressors(self._item_rows, torch.from_numpy(item).long())
        changes = self._solver.rating_influences(user_row, regressors).numpy() * folded.record.stars.unit
        best = np.argsort(-np.abs(changes), axis=1, kind="stable")[:, :k]
        row, other = np.repeat(np.arange(len(item)), best.shape[1]), user_row.other.numpy()[best.ravel()]
        columns = {"item_id": tables.item_ids.ids[item[row]], "rated_item_id": tables.item_ids.ids[other]}
        if tables.titles is not None:
            columns["rated_title"] = tables.titles[other]
        rating = self._users.rating[self._users.new_rows.row == number].numpy()[best.ravel()]
        return pd.DataFrame(columns | {"rating": rating, "change": np.take_along_axis(changes, best, axis=1).ravel()})

    def recommender_of(self, user_id: int | str) -> TrainedRecommender:
        """Return the recommender that serves a user."""
        folded = self.folded_users
        return folded if folded is not None and folded.tables.is_user_trained(user_id) else self.other_users

    def _resolve_user(self, user_id: int | str | None) -> int | str:
        """Return the id; None: that of the only folded-in user."""
        if user_id is not None:
            return user_id
        if len(self.user_ids) != 1:
            raise UserError(f"set user_id: {len(self.user_ids):,} users were folded in")
        return self.user_ids[0]


def fold_in(
    run: TrainedRecommender,
    *,
    ratings: Pairs | TextTable | None = None,
    users: Pairs | TextTable | None = None,
    items: TextTable | None = None,
    user_id: int | str | None = None,
    columns: Mapping[str, str | None] | None = None,
    keys: tuple[str, str] = ("users", "items"),
) -> FoldedIn:
    """Fold ratings and features into a run; see `Run.fold_in`.

    Without ratings, users and items, solves again for the user `user_id` from the training ratings. `keys` are the
    names of the arguments `users` and `items` in messages.
    """
    tables, record = run.tables, run.record

    def choose_columns(table: TextTable) -> dict[str, str]:
        return choose_column_names(table.names, requested=columns or {}, run_columns=record.provenance["columns"])

    rating_columns = choose_columns(ratings) if isinstance(ratings, TextTable) else DEFAULT_COLUMNS
    has_users = isinstance(ratings, TextTable) and has_user_column(ratings.names, rating_columns)
    has_user_features = users is not None and not isinstance(users, TextTable)
    if has_users and user_id is not None:
        raise UserError(f"user_id must be None for ratings with users, got {user_id!r}")
    if has_users and has_user_features:
        raise UserError(f"{keys[0]} must be a table with the users of ratings, got the features of one user")
    has_one_user = ratings is not None or has_user_features or (users is None and items is None)
    single_user = look_up_user(tables.user_ids, user_id) if has_one_user and not has_users else None
    indexed_ratings = look_up_ratings(tables, ratings, rating_columns, single_user)
    user_features = read_given_features(
        users, tables.user_ids, choose_columns, single_user=single_user, key=keys[0], side="user"
    )
    item_features = read_given_features(items, tables.item_ids, choose_columns, key=keys[1], side="item")
    user_rows = collect_rows(run, "user", indexed_ratings, user_features, single_user=single_user)
    item_rows = collect_rows(run, "item", indexed_ratings, item_features)
    if record.predicts_scores and item_rows.ids:
        raise UserError(
            f"items: {record.model} folds in users, not items, and {item_rows.ids[0]} has no training ratings"
        )
    if not user_rows.ids and not item_rows.ids:
        raise UserError("nothing to fold in: no rating is of an item, or by a user, with training ratings")
    is_anonymous = single_user is not None and user_id is None
    return FoldedIn(run, user_rows, item_rows, indexed_ratings, is_anonymous=is_anonymous)


def explain_list(
    run: TrainedRecommender, folded: FoldedIn | None, user_id: int | str, item_ids: Ids, *, k: int
) -> pd.DataFrame:
    """Explain a list by a folded-in user's ratings, as in `FoldedIn.explain`, or by another user's training ratings.

    Items without training ratings get no rows in the result; for a user without training ratings it is empty.
    `folded` is what was folded into `run`, or None.
    """
    if folded is not None and folded.recommender_of(user_id) is folded.folded_users and len(item_ids) > 0:
        return folded.explain(item_ids, user_id=user_id, k=k)
    item_ids = pd.Series(item_ids, dtype=object)[run.tables.are_items_trained(item_ids)]
    if len(item_ids) == 0 or not run.tables.is_user_trained(user_id):
        return pd.DataFrame(dict.fromkeys(("item_id", "rated_item_id", "rating", "change"), np.empty(0)))
    return fold_in(run, user_id=user_id).explain(item_ids, k=k)


def _notes(record: RunRecord, ratings: pd.DataFrame, users: RowsToFoldIn, items: RowsToFoldIn) -> Iterator[str]:
    """Describe the folded-in items, and the ratings and users that were left out."""
    if items.ids:
        yield f"new items folded in: {len(items.ids):,}, such as {items.ids[0]}"
    is_user_trained = is_trained(ratings["user_index"].to_numpy(), record.num_users)
    is_item_trained = is_trained(ratings["item_index"].to_numpy(), record.num_items)
    left_out = ratings[~is_user_trained & ~is_item_trained]
    if len(left_out) > 0:
        yield (
            f"ratings left out, since neither the item nor the user has training ratings: {len(left_out):,}, such as "
            f"that of {left_out['item'].iloc[0]}"
        )
    users_left_out = sorted(set(left_out["user"]) - set(users.ids))
    if users_left_out:
        reason = "since they have rated no item with training ratings"
        yield f"users left out, {reason}: {len(users_left_out):,}, such as {users_left_out[0]}"
    if record.predicts_scores:
        yield from _notes_on_likes(record, ratings, users)


def _notes_on_likes(record: RunRecord, ratings: pd.DataFrame, users: RowsToFoldIn) -> Iterator[str]:
    """Describe the users who have neither training rows nor a rating that counts as a like, for a ranking model."""
    min_stars = record.model_options["min_stars"]
    if min_stars is None:
        return
    is_like = is_liked(record.stars.to_stars(ratings["rating"].to_numpy()), min_stars)
    is_like &= is_trained(ratings["item_index"].to_numpy(), record.num_items)
    users_with_likes = set(ratings["user"][is_like])
    is_known = is_trained(users.run_index, record.num_users)
    without_likes = [user for user in itertools.compress(users.ids, ~is_known) if user not in users_with_likes]
    if without_likes:
        lowest = record.stars.to_rating(min_stars)
        yield (
            f"users without a rating of at least {lowest:g} (model.min_stars), who get the most popular items, with "
            f"scores of 0: {len(without_likes):,}, such as {without_likes[0]}"
        )
