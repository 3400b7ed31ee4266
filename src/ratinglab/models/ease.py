"""EASE: a linear autoencoder of implicit feedback, in closed form."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from ratinglab.errors import RunFailedError, UserError
from ratinglab.kernels.blas import one_blas_thread
from ratinglab.models.equation import TrainingData
from ratinglab.models.item_weights import ItemWeights, ItemWeightsOptions
from ratinglab.options import above

MAX_BYTES = 16e9
"""Largest matrix of weights, in bytes."""
ROWS_PER_BLOCK = 1 << 10
"""Rows of the matrix of items × items computed at once."""
PIVOTS = 1 << 7
"""Rows and columns swept at once."""


@dataclass
class EASEOptions(ItemWeightsOptions):
    """Options of EASE."""

    name: ClassVar[str] = "ease"
    recipe: ClassVar[str] = "ease"

    ridge: float = field(metadata=above(0))
    """λ, which is added to each item's number of raters. Raise it for sparse data."""

    def build(self, training: TrainingData, *, generator: torch.Generator) -> "EASE":
        return EASE(self, training)


class EASE(ItemWeights):
    """s_ui = Σ_{j ∈ N(u)} w_ji, with N(u) the items that the user has rated at least min_stars, and w_ii = 0.

    W minimizes ‖X − X W‖² + λ ‖W‖² with a zero diagonal, where X is 1 for rated pairs and 0 elsewhere:

        P = (Xᵀ X + λ I)⁻¹,   w_ji = −P_ji / P_ii for j ≠ i

    For I items, the weights take 4 I² bytes, and fitting and saving take about three times as much. The time grows as
    I³. The weights are bit-for-bit identical for any number of threads.

    Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019.
    """

    def __init__(self, options: EASEOptions, training: TrainingData) -> None:
        count = training.num_items
        if 4 * count**2 > MAX_BYTES:
            raise UserError(
                f"model=ease takes {4e-9 * count**2:.0f} GB for {count:,} items, more than the limit of "
                f"{MAX_BYTES / 1e9:.0f} GB: use model=item_knn or model=implicit_mf"
            )
        super().__init__(options, training)
        self.ridge = options.ridge
        self.weight = nn.Parameter(torch.zeros(count, count), requires_grad=False)
        """w_ji: (num_items, num_items), a row per rated item j."""

    @torch.no_grad()
    def solve(self) -> None:
        """Compute the weights, in place."""
        weight = self.weight.numpy()
        for start in range(0, len(weight), ROWS_PER_BLOCK):
            stop = start + ROWS_PER_BLOCK
            weight[start:stop] = self.co_ratings(start, stop)
        weight[np.diag_indices_from(weight)] += np.float32(self.ridge)
        try:
            _invert(weight)
        except np.linalg.LinAlgError:
            weight[:] = np.nan
        if not (weight.diagonal() < 0).all():  # not `>= 0`, which NaN would pass
            raise RunFailedError("the matrix of items is singular; a larger model.ridge helps")
        _mirror_upper_triangle(weight)
        weight /= -weight.diagonal().copy()
        np.fill_diagonal(weight, 0)

    def weighted_sums(self, rated: csr_array) -> Tensor:
        item, start = (torch.from_numpy(array.astype(np.int64)) for array in (rated.indices, rated.indptr))
        return embedding_bag(item, self.weight, start, mode="sum", include_last_offset=True)


def _invert(matrix: NDArray[np.float32]) -> None:
    """Replace the upper triangle of a symmetric positive definite matrix A by the upper triangle of −A⁻¹, in place.

    Sweeps one block of PIVOTS rows and columns at a time. Threads compute whole blocks of rows, each with a BLAS of one
    thread, so the result is bit-for-bit identical for any number of threads.

    Source: Goodnight, "A Tutorial on the SWEEP Operator", The American Statistician, 1979.
    """
    with one_blas_thread(), ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for first in range(0, len(matrix), PIVOTS):
            last = first + PIVOTS
            column = np.concatenate([matrix[:first, first:last], matrix[first:last, first:].T])
            pivot = np.linalg.inv(matrix[first:last, first:last].astype(np.float64)).astype(np.float32)
            scaled = np.empty_like(column)
            sweep_rows = partial(_sweep_rows, matrix, column=column, pivot=pivot, scaled=scaled)
            for _ in threads.map(sweep_rows, range(0, len(matrix), ROWS_PER_BLOCK)):
                pass  # raises the exceptions of the threads
            matrix[:first, first:last] = scaled[:first]
            matrix[first:last, last:] = scaled[last:].T
            matrix[first:last, first:last] = -pivot


def _sweep_rows(
    matrix: NDArray[np.float32],
    start: int,
    *,
    column: NDArray[np.float32],
    pivot: NDArray[np.float32],
    scaled: NDArray[np.float32],
) -> None:
    """Subtract column · pivot · columnᵀ from a block of rows, right of the diagonal, and store column · pivot."""
    rows = slice(start, start + ROWS_PER_BLOCK)
    scaled[rows] = column[rows] @ pivot
    matrix[rows, start:] -= scaled[rows] @ column[start:].T


def _mirror_upper_triangle(matrix: NDArray[np.float32]) -> None:
    """Copy the upper triangle of a square matrix to the lower one, in place."""
    for start in range(0, len(matrix), ROWS_PER_BLOCK):
        stop = start + ROWS_PER_BLOCK
        block = matrix[start:stop, start:stop]
        block[:] = np.triu(block) + np.triu(block, 1).T
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
