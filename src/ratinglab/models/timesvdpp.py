"""timeSVD++: SVD++ with user weights that change from day to day."""

from dataclasses import dataclass, field
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from ratinglab.models.day_rows import DayRows
from ratinglab.models.declarations import Form
from ratinglab.models.design import Design
from ratinglab.models.equation import Factors, TrainingData, zero_embedding
from ratinglab.models.factor_equation import Part, Side
from ratinglab.models.svdpp import SVDpp, SVDppOptions
from ratinglab.options import within
from ratinglab.ratings.side_information import Needs

DRIFT_POWER = 0.4
"""β of the drift, which Koren tuned on the Netflix ratings."""


@dataclass
class TimeSVDppOptions(SVDppOptions):
    """Options of timeSVD++."""

    name: ClassVar[str] = "timesvdpp"
    forms: ClassVar[tuple[Form, ...]] = (Form.parts, Form.function)

    item_bins: int = field(metadata=within(1, 65_536))
    """Number of equal time periods; each item has a bias of its own in each. Only gradient fits support more than 1."""

    def form(self) -> Form:
        """Parts with one bin, else a function: the bias of a bin belongs to no row."""
        return Form.parts if self.item_bins == 1 else Form.function

    def form_cause(self) -> str:
        """The number of bins."""
        return f"model.item_bins={self.item_bins}"

    def needs(self) -> Needs:
        """Days, who rated what, and the features."""
        return super().needs()._replace(days=True)

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "TimeSVDpp":
        """Make the equation."""
        return TimeSVDpp(self, training, generator=generator)


class TimeSVDpp(SVDpp):
    """r̂_ui(t) = μ + b_u(t) + b_i(t) + (p_u(t) + |N(u)|^−½ Σ_{j ∈ N(u)} y_j) · (q_i + …), else as svdpp

    b_u(t) = b_u + a_u dev_u(t) + b_u,t and p_u(t) = p_u + α_u dev_u(t) + p_u,t, with separate weights b_u,t and p_u,t
    for every day t on which the user has training rows; dev_u(t) = sign(t − t_u) |t − t_u|^0.4, in days from the mean
    day t_u of the user's ratings. b_i(t) = b_i + b_i,Bin(t). All weights share one λ. A day without training rows
    counts as the user's nearest day with some, the earlier on a tie. Without a day, predictions use the user's last
    day and the last bin. The weights that depend on time start at 0; with item_bins=1 the bins' weights stay at 0.

    Cold start: users and items without training rows get the bias baseline's prediction.

    Source: Koren, "Collaborative Filtering with Temporal Dynamics", KDD 2009, the model timeSVD++. This one leaves out
    c_u(t), which scales the items' biases.
    """

    def __init__(self, options: TimeSVDppOptions, training: TrainingData, *, generator: torch.Generator) -> None:
        super().__init__(options, training, generator=generator)
        user, _, _, day = training.interactions()
        assert day is not None, "the options declare that the equation needs days"
        num_users, dim = training.num_users, options.embedding_dim
        self.user_days = DayRows(user, day)
        owner = self.user_days.owner
        self.day_of_user = Design.one_hot(owner, num_columns=num_users)
        self.drift_of_user = Design.one_hot(owner, num_columns=num_users, scale=self._drift(user, day, num_users))
        if self.has_implicit["user"]:
            self.user_rated = self.user_rated.select_rows(owner)
        designs = [cast(Design, design).select_rows(owner) for design in self.user_feature_designs]
        self.user_feature_designs = nn.ModuleList(designs)
        self.item_bins = options.item_bins
        self.first_day, self.last_day = int(day.min()), int(day.max())
        self.user_day_bias = zero_embedding(len(self.user_days))
        self.user_day_embedding = zero_embedding(len(self.user_days), dim)
        self.user_drift_bias, self.user_drift = zero_embedding(num_users), zero_embedding(num_users, dim)
        self.item_bin_bias = zero_embedding(training.num_items * options.item_bins)
        # One bin adds nothing to b_i: the two would split one value and pay only half its penalty.
        self.item_bin_bias.weight.requires_grad_(options.item_bins > 1)

    def user_side(self) -> Side:
        """b_u,t and p_u,t, a row per user and day, plus b_u and p_u, the drift, the y and the user features."""
        return Side(
            self.user_day_embedding,
            self.user_day_bias,
            (
                Part("user_embedding", self.day_of_user, self.user_embedding, self.user_bias),
                Part("user_drift", self.drift_of_user, self.user_drift, self.user_drift_bias),
                *super().user_side().parts,
            ),
            rows=self.user_days,
        )

    def forward(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> Tensor:
        """user: (B,) int32, item: (B,) int32, day: (B,) int32 → rating: (B,) float32."""
        return super().forward(user, item, day) + self.item_bin_bias(self._bin(item, day))[:, 0]

    def penalty(self, user: Tensor, item: Tensor, day: Tensor | None = None) -> Tensor:
        """user: (B,) int32, item: (B,) int32, day: (B,) int32 → mean penalty of these ratings: () float32."""
        squares = self.item_bin_bias(self._bin(item, day)).square().sum()
        return super().penalty(user, item, day) + self.regularization * squares / len(user)

    def factors(self) -> Factors:
        """Values on each user's last day and in the last bin, all parts summed."""
        values = super().factors()
        item = torch.arange(self.item_embedding.num_embeddings)
        assert values.item_bias is not None
        return values._replace(item_bias=values.item_bias + self.item_bin_bias(self._bin(item, None)))

    def _drift(self, user: Tensor, day: Tensor, num_users: int) -> Tensor:
        """dev_u(t) of every row: (num_rows,) float32."""
        mean_day = torch.bincount(user, day.double(), minlength=num_users) / torch.bincount(user, minlength=num_users)
        distance = self.user_days.day - mean_day[self.user_days.owner]
        return (distance.sign() * distance.abs() ** DRIFT_POWER).float()

    def _bin(self, item: Tensor, day: Tensor | None) -> Tensor:
        """Row of item_bin_bias, the last bin's if day is None: (B,)."""
        if day is None:
            return item.long() * self.item_bins + self.item_bins - 1
        length = self.last_day + 1 - self.first_day
        place = (day.long().clamp(self.first_day, self.last_day) - self.first_day) * self.item_bins // length
        return item.long() * self.item_bins + place
