"""The model with every term that the data support, so the user does not have to choose."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ratinglab.models.equation import Equation, TrainingData
from ratinglab.models.equation_options import EquationForm, FactorOptions
from ratinglab.models.svdpp import ImplicitSide, SVDppOptions
from ratinglab.models.timesvdpp import TimeSVDppOptions
from ratinglab.ratings.side_information import AvailableData


def choose_best_equation(available: AvailableData) -> type[SVDppOptions]:
    """Choose the equation with every term that the data support."""
    return TimeSVDppOptions if available.has_sessions else SVDppOptions


@dataclass
class BestOptions(FactorOptions):
    """Options of the model with every term that the data support: timesvdpp if users give at least two ratings a
    day on average."""

    name: ClassVar[str] = "best"
    form: ClassVar[EquationForm] = EquationForm.terms

    def for_data(self, available: AvailableData) -> SVDppOptions:
        """Return the options of `choose_best_equation`, with implicit feedback on both sides and all features."""
        return choose_best_equation(available)(
            embedding_dim=self.embedding_dim,
            regularization=self.regularization,
            init_std=self.init_std,
            user_features=list(available.user_features),
            item_features=list(available.item_features),
            implicit=ImplicitSide.both,
        )

    def build(self, training: TrainingData, *, generator: torch.Generator) -> Equation:
        raise AssertionError("for_data chooses the equation")
