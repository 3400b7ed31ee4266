"""Factor equations: dot products of a user's and an item's row of weights, each row a sum of terms."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ratinglab.models.day_rows import DayRows
from ratinglab.models.design import Design
from ratinglab.models.equation import Equation, TrainingData, normal_embedding, zero_embedding
from ratinglab.models.equation_options import FactorOptions, FeatureOptions
from ratinglab.models.factors import ColumnSource, Factors, NewRowTerm, SideFactors
from ratinglab.models.traceable_rows import TraceableRows
from ratinglab.sides import SideName


class Term(NamedTuple):
    """A term F w of a side's rows: a design times a table of weights.

    Attributes:
        name: unique in the equation; a key in Gibbs checkpoints.
        design: F, (num_rows, num_columns).
        embedding: w, (num_columns, D).
        bias: weights added to the row's bias, (num_columns, 1), or None if the term adds nothing to the bias.
        source: where the columns of a new row come from, for fold-in.
        feature: name of the feature if `source` is feature, else None.
    """

    name: str
    design: Design
    embedding: nn.Embedding
    bias: nn.Embedding | None = None
    source: ColumnSource = ColumnSource.own
    feature: str | None = None


class Side(NamedTuple):
    """All users, or all items. A row has D factors and usually a bias. It sums its own weights and its terms.

    Attributes:
        embedding: the rows' own factors, (num_rows, D).
        bias: the rows' own biases, (num_rows, 1); None in an equation without biases.
        terms: the terms that are added to the rows' own weights.
        day_rows: finds the row of a user or item on a given day. Each row has training ratings. None if a user or
            item has the same row on all days.
    """

    embedding: nn.Embedding
    bias: nn.Embedding | None = None
    terms: tuple[Term, ...] = ()
    day_rows: DayRows | None = None

    def find(self, index: Tensor, day: Tensor | None) -> Tensor:
        """Find the row of each user or item: index (B,), day (B,) or None → (B,)."""
        return index if self.day_rows is None else self.day_rows.find(index, day)

    def last_rows(self) -> Tensor:
        """Find the row of each user or item on its last day: (num_owners,) int64."""
        if self.day_rows is None:
            return torch.arange(self.embedding.num_embeddings)
        return self.day_rows.find(torch.arange(int(self.day_rows.owner[-1]) + 1), None)

    def compute(self, row: Tensor) -> SideFactors:
        """Compute the factors and biases of rows, all terms summed: row (B,)."""
        factors: Tensor = self.embedding(row)
        bias: Tensor | None = None if self.bias is None else self.bias(row)
        for term in self.terms:
            factors = factors + term.design.multiply_rows(row, term.embedding)
            if bias is not None and term.bias is not None:
                bias = bias + term.design.multiply_rows(row, term.bias)
        return SideFactors(factors, bias)

    @property
    def terms_of_new_rows(self) -> list[Term]:
        """The terms that new rows also have."""
        return [term for term in self.terms if term.source is not ColumnSource.own]

    def sum_squares(self, row: Tensor) -> Tensor:
        """Sum the squares of all weights that make up these rows, each weight unscaled: (B,) → () float32."""
        total: Tensor = self.embedding(row).square().sum()
        if self.bias is not None:
            total = total + self.bias(row).square().sum()
        for term in self.terms:
            for table in (term.embedding, term.bias):
                if table is not None:
                    total = total + term.design.sum_squares(row, table)
        return total


class FactorEquation(Equation):
    """r̂_ui = μ + b_u + b_i + x_u · y_i, with the rows (b_u, x_u) of the user side and (b_i, y_i) of the item side.

    Minimizes (r − r̂)² + λ Σ w² per rating, over all weights w that make up the two rows.
    """

    regularization: float
    """λ per rating."""
    rating_mean: Tensor | float
    """μ, in stars: () float32, or 0.0 for an equation without a mean."""

    @abstractmethod
    def user_side(self) -> Side:
        """Return the users' rows as a sum of terms."""

    @abstractmethod
    def item_side(self) -> Side:
        """Return the items' rows as a sum of terms."""

    def side(self, name: SideName) -> Side:
        """Return the side of this name."""
        return self.user_side() if name == "user" else self.item_side()

    def sides(self) -> tuple[Side, Side]:
        """Return the users' and the items' side."""
        return self.user_side(), self.item_side()

    def row_indices(self, user: Tensor, item: Tensor, day: Tensor | None) -> tuple[Tensor, Tensor]:
        """Find the rows of both sides: user (B,), item (B,), day (B,) or None → (B,) and (B,)."""
        return self.user_side().find(user, day), self.item_side().find(item, day)

    def forward(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> Tensor:
        """user: (B,) int32, item: (B,) int32, day: (B,) int32 → rating: (B,) float32."""
        user_side, item_side = self.sides()
        users = user_side.compute(user_side.find(user, day))
        items = item_side.compute(item_side.find(item, day))
        product = (users.factors * items.factors).sum(dim=-1)
        if users.bias is None or items.bias is None:
            return self.rating_mean + product
        return self.rating_mean + users.bias[:, 0] + items.bias[:, 0] + product

    def penalty(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> Tensor:
        """Average the penalty over these ratings: user, item and day (B,) int32 → () float32."""
        users, items = self.sides()
        squares = users.sum_squares(users.find(user, day)) + items.sum_squares(items.find(item, day))
        return self.regularization * squares / len(user)

    def rows(self) -> Factors:
        """Compute all rows of both sides, all terms summed. This is the equation's only sample."""
        return self._compute_rows(lambda side: torch.arange(side.embedding.num_embeddings))

    def _compute_rows(self, choose: Callable[[Side], Tensor]) -> Factors:
        users, items = (side.compute(choose(side)) for side in self.sides())
        weights = {term.name: _prepend_bias(term, side) for side in self.sides() for term in side.terms_of_new_rows}
        return Factors(users, items, float(self.rating_mean), weights)

    def select_last_day(self, rows: Factors) -> Factors:
        """Select the rows of users and items on their last day, without a copy if they are the same on all days."""
        pairs = zip(rows[:2], self.sides(), strict=True)
        user, item = (values if side.day_rows is None else values.take(side.last_rows()) for values, side in pairs)
        return rows._replace(user=user, item=item)

    def factors(self) -> Factors:
        """Compute the rows of both sides on the last day, all terms summed."""
        return self._compute_rows(Side.last_rows)

    def new_row_terms(self, name: SideName, weights: Sequence[Mapping[str, Tensor]]) -> tuple[NewRowTerm, ...]:
        side, terms = self.side(name), []
        for term in side.terms_of_new_rows:
            samples = [sample[term.name] for sample in weights]
            terms.append(NewRowTerm(term.feature, term.design.select_rows(side.last_rows()), samples))
        return tuple(terms)

    @torch.no_grad()
    def traceable(self) -> Equation:
        """Sum the terms of all rows in advance: torch.export cannot trace the sums of a design."""
        users, items = self.sides()
        return TraceableRows(self.rows(), user_days=users.day_rows, item_days=items.day_rows)


def _prepend_bias(term: Term, side: Side) -> Tensor:
    """Return a term's weights, preceded by its biases, or by 0, if the side has biases: (num_columns, D)."""
    weights: Tensor = term.embedding.weight
    if side.bias is None:
        return weights
    return torch.cat([torch.zeros(len(weights), 1) if term.bias is None else term.bias.weight, weights], dim=1)


class BiasedFactorEquation(FactorEquation):
    """A factor equation with μ, biases and embeddings. `add_features` adds a term for each user and item feature.

    μ is fixed at the mean of the training ratings. The biases start at the bias baseline's, and the embeddings at
    Normal(0, init_std²), so the first predictions are close to the baseline's if init_std is small. With
    optimizer=gibbs, the biases start at 0.
    """

    rating_mean: Tensor
    user_features: nn.ModuleList
    """Weights of each user feature, (num_categories, D), in the order of the options."""
    item_features: nn.ModuleList

    def __init__(self, options: FactorOptions, training: TrainingData, *, generator: torch.Generator) -> None:
        super().__init__()
        self.regularization = options.regularization
        self.register_buffer("rating_mean", torch.tensor(training.rating_mean, dtype=torch.float32))
        self.user_bias = zero_embedding(training.num_users)
        self.item_bias = zero_embedding(training.num_items)
        dim, std = options.embedding_dim, options.init_std
        self.user_embedding = normal_embedding(training.num_users, dim, std=std, generator=generator)
        self.item_embedding = normal_embedding(training.num_items, dim, std=std, generator=generator)
        self._terms: dict[SideName, tuple[Term, ...]] = {"user": (), "item": ()}
        self._designs = nn.ModuleDict()

    @torch.no_grad()
    def start_from_baseline(self, user_bias: Tensor, item_bias: Tensor) -> None:
        self.user_bias.weight.copy_(user_bias[:, None])
        self.item_bias.weight.copy_(item_bias[:, None])

    def set_terms(self, side: SideName, terms: Sequence[Term]) -> None:
        """Set the terms of a side. The caller also makes their weights attributes, which name them in checkpoints."""
        self._terms[side] = tuple(terms)
        self._designs[side] = nn.ModuleList(term.design for term in terms)  # moves to a device with the equation

    def add_features(self, options: FeatureOptions, training: TrainingData, *, generator: torch.Generator) -> None:
        """Add a term for each feature that the options name, and draw its weights."""

        def add_terms(side: SideName, names: Sequence[str], designs: Mapping[str, Design]) -> nn.ModuleList:
            dim, std, source = options.embedding_dim, options.init_std, ColumnSource.feature
            terms, weights = list(self._terms[side]), nn.ModuleList()
            for number, name in enumerate(names):
                embedding = normal_embedding(designs[name].num_columns, dim, std=std, generator=generator)
                terms.append(Term(f"{side}_feature_{number}", designs[name], embedding, source=source, feature=name))
                weights.append(embedding)
            self.set_terms(side, terms)
            return weights

        self.user_features = add_terms("user", options.user_features, training.user_features)
        self.item_features = add_terms("item", options.item_features, training.item_features)

    def user_side(self) -> Side:
        """Return b_u, p_u and the users' terms."""
        return Side(self.user_embedding, self.user_bias, self.side_terms("user"))

    def item_side(self) -> Side:
        """Return b_i, q_i and the items' terms."""
        return Side(self.item_embedding, self.item_bias, self.side_terms("item"))

    def side_terms(self, side: SideName) -> tuple[Term, ...]:
        """Return the terms of a side, in the order in which fits update them."""
        return self._terms[side]
