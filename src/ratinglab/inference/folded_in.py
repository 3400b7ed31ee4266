"""New users, new items, and known users with additional ratings, folded into a run without retraining it.

`fold_in` works in three stages. `read_given_data` checks the given ratings and features, and looks them up in the run.
`collect` finds the users and items to fold in, each with ratings and features by index. A ranking model then takes the
users' ratings as they are; for a model with factors, `FoldInSolver` solves for the weights. The result has two
recommenders, both with the folded-in items: one for the folded-in users, one for all other users of the run.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ratinglab.batches import Batch
from ratinglab.errors import UserError
from ratinglab.formats.text_tables import TextTable
from ratinglab.inference.extended_predictor import predictor_with_items, predictor_with_users
from ratinglab.inference.extended_tables import TablesWithItems, TablesWithUsers
from ratinglab.inference.fold_in_notes import notes_on_fold_in
from ratinglab.inference.given_data import GivenData, read_given_data
from ratinglab.inference.given_ratings import Pairs
from ratinglab.inference.lists import ListOptions, Recommender, check_k
from ratinglab.inference.recommender_tables import Ids, check_ids, check_pairs
from ratinglab.inference.trained_recommender import BASES, ExtendedRecommender, TrainedRecommender
from ratinglab.inference.trained_run import TrainedRun
from ratinglab.inference.users_or_items import UsersOrItems, collect
from ratinglab.models.factors import Factors, SideSamples
from ratinglab.recommend.fold_in_solver import FoldInSolver

FOLDED_IN = "folded_in"
"""Basis of predictions of pairs with a folded-in user or item."""


@dataclass(frozen=True)
class SolvedRows:
    """The weights of a model with factors after a fold-in.

    Attributes:
        solver: the solver for users.
        users: the folded-in users.
        items: the folded-in items.
        user_rows: the weights of the folded-in users; None if no user was folded in.
        item_rows: the weights of all items that the model predicts: first the run's items, then the folded-in ones.
    """

    solver: FoldInSolver
    users: UsersOrItems
    items: UsersOrItems
    user_rows: SideSamples | None
    item_rows: SideSamples

    def compute_changes(
        self, user: int, item: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Compute how much each rating of one folded-in user changes the predictions of items: item (C,) int32.

        Returns:
            (E,) the items that the user rated; (E,) the ratings, in rating units; (C, E) the changes, in stars.
        """
        observed = self.users.observations
        regressors = self.solver.compute_regressors(self.item_rows, torch.from_numpy(item).long())
        changes = self.solver.rating_influences(observed.extract_row(user), regressors)
        is_own = observed.row == user
        return observed.other[is_own].numpy(), self.users.rating[is_own].numpy(), changes.numpy()


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FoldedIn(Recommender):
    """Users and items folded into a run; see `Run.fold_in`.

    Methods accept folded-in users and all other users of the run. `user_id` is optional if exactly one user was folded
    in. Predictions for folded-in users do not depend on the day.

    Attributes:
        user_ids: ids of the folded-in users, as text.
        item_ids: ids of the folded-in items, as text.
        is_anonymous: whether a single user was folded in without an id.
        notes: notes on ratings and users that were left out.
        folded_users: recommender for the folded-in users; None if no user was folded in.
        other_users: recommender for all other users of the run, with the folded-in items.
        solved: the weights behind both recommenders; None for a ranking model.
    """

    user_ids: list[str]
    item_ids: list[str]
    is_anonymous: bool
    notes: tuple[str, ...]
    folded_users: TrainedRecommender | None
    other_users: TrainedRecommender
    solved: SolvedRows | None

    def __repr__(self) -> str:
        return f"FoldedIn({len(self.user_ids):,} users, {len(self.item_ids):,} new items)"

    def predict(self, item_ids: Ids, *, user_ids: Ids | None = None) -> NDArray[np.float32]:
        """Predict the ratings of items by the folded-in user, or of pairs of users and items.

        Args:
            item_ids: (B,) ids as in the data.
            user_ids: (B,) ids of users; by default the only folded-in user.

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
            folded in and the equation predicts, else one of BASES. The standard deviation is NaN where the
            bias baseline predicts, and for other users of a run without samples.
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
                if len(groups) > 1:  # one recommender's ids can be integers while the other's are text
                    block["user_id"] = block["user_id"].astype(str)
                if "standard_deviation" not in block and "prediction" in block:
                    block["standard_deviation"] = np.float32(np.nan)
                yield block

    def _split_by_recommender(self, user_ids: Ids | None) -> Iterator[tuple[TrainedRecommender, Ids | None]]:
        """Yield consecutive users of one recommender, in the order of `user_ids`, by default all folded-in users."""
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
            user_id: a folded-in user, by default the only one.
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
        assert self.solved is not None, "only a ranking model has no solved rows"
        item = tables.item_ids.index_of(item_ids)
        (user,) = tables.user_ids.index_of([user_id]).tolist()
        rated_item, rating, changes = self.solved.compute_changes(user, item)
        changes = changes * folded.record.stars.unit
        largest = np.argsort(-np.abs(changes), axis=1, kind="stable")[:, :k]
        row, rated = np.repeat(np.arange(len(item)), largest.shape[1]), largest.ravel()
        columns = {"item_id": tables.item_ids.ids[item[row]], "rated_item_id": tables.item_ids.ids[rated_item[rated]]}
        titles = {} if tables.titles is None else {"rated_title": tables.titles[rated_item[rated]]}
        return pd.DataFrame({**columns, **titles, "rating": rating[rated], "change": changes[row, rated]})

    def recommender_of(self, user_id: int | str) -> TrainedRecommender:
        """Return the recommender that serves a user."""
        folded = self.folded_users
        return folded if folded is not None and folded.tables.is_user_trained(user_id) else self.other_users

    def _resolve_user(self, user_id: int | str | None) -> int | str:
        """Return the id, by default of the only folded-in user."""
        if user_id is not None:
            return user_id
        if len(self.user_ids) != 1:
            raise UserError(f"set user_id: {len(self.user_ids):,} users were folded in")
        return self.user_ids[0]


def fold_in(
    run: TrainedRun,
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
    given = read_given_data(
        run.tables, ratings=ratings, users=users, items=items, user_id=user_id, columns=columns or {}, keys=keys
    )
    new_users, new_items = collect(run, "user", given), collect(run, "item", given)
    if not new_users.ids and not new_items.ids:
        raise UserError("nothing to fold in: neither the users nor the items of these ratings have training ratings")
    solved = None if run.record.predicts_scores else _solve(run, new_users, new_items)
    if solved is None:
        other_users, folded_users = _extend_ranking_model(run, given, new_users, new_items)
    else:
        other_users, folded_users = _extend_factors(run, given, solved)
    return FoldedIn(
        user_ids=new_users.ids,
        item_ids=new_items.ids,
        is_anonymous=given.is_anonymous,
        notes=tuple(notes_on_fold_in(run.record, given.ratings, new_users, new_items)),
        folded_users=folded_users,
        other_users=other_users,
        solved=solved,
    )


def _extend_ranking_model(
    run: TrainedRun, given: GivenData, users: UsersOrItems, items: UsersOrItems
) -> tuple[TrainedRecommender, TrainedRecommender | None]:
    """Make the recommenders of a ranking model for the run's users and for the folded-in users.

    The model computes the users' scores from their ratings.

    Raises:
        UserError: there are items to fold in.
    """
    if items.ids:
        raise UserError(
            f"items: {run.record.model} folds in users, not items, and {items.ids[0]} has no training ratings"
        )
    observed = users.observations
    rows = Batch(observed.row, observed.other, observed.rating, day=None)
    predictor = run.predictor.with_users(rows, num_users=len(users.ids))
    return run, ExtendedRecommender(run, predictor, TablesWithUsers(run.tables, users, given.ratings))


def _extend_factors(
    run: TrainedRun, given: GivenData, solved: SolvedRows
) -> tuple[TrainedRecommender, TrainedRecommender | None]:
    """Make the recommenders of a model with factors, from the solved weights, with the folded-in items.

    The first is for the run's users, the second for the folded-in users, None if there are none.
    """
    with_items: TrainedRecommender = run
    if solved.items.ids:
        trained_users = _repeat_last_day(solved.solver.trained_rows, solved.solver)
        predictor = predictor_with_items(run.predictor, solved.items, _join_sides(trained_users, solved.item_rows))
        with_items = ExtendedRecommender(run, predictor, TablesWithItems(run.tables, solved.items, given.ratings))
    if solved.user_rows is None:
        return with_items, None
    samples = _join_sides(solved.user_rows, solved.item_rows)
    predictor = predictor_with_users(with_items.predictor, solved.users, samples)
    tables = TablesWithUsers(with_items.tables, solved.users, given.ratings)
    return with_items, ExtendedRecommender(with_items, predictor, tables)


def _solve(run: TrainedRun, users: UsersOrItems, items: UsersOrItems) -> SolvedRows:
    """Solve for the users' weights given the run's items, and for the items' weights given the run's users."""
    solver = run.solvers["user"]
    item_rows = _repeat_last_day(solver.fixed_rows, solver)
    if items.ids:
        item_rows = item_rows.append(run.solvers["item"].solve(items.observations))
    user_rows = solver.solve(users.observations) if users.ids else None
    return SolvedRows(solver, users, items, user_rows, item_rows)


def _repeat_last_day(rows: SideSamples, solver: FoldInSolver) -> SideSamples:
    """Select the last day of each user or item, and repeat each sample for the draws that the solver makes from it."""
    return rows.select_last_day().repeat_samples(solver.num_draws)


def _join_sides(user_rows: SideSamples, item_rows: SideSamples) -> list[Factors]:
    """Join the samples of both sides."""
    pairs = zip(user_rows.samples, item_rows.samples, strict=True)
    return [Factors(user, item, user_rows.mean) for user, item in pairs]


def explain_list(
    run: TrainedRun, folded: FoldedIn | None, user_id: int | str, item_ids: Ids, *, k: int
) -> pd.DataFrame:
    """Explain a list by a folded-in user's ratings (`FoldedIn.explain`), or by another user's training ratings.

    Items without training ratings get no rows in the result; for a user without training ratings it is empty.
    `folded` is what was folded into `run`, or None.
    """
    if folded is not None and folded.recommender_of(user_id) is folded.folded_users and len(item_ids) > 0:
        return folded.explain(item_ids, user_id=user_id, k=k)
    item_ids = pd.Series(item_ids, dtype=object)[run.tables.are_items_trained(item_ids)]
    if len(item_ids) == 0 or not run.tables.is_user_trained(user_id):
        return pd.DataFrame(dict.fromkeys(("item_id", "rated_item_id", "rating", "change"), np.empty(0)))
    return fold_in(run, user_id=user_id).explain(item_ids, k=k)
