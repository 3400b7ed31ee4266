"""Implicit-feedback matrix factorization."""

from copy import copy
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from ratinglab.batches import Batch
from ratinglab.models.equation import ScoreEquation, TrainingData, normal_embedding
from ratinglab.models.equation_options import EquationForm, ScoreOptions
from ratinglab.models.factor_equation import FactorEquation, Side
from ratinglab.models.rated_pairs import ImplicitObjective, RatedPairs, liked_rows, solve_rows
from ratinglab.options import above, at_least, within


@dataclass
class ImplicitMFOptions(ScoreOptions):
    """Options of implicit-feedback matrix factorization."""

    name: ClassVar[str] = "implicit_mf"
    recipe: ClassVar[str] = "ials"
    form: ClassVar[EquationForm] = EquationForm.score_product

    embedding_dim: int = field(metadata=within(1, 65_536))
    """Number of latent factors. More factors fit more detail and need more regularization."""
    regularization: float = field(metadata=at_least(0))
    """λ, in the objective. Raise it for sparse data."""
    frequency_exponent: float = field(metadata=within(0, 1))
    """ν, the exponent with which λ grows with the number of a user's or item's pairs. 0: the same λ for all."""
    init_std: float = field(metadata=above(0))
    """Standard deviation of the initial factors, times √embedding_dim."""
    unrated_weight: float = field(metadata=at_least(0))
    """α, the weight of an unrated pair; rated pairs have weight 1."""

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "ImplicitMF":
        return ImplicitMF(self, training, generator=generator)


class ImplicitMF(FactorEquation, ScoreEquation):
    """s_ui = x_u · y_i, a score: about 1 for rated pairs, 0 for most others.

    x and y minimize Σ_rated (1 − s_ui)² + α Σ_all s_ui² + λ Σ_u (n_u + α I)^ν ‖x_u‖² + λ Σ_i (n_i + α U)^ν ‖y_i‖²,
    with n the number of rated pairs of a user or item, U users and I items. Only ratings of at least min_stars count,
    all equally.

    Sources: Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008; Rendle, Krichene,
    Zhang, Koren, "Revisiting the Performance of iALS on Item Recommendation Benchmarks", RecSys 2022, for the form of
    the objective.
    """

    rating_mean = 0.0

    def __init__(self, options: ImplicitMFOptions, training: TrainingData, *, generator: torch.Generator) -> None:
        super().__init__()
        self.min_stars = options.min_stars
        self.regularization = options.regularization
        self.objective = ImplicitObjective(options.unrated_weight, options.regularization, options.frequency_exponent)
        dim = options.embedding_dim
        std = options.init_std / dim**0.5
        self.user_embedding = normal_embedding(training.num_users, dim, std=std, generator=generator)
        self.item_embedding = normal_embedding(training.num_items, dim, std=std, generator=generator)

    def with_users(self, rows: Batch, *, num_users: int) -> "ImplicitMF":
        """Return the equation with other users, solved for from their ratings in stars. It shares the items."""
        rows = liked_rows(rows, self.min_stars)
        pairs = RatedPairs(rows.user.int().numpy(), rows.item.int().numpy())
        user = solve_rows(pairs, num_users, self.item_embedding.weight, self.objective)
        other = copy(self)
        other._modules = {**self._modules, "user_embedding": nn.Embedding.from_pretrained(user)}
        return other

    def user_side(self) -> Side:
        """Return x."""
        return Side(self.user_embedding)

    def item_side(self) -> Side:
        """Return y."""
        return Side(self.item_embedding)
