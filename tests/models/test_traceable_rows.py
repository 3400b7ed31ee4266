"""Rows of factor equations, multiplied in blocks of columns or stored as the ratings of all pairs."""

import pytest
import torch
from equations import multiply_pairs

from ratinglab.models import traceable_rows
from ratinglab.models.factors import Factors, SideFactors
from ratinglab.models.traceable_rows import TraceableRows

USER, ITEM = torch.tensor([0, 29, 1], dtype=torch.int32), torch.tensor([39, 0, 1], dtype=torch.int32)


def rows(dim: int, *, biased: bool = True) -> Factors:
    """Make rows of 30 users and 40 items."""
    random = torch.Generator().manual_seed(0)
    user, item = torch.randn(30, dim, generator=random), torch.randn(40, dim, generator=random)
    user_bias, item_bias = (torch.randn(count, 1, generator=random) if biased else None for count in (30, 40))
    return Factors(SideFactors(user, user_bias), SideFactors(item, item_bias), mean=3.0)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(("dim", "num_blocks"), [(1, 1), (7, 2), (15, 3), (16, 0)])
def test_ratings_of_pairs_are_stored_only_if_they_take_less_memory(monkeypatch, dim, num_blocks, biased):
    monkeypatch.setattr(traceable_rows, "MAX_COLUMNS", 8)
    factors = rows(dim, biased=biased)
    product = TraceableRows(factors, user_days=None, item_days=None)
    assert len(product.item_columns) == num_blocks  # 30 · 40 ratings or 30 + 40 rows of dim + 2 columns
    assert product(USER, ITEM).tolist() == pytest.approx(multiply_pairs(factors, USER, ITEM).tolist(), abs=1e-5)
    assert sum(weights.numel() for weights in product.parameters()) == min(30 * 40, (30 + 40) * (dim + 2))
