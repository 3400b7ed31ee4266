"""The samples that a sampler keeps, bounded in number, and the estimated gain of more samples."""

import numpy as np
import torch
from torch import Tensor

from ratinglab.batches import Batch, as_tensors
from ratinglab.datamodule import RatingDataModule
from ratinglab.models.bias_baseline import BiasBaseline
from ratinglab.models.factors import Factors
from ratinglab.models.posterior import Posterior

MAX_TOTAL_SAMPLE_BYTES = 400_000_000
"""Maximum bytes of all samples, if max_samples is None."""
MIN_SAMPLES, MAX_SAMPLES = 16, 1000
"""Bounds on the number of samples that follows from MAX_TOTAL_SAMPLE_BYTES."""
NUM_GAIN_RATINGS = 4096
"""Number of ratings over which the gain of more samples is estimated."""
SAMPLES_PER_CHECK, MIN_SAMPLES_BEFORE_CHECK = 8, 32
"""Number of samples between checks for whether the fit is done, and before the first check."""
MIN_THIN_GROWTH = 16
"""Factor by which thin must have grown before a fit with the maximum number of samples can end."""
MAX_INDEPENDENT_RATIO = 1.3
"""The samples count as independent if their gain is at most this multiple of the gain of independent samples."""


class Chain:
    """The kept samples of a posterior: one of every `thin` draws.

    Beyond the maximum, drops every other sample and doubles `thin`. The gain is how much averaging more samples would
    lower the mean squared error: the squared Monte Carlo error of the mean prediction. Its estimate, over the ratings
    `gain_ratings`, is mean (ā − b̄)² / 4, with ā and b̄ the mean predictions of the first and the second half of the
    samples. Autocorrelation and lack of convergence increase the estimate.

    Source: Flegal, Jones, "Batch Means and Spectral Variance Estimators in Markov Chain Monte Carlo", Annals of
    Statistics 2010, with two batches.
    """

    def __init__(self, posterior: Posterior, *, thin: int, max_samples: int | None) -> None:
        """Start without samples. With max_samples=None, the maximum is the number that fits in MAX_TOTAL_SAMPLE_BYTES,
        but at least MIN_SAMPLES and at most MAX_SAMPLES.
        """
        num_that_fit = MAX_TOTAL_SAMPLE_BYTES // max(1, posterior.sample_bytes)
        self.max_samples = min(max(num_that_fit, MIN_SAMPLES), MAX_SAMPLES) if max_samples is None else max_samples
        self.thin = self._first_thin = thin
        self._has_dropped = False
        self.gain_ratings: Batch | None = None
        """Ratings over which the gain is estimated, set once before the first estimate."""
        self._posterior = posterior
        self._predictions: list[Tensor] = []
        """Predictions of each sample for gain_ratings, (R,) float32."""

    def keep(self, sample: Factors) -> bool:
        """Keep a sample. Return True if every other sample was dropped."""
        self._posterior.samples.append(sample)
        self._has_dropped = len(self._posterior.samples) > self.max_samples
        if self._has_dropped:
            self._posterior.samples = self._posterior.samples[::2]
            self._predictions = self._predictions[::2]
            self.thin *= 2
        return self._has_dropped

    def gain(self) -> tuple[float, float]:
        """Estimate the gain from the samples so far, in squared stars; see the class.

        Returns:
            The gain, and the gain if the samples were independent: their variance divided by their number.
        """
        assert self.gain_ratings is not None
        user, item, _, day = self.gain_ratings
        num_samples = len(self._posterior.samples)
        for number in range(len(self._predictions), num_samples):
            self._predictions.append(self._posterior.predict_sample(number, user, item, day))
        predicted, half = torch.stack(self._predictions), num_samples // 2
        difference = predicted[:half].mean(dim=0) - predicted[half:].mean(dim=0)
        return float(difference.square().mean()) / 4, float(predicted.var(dim=0).mean()) / num_samples

    def is_done(self, *, min_gain: float, train_mse: float) -> bool:
        """Return whether more samples would lower the MSE by at most min_gain · train_mse, or would no longer help.

        They no longer help once the number of samples is at its maximum, `thin` has grown by MIN_THIN_GROWTH, and the
        samples are nearly independent. Checks after every SAMPLES_PER_CHECK samples, and if `keep` has just dropped
        every other sample.
        """
        num_samples = len(self._posterior.samples)
        is_due = self._has_dropped or num_samples % SAMPLES_PER_CHECK == 0
        min_samples = min(MIN_SAMPLES_BEFORE_CHECK, max(2, self.max_samples // 2))
        if min_gain == 0 or not is_due or num_samples < min_samples:
            return False  # with min_gain=0, the fit never ends by itself
        gain, independent_gain = self.gain()
        is_long = self._has_dropped and self.thin >= MIN_THIN_GROWTH * self._first_thin
        return gain <= min_gain * train_mse or (is_long and gain <= MAX_INDEPENDENT_RATIO * independent_gain)


def choose_gain_ratings(data: RatingDataModule, baseline: BiasBaseline, *, seed: int) -> Batch:
    """Choose ratings over which to estimate the gain: warm validation rows or, if there are none, training rows."""
    for ratings in (data.validation_ratings, data.train_ratings_in_stars):
        batch = as_tensors(ratings)
        warm = baseline.is_known_pair(batch.user, batch.item).nonzero()[:, 0]
        if len(warm) > 0:
            break
    chosen = np.random.default_rng(seed).permutation(len(warm))[:NUM_GAIN_RATINGS]
    return batch.take(warm[torch.from_numpy(np.sort(chosen))])
