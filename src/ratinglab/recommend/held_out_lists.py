"""Top-k lists of a part's users, measured against their held-out ratings."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ratinglab.batches import Batch, as_tensors
from ratinglab.evaluation.list_options import OrderBy, OrderOptions
from ratinglab.evaluation.metric_kinds import MetricAtK
from ratinglab.evaluation.ranking import mean_ranking_metrics
from ratinglab.models.predictor import Predictor
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.interest import fit_interest
from ratinglab.recommend.orders import ExpectedGain, Order, find_rating_levels
from ratinglab.recommend.topk import build_pair_matrix, order_by_popularity, select_most_popular, select_top_k
from ratinglab.stars import is_liked

if TYPE_CHECKING:
    from ratinglab.datamodule import RatingDataModule


class HeldOutLists:
    """The users whose lists can be measured on a part, with their relevant items.

    These users have training ratings and at least one relevant held-out rating. The candidates for a list are all items
    with training ratings, except items that the user has rated in an earlier part. Models that use days predict for the
    user's last day in training.

    Users with a history instead of training ratings are folded in from it, and its items are not candidates.

    Attributes:
        users: (U,) int32, the users; folded-in users are numbered from 0.
        num_without_relevant: number of users with training ratings or a history, but no relevant held-out rating.
        num_without_training: number of users with a relevant held-out rating, but no training ratings or history.
    """

    def __init__(
        self,
        liked: Ratings,
        *,
        train: RatedPairs,
        validation_pairs: RatedPairs | None = None,
        history: Batch | None = None,
        num_users: int,
        num_items: int,
    ) -> None:
        """Find the users.

        Args:
            liked: rows of the part whose items are relevant.
            train: the training rows.
            validation_pairs: the validation rows, if the part is test.
            history: rows of users to fold in, with ratings in stars; None or no rows if the users have training rows.
            num_users: number of users with training rows, which have the lowest indices.
            num_items: number of items with training rows, which have the lowest indices.
        """
        count = np.bincount(train.item, minlength=num_items)
        self._share_of_raters, self._candidates = count / num_users, order_by_popularity(count)
        self._history: Batch | None = None
        self._num_users = num_users
        seen = [train, *([] if validation_pairs is None else [validation_pairs])]
        if history is not None and len(history.user) > 0:
            liked, history, self._num_users = _renumber_users(liked, history)
            seen = [RatedPairs(history.user.numpy(), history.item.numpy())]
            self._history = history.take(history.item < num_items)
        self._relevant = build_pair_matrix(liked.user, liked.item)
        users_with_relevant = np.unique(liked.user)
        self.users = users_with_relevant[users_with_relevant < self._num_users]
        self.num_without_relevant = self._num_users - len(self.users)
        self.num_without_training = len(users_with_relevant) - len(self.users)
        user, item = (np.concatenate(columns) for columns in zip(*seen, strict=True))
        self._seen = build_pair_matrix(user, item, num_users=self._num_users)

    def measure(self, predictor: Predictor, *, k: int, order: Order | None) -> dict[str, float]:
        """Measure the predictor's lists in an order, by the metrics of `evaluation.ranking`, or {} without users.

        Ties go to the more popular item; see `recommend.topk`. Users with a history need a ranking model.
        """
        if self._history is not None:
            predictor = predictor.with_users(self._history, num_users=self._num_users)
        lists = select_top_k(predictor, self.users, candidates=self._candidates, seen=self._seen, k=k, order=order)
        return mean_ranking_metrics(self.users, lists, self._relevant, k=k, share=self._share_of_raters)

    def measure_popularity(self, *, k: int) -> dict[str, float]:
        """Measure lists of the items with the most training ratings, except the items that the user has rated."""
        lists = select_most_popular(self.users, candidates=self._candidates, seen=self._seen, k=k)
        return mean_ranking_metrics(self.users, lists, self._relevant, k=k, share=self._share_of_raters)


def _renumber_users(rows: Ratings, history: Batch) -> tuple[Ratings, Batch, int]:
    """Number the users of a history from 0. Returns these users' rows, the history and the number of users."""
    users, new_index = np.unique(history.user.numpy(), return_inverse=True)
    rows = rows.take(np.isin(rows.user, users))
    rows = replace(rows, user=np.searchsorted(users, rows.user).astype(np.int32))
    return rows, history._replace(user=torch.from_numpy(new_index.astype(np.int32))), len(users)


class MonitoredLists:
    """Lists measured on the validation rows. Their metric decides which epoch is the best.

    The users, their relevant items and the interest do not change: they are computed once, at the first measurement.
    """

    def __init__(self, monitor: MetricAtK, data: "RatingDataModule", *, order: OrderOptions) -> None:
        """Find the users and their relevant items."""
        assert order.by is not OrderBy.lower_bound, "there are no lower bounds during burn-in"
        train = data.train_ratings_in_stars
        self._monitor, self._stars = monitor, data.stars
        pairs = RatedPairs(train.user, train.item)
        num_users, num_items = data.num_users, data.num_items
        self._threshold = data.stars.liked_threshold(order.threshold)
        self._levels = data.stars.to_rating(find_rating_levels(train.rating))
        held_out = data.validation_ratings
        self._held_out = HeldOutLists(
            held_out.take(is_liked(held_out.rating, self._threshold, unit=data.stars.unit)),
            train=pairs,
            history=as_tensors(data.validation_history),
            num_users=num_users,
            num_items=num_items,
        )
        self._interest = None
        if order.by is OrderBy.expected_gain:
            self._interest = fit_interest(pairs, num_users=num_users, num_items=num_items)

    def measure(self, predictor: Predictor, *, mse: float | None) -> float:
        """Measure the lists of the predictor's current weights, given its MSE on the validation rows, if it has one."""
        order = None  # by prediction
        if self._interest is not None:
            assert mse is not None, "only ratings have an expected gain"
            order = ExpectedGain.from_rating_levels(
                self._interest, self._levels, threshold=self._threshold, mse=mse, stars=self._stars
            )
        return self._held_out.measure(predictor, k=self._monitor.k, order=order)[self._monitor.base_name]
