"""timeSVD++: SVD++ whose users change from day to day."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ratinglab.models.declarations import EquationOptions
from ratinglab.models.equation import Factors, Interactions, ItemFeatures
from ratinglab.models.implicit import Implicit
from ratinglab.models.svdpp import SVDpp, SVDppOptions
from ratinglab.options import at_least, within

DRIFT_POWER = 0.4
"""β of the drift, as Koren found it on Netflix's ratings."""


@dataclass
class TimeSVDppOptions(EquationOptions):
    """Options of timeSVD++."""

    name: ClassVar[str] = "timesvdpp"

    embedding_dim: int = field(metadata=within(1, 65_536))
    """Number of latent factors. More factors fit more detail and need more regularization."""
    regularization: float = field(metadata=at_least(0))
    """λ per rating, in the objective. Raise it where val/mse rises while train/mse falls."""
    init_std: float = field(metadata=at_least(0))
    """Standard deviation of the embeddings' first values, in √(rating units)."""
    implicit: Implicit
    """Side whose factors have a part that follows from who rated what: user (Koren 2008), item, or both."""
    item_features: bool
    """Whether items' factors have a part that follows from their genres. The data must have genres."""
    item_bins: int = field(metadata=within(1, 65_536))
    """Number of equal periods of time; an item has a bias of its own in each. 1: one bias for all time."""


class TimeSVDpp(SVDpp):
    """r̂_ui(t) = μ + b_u(t) + b_i(t) + (p_u(t) + |N(u)|^−½ Σ_{j ∈ N(u)} y_j) · (q_i + …), … as in svdpp

    b_u(t) = b_u + a_u dev_u(t) + b_u,t and p_u(t) = p_u + α_u dev_u(t) + p_u,t, with weights of their own for every
    day t on which the user has training rows; dev_u(t) = sign(t − t_u) |t − t_u|^0.4, in days from the mean day t_u of
    the user's ratings. b_i(t) = b_i + b_i,Bin(t). All have the same λ. On a day without training rows the user is as
    on the nearest day with one, the earlier of two. Where no day is told the user is as on the last one, the item as in
    the last bin. What depends on time starts at 0.

    Cold start: none of its own; the bias baseline speaks for users and items without training rows.

    Source: Koren, "Collaborative Filtering with Temporal Dynamics", KDD 2009, the model timeSVD++; without its c_u(t),
    which scales the items' biases.
    """

    takes_day = True
    day_key: Tensor
    user_of_row: Tensor
    drift: Tensor

    def __init__(
        self,
        options: TimeSVDppOptions,
        *,
        num_users: int,
        num_items: int,
        rating_mean: float,
        interactions: Interactions,
        item_features: ItemFeatures | None,
        generator: torch.Generator,
    ) -> None:
        own = SVDppOptions(**{name: value for name, value in vars(options).items() if name != "item_bins"})
        super().__init__(
            own,
            num_users=num_users,
            num_items=num_items,
            rating_mean=rating_mean,
            interactions=interactions,
            item_features=item_features,
            generator=generator,
        )
        user, _, day = interactions
        assert day is not None, "an equation with takes_day is told the days"
        # not in checkpoints: a run has its training rows
        self.register_buffer("day_key", torch.unique(_key(user, day)), persistent=False)
        self.register_buffer("user_of_row", _user_of(self.day_key), persistent=False)
        mean_day = torch.bincount(user, day.double(), minlength=num_users) / torch.bincount(user, minlength=num_users)
        distance = _day_of(self.day_key) - mean_day[self.user_of_row]
        self.register_buffer("drift", (distance.sign() * distance.abs() ** DRIFT_POWER).float(), persistent=False)
        self.item_bins = options.item_bins
        self.first_day, self.last_day = int(day.min()), int(day.max())
        rows = len(self.day_key)
        self.user_day_bias, self.user_day_embedding = nn.Embedding(rows, 1), nn.Embedding(rows, options.embedding_dim)
        self.user_drift_bias = nn.Embedding(num_users, 1)
        self.user_drift = nn.Embedding(num_users, options.embedding_dim)
        self.item_bin_bias = nn.Embedding(num_items * options.item_bins, 1)
        for table in self._of_time():
            nn.init.zeros_(table.weight)

    def user_rows(self, user: Tensor, day: Tensor | None) -> Tensor:
        """The row of the nearest day on which a user has training rows, the earlier of two; without a day the last."""
        if day is None:
            return torch.searchsorted(self.user_of_row, user.long(), right=True) - 1
        after = torch.searchsorted(self.day_key, _key(user, day))
        before = (after - 1).clamp(min=0)
        after = after.clamp(max=len(self.day_key) - 1)
        is_before, is_after = self.user_of_row[before] == user, self.user_of_row[after] == user
        is_nearer = day - _day_of(self.day_key[before]) <= _day_of(self.day_key[after]) - day
        return torch.where(is_before & (is_nearer | ~is_after), before, after)

    def forward(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> Tensor:
        """user: (B,) int32, item: (B,) int32, day: (B,) int32 → rating: (B,) float32."""
        row = self.user_rows(user, day)
        bias = self.rating_mean + self._user_bias(row) + self.item_bias(item) + self.item_bin_bias(self._bin(item, day))
        return bias[:, 0] + (self._users_of_rows(row) * self._items(item)).sum(dim=-1)

    def penalty(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> Tensor:
        """user: (B,) int32, item: (B,) int32, day: (B,) int32 → mean penalty of these ratings: () float32."""
        row = self.user_rows(user, day)
        squares = (
            self.user_day_bias(row).square().sum()
            + self.user_day_embedding(row).square().sum()
            + self.user_drift_bias(user).square().sum()
            + self.user_drift(user).square().sum()
            + self.item_bin_bias(self._bin(item, day)).square().sum()
        )
        return super().penalty(user, item) + self.regularization * squares / len(user)

    def factors(self) -> Factors:
        """As in svdpp, each user as on the last day: values, not the weights."""
        row = self.user_rows(torch.arange(self.user_embedding.num_embeddings), None)
        item = torch.arange(self.item_embedding.num_embeddings)
        item_bias = self.item_bias.weight + self.item_bin_bias(self._bin(item, None))
        return super().factors()._replace(user=self._users_of_rows(row), biases=(self._user_bias(row), item_bias))

    def _of_time(self) -> tuple[nn.Embedding, ...]:
        """The tables of what depends on time."""
        users = self.user_day_bias, self.user_day_embedding, self.user_drift_bias, self.user_drift
        return *users, self.item_bin_bias

    def _user_bias(self, row: Tensor) -> Tensor:
        """b_u(t): (B, 1)."""
        user = self.user_of_row[row]
        drift = self.drift[row, None] * self.user_drift_bias(user)
        bias: Tensor = self.user_bias(user) + drift + self.user_day_bias(row)
        return bias

    def _users_of_rows(self, row: Tensor) -> Tensor:
        """p_u(t) with all its parts: (B, D)."""
        user = self.user_of_row[row]
        return self._users(user) + self.drift[row, None] * self.user_drift(user) + self.user_day_embedding(row)

    def _bin(self, item: Tensor, day: Tensor | None) -> Tensor:
        """The row of item_bin_bias: (B,); without a day the last bin's."""
        if day is None:
            return item.long() * self.item_bins + self.item_bins - 1
        length = self.last_day + 1 - self.first_day
        place = (day.long().clamp(self.first_day, self.last_day) - self.first_day) * self.item_bins // length
        return item.long() * self.item_bins + place


def _key(user: Tensor, day: Tensor) -> Tensor:
    """One number for a user and a day, sorted by both: (B,) int64."""
    return (user.long() << 32) + (day.long() + (1 << 31))


def _user_of(key: Tensor) -> Tensor:
    return key >> 32


def _day_of(key: Tensor) -> Tensor:
    return (key & ((1 << 32) - 1)) - (1 << 31)
