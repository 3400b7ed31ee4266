"""U-AutoRec: an autoencoder over a user's whole row of ratings."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ratinglab.models import Equation, EquationOptions, Needs, TrainingData, at_least


@dataclass
class AutoRecOptions(EquationOptions):
    """Options of AutoRec."""

    name: ClassVar[str] = "autorec"
    takes_whole_users: ClassVar[bool] = True

    hidden_dim: int = field(metadata=at_least(1))
    """Hidden units."""
    regularization: float = field(metadata=at_least(0))
    """λ on all weights."""

    def needs(self) -> Needs:
        """The training ratings."""
        return Needs(interactions=True)

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "AutoRec":
        """Make the equation."""
        return AutoRec(self, training)


class AutoRec(Equation):
    """r̂_u = μ + W g(V (r_u − μ) + c) + d, g the logistic function, r_u the user's training ratings, μ where unrated

    Source: Sedhain, Menon, Sanner, Xie, "AutoRec: Autoencoders Meet Collaborative Filtering", WWW 2015.
    """

    ratings: Tensor

    def __init__(self, options: AutoRecOptions, training: TrainingData) -> None:
        super().__init__()
        user, item, rating, _ = training.interactions()
        self.mean, self.regularization = training.rating_mean, options.regularization
        rows = torch.zeros(training.num_users, training.num_items)
        rows[user.long(), item.long()] = rating - self.mean
        self.register_buffer("ratings", rows, persistent=False)
        self.encoder = nn.Linear(training.num_items, options.hidden_dim)
        self.decoder = nn.Linear(options.hidden_dim, training.num_items)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        users, place = torch.unique(user.long(), return_inverse=True)
        decoded: Tensor = self.decoder(torch.sigmoid(self.encoder(self.ratings[users])))
        return self.mean + decoded[place, item.long()]

    def penalty(self, user: Tensor, item: Tensor) -> Tensor:
        return self.regularization * (self.encoder.weight.square().sum() + self.decoder.weight.square().sum())
