"""Sparse Adam: steps on the rows of a batch."""

import pytest
import torch
from equations import equation_of
from torch import nn

from ratinglab.errors import UserError
from ratinglab.fitting.sparse_adam import SparseRowAdam, make_sparse
from ratinglab.models.design import Design
from ratinglab.models.equation import Equation, TrainingData


class OneTable(Equation):
    """Equation of one weight table, with a penalty on it."""

    def __init__(self, penalty=lambda model: torch.zeros(())):
        super().__init__()
        self.table = nn.Embedding(3, 2)
        self.penalty_of = penalty

    def forward(self, user, item):
        return self.table(user).sum(dim=-1)

    def penalty(self, user, item):
        return self.penalty_of(self)


OPTIONS = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-8}


def fitted(optimizer_class, *, steps=20, scale=1.0) -> list[torch.Tensor]:
    """Fit two tables by a few steps on random rows, some twice in a batch; return them and the optimizer's state."""
    generator = torch.Generator().manual_seed(0)
    tables = [nn.Embedding(9, dim, sparse=True) for dim in (1, 5)]
    for table in tables:
        nn.init.normal_(table.weight, generator=generator)
    optimizer = optimizer_class([table.weight for table in tables], **OPTIONS)
    for _ in range(steps):
        row = torch.randint(0, 8, (6,), generator=generator, dtype=torch.int32)
        optimizer.zero_grad()
        error = sum(table(row).sum(dim=-1) for table in tables) - torch.randn(6, generator=generator)
        (scale * error.square().mean() + scale * 0.1 * tables[1](row).square().sum()).backward()
        optimizer.step()
    moments = [optimizer.state[table.weight].get(name) for table in tables for name in ("exp_avg", "exp_avg_sq")]
    return [*(table.weight.detach() for table in tables), *moments]


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-8])
def test_steps_equal_those_of_torch(scale):
    """Includes gradients so small that eps matters."""
    ours, reference = (fitted(adam, scale=scale) for adam in (SparseRowAdam, torch.optim.SparseAdam))
    for mine, theirs in zip(ours, reference, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5, rtol=1e-4)


def test_row_without_a_gradient_is_unchanged():
    assert torch.equal(fitted(SparseRowAdam, steps=0)[1][8], fitted(SparseRowAdam)[1][8])
    assert not torch.equal(fitted(SparseRowAdam, steps=0)[1][0], fitted(SparseRowAdam)[1][0])


def test_equation_with_weights_outside_embeddings_is_refused():
    model = OneTable()
    make_sparse(model)
    assert all(parameter.grad is None for parameter in model.parameters())
    model.other = nn.Linear(3, 1)
    with pytest.raises(
        UserError, match=r"optimizer=sparse_adam needs all weights of the equation in nn.Embedding, got other.weight$"
    ):
        make_sparse(model)


def test_equation_that_reads_a_whole_table_is_refused():
    model = OneTable(penalty=lambda model: model.table.weight.square().sum())
    with pytest.raises(
        UserError, match=r"needs weights read only by row lookup; the equation reads all of table.weight$"
    ):
        make_sparse(model)


def of_group(groups: Design) -> Equation:
    training = TrainingData(num_users=3, num_items=3, rating_mean=3.0, user_features={"group": groups})
    return equation_of("biased_mf", training, user_features=["group"])


def test_single_valued_feature_is_accepted_and_multi_valued_feature_refused():
    make_sparse(of_group(Design.one_hot(torch.tensor([0, 1, 1]), num_columns=2)))
    several = Design.from_sets(torch.tensor([0, 0, 1]).int(), torch.tensor([0, 1, 1]).int(), num_rows=3, num_columns=2)
    with pytest.raises(UserError, match=r"only by row lookup; the equation reads all of user_features.0.weight$"):
        make_sparse(of_group(several))
