"""Gibbs sampling: kept samples, repeatability, and recovery of the model that generated the ratings."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from equations import multiply_pairs, options_of
from fits import Fitted
from fits import fit as fit_equation
from tables import table_of, table_of_one_factor
from threadpoolctl import threadpool_info

from ratinglab.batches import EvaluationLoader, as_tensors
from ratinglab.fitting.gibbs import gibbs_fit, noise
from ratinglab.fitting.gibbs.priors import draw_prior
from ratinglab.fitting.gibbs.side_state import TermState
from ratinglab.fitting.whole_epoch_options import GibbsOptions, Noise
from ratinglab.ratings.table import MILLISECONDS_PER_DAY, RatingTable

NOISE = 0.5
MODELS = {
    "mf": ("mf", {}),
    "biased_mf": ("biased_mf", {}),
    "svdpp": ("svdpp", {"item_features": ["genres"]}),
    "timesvdpp": ("timesvdpp", {"item_features": ["genres"]}),
    "biased_mf with features": ("biased_mf", {"user_features": ["group", "age"], "item_features": ["genres"]}),
    "timesvdpp with features": ("timesvdpp", {"user_features": ["group"]}),
}
"""Equation and options."""


def made_days(random, count):
    """Draw times on the first or the second of two days."""
    return random.integers(0, 2, count) * MILLISECONDS_PER_DAY


def table_of_moods():
    """Generate ratings of users who rate all items higher or lower by a different amount on each of three days."""
    random = np.random.default_rng(5)
    user, item = np.divmod(np.flatnonzero(random.random(100 * 40) < 0.6), 40)
    day = random.integers(0, 3, len(user))
    rating = 3 + random.normal(0, 1, (100, 3))[user, day] + random.normal(0, NOISE, len(user))
    return table_of(user, item, rating, timestamp=day * MILLISECONDS_PER_DAY)


def table_of_two_kinds():
    """Generate ratings of users and items of two kinds; users mostly rate their own kind, and rate it higher."""
    random = np.random.default_rng(3)
    chance = np.where(np.arange(300)[:, None] % 2 == np.arange(60) % 2, 0.15, 0.02)
    user, item = np.nonzero(random.random(chance.shape) < chance)
    rating = 3 + np.where(user % 2 == item % 2, 0.5, -0.5) + random.normal(0, NOISE, len(user))
    user = np.unique(user, return_inverse=True)[1]
    return table_of(user, item, rating, timestamp=made_days(random, len(user)))


def with_columns(table: RatingTable) -> RatingTable:
    """Add a group and an age for most users, and genres for a few items."""
    random = np.random.default_rng(6)
    group = np.array(["a", "b", "b|c", ""], dtype=object)[random.integers(0, 4, table.num_users)]
    age = np.where(random.random(table.num_users) < 0.8, random.normal(size=table.num_users), np.nan)
    genres = np.array(["x", "y", "y", "x", *[""] * (table.num_items - 4)], dtype=object)
    titles = np.full(table.num_items, "title", dtype=object)
    return replace(table, titles=titles, user_columns={"group": group, "age": age}, item_columns={"genres": genres})


def fit(
    case="biased_mf",
    *,
    table=None,
    threads=1,
    seed=0,
    epochs=6,
    burn_in=2,
    thin=1,
    noise="own",
    max_samples=None,
    min_gain=0.0,
    **changed,
) -> Fitted:
    """Fit a table. Long fits are validated once, at the end: the samples do not depend on it."""
    name, options = MODELS[case]
    model = options_of(name, regularization=0.0, **options | changed)
    optimizer = GibbsOptions(burn_in=burn_in, noise=Noise[noise], thin=thin, max_samples=max_samples, min_gain=min_gain)
    table = with_columns(table_of_one_factor(noise=NOISE)) if table is None else table
    every = epochs if epochs > 6 else 1
    return fit_equation(model, optimizer, table, epochs=epochs, seed=seed, threads=threads, validate_every=every)


def samples(fitted: Fitted) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in fitted.module.posterior.get_extra_state().values()])


def validation_error(fitted: Fitted) -> float:
    """Compute the mean squared error of the mean prediction."""
    user, item, rating, day = as_tensors(fitted.data.validation_ratings)
    return float((fitted.module.predictor.predict_unclipped(user, item, day) - rating).square().mean())


def test_blas_has_one_thread_while_the_sampler_draws(monkeypatch):
    """Its sums depend on the number of threads, from 100 factors or 10,000 users on."""
    threads = []

    def record_threads(*arguments, **options):
        threads.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return draw_prior(*arguments, **options)

    monkeypatch.setattr(gibbs_fit, "draw_prior", record_threads)
    fit("mf", epochs=2)
    assert set(threads) == {1}


@pytest.mark.parametrize("name", MODELS)
def test_samples_depend_on_the_seed_but_not_on_threads(name):
    one = samples(fit(name, threads=1))
    assert torch.equal(one, samples(fit(name, threads=2)))
    assert not torch.equal(one, samples(fit(name, seed=1)))


@pytest.mark.parametrize(("burn_in", "thin", "kept"), [(0, 1, 6), (2, 1, 4), (2, 2, 2), (2, 3, 2), (5, 1, 1)])
def test_samples_are_kept_after_burn_in_and_thinned(burn_in, thin, kept):
    every = fit(burn_in=0).module.posterior.get_extra_state()["user"]
    thinned = fit(burn_in=burn_in, thin=thin).module.posterior.get_extra_state()["user"]
    assert torch.equal(thinned, every[burn_in::thin])
    assert len(thinned) == kept


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("thin", [1, 2])
def test_validation_scores_equal_the_sample_mean_bit_for_bit(name, thin):
    module, data, _ = fit(name, thin=thin)
    for number, block in enumerate(EvaluationLoader(data.validation_ratings)):
        scored = module.predictor.predict_unclipped(block.user, block.item, block.day)
        assert torch.equal(module.predict_block(block, number), scored)
        # a block without a running sum, as after a resume
        assert torch.equal(module.predict_block(block, number + len(data.validation_ratings)), scored)


def test_copies_of_the_rows_are_freed_after_each_sweep():
    module = fit(epochs=1, burn_in=0).module
    for side in (module.users, module.items):
        assert not {"rows", "own_rows"} & set(vars(side))


@pytest.mark.parametrize("name", MODELS)
def test_equation_holds_the_weights_of_the_last_sample(name):
    fitted = fit(name)
    user, item, _, day = as_tensors(fitted.data.train_ratings_in_stars)
    posterior = fitted.module.posterior
    last = posterior.predict_sample(len(posterior.samples) - 1, user, item, day)
    assert torch.allclose(last, fitted.equation.predict(user, item, day), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_fit_recovers_the_noise_and_reaches_its_error(name):
    module, data, _ = fit(name, epochs=150, burn_in=50)
    user, item, rating, day = as_tensors(data.validation_ratings)
    mean, variance = module.posterior(user, item, day), module.posterior.variance(user, item, day)
    error = float((mean - rating).square().mean().sqrt())
    assert NOISE * 0.9 < error < NOISE * 1.25
    noise_std = (module.user_precision.mean() * module.item_precision.mean()) ** -0.5
    # days on which nothing changes fit a little of the noise
    assert float(noise_std) == pytest.approx(NOISE, rel=0.15 if name.startswith("timesvdpp") else 0.1)
    inside = float(((mean - rating).abs() <= 1.6449 * variance.sqrt()).double().mean())
    assert 0.84 < inside < 0.96
    assert module.train_mse == pytest.approx(NOISE**2, rel=0.2)


TERMS = {
    "svdpp": {"user": 1, "item": 2},
    "timesvdpp": {"user": 3, "item": 2},
    "biased_mf with features": {"user": 2, "item": 1},
    "timesvdpp with features": {"user": 4, "item": 1},
}
"""Number of terms of each side."""


@pytest.mark.parametrize("name", TERMS)
def test_prior_is_drawn_given_rows_without_terms_and_the_weights_of_terms(name, monkeypatch):
    calls = []

    def recorded(rows, random, *, centered_scatter, num_centered):
        calls.append((rows.copy(), centered_scatter, num_centered))
        return draw_prior(rows, random, centered_scatter=centered_scatter, num_centered=num_centered)

    drawn_given, precisions_given, precisions_drawn = [], [], []

    draw = TermState.draw

    def recorded_draw(term, residual, prior, random):
        drawn_given.append(residual + prior.mean)
        precisions_given.append(float(term.precision))
        draw(term, residual, prior, random)
        precisions_drawn.append(float(term.precision))

    monkeypatch.setattr(gibbs_fit, "draw_prior", recorded)
    monkeypatch.setattr(TermState, "draw", recorded_draw)
    before = fit(name, epochs=5).module
    fit(name, epochs=6)
    counts = TERMS[name]
    num_terms = sum(counts.values())
    assert precisions_given[-num_terms:] == pytest.approx(precisions_drawn[-2 * num_terms : -num_terms], rel=1e-6)
    of_last_sweep = drawn_given[-num_terms:]
    first_drawn = {"user": of_last_sweep[0], "item": of_last_sweep[counts["user"]]}
    # the last two draws of six epochs are those of the users and the items
    for side, (rows, centered_scatter, num_centered) in zip(("user", "item"), calls[-2:], strict=True):
        names = (before.users if side == "user" else before.items).terms
        terms = names.values()
        assert len(terms) == counts[side]
        stored = {f"term_{term}_{kind}" for term in names for kind in ("bias", "precision")}
        assert stored <= before.state_dict().keys()
        own_rows = before.own_rows(side)
        products = [term.design.multiply(term.weights()) for term in terms]
        assert all(np.abs(product).max() > 0.01 for product in products)
        assert rows[:, 1:] == pytest.approx(own_rows[:, 1:], abs=1e-5)
        assert rows[:, 0] == pytest.approx(own_rows[:, 0] - sum(product[:, 0] for product in products), abs=1e-5)
        # the first term is drawn given the same rows
        assert first_drawn[side] == pytest.approx(rows, abs=1e-5)
        weights = [(float(term.precision), term.weights()) for term in terms]
        expected = sum(precision * y.astype(np.float64).T @ y for precision, y in weights)
        assert centered_scatter == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert num_centered == sum(len(y) for _, y in weights)


@pytest.mark.slow
def test_implicit_feedback_helps_users_with_few_ratings():
    table = table_of_two_kinds()
    genres = np.array(["x", "y", "y", "x", *[""] * (table.num_items - 4)], dtype=object)
    table = replace(table, titles=genres, item_columns={"genres": genres})
    plain, implicit = (
        validation_error(fit(name, table=table, epochs=100, burn_in=30)) for name in ("biased_mf", "svdpp")
    )
    assert implicit - NOISE**2 < 0.75 * (plain - NOISE**2)


def table_of_groups() -> RatingTable:
    """Generate 5 ratings each of 300 users over 60 items; the users' three groups differ in mean and taste."""
    random = np.random.default_rng(7)
    user, item = np.repeat(np.arange(300), 5), np.concatenate([random.permutation(60)[:5] for _ in range(300)])
    group = np.arange(300) % 3
    taste = random.normal(0, 0.8, (3, 60))
    clean = 3 + np.array([-1.5, 0.0, 1.5])[group[user]] + taste[group[user], item]
    names = np.array(["a", "b", "c"], dtype=object)[group]
    unrelated = np.array(["a", "b", "c"], dtype=object)[random.integers(0, 3, 300)]
    table = table_of(user, item, clean + random.normal(0, NOISE, len(user)))
    return replace(table, user_columns={"group": names, "unrelated": unrelated})


@pytest.mark.slow
def test_informative_feature_lowers_the_error_and_an_unrelated_one_does_little_harm():
    table = table_of_groups()
    plain, features, unrelated = (
        validation_error(fit("biased_mf", table=table, epochs=100, burn_in=30, user_features=names, embedding_dim=3))
        for names in ([], ["group"], ["unrelated"])
    )
    assert features - NOISE**2 < 0.3 * (plain - NOISE**2)
    assert unrelated < 1.25 * plain


def test_feature_absorbs_the_mean_of_its_users():
    """The groups' means are −1.5, 0 and 1.5 around 3; the users' own rows have equal means in all groups."""
    fitted = fit("biased_mf", table=table_of_groups(), epochs=60, burn_in=20, user_features=["group"])
    module = fitted.module
    (column,) = (term.design.column for term in module.equation.side("user").terms)
    module.users.read()
    items = fitted.equation.item_side().compute(torch.arange(fitted.data.num_items)).factors.detach().numpy()
    mean_item = np.concatenate([[1], items.mean(axis=0)])
    group_means = module.users.terms["user_feature_0"].weights() @ mean_item
    assert np.diff(group_means) == pytest.approx([1.5, 1.5], abs=0.4)
    own_means = np.bincount(column, module.users.own_rows @ mean_item) / np.bincount(column)
    assert np.diff(own_means) == pytest.approx([0, 0], abs=0.4)


@pytest.mark.slow
def test_days_lower_the_error_of_changing_users_and_default_to_the_last_day():
    table = with_columns(table_of_moods())
    plain = validation_error(fit("biased_mf", table=table, epochs=100, burn_in=30))
    fitted = fit("timesvdpp", table=table, epochs=100, burn_in=30)
    assert NOISE**2 * 0.8 < validation_error(fitted) < NOISE**2 * 1.6
    assert plain > NOISE**2 + 0.5
    user, item, _, day = as_tensors(fitted.data.validation_ratings)
    predictor, posterior = fitted.module.predictor, fitted.module.posterior
    last = torch.full_like(day, 2)
    assert torch.equal(predictor.predict_unclipped(user, item), predictor.predict_unclipped(user, item, last))
    assert torch.allclose(multiply_pairs(posterior.factors(), user, item), posterior(user, item), atol=1e-4)


def table_of_two_noises():
    """Generate ratings with twice the noise for every other user and every other item."""
    random = np.random.default_rng(4)
    user, item = np.divmod(np.flatnonzero(random.random(100 * 60) < 0.5), 60)
    far = NOISE * (1 + user % 2) * (1 + item % 2)
    clean = 3 + random.normal(0, 0.5, 100)[user] + random.normal(0, 0.5, 60)[item]
    clean += random.normal(0, 1, 100)[user] * random.normal(0, 1, 60)[item]
    noisy = clean + random.normal(0, 1, len(user)) * far
    return table_of(user, item, noisy, timestamp=made_days(random, len(user)))


def table_of_single_days() -> RatingTable:
    """Give each rating of `table_of_one_factor` a day of its own."""
    table = with_columns(table_of_one_factor(noise=NOISE))
    return replace(table, timestamp=np.random.default_rng(1).permutation(len(table.ratings)) * MILLISECONDS_PER_DAY)


def test_users_with_one_rating_a_day_are_learned_as_fast_as_without_days():
    table = table_of_single_days()
    plain, daily = (fit(name, table=table, epochs=20, burn_in=10) for name in ("biased_mf", "timesvdpp"))
    assert validation_error(daily) < 1.2 * validation_error(plain)
    two = fit("timesvdpp", table=table, epochs=20, burn_in=10, threads=2)
    assert torch.equal(samples(daily), samples(two))


@pytest.mark.parametrize("name", ["biased_mf", "timesvdpp"])
def test_noise_is_drawn_from_its_conditionals_given_the_errors(name, monkeypatch):
    """With the mean of each gamma distribution in place of a draw, ν = 10, and a common precision ~ Gamma(1, 1)."""
    module, data, _ = fit(name, table=with_columns(table_of_moods()), epochs=3)
    user, item, rating, day = as_tensors(data.train_ratings_in_stars)
    equation, num_users, num_items = module.equation, data.num_users, data.num_items
    squares = (equation.predict(user, item, day) - rating).double().square().detach()
    before = module.user_precision.double() / float(module.noise_precision)
    of_users = torch.bincount(user, module.item_precision.double()[item.long()] * squares, minlength=num_users)
    for state, side in zip((module.users, module.items), equation.sides(), strict=True):
        index = torch.arange(side.embedding.num_embeddings)
        state.rows = side.compute(index).as_matrix().detach().numpy()
    monkeypatch.setattr(noise, "DEGREES", np.array([10.0]))
    means = SimpleNamespace(
        gamma=lambda shape, scale: shape * scale, gumbel=lambda size: np.zeros(size), exponential=lambda: np.inf
    )
    module._draw_noise(means)
    common = (1 + len(rating) / 2) / (1 + before @ of_users / 2)
    alpha = common * (10 + torch.bincount(user, minlength=num_users)) / (10 + common * of_users)
    torch.testing.assert_close(module.user_precision, alpha.float(), rtol=1e-3, atol=1e-4)
    redrawn = float(alpha.mean())  # 1 / mean of Gamma(5 num_users, 10 Σ α / 2), which is always accepted here
    assert float(module.noise_precision) == pytest.approx(redrawn, rel=1e-3)
    of_items = torch.bincount(item, alpha[user.long()] * squares, minlength=num_items)
    beta = (10 + torch.bincount(item, minlength=num_items)) / (10 + of_items)
    torch.testing.assert_close(module.item_precision, beta.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["biased_mf", "timesvdpp"])
def test_noise_own_recovers_noise_per_user_and_item(name):
    fitted = fit(name, table=with_columns(table_of_two_noises()), epochs=100, burn_in=30)
    kept = fitted.module.posterior.get_extra_state()
    for name in ("user", "item"):
        precision = kept[f"{name}_precision"].mean(dim=0)
        # the prior shrinks them towards each other
        assert 2.2 < float(precision[::2].mean() / precision[1::2].mean()) < 5


@pytest.mark.slow
def test_noise_one_gives_all_rows_equal_noise():
    fitted = fit(noise="one", epochs=100, burn_in=30)
    kept = fitted.module.posterior.get_extra_state()
    assert float(kept["user_precision"].std(dim=1).max()) == 0
    assert torch.equal(kept["item_precision"], torch.ones_like(kept["item_precision"]))
    assert float(kept["user_precision"].mean()) ** -0.5 == pytest.approx(NOISE, rel=0.1)
    assert not torch.equal(samples(fitted), samples(fit(epochs=100, burn_in=30)))


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["own", "one"])
def test_noiseless_ratings_are_fitted_with_a_finite_precision(noise):
    user, item = np.divmod(np.arange(600), 20)
    fitted = fit(
        table=table_of(user, item, 1.0 + (user * item) % 5), noise=noise, epochs=200, burn_in=150, embedding_dim=8
    )
    assert fitted.trainer.callback_metrics["train/mse"] < 0.01
