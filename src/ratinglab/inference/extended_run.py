"""A run to which items or users were folded in: its predictor, its tables and its recommender."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ratinglab.inference.fold_in_input import find_positions
from ratinglab.inference.indexed_tables import IndexedTables
from ratinglab.inference.new_rows import NewRows
from ratinglab.inference.recommender import Recommender
from ratinglab.inference.run_tables import RunTables
from ratinglab.models.bias_baseline import SHRINKAGE, BiasBaseline
from ratinglab.models.factors import Factors, SideSamples
from ratinglab.models.posterior import PlaceholderEquation, Posterior
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.ids import IdMap
from ratinglab.recommend.interest import Interest
from ratinglab.recommend.orders import ExpectedGain
from ratinglab.runs.storage import FEATURE_PREFIX

if TYPE_CHECKING:
    from ratinglab.inference.run import Run


def extend_predictor(old: Predictor, new: NewRows, user_rows: SideSamples, item_rows: SideSamples) -> Predictor:
    """Replace the users of a predictor and of its baseline by new users, or append new items to its items.

    `user_rows` and `item_rows` hold the weights of all resulting users and items, with the same number of samples.
    """
    pairs = zip(user_rows.samples, item_rows.samples, strict=True)
    samples = [Factors(user, item, user_rows.mean) for user, item in pairs]
    posterior = Posterior(PlaceholderEquation(samples[0]))
    posterior.samples = samples
    return Predictor(posterior, _extend_baseline(old.baseline, new), stars=old.stars, scale=old.scale).eval()


def _extend_baseline(old: BiasBaseline, new: NewRows) -> BiasBaseline:
    """Solve for the biases of new users or items: b = Σ (r − μ − b of the other side) / (λ + n)."""
    observed, other_bias = new.observations, old.item_bias if new.side == "user" else old.user_bias
    residual = new.rating - old.mean - other_bias[observed.other]
    total = torch.bincount(observed.row, residual, minlength=observed.num_rows)
    new_bias = (total / (SHRINKAGE + torch.bincount(observed.row, minlength=observed.num_rows))).float()
    user_bias, item_bias = old.user_bias[:-1], old.item_bias[:-1]
    if new.side == "user":
        user_bias = new_bias
    else:
        item_bias = torch.cat([item_bias, new_bias])
    baseline = BiasBaseline(num_users=len(user_bias), num_items=len(item_bias))
    baseline.mean.copy_(old.mean)
    baseline.user_bias[:-1], baseline.item_bias[:-1] = user_bias, item_bias
    return baseline


class TablesWithItems(IndexedTables):
    """A run's tables with folded-in items, which follow the items with training ratings."""

    def __init__(self, old: RunTables, items: NewRows, ratings: pd.DataFrame) -> None:
        """Add items to the tables `old`; `ratings` are all given ratings, as in `GivenData`."""
        self.record = replace(old.record, num_items=old.record.num_items + len(items.ids), is_sampled=True)
        self._old, self._new_items, self._given = old, items, ratings

    @property
    def user_ids(self) -> IdMap:
        return self._old.user_ids

    @cached_property
    def items(self) -> pd.DataFrame:
        new, old, count = self._new_items, self._old.items, self._old.record.num_items
        inserted = old.reindex(new.run_index).reset_index(drop=True).assign(item_id=new.ids)
        for name in inserted.columns[1:]:
            if inserted[name].dtype.kind != "f":
                inserted[name] = inserted[name].fillna("")
                source = name.removeprefix(FEATURE_PREFIX)
                if new.features is not None and source in new.features.cells:
                    given = pd.Series(new.features.cells[source], new.features.ids, dtype=object)
                    cells = given.reindex(new.ids, fill_value="").reset_index(drop=True)
                    inserted[name] = inserted[name].where(cells == "", cells)
        rest = old[count:]
        rest = rest[~rest["item_id"].astype(str).isin(new.ids)]
        table = pd.concat([old[:count], inserted, rest], ignore_index=True)
        return table.assign(item_id=_convert_ids(table["item_id"].astype(str), like=self._old.item_ids))

    @cached_property
    def ratings(self) -> pd.DataFrame:
        given, old = self._given, self._old.ratings
        new_index = self.item_ids.index_of(self._old.item_ids.ids.astype(str).to_numpy())
        given = given.assign(user=given["user_index"], item=self.item_ids.index_of(given["item"]))
        return _merge_ratings(given, old.assign(item=new_index[old["item"]]))

    @cached_property
    def items_by_popularity(self) -> NDArray[np.int32]:
        added = np.arange(self._old.record.num_items, self.record.num_items, dtype=np.int32)
        return np.concatenate([self._old.items_by_popularity, added])

    @cached_property
    def interest(self) -> Interest:
        return self._old.interest.with_items(self._new_items.pairs().transpose(), len(self._new_items.ids))


class TablesWithUsers(IndexedTables):
    """Tables whose users are the folded-in ones, instead of the run's."""

    def __init__(self, old: IndexedTables, users: NewRows, ratings: pd.DataFrame) -> None:
        """Replace the users of the tables `old`; `ratings` are all given ratings, as in `GivenData`."""
        self.record = replace(old.record, num_users=len(users.ids), is_sampled=not old.record.predicts_scores)
        self._old, self._new_users, self._given = old, users, ratings

    @cached_property
    def user_ids(self) -> IdMap:
        return IdMap(_convert_ids(self._new_users.ids, like=self._old.user_ids))

    @property
    def items(self) -> pd.DataFrame:
        return self._old.items

    @cached_property
    def ratings(self) -> pd.DataFrame:
        user = find_positions(self._new_users.ids, self._given["user"])
        given = self._given.assign(user=user, item=self._old.item_ids.index_of(self._given["item"]))
        return _merge_ratings(given, self._old.ratings_of_users(self._new_users.run_index))

    @property
    def items_by_popularity(self) -> NDArray[np.int32]:
        return self._old.items_by_popularity

    @cached_property
    def interest(self) -> Interest:
        return self._old.interest.with_users(self._new_users.pairs(), len(self._new_users.ids))


class ExtendedRun(Recommender):
    """Recommender for a run to which items or users were folded in."""

    def __init__(self, run: "Run", predictor: Predictor, tables: IndexedTables) -> None:
        """Combine the extended predictor and the extended tables of `run`."""
        super().__init__(predictor, tables)
        self._run = run

    def _build_expected_gain(self, threshold: float | None) -> ExpectedGain:
        """Build the order from the noise and the rating levels of the run's own ratings, and the new interest."""
        return replace(self._run._build_expected_gain(threshold), interest=self.tables.interest)


def _merge_ratings(given: pd.DataFrame, old: pd.DataFrame) -> pd.DataFrame:
    """Merge given ratings with old ones, by index.

    A given rating replaces the old one of the same pair. Given ratings with an unknown index are left out.
    """
    given, columns = given[(given["user"] >= 0) & (given["item"] >= 0)], ["user", "item", "rating"]
    return pd.concat([given[columns], old[columns]]).drop_duplicates(["user", "item"])


def _convert_ids(ids: Iterable[str], *, like: IdMap) -> pd.Index:
    """Convert ids to integers if the run's ids, `like`, are integers and all of these ids can be converted."""
    texts = pd.Index(list(ids))
    is_whole = like.are_integers and bool(texts.str.fullmatch(r"0|-?[1-9]\d{0,17}").all())
    return texts.astype(np.int64) if is_whole else texts
