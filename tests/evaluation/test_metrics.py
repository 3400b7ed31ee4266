import pytest
import torch

from ratinglab.metrics import ErrorSums


def test_errors_are_pooled_over_rows_not_averaged_over_batches():
    sums = ErrorSums()
    sums.update(predicted=torch.tensor([1.0, 1.0, 1.0]), rating=torch.tensor([1.0, 2.0, 3.0]))
    sums.update(predicted=torch.tensor([0.0]), rating=torch.tensor([4.0]))
    errors = sums.compute()
    assert errors.mse == pytest.approx((0 + 1 + 4 + 16) / 4)
    assert errors.rmse == pytest.approx(5.25**0.5)
    assert errors.mae == pytest.approx((0 + 1 + 2 + 4) / 4)


def test_sums_are_kept_in_float64():
    sums = ErrorSums()
    for _ in range(3):
        sums.update(predicted=torch.full((100_000,), 0.1), rating=torch.zeros(100_000))
    one_error = float(torch.tensor(0.1))
    assert sums.compute().mse == pytest.approx(one_error**2, rel=1e-12)
