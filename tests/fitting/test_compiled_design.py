"""Compiled products with a design, beside those with the dense matrix."""

import numpy as np
import pytest
import torch
from designs import cases

from ratinglab.fitting.compiled_design import CompiledDesign
from ratinglab.models.design import Design


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("case", cases())
def test_products_equal_those_of_the_dense_matrix(case, is_weighted):
    design, matrix = cases()[case]
    random = np.random.default_rng(0)
    row_weight = random.uniform(0.5, 3, len(matrix)).astype(np.float32) if is_weighted else None
    compiled = CompiledDesign(design, dim=2, row_weight=row_weight)
    if row_weight is not None:
        matrix = row_weight[:, None] * matrix
    weights = random.normal(size=(matrix.shape[1], 2)).astype(np.float32)
    rows = random.normal(size=(len(matrix), 2)).astype(np.float32)
    assert compiled.multiply(weights) == pytest.approx(matrix @ weights, abs=1e-5)
    assert compiled.multiply_transposed(rows) == pytest.approx(matrix.T @ rows, abs=1e-5)
    assert compiled.diagonal[:, 0] == pytest.approx(np.diag(matrix.T @ matrix), rel=1e-5)


def test_row_without_columns_gets_zero():
    design = Design.from_sets(torch.tensor([0]).int(), torch.tensor([1]).int(), num_rows=2, num_columns=2)
    compiled = CompiledDesign(design, dim=1)
    assert compiled.multiply(np.array([[5.0], [7.0]], dtype=np.float32)).tolist() == [[7.0], [0.0]]
