"""Matrix factorization whose users differ from weekday to weekday."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ratinglab.models import (
    BiasedFactorEquation,
    DayRows,
    Design,
    EquationForm,
    FactorOptions,
    Needs,
    Side,
    Term,
    TrainingData,
    zero_embedding,
)


@dataclass
class WeekdayMFOptions(FactorOptions):
    """Options of matrix factorization by weekday."""

    name: ClassVar[str] = "weekday_mf"
    form: ClassVar[EquationForm] = EquationForm.terms

    def needs(self) -> Needs:
        """Days, and who rated when."""
        return Needs(interactions=True, days=True)

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "WeekdayMF":
        """Make the equation."""
        return WeekdayMF(self, training, generator=generator)


class WeekdayRows(DayRows):
    """One row per user and weekday: 0 for Monday."""

    def __init__(self, user: Tensor, day: Tensor) -> None:
        super().__init__(user, weekday(day))

    def find(self, index: Tensor, day: Tensor | None) -> Tensor:
        """Row of each user on the weekday of a day, or the nearest one with training rows."""
        return super().find(index, None if day is None else weekday(day))


def weekday(day: Tensor) -> Tensor:
    """0 for Monday: day 0, the first of 1970, was a Thursday."""
    return (day + 3) % 7


class WeekdayMF(BiasedFactorEquation):
    """r̂_ui(t) = μ + b_u + b_w + b_uw + b_i + (p_u + p_w + p_uw) · q_i, w the weekday of t"""

    def __init__(self, options: WeekdayMFOptions, training: TrainingData, *, generator: torch.Generator) -> None:
        super().__init__(options, training, generator=generator)
        user, _, _, day = training.interactions()
        self.weekdays = WeekdayRows(user, day)
        count, dim = len(self.weekdays), options.embedding_dim
        self.user_of_row = Design.one_hot(self.weekdays.owner, num_columns=training.num_users)
        self.weekday_of_row = Design.one_hot(self.weekdays.day, num_columns=7)
        self.row_embedding, self.row_bias = zero_embedding(count, dim), zero_embedding(count)
        self.weekday_embedding, self.weekday_bias = zero_embedding(7, dim), zero_embedding(7)

    def user_side(self) -> Side:
        """A row per user and weekday."""
        user = Term("user", self.user_of_row, self.user_embedding, self.user_bias)
        weekday = Term("weekday", self.weekday_of_row, self.weekday_embedding, self.weekday_bias)
        return Side(self.row_embedding, self.row_bias, (user, weekday), day_rows=self.weekdays)

    def item_side(self) -> Side:
        """A row per item."""
        return Side(self.item_embedding, self.item_bias)
