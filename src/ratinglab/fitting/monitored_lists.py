"""A ranking metric of the validation rows, monitored during a fit."""

from ratinglab.batches import as_tensors
from ratinglab.datamodule import RatingDataModule
from ratinglab.evaluation.metrics import MonitoredRankingMetric
from ratinglab.evaluation.ranking import OrderBy, like_threshold
from ratinglab.models.predictor import Predictor
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.recommend.held_out_lists import HeldOutLists
from ratinglab.recommend.interest import fit_interest
from ratinglab.recommend.orders import ExpectedGain, Order, find_rating_levels
from ratinglab.stars import is_liked


class MonitoredLists:
    """Lists measured on the validation rows; their metric decides which epoch is the best.

    The users, their relevant items and the interest do not change: they are computed once, at the first measurement.
    """

    def __init__(self, monitor: MonitoredRankingMetric, data: RatingDataModule) -> None:
        """Find the users and their relevant items."""
        train = data.train_ratings_in_stars
        self._monitor, self._stars = monitor, data.stars
        pairs = RatedPairs(train.user, train.item)
        num_users, num_items = data.num_users, data.num_items
        self._threshold = like_threshold(monitor.threshold, data.stars)
        self._levels = data.stars.to_rating(find_rating_levels(train.rating))
        held_out = data.validation_ratings
        self._held_out = HeldOutLists(
            held_out.take(is_liked(held_out.rating, self._threshold, unit=data.stars.unit)),
            train=pairs,
            history=as_tensors(data.validation_history) if len(data.validation_history) > 0 else None,
            num_users=num_users,
            num_items=num_items,
        )
        self._interest = None
        if monitor.by is OrderBy.expected_gain:
            self._interest = fit_interest(pairs, num_users=num_users, num_items=num_items)

    def measure(self, predictor: Predictor, *, mse: float | None) -> float:
        """Measure the lists of the predictor's current weights, given its MSE on the validation rows, if it has one."""
        order = self._order(mse=mse)
        return self._held_out.measure(predictor, k=self._monitor.k, order=order)[self._monitor.measure]

    def _order(self, *, mse: float | None) -> Order | None:
        """Return the order of the lists; None: by prediction."""
        assert self._monitor.by is not OrderBy.lower_bound, "a burn-in has no lower bounds"
        if self._interest is None:
            return None
        assert mse is not None, "only ratings have an expected gain"
        return ExpectedGain.from_rating_levels(
            self._interest, self._levels, threshold=self._threshold, mse=mse, stars=self._stars
        )
