"""Recommendation lists of a run in use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ratinglab.errors import UserError, did_you_mean
from ratinglab.evaluation.ranking import OrderBy, OrderOptions, liked_from
from ratinglab.models.equation import SideName
from ratinglab.models.rated_pairs import RatedPairs
from ratinglab.ratings.ids import UNKNOWN
from ratinglab.ratings.side_information import categories_in
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.interest import Interest, fit_interest
from ratinglab.recommend.orders import ExpectedGain, LowerBound, Order, levels_of
from ratinglab.recommend.topk import SeenItems, by_popularity, top_k, top_k_of_users
from ratinglab.runs.storage import FEATURE_PREFIX, read_interest, read_part, write_interest
from ratinglab.runs.trained_model import Ids, TrainedModel, is_trained, predict_by_block

SHORT_LIST = 10
"""Default length, also in conf/recommend.yaml and conf/similar.yaml. It is accepted even if a run has fewer items."""


def check_k(k: int) -> None:
    """Raise UserError unless k is an integer of at least 1."""
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise UserError(f"k must be an integer, got {k!r}")
    if k < 1:
        raise UserError(f"k must be at least 1, got {k}")


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """Settings of recommendation lists; `Recommender.recommend` describes them.

    Attributes:
        k: number of items per list.
        candidates: ids of the items to choose from; None: all items.
        exclude_seen: whether to leave out the items that the user has rated.
        unknown: treatment of users without training ratings, `error` or `baseline`.
        order: order of the lists.
    """

    k: int
    candidates: Ids | None
    exclude_seen: bool
    unknown: str
    order: OrderOptions

    def __post_init__(self) -> None:
        """Raise UserError for an invalid number of items, or an unknown treatment of users."""
        check_k(self.k)
        if self.unknown not in ("error", "baseline"):
            raise UserError(f"unknown must be one of error, baseline, got {self.unknown}")


@dataclass(eq=False, repr=False)
class Recommender(TrainedModel):
    """The model of a run, which also recommends.

    Attributes:
        extension: the folded-in users or items; None for a run's own model.
    """

    extension: "Extension | None" = field(default=None, init=False, repr=False)

    @cached_property
    def items_by_popularity(self) -> NDArray[np.int32]:
        """The items with training ratings, most rated first, then folded-in items: the order of candidates."""
        return by_popularity(self.train_counts[1][: self.record.num_items])

    def check_length(self, k: int) -> None:
        """Raise UserError if k exceeds both the number of items and SHORT_LIST."""
        if k > max(self.record.num_items, SHORT_LIST):
            raise UserError(f"k must be at most {self.record.num_items}, the number of items, got {k}")

    @cached_property
    def interest(self) -> Interest:
        """The interest model, read from the folder, or fitted to the training ratings and stored there."""
        if self.extension is not None:
            return self.extension.interest()
        sizes = {"num_users": self.record.num_users, "num_items": self.record.num_items}
        interest = read_interest(self.folder, **sizes)
        if interest is None:
            self.check_fits_memory(what="by=expected_gain", instead="by=prediction does not")
            interest = fit_interest(RatedPairs(*read_part(self.folder, "train", ["user", "item"])), **sizes)
            write_interest(self.folder, interest)
        return interest

    def order(self, options: OrderOptions) -> Order | None:
        """Return the order of lists; None: by the model's own ratings or scores.

        Raises:
            UserError: lower bounds need samples, which the run lacks.
        """
        if options.by is OrderBy.lower_bound:
            if not self.record.is_sampled:
                raise UserError("by=lower_bound needs a run of optimizer=gibbs: others have no standard deviations")
            return LowerBound(self.predictor)
        if options.by is OrderBy.prediction or self.record.predicts_scores:
            return None
        run: Recommender = self
        while run.extension is not None:  # errors and scale come from the run's own ratings
            run = run.extension.base
        return ExpectedGain.from_levels(
            self.interest,
            run._rating_levels,
            threshold=self.liked_from(options.threshold),
            mse=run._noise_variance,
            stars=self.record.stars,
        )

    def liked_from(self, threshold: float | None) -> float:
        """Return the lowest rating that counts as liked: the threshold, or 4 of 5 stars for None.

        Raises:
            UserError: the threshold is not finite.
        """
        if threshold is not None and not np.isfinite(threshold):
            raise UserError(f"threshold must be finite, got {threshold}")
        return liked_from(threshold, self.record.stars)

    def lowest_liked(self, threshold: float | None) -> float:
        """Return the lowest training rating that counts as liked, or the threshold if there is none."""
        liked_from = self.liked_from(threshold)
        return float(min(self._rating_levels[self._rating_levels >= liked_from], default=liked_from))

    @cached_property
    def _rating_levels(self) -> NDArray[np.float32]:
        (rating,) = read_part(self.folder, "train", ["rating"])
        return levels_of(rating)

    def items_of(self, genres: Sequence[str], *, column: str = "genres") -> Ids:
        """List the ids of the items that have at least one of these genres.

        Args:
            genres: names of genres, spelled as in the data.
            column: column of categories in the run's copy of the table of items.

        Raises:
            UserError: the run has no such column, or no item has one of the genres.
        """
        features = self.items.filter(regex=f"^{FEATURE_PREFIX}").select_dtypes(exclude="number")
        names = [str(name).removeprefix(FEATURE_PREFIX) for name in features]
        if column not in names:
            listed = f"only {', '.join(names)}" if names else "since its data had none (data.titles.path)"
            raise UserError(
                f"genres: {self.folder} has no item categories {column!r}, {listed}{did_you_mean(column, names)}"
            )
        of_items = features[f"{FEATURE_PREFIX}{column}"].map(lambda text: set(categories_in(text)))
        known = set().union(*of_items)
        for genre in genres:
            if genre not in known:
                raise UserError(f"genres: no item has the genre {genre!r}{did_you_mean(genre, known)}")
        wanted = set(genres)
        return self.item_ids.ids[[not wanted.isdisjoint(each) for each in of_items]].to_numpy()

    def recommend(
        self,
        user_id: int | str,
        *,
        k: int = SHORT_LIST,
        candidates: Ids | None = None,
        exclude_seen: bool = True,
        unknown: str = "error",
        by: str = "expected_gain",
        threshold: float | None = None,
    ) -> pd.DataFrame:
        """Recommend k items.

        The list is ordered by expected gain: the user's interest in the item, estimated from implicit feedback (who
        rated what), times the probability of a rating of at least `threshold`; see `recommend.orders`. Ties go to the
        item with more training ratings.

        Args:
            user_id: the user's id, as in the data.
            k: maximum number of items, at least 1.
            candidates: ids of the items to choose from; items without training ratings are ignored. None: all items.
            exclude_seen: whether to exclude items that the user has rated in any part.
            unknown: `error` refuses a user without training ratings; `baseline` uses the bias baseline.
            by: `expected_gain`; `prediction`, before clipping; or `lower_bound`, the prediction minus its standard
                deviation, for a run of optimizer=gibbs. A model that predicts scores orders by scores, and refuses
                `lower_bound`.
            threshold: lowest rating that counts as liked, in rating units; None: 4 of 5 stars, on any scale.

        Returns:
            rank from 1, item_id, title (if the data had titles) and rating (predicted), or score for a model that
            predicts scores, best first.

        Raises:
            UserError: k is not an integer of at least 1, or the user or every candidate has no training ratings.
        """
        order = order_options(by, threshold)
        options = ListOptions(k=k, candidates=candidates, exclude_seen=exclude_seen, unknown=unknown, order=order)
        return self.list_of(user_id, options)

    def list_of(self, user_id: int | str, options: ListOptions) -> pd.DataFrame:
        """Make a user's list, with the columns of `recommend`."""
        if np.ndim(user_id) > 0:
            raise UserError(f"user_id must be one id, got {user_id!r}; recommend_to_all takes several")
        self._check_known([user_id], options)
        user, chosen = int(self.user_ids.index_of([user_id])[0]), self._candidates(options.candidates)
        if options.exclude_seen:
            chosen = chosen[~np.isin(chosen, self.rated_by(user)["item"])]
        order = self.order(options.order)
        best = top_k(self.predictor, user=user, candidates=torch.from_numpy(chosen), k=options.k, order=order)
        with torch.inference_mode():
            rating = self.predictor(torch.full_like(best, user), best)
        return self._listed_as_predicted(best.numpy(), rating.numpy())

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
        """Recommend to several users, like `recommend`. The result omits users without any remaining item.

        Args:
            k: see `recommend`.
            user_ids: ids of the users, in the order of the result; None: all users with training ratings, by index.
            candidates: see `recommend`.
            exclude_seen: see `recommend`.
            unknown: see `recommend`. With `baseline` and without user_ids, all users of the run are included.
            by: see `recommend`.
            threshold: see `recommend`.

        Returns:
            user_id and the columns of `recommend`, best first.

        Raises:
            UserError: as in `recommend`.
        """
        order = order_options(by, threshold)
        options = ListOptions(k=k, candidates=candidates, exclude_seen=exclude_seen, unknown=unknown, order=order)
        return pd.concat(self.lists_by_block(options, user_ids=user_ids), ignore_index=True)

    def lists_by_block(self, options: ListOptions, *, user_ids: Ids | None = None) -> Iterator[pd.DataFrame]:
        """Make the lists of several users, like `recommend_to_all`, in blocks of bounded memory; at least one block."""
        if user_ids is None:
            includes_unknown = options.unknown == "baseline"
            user = np.arange(len(self.user_ids) if includes_unknown else self.record.num_users, dtype=np.int32)
            ids = self.user_ids.ids[user]
        else:
            user = self.user_ids.index_of(user_ids)
            ids = self.user_ids.ids[user] if (user != UNKNOWN).all() else pd.Index(user_ids).astype(str)
            self._check_known(user_ids, options)
        chosen, seen = self._candidates(options.candidates), None
        if options.exclude_seen:
            self.check_fits_memory(what="exclude_seen=true", instead="recommend to one user at a time")
            rated = (self.ratings[name].to_numpy() for name in ("user", "item"))
            seen = SeenItems(*rated, num_users=len(self.user_ids))
        first, order = 0, self.order(options.order)
        for best in top_k_of_users(self.predictor, user, candidates=chosen, seen=seen, k=options.k, order=order):
            row, column = np.nonzero(best >= 0)
            item = best[row, column]
            row, first = row + first, first + len(best)
            pairs = Ratings(user=user[row], item=item, rating=np.zeros(len(item), dtype=np.float32))
            listed = self._listed_as_predicted(item, predict_by_block(self.predictor, pairs).numpy())
            listed = listed.assign(rank=column + 1)
            listed.insert(0, "user_id", ids[row])
            yield listed

    def _check_known(self, user_ids: Ids, options: ListOptions) -> None:
        """Raise UserError if the options refuse one of the users."""
        if options.unknown == "error":
            self.check_users(user_ids, place=lambda row: "user_ids" if len(user_ids) > 1 else "user_id")

    def _candidates(self, item_ids: Ids | None) -> NDArray[np.int32]:
        """Return the distinct indices of the items that have training ratings, most popular first."""
        if item_ids is None:
            return self.items_by_popularity
        item = np.unique(self.item_ids.index_of(item_ids))
        item = item[is_trained(item, self.record.num_items)]
        if len(item) == 0:
            if len(item_ids) == 0:
                raise UserError("candidates must have at least one item, got none")
            raise UserError(f"none of the {len(item_ids):,} candidates has training ratings")
        is_chosen = np.zeros(self.record.num_items, dtype=np.bool_)
        is_chosen[item] = True
        return self.items_by_popularity[is_chosen[self.items_by_popularity]]

    def rated_highest(self, user_id: int | str, *, k: int) -> pd.DataFrame:
        """List the k items that a user rated highest in any part, with the columns of `recommend`; empty if unknown."""
        user = self.user_ids.index_of([user_id])[0]
        rows = self.rated_by(int(user)).nlargest(k, "rating", keep="first")
        return self._listed(rows["item"].to_numpy(), rows["rating"].to_numpy())

    def _listed_as_predicted(self, item: NDArray[np.int32], value: NDArray[np.float32]) -> pd.DataFrame:
        """Make a list of items with their predicted ratings or scores."""
        listed = self._listed(item, value)
        return listed.rename(columns={"rating": "score"}) if self.record.predicts_scores else listed

    def _listed(self, item: NDArray[np.int32], rating: NDArray[np.float32]) -> pd.DataFrame:
        listed = pd.DataFrame({"rank": np.arange(1, len(item) + 1), "item_id": self.item_ids.ids[item]})
        if "title" in self.items:
            listed["title"] = self.items["title"].array[item]
        return listed.assign(rating=rating)


class Extension(NamedTuple):
    """Users or items folded into a model.

    Attributes:
        base: the model without them.
        side: user: these users replace the model's own; item: these items come after the model's own.
        pairs: implicit feedback, in which these users or items are numbered from 0.
        number: number of folded-in users or items.
    """

    base: Recommender
    side: SideName
    pairs: RatedPairs
    number: int

    def interest(self) -> Interest:
        """Solve for the interest rows of the users or items."""
        interest = self.base.interest
        with_rows = interest.with_users if self.side == "user" else interest.with_items
        return with_rows(self.pairs, self.number)


def order_options(name: str, threshold: float | None) -> OrderOptions:
    """Parse the name of an order of lists.

    Raises:
        UserError: there is none of this name.
    """
    names = [each.value for each in OrderBy]
    if name not in names:
        raise UserError(f"by must be one of {', '.join(names)}, got {name!r}{did_you_mean(str(name), names)}")
    return OrderOptions(OrderBy(name), threshold)
