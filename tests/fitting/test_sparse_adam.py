"""Steps on the rows of a batch."""

import pytest
import torch
from torch import nn

from ratinglab.errors import UserError
from ratinglab.fitting.sparse_adam import SparseRowAdam, make_sparse

OPTIONS = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-8}


def fitted(optimizer_class, *, steps=20) -> list[torch.Tensor]:
    """Two tables after a few steps on random rows, some of them twice in a batch; and the optimizer's state."""
    generator = torch.Generator().manual_seed(0)
    tables = [nn.Embedding(9, dim, sparse=True) for dim in (1, 5)]
    for table in tables:
        nn.init.normal_(table.weight, generator=generator)
    optimizer = optimizer_class([table.weight for table in tables], **OPTIONS)
    for _ in range(steps):
        row = torch.randint(0, 8, (6,), generator=generator, dtype=torch.int32)
        optimizer.zero_grad()
        error = sum(table(row).sum(dim=-1) for table in tables) - torch.randn(6, generator=generator)
        (error.square().mean() + 0.1 * tables[1](row).square().sum()).backward()
        optimizer.step()
    moments = [optimizer.state[table.weight].get(name) for table in tables for name in ("exp_avg", "exp_avg_sq")]
    return [*(table.weight.detach() for table in tables), *moments]


def test_the_steps_are_those_of_torch():
    for own, reference in zip(fitted(SparseRowAdam), fitted(torch.optim.SparseAdam), strict=True):
        assert torch.allclose(own, reference, atol=1e-5)


def test_a_row_without_a_gradient_stays():
    assert torch.equal(fitted(SparseRowAdam, steps=0)[1][8], fitted(SparseRowAdam)[1][8])
    assert not torch.equal(fitted(SparseRowAdam, steps=0)[1][0], fitted(SparseRowAdam)[1][0])


def test_an_equation_with_other_weights_is_refused():
    make_sparse(nn.Sequential(nn.Embedding(2, 3)))
    with pytest.raises(UserError, match=r"optimizer=sparse_adam needs an equation of nn.Embedding alone, .* 1.weight$"):
        make_sparse(nn.Sequential(nn.Embedding(2, 3), nn.Linear(3, 1)))
