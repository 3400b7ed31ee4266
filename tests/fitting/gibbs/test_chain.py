"""The samples that a sampler keeps, and when it stops."""

import pytest
import torch
from equations import options_of
from fits import fit as fit_equation
from tables import table_of_one_factor

from ratinglab.batches import Batch
from ratinglab.fitting.gibbs.chain import Chain
from ratinglab.fitting.whole_epoch_options import GibbsOptions, Noise
from ratinglab.models.factors import Factors, SideFactors
from ratinglab.models.posterior import PlaceholderEquation, Posterior


def empty_posterior(num_users: int = 2, dim: int = 1) -> Posterior:
    sides = SideFactors(torch.zeros(num_users, dim)), SideFactors(torch.zeros(50, dim))
    return Posterior(PlaceholderEquation(Factors(*sides, mean=0.0)))


def sample(items: torch.Tensor) -> Factors:
    sides = SideFactors(torch.ones(2, 1), None, torch.ones(2)), SideFactors(items[:, None], None, torch.ones(50))
    return Factors(*sides, mean=0.0)


def rows() -> Batch:
    item = torch.arange(50, dtype=torch.int32)
    return Batch(torch.zeros(50, dtype=torch.int32), item, torch.zeros(50), None)


def test_every_other_sample_is_dropped_beyond_the_maximum():
    posterior = empty_posterior()
    chain = Chain(posterior, thin=3, max_samples=4)
    dropped = [chain.keep(sample(torch.full((50,), float(number)))) for number in range(5)]
    assert dropped == [False] * 4 + [True]
    assert [float(item_factors[0, 0]) for item_factors in posterior.get_extra_state()["item"]] == [0, 2, 4]
    assert chain.thin == 6


def test_number_of_samples_follows_from_their_size():
    posterior = empty_posterior()
    assert Chain(posterior, thin=1, max_samples=None).max_samples == 1000
    large = empty_posterior(200_000, 25)
    assert Chain(large, thin=1, max_samples=None).max_samples == 400_000_000 // large.sample_bytes
    assert 16 < 400_000_000 // large.sample_bytes < 1000


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_gain_is_the_squared_error_of_the_mean_over_the_samples(correlation):
    """The mean of n draws from an AR(1) process has the variance (1 + ρ) / (1 − ρ) / n, times that of a draw."""
    random = torch.Generator().manual_seed(0)
    chain = Chain(empty_posterior(), thin=1, max_samples=5000)
    chain.gain_ratings = rows()
    state = torch.randn(50, generator=random)
    for _ in range(2000):
        drawn = torch.randn(50, generator=random)
        state = correlation * state + (1 - correlation**2) ** 0.5 * drawn
        chain.keep(sample(state))
    gain, independent_gain = chain.gain()
    assert independent_gain == pytest.approx(1 / 2000, rel=0.1)
    assert gain == pytest.approx((1 + correlation) / (1 - correlation) / 2000, rel=0.4)
    assert chain.gain() == (gain, independent_gain)


def fitted(*, epochs=200, burn_in=5, thin=1, max_samples=None, min_gain=0.0):
    optimizer = GibbsOptions(burn_in=burn_in, noise=Noise.own, thin=thin, max_samples=max_samples, min_gain=min_gain)
    model, table = options_of("biased_mf", regularization=0.0), table_of_one_factor(noise=0.5)
    return fit_equation(model, optimizer, table, epochs=epochs)


def test_fit_ends_once_more_samples_gain_little():
    strict, loose = (fitted(min_gain=gain).module for gain in (0.01, 0.05))
    assert loose.epochs_done < strict.epochs_done < 200
    assert strict.stops_early
    assert strict.chain.gain()[0] <= 0.01 * strict.train_mse
    assert fitted(epochs=60).module.epochs_done == 60


def test_fit_at_the_bound_on_samples_ends_once_they_are_independent():
    module = fitted(epochs=400, max_samples=10, min_gain=1e-6).module
    assert 5 <= len(module.posterior.samples) <= 10
    assert module.chain.thin >= 16
    assert module.stops_early
    assert module.epochs_done < 400


def test_bounded_samples_are_those_of_the_unbounded_fit():
    every, some = (fitted(epochs=60, max_samples=most).module.posterior for most in (None, 10))
    kept = some.get_extra_state()["user"]
    assert len(kept) == 7  # of 55 samples, one in 8
    assert torch.equal(kept, every.get_extra_state()["user"][::8])
