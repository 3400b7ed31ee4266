"""Errors pooled over all rows of a part: never a mean of batch means or of users."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Errors:
    """Errors of predicted ratings: mse in squared rating units, rmse and mae in rating units."""

    mse: float
    rmse: float
    mae: float


class ErrorSums:
    """Sums of squared and absolute errors, taken batch by batch and read once.

    mse = Σ (r̂ − r)² / n,  rmse = √mse,  mae = Σ |r̂ − r| / n, over all rows given so far.
    """

    def __init__(self) -> None:
        self._count = 0
        self._squared: list[Tensor] = []
        self._absolute: list[Tensor] = []

    def update(self, *, predicted: Tensor, rating: Tensor) -> None:
        """Add a batch: predicted and rating, both (B,) float32. Nothing waits for the device."""
        error = predicted - rating
        if error.device.type != "mps":  # which has no float64
            error = error.double()
        self._count += len(rating)
        self._squared.append(error.square().sum())
        self._absolute.append(error.abs().sum())

    def compute(self) -> Errors:
        """The errors over all rows since the first update; there must have been a row."""
        assert self._count > 0, "no rows to compute errors of"
        mse = float(torch.stack(self._squared).sum()) / self._count
        mae = float(torch.stack(self._absolute).sum()) / self._count
        return Errors(mse=mse, rmse=mse**0.5, mae=mae)
