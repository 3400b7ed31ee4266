"""Options of equations, their forms and their needs. Imports nothing slow, because the command line reads it first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from ratinglab.errors import UserError
from ratinglab.options import at_least, finite, within
from ratinglab.ratings.side_information import AvailableData, Needs
from ratinglab.stars import is_liked
from ratinglab.targets import named_subclasses

if TYPE_CHECKING:
    import torch

    from ratinglab.batches import Batch
    from ratinglab.models.equation import Equation, TrainingData


class EquationForm(Enum):
    """Form of an equation. It decides which fits support the equation."""

    embeddings = "embeddings"
    """r̂_ui = μ + b_u + b_i + p_u · q_i, with one row of weights per user and per item. Only features add terms."""
    terms = "terms"
    """The same product, but a row is the sum of its own weights and of terms, each a design times a weight table."""
    function = "function"
    """Any differentiable function of a user and an item."""
    score_product = "score_product"
    """s_ui = x_u · y_i, a score, not a rating. The higher it is, the more likely the user is to rate the item."""
    score_sum = "score_sum"
    """s_ui = Σ w_ji over the items j that the user has rated. This is a score, and all w have a closed form."""


RATING_FORMS = (EquationForm.embeddings, EquationForm.terms, EquationForm.function)
"""Forms of equations that predict ratings. Equations of the other forms predict ranking scores."""


@dataclass
class EquationOptions(ABC):
    """Options of an equation. Each equation derives its own dataclass from this one."""

    name: ClassVar[str]
    """Name in records and tables, as in model=NAME."""
    form: ClassVar[EquationForm] = EquationForm.function
    """Form of the equation."""
    recipe: ClassVar[str] = ""
    """Recipe that chooses a fit and a monitored metric for the equation, or "" if there is none."""
    takes_whole_users: ClassVar[bool] = False
    """Whether a batch must hold all training rows of its users, as for an autoencoder."""

    @property
    def predicts_scores(self) -> bool:
        """Whether the equation predicts ranking scores instead of ratings."""
        return self.form not in RATING_FORMS

    def needs(self) -> Needs:
        """Declare the data that the equation needs besides users, items and ratings."""
        return Needs()

    def for_data(self, available: AvailableData) -> EquationOptions:
        """Return the options of the equation to fit to these data: self, unless the data decide the equation."""
        return self

    def check_rows(self, rows: Batch) -> None:  # noqa: B027
        """Raise UserError if the equation cannot be fitted to these training rows, with ratings in stars."""

    @abstractmethod
    def build(self, training: TrainingData, *, generator: torch.Generator) -> Equation:
        """Make the equation for the users and items of the training part; `generator` draws the initial weights.

        Raises:
            UserError: the equation cannot predict such ratings.
        """


@dataclass
class FactorOptions(EquationOptions):
    """Options common to all equations with user and item embeddings."""

    embedding_dim: int = field(metadata=within(1, 65_536))
    """Number of latent factors. More factors fit more detail and need more regularization."""
    regularization: float = field(metadata=at_least(0))
    """λ per rating, in the objective. Raise it if val/mse rises while train/mse falls."""
    init_std: float = field(metadata=at_least(0))
    """Standard deviation of the embeddings' initial values, in √stars."""


@dataclass
class FeatureOptions(FactorOptions):
    """Options of a factor equation that supports user and item features."""

    form: ClassVar[EquationForm] = EquationForm.embeddings

    user_features: list[str]
    """Columns of the table of users whose values add a term to the user's row, such as [age_group,gender]."""
    item_features: list[str]
    """Columns of the table of items whose values add a term to the item's row, such as [genres]."""

    def needs(self) -> Needs:
        return Needs(user_features=tuple(self.user_features), item_features=tuple(self.item_features))


@dataclass
class ScoreOptions(EquationOptions):
    """Options common to equations that predict scores from implicit feedback."""

    min_stars: float | None = field(metadata=finite())
    """Lowest rating that counts as positive feedback, in stars: every rating scale is mapped to 1 to 5. With null,
    every rating counts."""

    def check_rows(self, rows: Batch) -> None:
        """Raise UserError if no pair would count."""
        if self.min_stars is not None and not is_liked(rows.rating.numpy(), self.min_stars).any():
            raise UserError(
                f"model.min_stars must be at most {float(rows.rating.max()):g}, the highest training rating in stars, "
                f"got {self.min_stars:g}: no pair would count"
            )


def equation_names(forms: Collection[EquationForm]) -> list[str]:
    """List the sorted names of the equations of these forms. Imports all equations, and so torch."""
    return sorted({cls.name for cls in named_subclasses(EquationOptions, "ratinglab.models") if cls.form in forms})
