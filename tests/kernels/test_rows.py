"""Loops over rows: each equals its formula, at any number of threads."""

import numba
import numpy as np
import pytest

from ratinglab.kernels.rows import (
    Entries,
    Regressors,
    RowPriors,
    column_dots,
    draw_rows,
    gram,
    matmul_transposed,
    multiply_sparse,
    subtract_dots,
    sum_squared_errors,
)
from ratinglab.kernels.sorted_ratings import sort_ratings
from ratinglab.ratings.table import Ratings

NUM_USERS, NUM_ITEMS, DIM = 30, 20, 5


def ratings(count=200) -> Ratings:
    random = np.random.default_rng(0)
    user = np.concatenate([np.arange(NUM_USERS), random.integers(0, NUM_USERS, count)]).astype(np.int32)
    item = np.concatenate([np.arange(NUM_USERS) % NUM_ITEMS, random.integers(0, NUM_ITEMS, count)]).astype(np.int32)
    return Ratings(user=user, item=item, rating=random.normal(size=len(user)).astype(np.float32))


def by_user() -> Entries:
    rows = ratings()
    return sort_ratings(rows.user, rows.item, rows.rating, num_rows=NUM_USERS, dim=DIM)


def numbers(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def drawn(normal_draws):
    side = by_user()
    regressors, offset, mean = numbers(NUM_ITEMS, DIM), numbers(NUM_ITEMS, seed=2), numbers(NUM_USERS, DIM, seed=3)
    scale = np.linspace(0.5, 2, NUM_USERS).astype(np.float32)
    precision = np.linspace(2, 1, NUM_USERS).astype(np.float32)
    other_precision = np.linspace(0.5, 1.5, NUM_ITEMS).astype(np.float32)
    prior_precision = np.cov(numbers(DIM, 20, seed=4)).astype(np.float32) + np.eye(DIM, dtype=np.float32)
    out = np.empty((NUM_USERS, DIM), dtype=np.float32)
    regression = Regressors(regressors, offset, other_precision)
    draw_rows(side, regression, RowPriors(mean, prior_precision, scale), precision, normal_draws, out)
    conditionals = []
    for row in range(NUM_USERS):
        part = slice(side.start[row], side.start[row + 1])
        column = side.column[part]
        x, y = regressors[column].astype(np.float64), side.value[part] - offset[column]
        weights = precision[row] * other_precision[column].astype(np.float64)
        a = scale[row] * prior_precision + (x.T * weights) @ x
        b = scale[row] * prior_precision @ mean[row] + (x.T * weights) @ y
        conditionals.append((a, b))
    return out, conditionals


def test_row_of_draws_of_0_is_the_conditional_mean():
    out, conditionals = drawn(np.zeros((NUM_USERS, DIM), dtype=np.float32))
    for row, (a, b) in zip(out, conditionals, strict=True):
        assert row == pytest.approx(np.linalg.solve(a, b), abs=1e-5)


def test_draws_have_the_conditional_covariance():
    """The results for all unit vectors, as columns, are a square root of the covariance."""
    middle, conditionals = drawn(np.zeros((NUM_USERS, DIM), dtype=np.float32))
    roots = [
        drawn(np.tile(unit, (NUM_USERS, 1)).astype(np.float32))[0] - middle for unit in np.eye(DIM, dtype=np.float32)
    ]
    for row, (a, _) in enumerate(conditionals):
        root = np.stack([result[row] for result in roots], axis=1)
        assert root @ root.T == pytest.approx(np.linalg.inv(a), abs=1e-5)


def test_each_row_uses_its_own_draw():
    draws = np.zeros((NUM_USERS, DIM), dtype=np.float32)
    middle, _ = drawn(draws)
    draws[1] = 1
    changed, _ = drawn(draws)
    assert np.flatnonzero((changed != middle).any(axis=1)).tolist() == [1]


def test_sparse_product_equals_the_dense_product():
    side = by_user()
    values, row_scale, column_scale = numbers(NUM_ITEMS, 3), numbers(NUM_USERS, seed=2), numbers(NUM_ITEMS, seed=3)
    out = np.full((NUM_USERS, 3), np.nan, dtype=np.float32)
    multiply_sparse(side, row_scale, column_scale, values, out)
    dense = np.zeros((NUM_USERS, NUM_ITEMS))
    np.add.at(dense, (ratings().user, ratings().item), 1)
    assert out == pytest.approx(row_scale[:, None] * (dense @ (column_scale[:, None] * values)), abs=1e-5)


def test_sums_over_rows_equal_matrix_products():
    left, right, matrix = numbers(1000, 4), numbers(1000, 4, seed=2), numbers(3, 4, seed=3)
    assert gram(left, right) == pytest.approx(left.astype(np.float64).T @ right, rel=1e-6)
    assert column_dots(left, right) == pytest.approx((left.astype(np.float64) * right).sum(axis=0), rel=1e-6)
    out = np.empty((1000, 3), dtype=np.float32)
    matmul_transposed(left, matrix, out)
    assert out == pytest.approx(left @ matrix.T, abs=1e-5)


def test_squared_errors_are_summed_per_row():
    side, rows = by_user(), ratings()
    users, items, offset = numbers(NUM_USERS, DIM), numbers(NUM_ITEMS, DIM, seed=2), numbers(NUM_ITEMS, seed=3)
    error = rows.rating - offset[rows.item] - (users[rows.user] * items[rows.item]).sum(axis=1)
    weight = np.linspace(0.5, 2, NUM_ITEMS).astype(np.float32)
    plain_and_weighted = sum_squared_errors(side, users, Regressors(items, offset, weight))
    for sums, weighs in zip(plain_and_weighted, (1, weight[rows.item]), strict=True):
        assert sums == pytest.approx(np.bincount(rows.user, weighs * np.square(error, dtype=np.float64)), rel=1e-5)


def test_dots_are_subtracted_in_the_order_of_the_ratings():
    entries, rows, regressors = by_user(), numbers(NUM_USERS, DIM), numbers(NUM_ITEMS, DIM, seed=2)
    out = np.empty_like(entries.value)
    subtract_dots(entries, rows, regressors, out)
    user = np.repeat(np.arange(NUM_USERS), np.diff(entries.start))
    assert out == pytest.approx(entries.value - (rows[user] * regressors[entries.column]).sum(axis=1), abs=1e-5)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
def test_results_do_not_depend_on_the_number_of_threads():
    before = numba.get_num_threads()
    results = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        left = numbers(1001, 7)
        results.append([drawn(numbers(NUM_USERS, DIM))[0], gram(left, left), column_dots(left, left)])
    numba.set_num_threads(before)
    assert all(np.array_equal(one, two) for one, two in zip(*results, strict=True))
