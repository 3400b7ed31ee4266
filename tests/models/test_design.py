"""Designs: each equals its dense matrix, in value and in gradient."""

import numpy as np
import pytest
import torch
from torch import nn

from ratinglab.errors import UserError
from ratinglab.models.design import Design

ROW, COLUMN = torch.tensor([2, 0, 2, 2]).int(), torch.tensor([1, 3, 0, 4]).int()
"""Row 0 has column 3, row 2 has columns 1, 0 and 4, rows 1 and 3 have none."""
BATCH = torch.tensor([2, 0, 1, 2, 3, 0, 0]).int()
"""Rows of each kind, some repeated."""


def small_sets() -> Design:
    return Design.from_sets(ROW, COLUMN, num_rows=4, num_columns=5)


def one_hot() -> Design:
    return Design.one_hot(torch.tensor([1, 0, 1, 3]), num_columns=5, scale=torch.tensor([2.0, -1.0, 0.0, 0.5]))


SELECTED_ROWS = torch.tensor([1, 2, 2, 0, 1, 0])
"""Six of a design's four rows; row 3 is never selected."""
SETS = torch.zeros(4, 5)
SETS[0, 3], SETS[2, [0, 1, 4]] = 1, 3**-0.5
ONE_HOT = torch.zeros(4, 5)
ONE_HOT[[0, 1, 3], [1, 0, 3]] = torch.tensor([2.0, -1.0, 0.5])
CASES = {
    "sets": (small_sets(), SETS),
    "one_hot": (one_hot(), ONE_HOT),
    "sets of selected rows": (small_sets().select_rows(SELECTED_ROWS), SETS[SELECTED_ROWS]),
    "one_hot of selected rows": (one_hot().select_rows(SELECTED_ROWS), ONE_HOT[SELECTED_ROWS]),
}
"""Designs with their dense matrices."""
COLUMNS = {"sets": SETS != 0, "one_hot": torch.eye(5)[[1, 0, 1, 3]] > 0}
COLUMNS |= {f"{name} of selected rows": has[SELECTED_ROWS] for name, has in COLUMNS.items()}
"""Columns that each row has, (num_rows, num_columns) bool, also when its scale is 0."""


def embedding(dim: int = 3) -> nn.Embedding:
    table = nn.Embedding(5, dim)
    nn.init.normal_(table.weight, generator=torch.Generator().manual_seed(0))
    return table


@pytest.mark.parametrize("name", CASES)
def test_product_and_gradient_equal_those_of_the_dense_matrix(name):
    design, dense = CASES[name]
    assert (design.num_rows, design.num_columns) == dense.shape
    table, weight = embedding(), embedding().weight.detach().requires_grad_()
    found, expected = design.multiply_rows(BATCH, table), dense[BATCH.long()] @ weight
    assert (found.shape, found.dtype) == ((7, 3), torch.float32)
    assert torch.allclose(found, expected, atol=1e-6)
    upstream = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    found.backward(upstream)
    expected.backward(upstream)
    assert torch.allclose(table.weight.grad, weight.grad, atol=1e-6)


def test_some_columns_are_drawn_without_repetition_and_scaled_by_their_number():
    start = torch.tensor([0, 3, 3, 5])
    design = Design(start, torch.tensor([4, 1, 2, 0, 3], dtype=torch.int32), torch.ones(3), num_columns=5)
    some = design.select_rows(torch.tensor([2, 0, 1])).sample_columns(torch.tensor([1, 0, 2]), max_columns=2)
    product = some.multiply(torch.eye(5))
    assert (product > 0).sum(dim=1).tolist() == [2, 2, 0]
    assert not product[0, [0, 3]].any()
    torch.testing.assert_close(product[1], torch.tensor([1.0, 0, 0, 1, 0]) / 2**0.5)
    assert set(design.sample_columns(torch.zeros(64).long(), max_columns=1).column.tolist()) == {1, 2, 4}


@pytest.mark.parametrize("name", CASES)
def test_squares_ignore_the_scale_of_a_row(name):
    design, has = CASES[name][0], COLUMNS[name]
    table, weight = embedding(), embedding().weight.detach().requires_grad_()
    found = design.sum_squares(BATCH, table)
    expected = (has[BATCH.long()].float() @ weight.square()).sum()
    assert found.shape == ()
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    found.backward()
    expected.backward()
    assert torch.allclose(table.weight.grad, weight.grad, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_batch_of_one_keeps_its_shape(name):
    assert CASES[name][0].multiply_rows(BATCH[:1], embedding()).shape == (1, 3)


def test_is_one_hot_is_true_when_each_row_has_one_column():
    assert one_hot().is_one_hot
    assert not small_sets().is_one_hot
    ones = Design.from_sets(torch.tensor([1, 0]).int(), torch.tensor([2, 2]).int(), num_rows=2, num_columns=3)
    assert ones.is_one_hot
    assert torch.equal(ones.multiply_rows(torch.tensor([0, 1]), embedding()), embedding().weight[[2, 2]])


def test_one_hot_design_has_scale_1_by_default():
    plain = Design.one_hot(torch.tensor([4, 1]), num_columns=5)
    assert torch.equal(plain.multiply_rows(torch.tensor([1, 0]), embedding()), embedding().weight[[1, 4]])


def test_scale_of_a_set_falls_with_the_root_of_its_size():
    """The scale is one over the square root of the number of columns."""
    assert small_sets().scale.tolist() == pytest.approx([1, 0, 3**-0.5, 0])


def test_design_is_not_in_the_state_dict():
    assert CASES["sets of selected rows"][0].state_dict() == {}


def texts(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


def dense_of(design: Design) -> list:
    eye = nn.Embedding.from_pretrained(torch.eye(design.num_columns))
    return design.multiply_rows(torch.arange(design.num_rows), eye).tolist()


def test_each_category_has_a_column_and_rows_with_several_are_scaled():
    design = Design.from_feature(texts("Drama|Comedy", "", "Comedy", "Drama|Drama"), key="model.item_features: genres")
    half = pytest.approx([0.5**0.5, 0.5**0.5])
    assert dense_of(design) == [half, [0, 0], [1, 0], [0, 1]]  # by name: Comedy, Drama


def test_single_category_per_row_gives_a_one_hot_design():
    design = Design.from_feature(texts("F", "M", "F"), key="model.user_features: gender")
    assert design.is_one_hot
    assert dense_of(design) == [[1, 0], [0, 1], [1, 0]]


def test_numbers_give_one_standardized_column_with_0_when_unknown():
    design = Design.from_feature(np.array([20.0, np.nan, 30.0, 40.0]), key="model.user_features: age")
    assert design.num_columns == 1
    assert [value for (value,) in dense_of(design)] == pytest.approx([-(1.5**0.5), 0, 0, 1.5**0.5])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (texts("", ""), "model.user_features: age is unknown in every row with training ratings"),
        (np.full(2, np.nan), "model.user_features: age is unknown in every row with training ratings"),
        (np.full(2, 5.0), "model.user_features: age must vary, got 5 in every row with training ratings"),
    ],
)
def test_constant_feature_is_refused(values, message):
    with pytest.raises(UserError) as error:
        Design.from_feature(values, key="model.user_features: age")
    assert str(error.value) == message


def test_gradient_does_not_depend_on_the_number_of_threads():
    """The batch is large enough for torch to sum gradients of equal rows in parallel, in any order."""
    random = torch.Generator().manual_seed(0)
    owner, column = (torch.randint(0, 40, (400,), generator=random).int() for _ in range(2))
    design = Design.from_sets(owner, column, num_rows=40, num_columns=40)
    row = torch.randint(0, 40, (4096,), generator=random)
    weights = nn.Embedding(40, 32)
    factor = torch.randn(4096, 32, generator=random)
    before, gradients = torch.get_num_threads(), []
    for threads in (1, *[4] * 20):
        torch.set_num_threads(threads)
        weights.zero_grad()
        (design.multiply_rows(row, weights) * factor).sum().backward()
        gradients.append(weights.weight.grad.clone())
    torch.set_num_threads(before)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


def test_new_rows_are_encoded_like_the_trained_ones():
    genres, age = np.array(["x|y", "z", "y"], dtype=object), np.array([10.0, np.nan, 30.0])
    for column in (genres, age):
        trained, again = Design.from_feature(column, key="key"), Design.encode(column, like=column)
        weights = torch.randn(trained.num_columns, 2)
        table = torch.nn.Embedding.from_pretrained(weights)
        torch.testing.assert_close(again.multiply(weights), trained.multiply_rows(torch.arange(3), table))
        torch.testing.assert_close(again.extract_row(2).multiply(weights), again.multiply(weights)[2:])


def test_a_new_row_with_few_of_the_categories_uses_their_weights():
    trained = np.array(["x|y", "z", "y"], dtype=object)
    new, weights = Design.encode(np.array(["z"], dtype=object), like=trained), torch.randn(3, 2)
    torch.testing.assert_close(new.multiply(weights), weights[2:])


def test_rows_of_a_selection_can_be_selected_again():
    design = Design.from_sets(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2]).int(), num_rows=2, num_columns=3)
    twice = design.select_rows(torch.tensor([1, 0, 1])).select_rows(torch.tensor([2, 1]))
    weights = torch.randn(3, 2)
    torch.testing.assert_close(twice.multiply(weights), design.multiply(weights)[[1, 0]])
