"""Alternating least squares for explicit ratings."""

import numpy as np

from ratinglab.datamodule import Batch
from ratinglab.fitting.row_fit import RowFit
from ratinglab.models.predictor import Predictor


class ALSFit(RowFit):
    """Finds the minimum of Σ (r − r̂)² + λ · penalty over the users' rows, then over the items', an epoch a sweep.

    The penalty is the equation's own, per rating: a row v with n ratings is the solution of

        (Σ x xᵀ + λ n I) v = Σ x (r − o)

    with x the other side's rows, and 1 for its bias, and o what does not depend on v.

    Source: Zhou, Wilkinson, Schreiber, Pan, "Large-Scale Parallel Collaborative Filtering for the Netflix Prize", AAIM
    2008: λ weighted by the number of ratings.
    """

    def __init__(self, predictor: Predictor) -> None:
        """Fit `predictor.model`, of mf or biased_mf."""
        super().__init__(predictor, predictor.model)

    def advice(self) -> str:
        """Rows of few ratings and nearly no λ have no single solution."""
        return "; a larger model.regularization may help"

    def training_step(self, batches: list[Batch]) -> None:
        """A sweep: the users' rows, then the items'."""
        rows = {name: self.rows(name) for name in ("user", "item")}
        factors = self.equation.factors()
        assert factors is not None
        for name, other in (("user", "item"), ("item", "user")):
            zeros = np.zeros_like(rows[name])
            ones, other_ones = (np.ones(len(rows[side]), dtype=np.float32) for side in (name, other))
            self.solve(
                name,
                rows[name],
                rows[other],
                mean=zeros,
                precision=np.float32(factors.regularization) * np.eye(zeros.shape[1], dtype=np.float32),
                scale=self._sides[name].counts,
                weight=ones,
                other_weight=other_ones,
                noise=zeros,
            )
            self.write(name, rows[name])
        self.errors("item", rows["item"], rows["user"], other_weight=other_ones)
