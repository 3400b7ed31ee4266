"""Recommendation lists: their options, and the methods that make them for a run and for what is folded into it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from numbers import Integral
from typing import TypeVar

import numpy as np
import pandas as pd

from ratinglab.errors import UserError, did_you_mean
from ratinglab.evaluation.ranking import OrderBy, OrderOptions, UnknownUsers
from ratinglab.inference.recommender_tables import Ids, check_ids

SHORT_LIST = 10
"""Default length of lists, also in conf/recommend.yaml and conf/similar.yaml. Always valid, even with fewer items."""

Choice = TypeVar("Choice", bound=Enum)


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """Options of lists: the arguments of `Recommender.recommend`, with `by` and `threshold` in `order`."""

    k: int
    candidates: Ids | None
    exclude_seen: bool
    unknown: UnknownUsers
    order: OrderOptions

    def __post_init__(self) -> None:
        """Raise UserError for an invalid number of items."""
        check_k(self.k)


class Recommender(ABC):
    """Base class of trained models, and of users and items folded into a model: both recommend items."""

    @abstractmethod
    def lists_by_block(self, options: ListOptions, *, user_ids: Ids | None = None) -> Iterator[pd.DataFrame]:
        """Yield the rows of `recommend_to_all` in blocks of bounded memory, at least one block."""

    def _resolve_user(self, user_id: int | str | None) -> int | str:
        """Return the id of the user to recommend to. None is allowed if there is a single user."""
        if user_id is None:
            raise UserError("user_id must be given; recommend_to_all recommends to all users")
        return user_id

    def recommend(
        self,
        user_id: int | str | None = None,
        *,
        k: int = SHORT_LIST,
        candidates: Ids | None = None,
        exclude_seen: bool = True,
        unknown: str = "error",
        by: str = "expected_gain",
        threshold: float | None = None,
    ) -> pd.DataFrame:
        """Recommend k items.

        By default, the expected gain orders the list. It is the user's interest in the item, estimated from implicit
        feedback (who rated what), times the probability of a rating of at least `threshold`; see `recommend.orders`.
        Ties go to the item with more training ratings.

        Args:
            user_id: the user's id, as in the data; by default the only folded-in user.
            k: maximum number of items, at least 1.
            candidates: ids of the items to choose from, by default all; items without training ratings are ignored.
            exclude_seen: whether to exclude items that the user has rated in any part.
            unknown: `error` refuses a user without training ratings; `baseline` uses the bias baseline or, with a
                ranking model, lists the most popular items.
            by: `expected_gain`; `prediction`, before clipping; or `lower_bound`, the prediction minus its standard
                deviation, for a run of optimizer=gibbs and for folded-in users. A model that predicts scores orders by
                scores, and refuses `lower_bound`.
            threshold: lowest rating that counts as liked, in rating units; by default 4 of 5 stars, on any scale.

        Returns:
            rank from 1, item_id, title (if the data had titles), prediction and, for a run of optimizer=gibbs and after
            fold-in, standard_deviation (NaN where there is none), or score for a model that predicts scores; best
            first.

        Raises:
            UserError: k is not an integer of at least 1, or the user or every candidate has no training ratings.
        """
        user_id = self._resolve_user(user_id)
        if np.ndim(user_id) > 0:
            raise UserError(f"user_id must be one id, got {user_id!r}; recommend_to_all takes several")
        lists = self.recommend_to_all(
            k=k,
            user_ids=[user_id],
            candidates=candidates,
            exclude_seen=exclude_seen,
            unknown=unknown,
            by=by,
            threshold=threshold,
        )
        return lists.drop(columns="user_id")

    def recommend_to_all(
        self,
        *,
        k: int = SHORT_LIST,
        user_ids: Ids | None = None,
        candidates: Ids | None = None,
        exclude_seen: bool = True,
        unknown: str = "error",
        by: str = "expected_gain",
        threshold: float | None = None,
    ) -> pd.DataFrame:
        """Recommend k items to each of several users. Users for whom no candidate is left get no rows.

        Takes the arguments of `recommend`, and raises its errors. `user_ids` are the users in the order of the result.
        None stands for all folded-in users. If there are none, it stands for all users with training ratings, by index,
        or with unknown=`baseline` for all users of the run.

        Returns:
            user_id and the columns of `recommend`, best first.
        """
        if user_ids is not None:
            check_ids(user_ids, name="user_ids")
        options = ListOptions(
            k=k,
            candidates=candidates,
            exclude_seen=exclude_seen,
            unknown=_parse_choice(UnknownUsers, unknown, name="unknown"),
            order=parse_order(by, threshold),
        )
        return pd.concat(self.lists_by_block(options, user_ids=user_ids), ignore_index=True)


def check_k(k: int) -> None:
    """Raise UserError unless k is an integer of at least 1."""
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise UserError(f"k must be an integer, got {k!r}")
    if k < 1:
        raise UserError(f"k must be at least 1, got {k}")


def _parse_choice(choices: type[Choice], text: str, *, name: str) -> Choice:
    """Parse the argument `name`. Raises UserError if there is no such choice."""
    names = [choice.value for choice in choices]
    if text not in names:
        raise UserError(f"{name} must be one of {', '.join(names)}, got {text!r}{did_you_mean(str(text), names)}")
    return choices(text)


def check_list_length(k: int, *, num_items: int) -> None:
    """Raise UserError if k exceeds both the number of items and SHORT_LIST."""
    if k > max(num_items, SHORT_LIST):
        raise UserError(f"k must be at most {num_items}, the number of items, got {k}")


def parse_order(by: str, threshold: float | None) -> OrderOptions:
    """Parse the arguments for the order of lists; see `Recommender.recommend`.

    Raises:
        UserError: there is no such order, or the threshold is not finite.
    """
    if threshold is not None and not np.isfinite(threshold):
        raise UserError(f"threshold must be finite, got {threshold}")
    return OrderOptions(_parse_choice(OrderBy, by, name="by"), threshold)
