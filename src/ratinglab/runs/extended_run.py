"""A run extended by folded-in users or items."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratinglab.batches import Batch
from ratinglab.models.baselines import SHRINKAGE, BiasBaseline
from ratinglab.models.equation import Factors, SideRows
from ratinglab.models.posterior import Posterior, Sample
from ratinglab.models.predictor import Predictor
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.models.summed_rows import SummedRows
from ratinglab.ratings.ids import IdMap
from ratinglab.runs.new_rows import NewRows, given_columns, positions
from ratinglab.runs.recommender import Extension, Recommender
from ratinglab.runs.trained_model import TrainedModel


def extend(
    run: Recommender,
    users: NewRows | None,
    items: NewRows,
    user_rows: SideRows,
    item_rows: SideRows,
    rows: pd.DataFrame,
    *,
    base: Recommender,
) -> Recommender:
    """Make a run with the folded-in users (None: the run's own users), its own items and the folded-in items.

    `base` is the model they are folded into: the run, or the run with the items already added.
    """
    model, baseline, stars = _posterior(user_rows, item_rows), _baseline(run, users, items), run.record.stars
    predictor = Predictor(model, baseline, stars=stars, scale=run.predictor.scale)
    record = replace(run.record, num_users=user_rows.num_owners, num_items=item_rows.num_owners, is_sampled=True)
    table = _with_new_items(run, items) if items.ids else run.items
    item_ids = IdMap(table["item_id"].to_numpy()) if items.ids else run.item_ids
    new = np.arange(run.record.num_items, item_rows.num_owners, dtype=np.int32)
    extended = replace(run, record=record, predictor=predictor.eval())
    _set_tables(
        extended,
        user_ids=run.user_ids if users is None else IdMap(_ids(users.ids, like=run.user_ids)),
        items=table,
        item_ids=item_ids,
        items_by_popularity=np.concatenate([run.items_by_popularity, new]),
        ratings=_ratings(run, users, rows, item_ids),
    )
    if users is not None:
        extended.extension = Extension(base, "user", RatedPairs(*users.pairs()), len(users.ids))
    else:
        extended.extension = Extension(base, "item", RatedPairs(*items.pairs()).swapped(), len(items.ids))
    return extended


def extend_scores(run: Recommender, users: NewRows, rows: pd.DataFrame) -> Recommender:
    """Make a run with the users folded into a model that predicts scores."""
    row, other, rating, num_users = users.ratings
    batch = Batch(row, other, run.record.stars.to_stars(rating), day=None)
    predictor = run.predictor.with_users(batch, num_users=num_users)
    extended = replace(run, record=replace(run.record, num_users=num_users), predictor=predictor)
    _set_tables(
        extended,
        user_ids=IdMap(_ids(users.ids, like=run.user_ids)),
        items=run.items,
        item_ids=run.item_ids,
        items_by_popularity=run.items_by_popularity,
        ratings=_ratings(run, users, rows, run.item_ids),
    )
    return extended


def _set_tables(
    run: Recommender,
    *,
    user_ids: IdMap,
    items: pd.DataFrame,
    item_ids: IdMap,
    items_by_popularity: NDArray[np.int32],
    ratings: pd.DataFrame,
) -> None:
    """Set the tables that a run otherwise reads from its folder when they are first used."""
    run.user_ids, run.items, run.item_ids = user_ids, items, item_ids
    run.items_by_popularity, run.ratings = items_by_popularity, ratings


def _ratings(run: TrainedModel, users: NewRows | None, rows: pd.DataFrame, item_ids: IdMap) -> pd.DataFrame:
    """Collect the ratings of the extended run's users: user and item, as indices in that run, and rating.

    Given ratings come first, and replace the run's.
    """
    given = pd.DataFrame(
        {"user": rows["user_index"], "item": item_ids.index_of(rows["item"]), "rating": rows["rating"]}
    )
    if users is not None:
        given["user"] = positions(users.ids, rows["user"])
    given = given[(given["user"] >= 0) & (given["item"] >= 0)]
    if users is not None and (users.run_index < 0).all():  # avoids loading the run's ratings
        return given
    old = run.ratings[["user", "item", "rating"]]
    if users is not None:
        position = np.full(len(run.user_ids), -1)
        position[users.run_index[users.run_index >= 0]] = np.flatnonzero(users.run_index >= 0)
        old = old[position[old["user"]] >= 0]
        old = old.assign(user=position[old["user"]])
    if item_ids is not run.item_ids:
        old = old.assign(item=item_ids.index_of(run.item_ids.ids.astype(str).to_numpy())[old["item"]])
    return pd.concat([given, old]).drop_duplicates(["user", "item"])


def _with_new_items(run: TrainedModel, items: NewRows) -> pd.DataFrame:
    """Insert the folded-in items after those with training ratings."""
    count = run.record.num_items
    new, rest = given_columns(run, items), run.items[count:]
    rest = rest[~rest["item_id"].astype(str).isin(items.ids)]
    table = pd.concat([run.items[:count], new, rest], ignore_index=True)
    return table.assign(item_id=_ids(table["item_id"].astype(str), like=run.item_ids))


def _ids(ids: Iterable[str], *, like: IdMap) -> pd.Index:
    """Convert ids to integers if the run's ids are integers and all of these can be."""
    texts = pd.Index(list(ids), dtype=object)
    is_whole = like.are_integers and bool(texts.str.fullmatch(r"0|-?[1-9]\d{0,17}").all())
    return texts.astype(np.int64) if is_whole else texts


def _posterior(users: SideRows, items: SideRows) -> Posterior:
    """Build a posterior from the samples of both sides."""
    assert users.precision is not None
    assert items.precision is not None
    biases = [None if side.biases is None else side.biases[0] for side in (users, items)]
    posterior = Posterior(
        SummedRows(
            Factors(users.factors[0], items.factors[0], user_bias=biases[0], item_bias=biases[1], mean=users.mean)
        )
    )
    for number in range(len(users.factors)):
        posterior.keep(
            Sample(
                user=users.factors[number],
                item=items.factors[number],
                user_bias=None if users.biases is None else users.biases[number],
                item_bias=None if items.biases is None else items.biases[number],
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
