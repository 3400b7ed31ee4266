"""SVD++: matrix factorization with implicit feedback (who rated what)."""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch

from ratinglab.models.design import Design
from ratinglab.models.equation import TrainingData, normal_embedding
from ratinglab.models.equation_options import EquationForm, FeatureOptions
from ratinglab.models.factor_equation import BiasedFactorEquation, Term
from ratinglab.models.factors import ColumnSource
from ratinglab.ratings.side_information import Needs


class ImplicitSide(Enum):
    """Side whose rows have a term for implicit feedback."""

    user = "user"
    item = "item"
    both = "both"


@dataclass
class SVDppOptions(FeatureOptions):
    """Options of SVD++."""

    name: ClassVar[str] = "svdpp"
    form: ClassVar[EquationForm] = EquationForm.terms

    implicit: ImplicitSide
    """Side whose factors have a term for implicit feedback: user (Koren 2008), item, or both."""

    def needs(self) -> Needs:
        return super().needs()._replace(interactions=True)

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "SVDpp":
        return SVDpp(self, training, generator=generator)


class SVDpp(BiasedFactorEquation):
    """SVD++: the factors have terms for implicit feedback.

    r̂_ui = μ + b_u + b_i + (p_u + |N(u)|^−½ Σ_{j ∈ N(u)} y_j) · (q_i + |N(i)|^−½ Σ_{v ∈ N(i)} x_v)

    N(u) are the items that the user rated in training, high or low; N(i) are the users who rated the item.
    implicit=user keeps only the y, implicit=item only the x. Features add to both factors as in biased_mf. Minimizes
    (r − r̂)² + λ (b_u² + b_i² + ‖p_u‖² + ‖q_i‖² + Σ_{j ∈ N(u)} ‖y_j‖² + Σ_{v ∈ N(i)} ‖x_v‖² + features) per rating.

    Sources: Koren, "Factorization Meets the Neighborhood: a Multifaceted Collaborative Filtering Model", KDD 2008,
    equation 15, for implicit=user; Rendle, Zhang, Koren, "On the Difficulty of Evaluating Baselines: A Study on
    Recommender Systems", 2019, for the other side ("flipped").
    """

    def __init__(self, options: SVDppOptions, training: TrainingData, *, generator: torch.Generator) -> None:
        super().__init__(options, training, generator=generator)
        rows, num_users, num_items = training.interactions(), training.num_users, training.num_items
        dim, std = options.embedding_dim, options.init_std
        if options.implicit is not ImplicitSide.item:
            design = Design.from_sets(rows.user, rows.item, num_rows=num_users, num_columns=num_items)
            self.user_implicit = normal_embedding(num_items, dim, std=std, generator=generator)
            self.set_terms("user", [Term("user_implicit", design, self.user_implicit, source=ColumnSource.rated)])
        if options.implicit is not ImplicitSide.user:
            design = Design.from_sets(rows.item, rows.user, num_rows=num_items, num_columns=num_users)
            self.item_implicit = normal_embedding(num_users, dim, std=std, generator=generator)
            self.set_terms("item", [Term("item_implicit", design, self.item_implicit, source=ColumnSource.rated)])
        self.add_features(options, training, generator=generator)
