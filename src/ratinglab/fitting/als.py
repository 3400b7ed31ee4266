"""Alternating least squares for explicit ratings."""

from typing import NamedTuple

import numpy as np

from ratinglab.batches import Batch
from ratinglab.fitting.fit import FitSetup
from ratinglab.fitting.kernels.rows import RowPriors
from ratinglab.fitting.part_solver import PartSolver
from ratinglab.fitting.priors import FloatArray
from ratinglab.fitting.row_fit import OTHER_SIDE, RowFit, joined, write_joined
from ratinglab.models.factor_equation import Part
from ratinglab.models.predictor import Predictor


class PartSystem(NamedTuple):
    """Least-squares problem in the weights y of a part, given the rows; see ALSFit.

    Attributes:
        solver: √N F, with N the diagonal matrix of ratings per row.
        ridge: (num_columns, 1) float32, number of ratings in the rows that have the column.
    """

    solver: PartSolver
    ridge: FloatArray


class ALSFit(RowFit):
    """Minimizes Σ (r − r̂)² + λ · penalty over the users' rows, then over the items': one sweep per epoch.

    The penalty is the equation's own, per rating. A row v with n ratings solves

        (Σ x xᵀ + λ n I) v = Σ x (r − o) + λ n z

    where x are the other side's rows, with 1 in the place of the bias, o collects the terms that do not depend on v,
    and z is the sum of the row's parts. Before its rows, each side updates the weights y of each part F y. They solve

        (Fᵀ N F + R) y = Fᵀ N (v − z')

    where N is the diagonal matrix of ratings per row, R the diagonal matrix of ratings per column of F, and z' the sum
    of the other parts. Both steps minimize the same objective, so no sweep raises it.

    Source: Zhou, Wilkinson, Schreiber, Pan, "Large-Scale Parallel Collaborative Filtering for the Netflix Prize", AAIM
    2008: λ weighted by the number of ratings.
    """

    def __init__(self, predictor: Predictor, setup: FitSetup) -> None:
        """Fit `predictor.model`, a factor equation."""
        super().__init__(predictor, setup)
        self._systems: dict[str, PartSystem] = {}

    def advice(self) -> str:
        """Suggest a larger λ: with λ near 0, rows with few ratings have no unique solution."""
        return "; a larger model.regularization may help"

    def on_train_start(self) -> None:
        """Sort the training ratings by row and build the part solvers."""
        super().on_train_start()
        for name in OTHER_SIDE:
            counts = self._ratings[name].counts
            dim = self.own_rows(name).shape[1]
            self._systems |= {part.name: _system(part, counts, dim=dim) for part in self.side(name).parts}

    def training_step(self, batches: list[Batch]) -> None:
        """Run one sweep: the users' parts and rows, then the items'."""
        addends = {name: self._addends(name) for name in OTHER_SIDE}
        rows = {name: sum(addends[name].values(), self.own_rows(name)) for name in OTHER_SIDE}
        for name, other in OTHER_SIDE.items():
            counts = self._ratings[name].counts
            for part in self.side(name).parts:
                addends[name][part.name] = self._fit_part(part, rows[name], addends[name], counts)
            zeros = np.zeros_like(rows[name])
            ones, other_ones = (np.ones(len(rows[side]), dtype=np.float32) for side in (name, other))
            identity = np.eye(zeros.shape[1], dtype=np.float32)
            part_sum = sum(addends[name].values(), zeros.copy())
            self.solve(
                name,
                rows[name],
                rows[other],
                priors=RowPriors(part_sum, np.float32(self.equation.regularization) * identity, counts),
                weight=ones,
                other_weight=other_ones,
                noise=zeros,
            )
            self.write_own_rows(name, rows[name] - part_sum)
        self.errors("item", rows["item"], rows["user"], other_weight=np.ones(len(rows["user"]), dtype=np.float32))

    def _addends(self, name: str) -> dict[str, FloatArray]:
        """F y of each part of a side: (num_rows, D) float32, with 0 as the bias of a part without biases."""
        counts = self._ratings[name].counts
        return {part.name: self._addend(part, counts) for part in self.side(name).parts}

    def _addend(self, part: Part, counts: FloatArray) -> FloatArray:
        addend = self._systems[part.name].solver.times(joined(part.embedding, part.bias)) / np.sqrt(counts)[:, None]
        if self.has_biases and part.bias is None:
            addend = np.pad(addend, ((0, 0), (1, 0)))
        return addend.astype(np.float32, copy=False)

    def _fit_part(self, part: Part, rows: FloatArray, addends: dict[str, FloatArray], counts: FloatArray) -> FloatArray:
        """Solve for a part's weights y, write them to the equation, and return F y."""
        rest = rows - sum((each for name, each in addends.items() if name != part.name), np.zeros_like(rows))
        if self.has_biases and part.bias is None:
            rest = np.ascontiguousarray(rest[:, 1:])
        solver, ridge = self._systems[part.name]
        right = solver.transposed(np.sqrt(counts)[:, None] * rest)
        weights = solver.solve(right, joined(part.embedding, part.bias), ridge)
        write_joined(weights, part.embedding, part.bias)
        return self._addend(part, counts)


def _system(part: Part, counts: FloatArray, *, dim: int) -> PartSystem:
    design = part.design
    inner_row, num_inner = design.inner_row, len(design.scale)
    inner_counts = counts if inner_row is None else np.bincount(inner_row.numpy(), counts, minlength=num_inner)
    per_entry = np.repeat(inner_counts, np.diff(design.start.numpy()))
    ratings = np.bincount(design.column.numpy(), per_entry, minlength=design.num_columns)
    ridge = np.where(ratings > 0, ratings, 1).astype(np.float32)  # keeps the weights of an unused column at 0
    return PartSystem(PartSolver(design, dim=dim, row_weight=np.sqrt(counts)), ridge[:, None])
