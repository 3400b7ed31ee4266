"""Share of ratings that a prediction comes near."""

from torch import Tensor

from ratinglab.evaluation.metrics import Metric


def _within_half(predicted: Tensor, rating: Tensor) -> float:
    return float(((predicted - rating).abs() <= 0.5).double().mean())


within_half = Metric("within_half", label="≤ ½", higher_is_better=True, compute=_within_half)
