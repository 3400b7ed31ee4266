"""New users, new items, and known users with additional ratings, folded into a run without retraining it.

A fold-in has three stages. `read_given_data` checks the given ratings and features, and looks them up in the run.
`collect_users_and_items` finds the users and items to fold in, each with ratings and features by index. `FoldedIn` then
predicts for them: a ranking model takes the users' ratings as they are; for a model with factors, `FoldInSolver` solves
for the weights.
"""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ratinglab.batches import Batch
from ratinglab.errors import UserError, format_count
from ratinglab.inference.extended_run import ExtendedRun, TablesWithItems, TablesWithUsers, extend_predictor
from ratinglab.inference.fold_in_input import GivenData
from ratinglab.inference.indexed_tables import Ids, IndexedTables, check_ids, check_pairs
from ratinglab.inference.new_rows import collect_users_and_items, notes_on_fold_in
from ratinglab.inference.recommender import BASES, ListOptions, Recommender, check_k

if TYPE_CHECKING:
    from ratinglab.inference.run import Run

FOLDED_IN = "folded_in"
"""Basis of predictions of pairs with a folded-in user or item."""


class FoldedIn(ExtendedRun):
    """Users and items folded into a run; see `Run.fold_in`.

    All methods but `explain` also accept all other users of the run. The user is optional if exactly one was folded in,
    so `predict`, `predict_table` and `explain` take the items first and the users by keyword. Predictions for folded-in
    users do not depend on the day.

    Attributes:
        folded_user_ids: ids of the folded-in users, as text.
        folded_item_ids: ids of the folded-in items, as text.
        is_anonymous: whether a single user was folded in without an id.
        notes: notes on the folded-in items, and on what was left out.
        folded_users: recommender for the folded-in users, or None if no user was folded in.
        predictor: predicts for all other users of the run, including their ratings of the folded-in items.
        tables: the ids, items and ratings of all other users, including the folded-in items.
    """

    def __init__(self, run: "Run", given: GivenData) -> None:
        """Fold given ratings and features into a run.

        Raises:
            UserError: there is nothing to fold in, the model is neither a factor equation nor a ranking model, or it is
                a ranking model and an item is new.
        """
        users, items = collect_users_and_items(run, given)
        self.folded_user_ids, self.folded_item_ids, self.is_anonymous = users.ids, items.ids, given.is_anonymous
        self.notes = tuple(notes_on_fold_in(run.record, given.ratings, users, items))
        self._users = users
        tables: IndexedTables = run.tables
        predictor, user_predictor = run.predictor, None
        if run.record.predicts_scores:
            observed = users.observations
            rows = Batch(observed.row, observed.other, observed.rating, day=None)
            user_predictor = predictor.with_users(rows, num_users=len(users.ids))
        else:
            self._solver = run.solvers["user"]
            self._item_rows = self._solver.fixed_rows.repeat_samples(self._solver.num_draws)
            if items.ids:
                self._item_rows = self._item_rows.append(run.solvers["item"].solve(items.observations))
                user_rows = self._solver.trained_rows.repeat_samples(self._solver.num_draws)
                predictor = extend_predictor(predictor, items, user_rows, self._item_rows)
                tables = TablesWithItems(run.tables, items, given.ratings)
            if users.ids:
                user_rows = self._solver.solve(users.observations)
                user_predictor = extend_predictor(predictor, users, user_rows, self._item_rows)
        super().__init__(run, predictor, tables)
        self.folded_users: Recommender | None = None
        if user_predictor is not None:
            self.folded_users = ExtendedRun(run, user_predictor, TablesWithUsers(tables, users, given.ratings))

    def __repr__(self) -> str:
        users = format_count(len(self.folded_user_ids), "user")
        items = format_count(len(self.folded_item_ids), "new item")
        return f"FoldedIn({users}, {items})"

    def predict(self, item_ids: Ids, *, user_ids: Ids | None = None) -> NDArray[np.float32]:
        """Predict the ratings of items by the folded-in user, or of pairs of users and items, like `Run.predict`.

        Args:
            item_ids: (B,) ids as in the data.
            user_ids: (B,) ids of users; by default the only folded-in user.

        Raises:
            UserError: item_ids and user_ids differ in length, user_ids is None but the number of folded-in users is
                not 1, or the model predicts scores.
        """
        return self.predict_table(item_ids, user_ids=user_ids)["prediction"].to_numpy()

    def predict_table(self, item_ids: Ids, *, user_ids: Ids | None = None) -> pd.DataFrame:
        """Predict like `predict`, with the standard deviation and basis of each prediction.

        Returns:
            prediction and standard_deviation (float32), in rating units; basis: folded_in if the user or the item was
            folded in and the equation predicts, else one of BASES. The standard deviation is NaN where the
            bias baseline predicts and, if no item was folded in, for other users of a run without samples.
        """
        check_ids(item_ids, name="item_ids")
        if user_ids is None:
            user_ids = [self._resolve_user(None)] * len(item_ids)
        check_pairs(user_ids, item_ids)
        users, items = pd.Series(user_ids, dtype=object), pd.Series(item_ids, dtype=object)
        is_folded, num_run_items = self._are_folded_in(users), self._run.record.num_items
        dtypes = {"prediction": np.float32, "standard_deviation": np.float32, "basis": object}
        table = pd.DataFrame({name: np.full(len(users), np.nan, dtype) for name, dtype in dtypes.items()})
        for recommender, mask in ((self.folded_users, is_folded), (self, ~is_folded)):
            if recommender is not None and mask.any():
                block = recommender._predict_pairs(users[mask], items[mask]).astype({"basis": object})
                is_new = is_folded[mask] | (recommender.tables.item_ids.index_of(items[mask]) >= num_run_items)
                block.loc[(block["basis"] == "known").to_numpy() & is_new, "basis"] = FOLDED_IN
                table.loc[mask, block.columns] = block.set_index(table.index[mask])
        return table.astype({"basis": pd.CategoricalDtype([*BASES, FOLDED_IN])})

    def _are_folded_in(self, user_ids: Ids) -> NDArray[np.bool_]:
        """Return whether each user was folded in: (B,) bool."""
        folded = self.folded_users
        return np.zeros(len(user_ids), np.bool_) if folded is None else folded.tables.are_users_trained(user_ids)

    def lists_by_block(self, options: ListOptions, *, user_ids: Ids | None = None) -> Iterator[pd.DataFrame]:
        """Yield the rows of `recommend_to_all` in blocks; see `Recommender.lists_by_block`."""
        groups = list(self._group_users(user_ids))
        for folded, ids in groups:
            make_lists = super().lists_by_block if folded is None else folded.lists_by_block
            for block in make_lists(options, user_ids=ids):
                if len(groups) > 1:  # the ids of the folded-in users can be text while the run's are integers
                    block["user_id"] = block["user_id"].astype(str)
                if "standard_deviation" not in block and "prediction" in block:
                    block["standard_deviation"] = np.float32(np.nan)
                yield block

    def _group_users(self, user_ids: Ids | None) -> Iterator[tuple[Recommender | None, Ids | None]]:
        """Yield groups of consecutive users, with `folded_users` if they were folded in, else with None.

        `user_ids` are by default all folded-in users or, if there are none, all users of the run.
        """
        if self.folded_users is None or user_ids is None or len(user_ids) == 0:
            yield self.folded_users, user_ids
            return
        ids = pd.Series(user_ids, dtype=object)
        is_folded = self._are_folded_in(ids)
        borders = [0, *(np.flatnonzero(np.diff(is_folded)) + 1), len(ids)]
        for start, stop in itertools.pairwise(borders):
            yield self.folded_users if is_folded[start] else None, ids.iloc[start:stop]

    def rated_highest(self, user_id: int | str, *, k: int) -> pd.DataFrame:
        """List the k items that a user rated highest, in the run or in the given ratings; see `Run.rated_highest`."""
        if self.folded_users is not None and self.folded_users.knows_user(user_id):
            return self.folded_users.rated_highest(user_id, k=k)
        return super().rated_highest(user_id, k=k)

    def knows_user(self, user_id: int | str) -> bool:
        """Return whether a user has training ratings or was folded in."""
        return bool(self._are_folded_in([user_id])[0]) or super().knows_user(user_id)

    def explain(self, item_ids: Ids, *, user_id: int | str | None = None, k: int = 3) -> pd.DataFrame:
        """List, for each item, the user's ratings that most changed its prediction.

        The change is the prediction minus the prediction without the rating, with item weights and noise precision
        unchanged, before clipping: see `FoldInSolver.rating_influences`.

        Args:
            item_ids: (B,) ids of items with training ratings, or folded in.
            user_id: a folded-in user, by default the only one.
            k: maximum number of ratings per item, at least 1.

        Returns:
            item_id, rated_item_id, rated_title (if the data had titles), rating and change, in the order of item_ids,
            the largest absolute change first.

        Raises:
            UserError: the user was not folded in, an item has no row, or k is below 1.
        """
        self.record.check_predicts_ratings()
        user_id = self._resolve_user(user_id)
        folded = self.folded_users
        if folded is None or not folded.knows_user(user_id):
            raise UserError(f"user {user_id} was not folded in; Run.explain explains users of the run")
        check_ids(item_ids, name="item_ids")
        check_k(k)
        tables = folded.tables
        is_known = tables.are_items_trained(item_ids)
        if not is_known.all():
            name = str(pd.Index(item_ids)[int(np.argmin(is_known))])
            raise UserError(f"item_ids: item {name!r} has no training ratings and was not folded in")
        item = tables.item_ids.index_of(item_ids)
        (user,) = tables.user_ids.index_of([user_id]).tolist()
        observed, index = self._users.observations, torch.from_numpy(item).long()
        influences = self._solver.rating_influences(observed.extract_row(user), self._item_rows, index)
        changes = self.record.stars.unit * influences.numpy()
        rated_item, rating = (column[observed.row == user].numpy() for column in (observed.other, self._users.rating))
        largest = np.argsort(-np.abs(changes), axis=1, kind="stable")[:, :k]
        row, rated = np.repeat(np.arange(len(item)), largest.shape[1]), largest.ravel()
        columns = {"item_id": tables.item_ids.ids[item[row]], "rated_item_id": tables.item_ids.ids[rated_item[rated]]}
        titles = {} if tables.titles is None else {"rated_title": tables.titles[rated_item[rated]]}
        return pd.DataFrame({**columns, **titles, "rating": rating[rated], "change": changes[row, rated]})

    def explain_list(self, item_ids: Ids, *, user_id: int | str, k: int) -> pd.DataFrame:
        """Explain a list by the ratings of a folded-in user. For any other user, works like `Run.explain_list`."""
        if len(item_ids) > 0 and self._are_folded_in([user_id])[0]:
            return self.explain(item_ids, user_id=user_id, k=k)
        return self._run.explain_list(item_ids, user_id=user_id, k=k)

    def _resolve_user(self, user_id: int | str | None) -> int | str:
        """Return the id, by default of the only folded-in user."""
        if user_id is not None:
            return user_id
        if len(self.folded_user_ids) != 1:
            count = format_count(len(self.folded_user_ids), "user")
            raise UserError(f"set user_id: {count} were folded in; recommend_to_all lists items for all of them")
        return self.folded_user_ids[0]
