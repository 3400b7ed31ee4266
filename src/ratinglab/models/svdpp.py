"""SVD++: matrix factorization that also knows who rated what."""

from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from ratinglab.models.equation import Equation, Factors, Interactions
from ratinglab.options import at_least, within


class Implicit(Enum):
    """Whose factors have a part that follows from who rated what."""

    user = "user"
    item = "item"
    both = "both"


@dataclass
class Options:
    """Options of SVD++."""

    embedding_dim: int = field(metadata=within(1, 65_536))
    """Number of latent factors."""
    regularization: float = field(metadata=at_least(0))
    """λ per rating, in the objective."""
    init_std: float = field(metadata=at_least(0))
    """Standard deviation of the embeddings' first values, in √(rating units)."""
    implicit: Implicit
    """Whose factors have a part that follows from who rated what: user (Koren 2008), item, or both."""


class SVDpp(Equation):
    """r̂_ui = μ + b_u + b_i + (p_u + |N(u)|^−½ Σ_{j ∈ N(u)} y_j) · (q_i + |N(i)|^−½ Σ_{v ∈ N(i)} x_v)

    N(u) are the items with a training rating of the user, whatever the rating; N(i) the users with one of the item.
    implicit=user has the y alone, implicit=item the x alone. Fitted on (r − r̂)² + λ (b_u² + b_i² + ‖p_u‖² + ‖q_i‖² +
    Σ_{j ∈ N(u)} ‖y_j‖² + Σ_{v ∈ N(i)} ‖x_v‖²) per rating. The biases start at 0, the embeddings at Normal(0,
    init_std²).

    Cold start: none of its own; the bias baseline speaks for users and items without training rows.

    Sources: Koren, "Factorization Meets the Neighborhood: a Multifaceted Collaborative Filtering Model", KDD 2008,
    equation 15, for implicit=user; Rendle, Zhang, Koren, "On the Difficulty of Evaluating Baselines: A Study on
    Recommender Systems", 2019, for the other side ("flipped").
    """

    rating_mean: Tensor
    user_start: Tensor
    items_of: Tensor
    item_start: Tensor
    users_of: Tensor

    def __init__(
        self,
        options: Options,
        *,
        num_users: int,
        num_items: int,
        rating_mean: float,
        interactions: Interactions,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.regularization = options.regularization
        self.register_buffer("rating_mean", torch.tensor(rating_mean, dtype=torch.float32))
        dim = options.embedding_dim
        self.user_bias, self.item_bias = nn.Embedding(num_users, 1), nn.Embedding(num_items, 1)
        self.user_embedding, self.item_embedding = nn.Embedding(num_users, dim), nn.Embedding(num_items, dim)
        self.user_implicit = None if options.implicit == Implicit.item else nn.Embedding(num_items, dim)
        """y_j of every item."""
        self.item_implicit = None if options.implicit == Implicit.user else nn.Embedding(num_users, dim)
        """x_v of every user."""
        for bias in (self.user_bias, self.item_bias):
            nn.init.zeros_(bias.weight)
        for embedding in (self.user_embedding, self.item_embedding, self.user_implicit, self.item_implicit):
            if embedding is not None:
                nn.init.normal_(embedding.weight, mean=0.0, std=options.init_std, generator=generator)
        user, item = interactions
        # not in checkpoints: a run has its training rows
        for name, (index, other, count) in {
            "user": (user, item, num_users),
            "item": (item, user, num_items),
        }.items():
            start, sorted_other = _by_row(index, other, count)
            self.register_buffer(f"{name}_start", start, persistent=False)
            self.register_buffer("items_of" if name == "user" else "users_of", sorted_other, persistent=False)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → rating: (B,) float32."""
        bias = self.rating_mean + self.user_bias(user)[:, 0] + self.item_bias(item)[:, 0]
        users, items = self.user_embedding(user), self.item_embedding(item)
        if self.user_implicit is not None:
            users = users + _mean_of(self.user_implicit.weight, user, self.user_start, self.items_of)
        if self.item_implicit is not None:
            items = items + _mean_of(self.item_implicit.weight, item, self.item_start, self.users_of)
        return bias + (users * items).sum(dim=-1)

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → mean penalty of these ratings: () float32."""
        squares = (
            self.user_embedding(user).square().sum()
            + self.item_embedding(item).square().sum()
            + self.user_bias(user).square().sum()
            + self.item_bias(item).square().sum()
        )
        if self.user_implicit is not None:
            squares = squares + _squares_of(self.user_implicit.weight, user, self.user_start, self.items_of)
        if self.item_implicit is not None:
            squares = squares + _squares_of(self.item_implicit.weight, item, self.item_start, self.users_of)
        return self.regularization * squares / len(user)

    def factors(self) -> Factors:
        """Each row's factors with the part that follows from who rated what: values, not the weights themselves."""
        users, items = self.user_embedding.weight, self.item_embedding.weight
        if self.user_implicit is not None:
            users = users + _mean_of(
                self.user_implicit.weight, torch.arange(len(users)), self.user_start, self.items_of
            )
        if self.item_implicit is not None:
            items = items + _mean_of(
                self.item_implicit.weight, torch.arange(len(items)), self.item_start, self.users_of
            )
        return Factors(
            user=users,
            item=items,
            biases=(self.user_bias.weight, self.item_bias.weight),
            mean=float(self.rating_mean),
            regularization=self.regularization,
        )


def _by_row(index: Tensor, other: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Where the interactions of each row begin: (count + 1,) int64; and `other` in the order of the rows."""
    start = torch.zeros(count + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(index, minlength=count), dim=0, out=start[1:])
    return start, other[torch.argsort(index, stable=True)]


def _bags(rows: Tensor, start: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The interactions of some rows: (n,) int32, where each row's begin: (R,) int64, and how many: (R,) int64."""
    count = start[rows + 1] - start[rows]
    begin = torch.cumsum(count, dim=0) - count
    places = torch.arange(int(count.sum()), device=rows.device) + torch.repeat_interleave(start[rows] - begin, count)
    return other[places], begin, count


def _mean_of(weight: Tensor, index: Tensor, start: Tensor, other: Tensor) -> Tensor:
    """|N|^−½ Σ_{j ∈ N} weight_j of each index: (B,) → (B, D)."""
    rows, place = torch.unique(index.long(), return_inverse=True)  # a user of the batch is added up once
    bag, begin, count = _bags(rows, start, other)
    return (embedding_bag(bag, weight, begin.to(bag.dtype), mode="sum") / count.sqrt()[:, None])[place]


def _squares_of(weight: Tensor, index: Tensor, start: Tensor, other: Tensor) -> Tensor:
    """Σ over the indices of Σ_{j ∈ N} ‖weight_j‖²: ()."""
    rows, times = torch.unique(index.long(), return_counts=True)
    bag, begin, _ = _bags(rows, start, other)
    squares = embedding_bag(bag, weight.square().sum(dim=1, keepdim=True), begin.to(bag.dtype), mode="sum")
    return (squares[:, 0] * times).sum()
