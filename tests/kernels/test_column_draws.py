"""Draws by column: equal draws at any number of threads."""

import numba
import numpy as np
import pytest
import torch

from ratinglab.fitting.compiled_design import CompiledDesign
from ratinglab.fitting.gibbs.priors import Normal
from ratinglab.fitting.gibbs.side_state import TermState
from ratinglab.models.design import Design


def drawn(*, threads: int, has_days: bool) -> list[np.ndarray]:
    """Draw the weights of 40 columns from the sets of 60 rows, which 100 days select if `has_days`."""
    random = np.random.default_rng(0)
    row, column = (torch.from_numpy(index.astype(np.int32)) for index in np.nonzero(random.random((60, 40)) < 0.3))
    design = Design.from_sets(row, column, num_rows=60, num_columns=40)
    design = design.select_rows(torch.from_numpy(random.integers(0, 60, 100))) if has_days else design
    residual = random.normal(size=(design.num_rows, 20)).astype(np.float32)
    weights = random.normal(size=(40, 20)).astype(np.float32)
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        term = TermState(CompiledDesign(design, dim=20), [torch.from_numpy(weights)], torch.ones(()))
        term.draw(residual, Normal(np.zeros(20), np.eye(20)), random)
    finally:
        numba.set_num_threads(before)
    return [term.weights(), residual]


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize("has_days", [False, True])
def test_draws_do_not_depend_on_the_number_of_threads(has_days):
    one = drawn(threads=1, has_days=has_days)
    two = drawn(threads=2, has_days=has_days)
    assert all(np.array_equal(*pair) for pair in zip(one, two, strict=True))
