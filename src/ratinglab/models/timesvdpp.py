"""timeSVD++: SVD++ with user weights that change from day to day."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ratinglab.models.day_rows import DayRows
from ratinglab.models.design import Design
from ratinglab.models.equation import TrainingData, zero_embedding
from ratinglab.models.factor_equation import Side, Term
from ratinglab.models.svdpp import SVDpp, SVDppOptions
from ratinglab.ratings.side_information import Needs

DRIFT_POWER = 0.4
"""β of the drift, which Koren tuned on the Netflix ratings."""


@dataclass
class TimeSVDppOptions(SVDppOptions):
    """Options of timeSVD++."""

    name: ClassVar[str] = "timesvdpp"

    def needs(self) -> Needs:
        return super().needs()._replace(days=True)

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "TimeSVDpp":
        return TimeSVDpp(self, training, generator=generator)


class TimeSVDpp(SVDpp):
    """timeSVD++: SVD++ whose user biases and factors change from day to day.

    r̂_ui(t) = μ + b_u(t) + b_i + (p_u(t) + |N(u)|^−½ Σ_{j ∈ N(u)} y_j) · (q_i + …), otherwise as in svdpp

    b_u(t) = b_u + a_u dev_u(t) + b_u,t and p_u(t) = p_u + α_u dev_u(t) + p_u,t, with separate weights b_u,t and p_u,t
    for every day t on which the user has training rows; dev_u(t) = sign(t − t_u) |t − t_u|^0.4 / s, in days from the
    mean day t_u of the user's ratings. s scales the largest |dev_u(t)| to 1, so the gradients of a_u and α_u are no
    larger than the others. All weights share one λ. A day without training rows counts as the user's nearest day that
    has some. On a tie, it counts as the earlier one. Without a day, predictions use the user's last day. The weights
    that depend on time start at 0.

    Attributes:
        drift_unit: () float32, s. Checkpoints keep it, because it gives a_u and α_u their meaning.

    Source: Koren, "Collaborative Filtering with Temporal Dynamics", KDD 2009, the model timeSVD++, without its item
    biases in time bins, b_i,Bin(t), and without c_u(t), which scales item biases; Koren has s = 1.
    """

    drift_unit: Tensor
    drift: Tensor
    """(num_rows,) float32, s dev_u(t). Checkpoints omit it, since it is computed from the training rows."""

    def __init__(self, options: TimeSVDppOptions, training: TrainingData, *, generator: torch.Generator) -> None:
        super().__init__(options, training, generator=generator)
        user, _, _, day = training.interactions()
        assert day is not None, "the options declare that the equation needs days"
        num_users, dim = training.num_users, options.embedding_dim
        self.user_days = DayRows(user, day)
        owner = self.user_days.owner
        self.register_buffer("drift", self._compute_drift(user, day, num_users), persistent=False)
        largest = self.drift.abs().max()
        self.register_buffer("drift_unit", torch.where(largest > 0, largest, 1))
        self.user_day_bias = zero_embedding(len(self.user_days))
        self.user_day_embedding = zero_embedding(len(self.user_days), dim)
        self.user_drift_bias, self.user_drift = zero_embedding(num_users), zero_embedding(num_users, dim)
        user_of_row = Design.one_hot(owner, num_columns=num_users)
        self.drift_of_user = Design.one_hot(owner, num_columns=num_users, scale=self.drift / self.drift_unit)
        terms = [
            Term("user_embedding", user_of_row, self.user_embedding, self.user_bias),
            Term("user_drift", self.drift_of_user, self.user_drift, self.user_drift_bias),
            *(term._replace(design=term.design.select_rows(owner)) for term in self.side_terms("user")),
        ]
        self.set_terms("user", terms)

    def user_side(self) -> Side:
        """Return b_u,t and p_u,t, a row per user and day, plus b_u and p_u, the drift, the y and the user features."""
        return Side(self.user_day_embedding, self.user_day_bias, self.side_terms("user"), day_rows=self.user_days)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Load weights together with s, their unit."""
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self.drift_of_user.scale.copy_(self.drift / self.drift_unit)

    def _compute_drift(self, user: Tensor, day: Tensor, num_users: int) -> Tensor:
        """Compute sign(t − t_u) |t − t_u|^0.4 of every row: (num_rows,) float32."""
        mean_day = torch.bincount(user, day.double(), minlength=num_users) / torch.bincount(user, minlength=num_users)
        distance = self.user_days.day - mean_day[self.user_days.owner]
        return (distance.sign() * distance.abs() ** DRIFT_POWER).float()
