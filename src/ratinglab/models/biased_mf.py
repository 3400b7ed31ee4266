"""Matrix factorization with biases."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ratinglab.models.equation import TrainingData
from ratinglab.models.equation_options import FeatureOptions
from ratinglab.models.factor_equation import BiasedFactorEquation


@dataclass
class BiasedMFOptions(FeatureOptions):
    """Options of matrix factorization with biases."""

    name: ClassVar[str] = "biased_mf"

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "BiasedMF":
        return BiasedMF(self, training, generator=generator)


class BiasedMF(BiasedFactorEquation):
    """Matrix factorization with biases, and with features if there are any.

    r̂_ui = μ + b_u + b_i + (p_u + Σ_f |F_f(u)|^−½ Σ_{c ∈ F_f(u)} z_c) · (q_i + …)

    The sums run over user_features and, for the item, over item_features such as genres. Without features the product
    is p_u · q_i. Minimizes (r − r̂)² + λ (b_u² + b_i² + ‖p_u‖² + ‖q_i‖² + Σ ‖z_c‖²) per rating.

    Source: Koren, Bell, Volinsky, "Matrix Factorization Techniques for Recommender Systems", IEEE Computer, 2009,
    equations 4 and 5, and 6 for the features.
    """

    def __init__(self, options: BiasedMFOptions, training: TrainingData, *, generator: torch.Generator) -> None:
        super().__init__(options, training, generator=generator)
        self.add_features(options, training, generator=generator)
