"""The samples that a sampler keeps: bounded in number, and an estimate of what more of them would gain."""

from typing import NamedTuple

import torch
from torch import Tensor

from ratinglab.batches import Batch
from ratinglab.models.equation import Factors
from ratinglab.models.posterior import Posterior

MAX_TOTAL_SAMPLE_BYTES = 400_000_000
"""Maximum bytes of all samples, if max_samples is None."""
MIN_SAMPLES, MAX_SAMPLES = 16, 1000
"""Bounds on the number of samples that follows from MAX_TOTAL_SAMPLE_BYTES."""


class Gain(NamedTuple):
    """Estimates of the gain, in squared stars.

    Attributes:
        actual: from two halves of the chain.
        independent: what it would be if the samples were independent: their variance divided by their number.
    """

    actual: float
    independent: float


class Chain:
    """The kept samples of a posterior: one of every `thin` draws.

    Beyond the maximum, drops every second sample and doubles `thin`. The gain is the part of the mean squared error
    that averaging more samples would remove: the squared Monte Carlo error of the mean prediction. With ā and b̄ the
    mean predictions of the first and the second half of the samples, it is estimated by mean (ā − b̄)² / 4 over some
    rows. Autocorrelation and lack of convergence increase the estimate.

    Source: Flegal, Jones, "Batch Means and Spectral Variance Estimators in Markov Chain Monte Carlo", Annals of
    Statistics 2010, with two batches.
    """

    def __init__(self, posterior: Posterior, *, thin: int, max_samples: int | None) -> None:
        """Start without samples; max_samples=None keeps as many as fit into MAX_TOTAL_SAMPLE_BYTES."""
        fitting = MAX_TOTAL_SAMPLE_BYTES // max(1, posterior.sample_bytes)
        self.max_samples = min(max(fitting, MIN_SAMPLES), MAX_SAMPLES) if max_samples is None else max_samples
        self.thin = thin
        self._posterior = posterior
        self._rows: Batch | None = None
        self._predicted: list[Tensor] = []
        """Predictions of each sample for the rows, (R,) float32."""

    def keep(self, sample: Factors) -> bool:
        """Keep a sample. Return whether others were dropped."""
        self._posterior.keep(sample)
        if self._posterior.num_samples <= self.max_samples:
            return False
        self._posterior.keep_every_second()
        self._predicted = self._predicted[::2]
        self.thin *= 2
        return True

    def watch(self, rows: Batch) -> None:
        """Take the rows over which the gain is estimated."""
        self._rows = rows

    def gain(self) -> Gain:
        """Estimate the gain from the samples so far; see the class."""
        assert self._rows is not None, "watch comes first"
        user, item, _, day = self._rows
        count = self._posterior.num_samples
        for number in range(len(self._predicted), count):
            with self._posterior.using_sample(number):
                self._predicted.append(self._posterior(user, item, day))
        predicted, half = torch.stack(self._predicted), count // 2
        between = predicted[:half].mean(dim=0) - predicted[half:].mean(dim=0)
        return Gain(float(between.square().mean()) / 4, float(predicted.var(dim=0).mean()) / count)
