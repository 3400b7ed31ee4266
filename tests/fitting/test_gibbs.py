"""Gibbs sampling: what it keeps, what it repeats, and that it finds what the ratings were made of."""

import numpy as np
import pytest
import torch
from fits import run_fit
from ratinglab.fitting.incidence import Incidence
from ratinglab.models.discovery import build_model
from tables import table_of

from ratinglab.batches import Blocks, as_tensors
from ratinglab.datamodule import RatingDataModule
from ratinglab.fitting import gibbs
from ratinglab.fitting.gibbs import GibbsFit
from ratinglab.fitting.optimizers import Gibbs, Noise
from ratinglab.fitting.priors import draw_normal
from ratinglab.models.baselines import BiasBaseline
from ratinglab.models.equation import Interactions, ItemFeatures
from ratinglab.models.posterior import Posterior
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.holdout import hold_out
from ratinglab.ratings.splits import RandomSplit
from ratinglab.ratings.table import MILLISECONDS

NOISE = 0.5
MODELS = ["mf", "biased_mf", "svdpp", "timesvdpp"]


def made_table():
    """Ratings of 60 users over 40 items: biases, one factor, and noise of NOISE; a tenth of the pairs is left out."""
    random = np.random.default_rng(0)
    user, item = np.divmod(np.flatnonzero(random.random(2400) < 0.9), 40)
    user_bias, item_bias = random.normal(0, 0.5, 60), random.normal(0, 0.5, 40)
    p, q = random.normal(0, 1, 60), random.normal(0, 1, 40)
    clean = 3 + user_bias[user] + item_bias[item] + p[user] * q[item]
    return table_of(user, item, clean + random.normal(0, NOISE, len(user)), timestamp=made_days(random, len(user)))


def made_days(random, count):
    """Times on the first or the second of two days."""
    return random.integers(0, 2, count) * MILLISECONDS


def table_of_moods():
    """Users who on each of their three days rate all items by so much higher or lower."""
    random = np.random.default_rng(5)
    user, item = np.divmod(np.flatnonzero(random.random(100 * 40) < 0.6), 40)
    day = random.integers(0, 3, len(user))
    rating = 3 + random.normal(0, 1, (100, 3))[user, day] + random.normal(0, NOISE, len(user))
    return table_of(user, item, rating, timestamp=day * MILLISECONDS)


def table_of_two_kinds():
    """Users and items of two kinds; users rate their own kind most of the time, and like it."""
    random = np.random.default_rng(3)
    chance = np.where(np.arange(300)[:, None] % 2 == np.arange(60) % 2, 0.15, 0.02)
    user, item = np.nonzero(random.random(chance.shape) < chance)
    rating = 3 + np.where(user % 2 == item % 2, 0.5, -0.5) + random.normal(0, NOISE, len(user))
    user = np.unique(user, return_inverse=True)[1]
    return table_of(user, item, rating, timestamp=made_days(random, len(user)))


def fit(
    name="biased_mf", *, table=None, threads=1, seed=0, epochs=6, burn_in=2, thin=1, noise="own"
) -> tuple[GibbsFit, RatingDataModule]:
    table = (made_table() if table is None else table).with_days(asked_by="a test")
    split = RandomSplit(refit=False, seed=0, validation=0.1, test=0.1).apply(table)
    data = RatingDataModule(hold_out(table, split), batch_size=None, fraction=1.0, seed=seed)
    options = {"embedding_dim": 2, "regularization": 0.0, "init_std": 0.1}
    options |= {"implicit": "both", "item_features": True} if name in ("svdpp", "timesvdpp") else {}
    options |= {"item_bins": 1} if name == "timesvdpp" else {}
    numbers = {"num_users": data.num_users, "num_items": data.num_items}
    user, item, rating, day = as_tensors(data.train_ratings)
    model = build_model(
        name,
        options,
        **numbers,
        rating_mean=data.rating_mean,
        seed=0,
        interactions=lambda: Interactions(user, item, day),
        item_features=lambda: ItemFeatures(torch.arange(4, dtype=torch.int32), torch.tensor([0, 1, 1, 0]).int(), 2),
    )
    baseline = BiasBaseline(**numbers).fit(user=user, item=item, rating=rating)
    optimizer = Gibbs(burn_in=burn_in, noise=Noise[noise], thin=thin)
    module = GibbsFit(Predictor(Posterior(model), baseline, scale=None), optimizer=optimizer, seed=seed)
    run_fit(module, data, epochs=epochs, threads=threads)
    return module, data


def samples(module: GibbsFit) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in module.posterior.get_extra_state().values()])


@pytest.mark.parametrize("name", MODELS)
def test_draws_do_not_depend_on_the_number_of_threads_but_on_the_seed(name):
    one = samples(fit(name, threads=1)[0])
    assert torch.equal(one, samples(fit(name, threads=2)[0]))
    assert not torch.equal(one, samples(fit(name, seed=1)[0]))


@pytest.mark.parametrize(("burn_in", "thin", "kept"), [(0, 1, 6), (2, 1, 4), (2, 2, 2), (2, 3, 2), (5, 1, 1)])
def test_samples_are_kept_after_the_burn_in_every_so_many_epochs(burn_in, thin, kept):
    every = fit(burn_in=0)[0].posterior.get_extra_state()["user"]
    found = fit(burn_in=burn_in, thin=thin)[0].posterior.get_extra_state()["user"]
    assert torch.equal(found, every[burn_in::thin])
    assert len(found) == kept


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("thin", [1, 2])
def test_the_validation_error_is_that_of_the_mean_of_all_samples_to_the_last_bit(name, thin):
    module, data = fit(name, thin=thin)
    for number, block in enumerate(Blocks(data.validation_ratings)):
        scored = module.predictor.score(block.user, block.item, block.day)
        assert torch.equal(module.score_block(block, number), scored)
        module._sums.clear()  # as in a run that goes on
        assert torch.equal(module.score_block(block, number), scored)


@pytest.mark.parametrize("name", MODELS)
def test_the_last_sample_is_the_equations_weights(name):
    module, data = fit(name)
    rows = as_tensors(data.train_ratings)
    told = (rows.user, rows.item, rows.day) if name == "timesvdpp" else (rows.user, rows.item)
    with module.posterior.only(module.posterior.num_samples - 1):
        assert torch.allclose(module.posterior(*told), module.posterior.equation(*told), atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_ratings_are_predicted_about_as_well_as_their_noise_allows_and_the_noise_is_found(name):
    module, data = fit(name, epochs=150, burn_in=50)
    user, item, rating, day = as_tensors(data.validation_ratings)
    mean, variance = module.posterior.moments(user, item, day)
    error = float((mean - rating).square().mean().sqrt())
    assert NOISE * 0.9 < error < NOISE * 1.25
    found = (module.user_precision.mean() * module.item_precision.mean()) ** -0.5
    # days on which nothing changes are a little noise that is fitted
    assert float(found) == pytest.approx(NOISE, rel=0.15 if name == "timesvdpp" else 0.1)
    inside = float(((mean - rating).abs() <= 1.6449 * variance.sqrt()).double().mean())
    assert 0.84 < inside < 0.96
    assert module.train_mse() == pytest.approx(NOISE**2, rel=0.2)


@pytest.mark.parametrize("name", ["svdpp", "timesvdpp"])
def test_the_prior_is_drawn_given_rows_without_all_their_parts_and_given_the_parts_weights(name, monkeypatch):
    seen = []

    def recorded(rows, random, *, spread, spread_rows):
        seen.append((rows.copy(), spread, spread_rows))
        return draw_normal(rows, random, spread=spread, spread_rows=spread_rows)

    drawn_given = []

    def draw(incidence, rows, weights, **more):
        drawn_given.append(rows.copy())
        return own_draw(incidence, rows, weights, **more)

    own_draw = Incidence.draw
    monkeypatch.setattr(gibbs, "draw_normal", recorded)
    monkeypatch.setattr(Incidence, "draw", draw)
    before = fit(name, epochs=5)[0]
    fit(name, epochs=6)
    of_last_sweep = drawn_given[-sum(map(len, before._parts.values())) :]
    first_drawn = {"user": of_last_sweep[0], "item": of_last_sweep[len(before._parts["user"])]}
    # the last two of six epochs' draws are of the users and the items
    for side, (rows, spread, spread_rows) in zip(("user", "item"), seen[-2:], strict=True):
        parts = before._added(side)
        assert len(parts) == {"user": 3 if name == "timesvdpp" else 1, "item": 2}[side]
        own = before.rows(side)
        assert all(np.abs(part).max() > 0.01 for part in parts.values())
        assert rows[:, 1:] == pytest.approx(own[:, 1:], abs=1e-5)
        assert rows[:, 0] == pytest.approx(own[:, 0] - sum(part[:, 0] for part in parts.values()), abs=1e-5)
        # the first part is drawn given the rows without all others
        first, *others = parts.values()
        assert first_drawn[side][:, 1:] == pytest.approx(own[:, 1:] + first[:, 1:], abs=1e-5)
        bias_without_others = own[:, 0] - sum((part[:, 0] for part in others), np.zeros(len(own)))
        assert first_drawn[side][:, 0] == pytest.approx(bias_without_others, abs=1e-5)
        weights = {part: before._weights(part).astype(np.float64) for part in parts}
        expected = sum(before._scalar(part) * each.T @ each for part, each in weights.items())
        assert spread == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert spread_rows == sum(map(len, weights.values()))


def test_who_rated_what_tells_of_users_with_few_ratings():
    errors = []
    for name in ("biased_mf", "svdpp"):
        module, data = fit(name, table=table_of_two_kinds(), epochs=150, burn_in=50)
        user, item, rating, _ = as_tensors(data.validation_ratings)
        errors.append(float((module.predictor.score(user, item) - rating).square().mean()))
    plain, implicit = errors
    assert implicit - NOISE**2 < 0.75 * (plain - NOISE**2)


def test_days_tell_of_users_who_change_and_the_last_day_is_taken_where_none_is_told():
    errors = {}
    for name in ("biased_mf", "timesvdpp"):
        module, data = fit(name, table=table_of_moods(), epochs=150, burn_in=50)
        user, item, rating, day = as_tensors(data.validation_ratings)
        errors[name] = float((module.predictor.score(user, item, day) - rating).square().mean())
    assert NOISE**2 * 0.8 < errors["timesvdpp"] < NOISE**2 * 1.6
    assert errors["biased_mf"] > NOISE**2 + 0.5
    last = torch.full_like(day, 2)
    assert torch.equal(module.predictor.score(user, item), module.predictor.score(user, item, last))
    factors = module.posterior.factors()
    rating = factors.mean + (factors.user[user.long()] * factors.item[item.long()]).sum(dim=1)
    rating = rating + factors.biases[0][user.long(), 0] + factors.biases[1][item.long(), 0]
    assert torch.allclose(rating, module.posterior(user, item), atol=1e-4)


def table_of_two_noises():
    """Every other user, and every other item, is twice as far from what was meant."""
    random = np.random.default_rng(4)
    user, item = np.divmod(np.flatnonzero(random.random(100 * 60) < 0.5), 60)
    far = NOISE * (1 + user % 2) * (1 + item % 2)
    clean = 3 + random.normal(0, 0.5, 100)[user] + random.normal(0, 0.5, 60)[item]
    clean += random.normal(0, 1, 100)[user] * random.normal(0, 1, 60)[item]
    noisy = clean + random.normal(0, 1, len(user)) * far
    return table_of(user, item, noisy, timestamp=made_days(random, len(user)))


@pytest.mark.parametrize("name", ["biased_mf", "timesvdpp"])
def test_noise_of_their_own_is_found_for_users_and_items(name):
    module, _ = fit(name, table=table_of_two_noises(), epochs=150, burn_in=50)
    kept = module.posterior.get_extra_state()
    for name in ("user", "item"):
        precision = kept[f"{name}_precision"].mean(dim=0)
        # the prior of ν ratings draws them together
        assert 2.2 < float(precision[::2].mean() / precision[1::2].mean()) < 5


def test_one_noise_is_the_same_for_all():
    module, _ = fit(noise="one", epochs=150, burn_in=50)
    kept = module.posterior.get_extra_state()
    assert float(kept["user_precision"].std(dim=1).max()) == 0
    assert torch.equal(kept["item_precision"], torch.ones_like(kept["item_precision"]))
    assert float(kept["user_precision"].mean()) ** -0.5 == pytest.approx(NOISE, rel=0.1)
    assert not torch.equal(samples(module), samples(fit(epochs=150, burn_in=50)[0]))
