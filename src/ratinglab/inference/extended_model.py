"""A trained model extended by folded-in users or items."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import repeat

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ratinglab.batches import Batch
from ratinglab.inference.new_rows import NewRows, given_columns, positions
from ratinglab.inference.run_tables import RunTables
from ratinglab.inference.trained_model import TrainedModel
from ratinglab.models.baselines import SHRINKAGE, BiasBaseline
from ratinglab.models.equation import Factors, SideRows
from ratinglab.models.posterior import FixedRows, Posterior, Sample
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.ids import IdMap
from ratinglab.recommend.interest import Interest
from ratinglab.runs.record import RunRecord


def extend(
    model: TrainedModel,
    users: NewRows | None,
    items: NewRows,
    user_rows: SideRows,
    item_rows: SideRows,
    rows: pd.DataFrame,
    *,
    base: TrainedModel,
) -> TrainedModel:
    """Make a model of the folded-in users (None: the run's own users), the run's items and the folded-in items.

    `base` is the model they are folded into: the run's, or the run's with the items already added.
    """
    old, stars, scale = model.tables, model.record.stars, model.predictor.scale
    predictor = Predictor(_posterior(user_rows, item_rows), _baseline(model, users, items), stars=stars, scale=scale)
    record = replace(old.record, num_users=user_rows.num_owners, num_items=item_rows.num_owners, is_sampled=True)

    def fold_interest(interest: Interest) -> Interest:
        if users is not None:
            return interest.with_users(users.pairs(), len(users.ids))
        return interest.with_items(items.pairs().swapped(), len(items.ids))

    return TrainedModel(predictor.eval(), _tables(old, record, users, items, rows), base, fold_interest)


def extend_scores(model: TrainedModel, users: NewRows, rows: pd.DataFrame) -> TrainedModel:
    """Make a model of the users folded into one that predicts scores."""
    row, other, rating, num_users = users.ratings
    batch = Batch(row, other, model.record.stars.to_stars(rating), day=None)
    record = replace(model.record, num_users=num_users)
    predictor = model.predictor.with_users(batch, num_users=num_users)
    return TrainedModel(predictor, _tables(model.tables, record, users, None, rows))


def _tables(
    old: RunTables, record: RunRecord, users: NewRows | None, items: NewRows | None, rows: pd.DataFrame
) -> RunTables:
    """Make the tables of the extended model, with the folded-in users in place of the run's."""
    new = RunTables(old.folder, record)
    new.user_ids, new.items, new.item_ids = old.user_ids, old.items, old.item_ids
    if users is not None:
        new.user_ids = IdMap(_ids(users.ids, like=old.user_ids))
    if items is not None and items.ids:
        new.items = _with_new_items(old, items)
        new.item_ids = IdMap(new.items["item_id"].to_numpy())
    added = np.arange(old.record.num_items, record.num_items, dtype=np.int32)
    new.items_by_popularity = np.concatenate([old.items_by_popularity, added])
    new.ratings = _ratings(old, new, users, rows)
    return new


def _ratings(old: RunTables, new: RunTables, users: NewRows | None, rows: pd.DataFrame) -> pd.DataFrame:
    """Collect the ratings of the extended model's users: user and item, as indices in that model, and rating.

    Given ratings come first, and replace the run's.
    """
    user = rows["user_index"] if users is None else positions(users.ids, rows["user"])
    given = pd.DataFrame({"user": user, "item": new.item_ids.index_of(rows["item"]), "rating": rows["rating"]})
    given = given[(given["user"] >= 0) & (given["item"] >= 0)]
    known = old.ratings if users is None else old.ratings_of(users.run_index)
    if new.item_ids is not old.item_ids:
        known = known.assign(item=new.item_ids.index_of(old.item_ids.ids.astype(str).to_numpy())[known["item"]])
    return pd.concat([given, known[list(given)]]).drop_duplicates(["user", "item"])


def _with_new_items(old: RunTables, items: NewRows) -> pd.DataFrame:
    """Insert the folded-in items after those with training ratings."""
    count = old.record.num_items
    new, rest = given_columns(old.items, items), old.items[count:]
    rest = rest[~rest["item_id"].astype(str).isin(items.ids)]
    table = pd.concat([old.items[:count], new, rest], ignore_index=True)
    return table.assign(item_id=_ids(table["item_id"].astype(str), like=old.item_ids))


def _ids(ids: Iterable[str], *, like: IdMap) -> pd.Index:
    """Convert ids to integers if the run's ids are integers and all of these can be."""
    texts = pd.Index(list(ids), dtype=object)
    is_whole = like.are_integers and bool(texts.str.fullmatch(r"0|-?[1-9]\d{0,17}").all())
    return texts.astype(np.int64) if is_whole else texts


def _posterior(users: SideRows, items: SideRows) -> Posterior:
    """Build a posterior from the samples of both sides."""
    assert users.precision is not None
    assert items.precision is not None
    tables: list[Iterable[Tensor | None]] = [users.factors, items.factors]
    tables += [repeat(None) if side.biases is None else side.biases for side in (users, items)]
    samples = [Sample(*each) for each in zip(*tables, users.precision, items.precision, strict=False)]
    posterior = Posterior(FixedRows(Factors(*samples[0][:4], mean=users.mean)))
    for sample in samples:
        posterior.keep(sample)
    return posterior


def _baseline(model: TrainedModel, users: NewRows | None, items: NewRows) -> BiasBaseline:
    """Fold users and items into the bias baseline: b = Σ (r − μ − b of the other side) / (λ + n)."""
    trained = model.predictor.baseline
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
