"""A run's model with the tables in its folder."""

from functools import cached_property

import torch

from ratinglab.errors import UserError
from ratinglab.evaluation.ranking import like_threshold
from ratinglab.inference.run_tables import RunTables
from ratinglab.inference.trained_recommender import TrainedRecommender, predict_by_block
from ratinglab.models.factors import SideSamples
from ratinglab.ratings.table import Ratings
from ratinglab.recommend.fold_in_solver import FoldInSolver
from ratinglab.recommend.orders import ExpectedGain
from ratinglab.runs.storage import read_part
from ratinglab.sides import SideName


class TrainedRun(TrainedRecommender):
    """A run's model with the tables in its folder: the part of a `Run` that fold-in and evaluation need."""

    tables: RunTables
    """The ids, items and ratings in the run's folder."""

    def part(self, name: str) -> Ratings:
        """Read the run's rows of a part: train, val or test."""
        days = ["day"] if self.predictor.model.takes_day else []
        return Ratings(*read_part(self.tables.folder, name, ["user", "item", "rating", *days]))

    @cached_property
    def _noise_variance(self) -> float:
        """MSE of validation rows or, if there are none, training rows, in squared rating units."""
        rows = self.part("val") or self.part("train")
        return float((predict_by_block(self.predictor, rows) - torch.from_numpy(rows.rating)).double().square().mean())

    def _build_expected_gain(self, threshold: float | None) -> ExpectedGain:
        return ExpectedGain.from_rating_levels(
            self.tables.interest,
            self.tables.rating_levels,
            threshold=like_threshold(threshold, self.record.stars),
            mse=self._noise_variance,
            stars=self.record.stars,
        )

    @cached_property
    def solvers(self) -> dict[SideName, FoldInSolver]:
        """The solvers for the weights of folded-in users and of folded-in items.

        Raises:
            UserError: the model has no factors.
        """
        users, items = self._side_rows("user"), self._side_rows("item")
        return {"user": FoldInSolver(users, items, is_item=False), "item": FoldInSolver(items, users, is_item=True)}

    def _side_rows(self, side: SideName) -> SideSamples:
        """Return the weights of a side, with the noise precision of a rating, in stars.

        Without samples, the noise is constant.
        """
        rows = self.predictor.model.side_samples(side)
        if rows is None:
            raise UserError(f"model={self.record.model} cannot fold in or explain ratings: it has no factors")
        if rows.samples[0].noise_precision is not None:
            return rows
        precision = self.record.stars.unit**2 / self._noise_variance if side == "user" else 1.0
        precisions = torch.full((rows.num_owners,), precision)
        return rows._replace(samples=[sample._replace(noise_precision=precisions) for sample in rows.samples])
