"""A trained recommender extended by folded-in users or items."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from typing import NoReturn

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ratinglab.inference.given_ratings import find_positions
from ratinglab.inference.run_tables import RunTables
from ratinglab.inference.trained_recommender import TrainedRecommender
from ratinglab.inference.users_or_items import RowsToFoldIn
from ratinglab.models.bias_baseline import SHRINKAGE, BiasBaseline
from ratinglab.models.factors import Factors, SideRows
from ratinglab.models.posterior import FixedRows, Posterior
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.ids import IdMap
from ratinglab.recommend.interest import Interest
from ratinglab.recommend.orders import ExpectedGain
from ratinglab.runs.record import RunRecord
from ratinglab.runs.storage import FEATURE_PREFIX


def _refuse(_: RunTables) -> NoReturn:
    raise AssertionError("an extended recommender has no training or held-out rows: use the run's own tables")


class ExtendedTables(RunTables):
    """Tables with folded-in users in place of the run's, or with folded-in items after the run's trained ones.

    Their ratings have no parts, so that they have no training and no held-out rows.
    """

    train_counts = train_pairs = held_out = property(_refuse)

    def __init__(
        self, old: RunTables, record: RunRecord, *, user_ids: IdMap, items: pd.DataFrame, ratings: pd.DataFrame
    ) -> None:
        """Extend the tables `old`; the ids, items and ratings are by the indices of the extended recommender."""
        super().__init__(old.folder, record)
        self.user_ids, self.items, self.ratings = user_ids, items, ratings
        self.item_ids = IdMap(items["item_id"].to_numpy())
        added = np.arange(old.record.num_items, record.num_items, dtype=np.int32)
        self.items_by_popularity = np.concatenate([old.items_by_popularity, added])


class ExtendedRecommender(TrainedRecommender):
    """A recommender with folded-in users or items."""

    def __init__(
        self,
        base: TrainedRecommender,
        predictor: Predictor,
        tables: ExtendedTables,
        *,
        extend_interest: Callable[[Interest], Interest],
    ) -> None:
        """Extend `base`; `extend_interest` adds the users or items to its interest model."""
        super().__init__(predictor, tables)
        self._base, self._extend_interest = base, extend_interest

    @cached_property
    def _interest(self) -> Interest:
        return self._extend_interest(self._base._interest)

    def _build_expected_gain(self, threshold: float | None) -> ExpectedGain:
        """Return the base's order, whose errors and scale come from the run's own ratings, with this interest."""
        return replace(self._base._build_expected_gain(threshold), interest=self._interest)


def with_items(
    base: TrainedRecommender, items: RowsToFoldIn, ratings: pd.DataFrame, predictor: Predictor
) -> ExtendedRecommender:
    """Add items to a run's own recommender; `ratings` is the result of `look_up_ratings`."""
    old, count, pairs = base.tables, len(items.ids), items.pairs().transpose()
    table = _insert_items(old, items)
    item_ids = IdMap(table["item_id"].to_numpy())
    index = item_ids.index_of(old.item_ids.ids.astype(str).to_numpy())
    old_ratings = old.ratings.assign(item=index[old.ratings["item"]])
    ratings = ratings.assign(user=ratings["user_index"], item=item_ids.index_of(ratings["item"]))
    ratings = _merge_ratings(ratings, old_ratings)
    record = replace(base.record, num_items=base.record.num_items + count, is_sampled=True)
    tables = ExtendedTables(old, record, user_ids=old.user_ids, items=table, ratings=ratings)
    return ExtendedRecommender(
        base, predictor, tables, extend_interest=lambda interest: interest.with_items(pairs, count)
    )


def with_users(
    base: TrainedRecommender, users: RowsToFoldIn, ratings: pd.DataFrame, predictor: Predictor
) -> ExtendedRecommender:
    """Replace the users of a recommender, to which items may have been added; `ratings` as for `with_items`."""
    old, count, pairs = base.tables, len(users.ids), users.pairs()
    user, item = find_positions(users.ids, ratings["user"]), old.item_ids.index_of(ratings["item"])
    ratings = _merge_ratings(ratings.assign(user=user, item=item), old.ratings_of_users(users.run_index))
    record = replace(base.record, num_users=count, is_sampled=isinstance(predictor.model, Posterior))
    user_ids = IdMap(_convert_ids(users.ids, like=old.user_ids))
    tables = ExtendedTables(old, record, user_ids=user_ids, items=old.items, ratings=ratings)
    return ExtendedRecommender(
        base, predictor, tables, extend_interest=lambda interest: interest.with_users(pairs, count)
    )


def _merge_ratings(given: pd.DataFrame, old: pd.DataFrame) -> pd.DataFrame:
    """Merge ratings by index. Omits given ratings with an unknown index; the others replace old ones of a pair."""
    given, columns = given[(given["user"] >= 0) & (given["item"] >= 0)], ["user", "item", "rating"]
    return pd.concat([given[columns], old[columns]]).drop_duplicates(["user", "item"])


def build_extended_predictor(
    base: TrainedRecommender,
    user_rows: SideRows,
    item_rows: SideRows,
    *,
    users: RowsToFoldIn | None = None,
    items: RowsToFoldIn | None = None,
) -> Predictor:
    """Build the predictor for folded-in users or further items, from the samples of the rows of both sides.

    Also folds the users or items into the bias baseline.
    """
    pairs = zip(user_rows.samples, item_rows.samples, strict=True)
    samples = [Factors(user, item, user_rows.mean) for user, item in pairs]
    posterior = Posterior(FixedRows(samples[0]))
    for sample in samples:
        posterior.add_sample(sample)
    old, stars, scale = base.predictor.baseline, base.record.stars, base.predictor.scale
    user_bias = old.user_bias[:-1] if users is None else _solve_biases(old, users, old.item_bias)
    item_bias = old.item_bias[:-1]
    if items is not None:
        item_bias = torch.cat([item_bias, _solve_biases(old, items, old.user_bias)])
    baseline = BiasBaseline(num_users=len(user_bias), num_items=len(item_bias))
    baseline.mean.copy_(old.mean)
    baseline.user_bias[:-1], baseline.item_bias[:-1] = user_bias, item_bias
    return Predictor(posterior, baseline, stars=stars, scale=scale).eval()


def _solve_biases(baseline: BiasBaseline, folded: RowsToFoldIn, other_bias: Tensor) -> Tensor:
    """Fold users or items into the bias baseline: b = Σ (r − μ − b of the other side) / (λ + n), (B,) float32."""
    rows = folded.new_rows
    residual = folded.rating - baseline.mean - other_bias[rows.other]
    total = torch.bincount(rows.row, residual, minlength=rows.num_rows)
    return (total / (SHRINKAGE + torch.bincount(rows.row, minlength=rows.num_rows))).float()


def _insert_items(old: RunTables, items: RowsToFoldIn) -> pd.DataFrame:
    """Insert the folded-in items after those with training ratings, with their given titles and features."""
    count = old.record.num_items
    new = old.items.reindex(items.run_index).reset_index(drop=True).assign(item_id=items.ids)
    for name in new.columns[1:]:
        if new[name].dtype.kind != "f":
            new[name] = new[name].fillna("")
            source = name.removeprefix(FEATURE_PREFIX)
            if items.features is not None and source in items.features.cells:
                cells = items.features.select_cells(items.ids, source)
                new[name] = new[name].where(cells == "", cells)
    rest = old.items[count:]
    rest = rest[~rest["item_id"].astype(str).isin(items.ids)]
    table = pd.concat([old.items[:count], new, rest], ignore_index=True)
    return table.assign(item_id=_convert_ids(table["item_id"].astype(str), like=old.item_ids))


def _convert_ids(ids: Iterable[str], *, like: IdMap) -> pd.Index:
    """Convert ids to integers if the run's ids, `like`, are integers and all of these ids can be."""
    texts = pd.Index(list(ids), dtype=object)
    is_whole = like.are_integers and bool(texts.str.fullmatch(r"0|-?[1-9]\d{0,17}").all())
    return texts.astype(np.int64) if is_whole else texts
