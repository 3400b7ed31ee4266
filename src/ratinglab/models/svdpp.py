"""SVD++: matrix factorization that also knows who rated what."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ratinglab.errors import UserError
from ratinglab.models.bag import Bag
from ratinglab.models.declarations import EquationOptions
from ratinglab.models.equation import Equation, Factors, Interactions, ItemFeatures
from ratinglab.models.implicit import Implicit
from ratinglab.options import at_least, within


@dataclass
class SVDppOptions(EquationOptions):
    """Options of SVD++."""

    name: ClassVar[str] = "svdpp"

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


class SVDpp(Equation):
    """r̂_ui = μ + b_u + b_i + (p_u + |N(u)|^−½ Σ_{j ∈ N(u)} y_j) · (q_i + |N(i)|^−½ Σ_{v ∈ N(i)} x_v)

    N(u) are the items with a training rating of the user, whatever the rating; N(i) the users with one of the item.
    implicit=user has the y alone, implicit=item the x alone; item_features=true adds |G(i)|^−½ Σ_{g ∈ G(i)} z_g to
    q_i, over the item's genres G(i). Fitted on (r − r̂)² + λ (b_u² + b_i² + ‖p_u‖² + ‖q_i‖² + Σ_{j ∈ N(u)} ‖y_j‖² +
    Σ_{v ∈ N(i)} ‖x_v‖² + Σ_{g ∈ G(i)} ‖z_g‖²) per rating. The biases start at 0, the embeddings at Normal(0,
    init_std²).

    Cold start: none of its own; the bias baseline speaks for users and items without training rows.

    Sources: Koren, "Factorization Meets the Neighborhood: a Multifaceted Collaborative Filtering Model", KDD 2008,
    equation 15, for implicit=user; Rendle, Zhang, Koren, "On the Difficulty of Evaluating Baselines: A Study on
    Recommender Systems", 2019, for the other side ("flipped").
    """

    rating_mean: Tensor

    def __init__(
        self,
        options: SVDppOptions,
        *,
        num_users: int,
        num_items: int,
        rating_mean: float,
        interactions: Interactions,
        item_features: ItemFeatures | None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.regularization = options.regularization
        self.register_buffer("rating_mean", torch.tensor(rating_mean, dtype=torch.float32))
        dim, std = options.embedding_dim, options.init_std
        self.user_bias, self.item_bias = nn.Embedding(num_users, 1), nn.Embedding(num_items, 1)
        self.user_embedding, self.item_embedding = nn.Embedding(num_users, dim), nn.Embedding(num_items, dim)
        for bias in (self.user_bias, self.item_bias):
            nn.init.zeros_(bias.weight)
        for embedding in (self.user_embedding, self.item_embedding):
            nn.init.normal_(embedding.weight, mean=0.0, std=std, generator=generator)

        def bag(row: Tensor, column: Tensor, num_rows: int, num_columns: int) -> Bag:
            sizes = {"num_rows": num_rows, "num_columns": num_columns, "dim": dim}
            return Bag(row, column, **sizes, std=std, generator=generator)

        user, item, _ = interactions
        has_user, has_item = options.implicit != Implicit.item, options.implicit != Implicit.user
        self.user_implicit = bag(user, item, num_users, num_items) if has_user else None
        """y_j of every item."""
        self.item_implicit = bag(item, user, num_items, num_users) if has_item else None
        """x_v of every user."""
        self.item_features = None
        """z_g of every genre."""
        if options.item_features:
            if item_features is None:
                raise UserError(
                    "model.item_features=true needs the items' genres, and there are none; "
                    "data.titles.genres names their column"
                )
            self.item_features = bag(item_features.item, item_features.feature, num_items, item_features.num_features)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → rating: (B,) float32."""
        bias = self.rating_mean + self.user_bias(user)[:, 0] + self.item_bias(item)[:, 0]
        return bias + (self._users(user) * self._items(item)).sum(dim=-1)

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        """user: (B,) int32, item: (B,) int32 → mean penalty of these ratings: () float32."""
        squares = (
            self.user_embedding(user).square().sum()
            + self.item_embedding(item).square().sum()
            + self.user_bias(user).square().sum()
            + self.item_bias(item).square().sum()
        )
        for bag, row in ((self.user_implicit, user), (self.item_implicit, item), (self.item_features, item)):
            if bag is not None:
                squares = squares + bag.squares(row)
        return self.regularization * squares / len(user)

    def factors(self) -> Factors:
        """Each row's factors with the parts that follow from what is known of it: values, not the weights."""
        return Factors(
            user=self._users(torch.arange(self.user_embedding.num_embeddings)),
            item=self._items(torch.arange(self.item_embedding.num_embeddings)),
            biases=(self.user_bias.weight, self.item_bias.weight),
            mean=float(self.rating_mean),
            regularization=self.regularization,
        )

    def _users(self, user: Tensor) -> Tensor:
        """The users' factors with all their parts: (B,) → (B, D)."""
        users: Tensor = self.user_embedding(user)
        return users if self.user_implicit is None else users + self.user_implicit(user)

    def _items(self, item: Tensor) -> Tensor:
        """The items' factors with all their parts: (B,) → (B, D)."""
        items: Tensor = self.item_embedding(item)
        for bag in (self.item_implicit, self.item_features):
            if bag is not None:
                items = items + bag(item)
        return items
