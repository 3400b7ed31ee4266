"""Alternating least squares for implicit feedback (iALS)."""

import math

import numpy as np
import torch

from ratinglab.batches import Batch, as_tensors
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.fit_options import FitSetup
from ratinglab.fitting.whole_epoch_options import ImplicitALSOptions
from ratinglab.kernels.compiled import set_num_threads
from ratinglab.kernels.implicit_rows import compile_implicit_loops
from ratinglab.kernels.rows import Entries, FloatArray, gram
from ratinglab.kernels.sorted_ratings import sort_ratings
from ratinglab.models.implicit_mf import ImplicitMF
from ratinglab.models.predictor import Predictor
from ratinglab.models.rated_pairs import liked_rows
from ratinglab.sides import SideName


class ImplicitALSFit(Fit):
    """Alternating minimization of the objective of ImplicitMF over the items' rows, then the users': one sweep.

    A row v of a user with n pairs moves towards the solution of

        (Σ y yᵀ + α YᵀY + λ (n + α I)^ν 1) v = Σ y

    by a few steps of conjugate gradients from its last value, and likewise for items. The sums over a row's pairs take
    time proportional to the number of factors, not to its square. train/loss is the objective before the sweep,
    divided by the number of pairs. The weights are bit-for-bit identical for any number of threads.

    Source: Takács, Pilászy, Tikk, "Applications of the Conjugate Gradient Method for Implicit Feedback Collaborative
    Filtering", RecSys 2011.
    """

    def __init__(self, predictor: Predictor, setup: FitSetup, options: ImplicitALSOptions) -> None:
        super().__init__(predictor, setup, options)
        self.cg_steps, self.train_loss = options.cg_steps, math.nan
        self._pairs: dict[str, Entries] = {}
        """Rated pairs sorted by the rows of a side, by side."""
        compile_implicit_loops()  # before the fit is timed

    @property
    def equation(self) -> ImplicitMF:
        """The equation being fitted."""
        equation = self.predictor.model
        assert isinstance(equation, ImplicitMF), "the options refuse other equations"
        return equation

    def on_train_start(self) -> None:
        """Sort the rated pairs by user and by item."""
        super().on_train_start()
        set_num_threads(torch.get_num_threads())
        train, dim = self.data.train_ratings_in_stars, self.equation.user_embedding.embedding_dim
        liked = liked_rows(as_tensors(train), self.equation.min_stars)
        user, item, rating = (column.numpy() for column in liked[:3])
        self._pairs = {
            "user": sort_ratings(user, item, rating, num_rows=self.data.num_users, dim=dim),
            "item": sort_ratings(item, user, rating, num_rows=self.data.num_items, dim=dim),
        }

    def training_step(self, batches: list[Batch]) -> None:
        """Run one sweep."""
        users, items = self._rows("user"), self._rows("item")
        objective, steps = self.equation.objective, self.cg_steps
        loss_of_all_pairs = objective.unrated_weight * float((gram(users, users) * gram(items, items)).sum())
        penalty = self._penalty("user", users, len(items)) + self._penalty("item", items, len(users))
        errors = objective.improve(self._pairs["item"], items, users, steps=steps)
        objective.improve(self._pairs["user"], users, items, steps=steps)
        self.train_loss = (float(errors.sum()) + loss_of_all_pairs + penalty) / len(self._pairs["user"].column)

    def report_training(self) -> None:
        """Report train/loss of the epoch."""
        self.report("train/loss", self.train_loss)

    def _rows(self, side: SideName) -> FloatArray:
        """Return the rows of a side, which share memory with the weights: (num_rows, D) float32."""
        rows: FloatArray = self.equation.side(side).embedding.weight.detach().numpy()
        return rows

    def _penalty(self, side: SideName, rows: FloatArray, num_others: int) -> float:
        """Compute λ Σ (n + α M)^ν ‖v‖² over the rows of a side, with M rows on the other side."""
        ridge = self.equation.objective.ridge(torch.from_numpy(self._pairs[side].counts), num_others).numpy()
        return float((ridge * np.square(rows).sum(axis=1)).sum(dtype=np.float64))
