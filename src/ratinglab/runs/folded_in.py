"""New users, new items, and known users with additional ratings, folded into a run without training it again."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.errors import UserError
from ratinglab.models.baselines import SHRINKAGE, BiasBaseline
from ratinglab.models.equation import Factors, SideRows
from ratinglab.models.posterior import Posterior, Sample
from ratinglab.models.predictor import Predictor
from ratinglab.models.summed_rows import SummedRows
from ratinglab.ratings.ids import IdMap
from ratinglab.runs.new_ratings import GivenFeatures, GivenRatings
from ratinglab.runs.new_rows import NewRows, check_ratings, new_items, new_users
from ratinglab.runs.trained_model import Ids, TrainedModel, is_trained

FOLDED_IN = "folded_in"
"""Basis of the prediction of a pair whose user or item was folded in."""


class FoldedIn:
    """Users and items folded into a run; see `Run.fold_in`.

    The methods take the users folded in, and all other users of the run. If one user is folded in, the methods mean
    that one unless another is named. A user folded in is the same on all days.

    Attributes:
        user_ids: ids of the users folded in.
        item_ids: ids of the new items folded in.
        notes: remarks on ratings that were left out.
    """

    def __init__(self, run: TrainedModel, users: NewRows, items: NewRows, *, notes: Sequence[str]) -> None:
        """Solve for the rows of the users and items."""
        self.user_ids, self.item_ids, self.notes = users.ids, items.ids, tuple(notes)
        self._users, self._folder, self._rest = users, run.row_folder("user"), run
        item_rows = self._folder.other.on_last_day().repeated(self._folder.draws)
        if items.ids:
            item_rows = item_rows.extended(run.row_folder("item").fold(items.ratings, items.designs))
            user_rows = self._folder.own.on_last_day().repeated(self._folder.draws)
            self._rest = _extended(run, None, items, user_rows, item_rows)
        self._folded: TrainedModel | None = None
        if users.ids:
            user_rows = self._folder.fold(users.ratings, users.designs)
            self._folded = _extended(run, users, items, user_rows, item_rows)

    def __repr__(self) -> str:
        return f"FoldedIn({len(self.user_ids):,} users, {len(self.item_ids):,} new items)"

    def predict(self, item_ids: Ids, *, user_ids: Ids | None = None) -> NDArray[np.float32]:
        """Predict the rating of each item by the user folded in, or by a user each.

        Args:
            item_ids: (B,) ids as in the data.
            user_ids: (B,) ids of users; None: the one user folded in.

        Returns:
            (B,) float32, clipped to the rating scale unless the run was trained with clip_predictions=false.

        Raises:
            UserError: user_ids is missing although not one user was folded in, or has another length.
        """
        return self.predict_table(item_ids, user_ids=user_ids)["prediction"].to_numpy()

    def predict_table(self, item_ids: Ids, *, user_ids: Ids | None = None) -> pd.DataFrame:
        """Predict like `predict`, with a standard deviation, and say what each prediction is based on.

        Returns:
            prediction and standard_deviation (float32), in rating units; basis: folded_in if the user or the item was
            folded in and the equation predicts, else as in `Run.predict_table`.

        Raises:
            UserError: as in `predict`.
        """
        if user_ids is None:
            user_ids = [self._only_user()] * len(item_ids)
        if len(user_ids) != len(item_ids):
            raise UserError(f"predict needs as many users as items, got {len(user_ids)} and {len(item_ids)}")
        users, items = pd.Series(user_ids), pd.Series(item_ids)
        is_folded = np.zeros(len(users), dtype=np.bool_) if self._folded is None else self._folded.trained_users(users)
        blocks = []
        for run, mask in ((self._folded, is_folded), (self._rest, ~is_folded)):
            if run is not None and mask.any():
                block = run.predict_table(users[mask], items[mask])
                is_new = mask[mask] if run is self._folded else np.isin(items[mask].astype(str), self.item_ids)
                basis = block["basis"].astype(object).where(~((block["basis"] == "known") & is_new), FOLDED_IN)
                blocks.append(block.assign(basis=basis).set_index(np.flatnonzero(mask)))
        return pd.concat(blocks).sort_index()

    def recommend(
        self, user_id: int | str | None = None, *, k: int, candidates: Ids | None = None, exclude_seen: bool = True
    ) -> pd.DataFrame:
        """Recommend the k items with the highest predicted ratings.

        Args:
            user_id: a user folded in, or another of the run; None: the one user folded in.
            k: number of items, at least 1; fewer if fewer are left.
            candidates: ids of the items to choose from; None: all with training ratings, and those folded in.
            exclude_seen: whether to leave out the items that the user has rated.

        Returns:
            rank from 1, item_id, title (if the data had titles), rating (predicted) and standard_deviation, best first.

        Raises:
            UserError: as in `Run.recommend`, or the user is missing although not one user was folded in.
        """
        user_id = self._only_user() if user_id is None else user_id
        run = self._run_of(user_id)
        listed = run.recommend(user_id, k=k, candidates=candidates, exclude_seen=exclude_seen)
        if run.record.is_sampled:
            listed["standard_deviation"] = run.deviation([user_id] * len(listed), listed["item_id"])
        return listed

    def recommend_to_all(self, *, k: int, candidates: Ids | None = None, exclude_seen: bool = True) -> pd.DataFrame:
        """Recommend to all users folded in, or to all users of the run if none was folded in, like `recommend`.

        Returns:
            user_id and the columns of `recommend`, best first.
        """
        run = self._rest if self._folded is None else self._folded
        listed = run.recommend_to_all(k=k, candidates=candidates, exclude_seen=exclude_seen)
        return listed.assign(standard_deviation=run.deviation(listed["user_id"], listed["item_id"]))

    def rated_highest(self, user_id: int | str, *, k: int) -> pd.DataFrame:
        """List the k items that a user rated highest, given ratings included, as in `Run.rated_highest`."""
        return self._run_of(user_id).rated_highest(user_id, k=k)

    def has_user(self, user_id: int | str) -> bool:
        """Return whether a user was folded in, or has training ratings."""
        return bool(self._run_of(user_id).trained_users([user_id])[0])

    def explain(self, item_ids: Ids, *, user_id: int | str | None = None, k: int = 3) -> pd.DataFrame:
        """List the user's own ratings that changed the prediction of each item the most.

        The change is the prediction minus the one from all other ratings of the user, with the items' rows and the
        noise precision unchanged, before clipping: see `RowFolder.changes`.

        Args:
            item_ids: (B,) ids of items with training ratings, or folded in.
            user_id: a user folded in; None: the only one.
            k: number of ratings per item; fewer if the user has fewer.

        Returns:
            item_id, rated_item_id, rated_title (if the data had titles), rating and change, in the order of item_ids,
            the largest absolute change first.

        Raises:
            UserError: the user was not folded in, or an item has no row.
        """
        user_id = self._only_user() if user_id is None else user_id
        folded = self._folded
        if folded is None or not folded.trained_users([user_id])[0]:
            raise UserError(f"user {user_id} was not folded in")
        item = folded.item_ids.index_of(item_ids)
        if not folded.trained_items(item_ids).all():
            raise UserError(f"item {item_ids[int(np.argmin(folded.trained_items(item_ids)))]} has no training ratings")
        number = int(folded.user_ids.index_of([user_id])[0])
        ratings, designs = self._users.single_row(number)
        changes = self._folder.changes(ratings, designs, torch.from_numpy(item).long()).numpy()
        best = np.argsort(-np.abs(changes), axis=1, kind="stable")[:, :k]
        row, other = np.repeat(np.arange(len(item)), best.shape[1]), ratings.other.numpy()[best.ravel()]
        columns = {"item_id": folded.item_ids.ids[item[row]], "rated_item_id": folded.item_ids.ids[other]}
        if folded.titles is not None:
            columns["rated_title"] = folded.titles[other]
        rating = ratings.rating.numpy()[best.ravel()]
        return pd.DataFrame(columns | {"rating": rating, "change": np.take_along_axis(changes, best, axis=1).ravel()})

    def _run_of(self, user_id: int | str) -> TrainedModel:
        """Return the run that predicts for a user."""
        is_folded = self._folded is not None and self._folded.trained_users([user_id])[0]
        return self._folded if self._folded is not None and is_folded else self._rest

    def _only_user(self) -> str:
        if len(self.user_ids) != 1:
            raise UserError(f"name the user: {len(self.user_ids):,} users were folded in")
        return self.user_ids[0]


def fold_in(
    run: TrainedModel,
    given: GivenRatings | None,
    user_features: GivenFeatures | None,
    item_features: GivenFeatures | None,
    *,
    user_id: str | None,
) -> FoldedIn:
    """Fold ratings and features into a run; see `Run.fold_in`."""
    if given is None:
        given = GivenRatings(None, [], np.empty(0), str)
    check_ratings(run, given)
    if given.user_ids is None:
        item = run.find_items(given.items, place=given.place)
    else:
        item = run.item_ids.index_of([*given.items])
    users = new_users(run, given, item, user_features, user_id=user_id)
    items = new_items(run, given, item, item_features, user_id=user_id)
    return FoldedIn(run, users, items, notes=[*_notes(run, given, item, items)])


def _notes(run: TrainedModel, given: GivenRatings, item: NDArray[np.int32], items: NewRows) -> Iterator[str]:
    """Count the ratings that were left out, and the items that are new."""
    if items.ids:
        yield f"new items folded in: {len(items.ids):,}, such as {items.ids[0]}"
    is_folded = np.isin([str(each) for each in given.items], items.ids)
    left_out = ~is_trained(item, run.record.num_items) & ~is_folded
    if left_out.any():
        example = given.items[int(left_out.argmax())]
        yield (
            f"ratings left out, since neither the item nor its raters have training ratings: {left_out.sum():,}, such "
            f"as of {example}"
        )


def _extended(
    run: TrainedModel, users: NewRows | None, items: NewRows, user_rows: SideRows, item_rows: SideRows
) -> TrainedModel:
    """Make a run of the users folded in, or of its own users if None, with its own items and those folded in."""
    predictor = Predictor(_posterior(user_rows, item_rows), _baseline(run, users, items), scale=run.predictor.scale)
    record = replace(run.record, num_users=user_rows.num_owners, num_items=item_rows.num_owners, is_sampled=True)
    extended = replace(run, record=record, predictor=predictor.eval())
    extended.user_ids = run.user_ids if users is None else _id_map(users.ids, like=run.user_ids)
    if items.ids:
        extended.items = _with_new_items(run, items)
    else:
        extended.items, extended.item_ids = run.items, run.item_ids
    extended.ratings = _ratings(run, users, items, extended.item_ids)
    return extended


def _ratings(run: TrainedModel, users: NewRows | None, items: NewRows, item_ids: IdMap) -> pd.DataFrame:
    """Collect the ratings of the extended run's users, with the indices of that run: user, item and rating."""
    new = items.ratings
    rows = pd.DataFrame({"user": new.other, "item": new.row + run.record.num_items, "rating": new.rating})
    if users is None or (users.known >= 0).any():  # else the run's ratings, which may be many, are not needed
        old = run.ratings[["user", "item", "rating"]]
        if users is not None:
            old = old[np.isin(old["user"], users.known)]
        if items.ids:
            old = old.assign(item=item_ids.index_of(run.item_ids.ids.to_numpy())[old["item"]])
        rows = pd.concat([rows, old])
    if users is None:
        return rows
    position = np.full(len(run.user_ids), -1)
    position[users.known[users.known >= 0]] = np.flatnonzero(users.known >= 0)
    rows = rows.assign(user=position[rows["user"]])
    own = users.ratings
    given = pd.DataFrame({"user": own.row, "item": own.other, "rating": own.rating})
    return pd.concat([given, rows[rows["user"] >= 0]]).drop_duplicates(["user", "item"])


def _with_new_items(run: TrainedModel, items: NewRows) -> pd.DataFrame:
    """Put the items folded in behind those with training ratings."""
    count = run.record.num_items
    new = pd.DataFrame({"item_id": _id_map(items.ids, like=run.item_ids).ids})
    for name in run.items.columns[1:]:
        unknown = np.nan if run.items[name].dtype.kind == "f" else ""
        new[name] = items.titles if name == "title" else unknown
    rest = run.items[count:]
    rest = rest[~rest["item_id"].astype(str).isin(items.ids)]
    return pd.concat([run.items[:count], new, rest], ignore_index=True)


def _id_map(ids: Sequence[str], *, like: IdMap) -> IdMap:
    """Read ids as integers if those of the run are, and these can be."""
    is_whole = like.are_integers and all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", each) for each in ids)
    return IdMap(pd.Index(ids, dtype=np.int64 if is_whole else object))


def _posterior(users: SideRows, items: SideRows) -> Posterior:
    """Combine the samples of both sides."""
    assert users.precision is not None
    assert items.precision is not None
    biases = [None if side.biases is None else side.biases[0] for side in (users, items)]
    posterior = Posterior(
        SummedRows(
            Factors(users.factors[0], items.factors[0], user_bias=biases[0], item_bias=biases[1], mean=users.mean)
        )
    )
    none = torch.empty(0, 1)
    for number in range(len(users.factors)):
        posterior.keep(
            Sample(
                user=users.factors[number],
                item=items.factors[number],
                user_bias=none if users.biases is None else users.biases[number],
                item_bias=none if items.biases is None else items.biases[number],
                user_precision=users.precision[number],
                item_precision=items.precision[number],
            )
        )
    return posterior


def _baseline(run: TrainedModel, users: NewRows | None, items: NewRows) -> BiasBaseline:
    """Fold users and items into the bias baseline: b = Σ (r − μ − b of the other side) / (λ + n)."""
    trained = run.predictor.baseline
    item_bias = torch.cat([trained.item_bias[:-1], _biases(trained, items, trained.user_bias)])
    user_bias = trained.user_bias[:-1] if users is None else _biases(trained, users, trained.item_bias)
    baseline = BiasBaseline(num_users=len(user_bias), num_items=len(item_bias))
    baseline.mean.copy_(trained.mean)
    baseline.user_bias[:-1], baseline.item_bias[:-1] = user_bias, item_bias
    return baseline


def _biases(baseline: BiasBaseline, rows: NewRows, other_bias: Tensor) -> Tensor:
    ratings = rows.ratings
    residual = ratings.rating - baseline.mean - other_bias[ratings.other]
    total = torch.bincount(ratings.row, residual, minlength=ratings.num_rows)
    return (total / (SHRINKAGE + torch.bincount(ratings.row, minlength=ratings.num_rows))).float()
