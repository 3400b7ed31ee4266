"""Rows of new users and items: the equation, the draws, and what each rating changes."""

import numpy as np
import pytest
import torch

from ratinglab.models.design import Design
from ratinglab.models.factors import NewRowTerm, SideFactors, SideSamples
from ratinglab.recommend import fold_in_solver
from ratinglab.recommend.fold_in_solver import FoldInSolver, Observations

NUM_USERS, NUM_ITEMS, DIM, MEAN = 40, 12, 3, 3.5
OWN, OTHER = [0, 0, 0, 1, 1, 3], [2, 5, 7, 0, 2, 11]
"""Ratings of four new users, the third of whom has none."""
RATING = [5.0, 1.0, 4.0, 2.0, 3.0, 5.0]


def side(count: int, *, samples: int, precision: float, seed: int, terms=(), biases: bool = True) -> SideSamples:
    random = torch.Generator().manual_seed(seed)
    factors = [torch.randn(count, DIM, generator=random) for _ in range(samples)]
    bias = [torch.randn(count, 1, generator=random) if biases else None for _ in range(samples)]
    precisions = [torch.full((count,), precision)] * samples
    return SideSamples([*map(SideFactors, factors, bias, precisions)], MEAN, new_row_terms=terms)


def rated_term(samples: int, each: int) -> NewRowTerm:
    """Make the term of the items that each of the trained users has rated: so many each."""
    random = torch.Generator().manual_seed(5)
    weights = [torch.randn(NUM_ITEMS, DIM + 1, generator=random) for _ in range(samples)]
    user, item = torch.arange(NUM_USERS).repeat_interleave(each), torch.arange(each * NUM_USERS) % NUM_ITEMS
    design = Design.from_sets(user, item.int(), num_rows=NUM_USERS, num_columns=NUM_ITEMS)
    return NewRowTerm(None, design, weights)


def build_solver(*, samples: int = 1, has_term: bool = False, each: int = 2, **options) -> FoldInSolver:
    terms = (rated_term(samples, each),) if has_term else ()
    users = side(NUM_USERS, samples=samples, precision=0.8, seed=0, terms=terms, **options)
    return FoldInSolver(users, side(NUM_ITEMS, samples=samples, precision=1.5, seed=1, **options), is_item=False)


def ratings(own=OWN, other=OTHER, rating=RATING, num_rows=4) -> Observations:
    return Observations(torch.tensor(own), torch.tensor(other), torch.tensor(rating, dtype=torch.float64), num_rows)


def influences(solver: FoldInSolver, given: Observations, items: torch.Tensor) -> torch.Tensor:
    return solver.rating_influences(given, solver.fixed_rows.repeat_samples(solver.num_draws), items)


def joined(rows: SideSamples, sample: int) -> np.ndarray:
    return rows.samples[sample].as_matrix().double().numpy()


def expected(
    solver: FoldInSolver, sample: int, other: list[int], rating: list[float], *, prior_of: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean and the covariance of a new row with plain linear algebra.

    `prior_of` is the number of ratings whose prior the row has; None: its own.
    """
    count = len(other) if prior_of is None else prior_of
    own, items = joined(solver.trained_rows, sample), joined(solver.fixed_rows, sample)
    dim = DIM + 1 if solver.trained_rows.has_biases else DIM

    def shrunk(rows: np.ndarray) -> np.ndarray:
        scatter = rows.T @ rows
        return (scatter + dim * np.diag(np.diag(scatter)) / NUM_USERS) / (NUM_USERS + dim)

    mean = own.mean(axis=0)
    residual = own - mean
    for term in solver.trained_rows.new_row_terms:
        weights = term.weights[sample].double().numpy()
        some = term.design.sample_columns(torch.arange(NUM_USERS), max_columns=count)
        sums = np.array([some.extract_row(user).multiply(term.weights[sample])[0].numpy() for user in range(NUM_USERS)])
        if count == 0:
            continue
        center = sums.mean(axis=0)
        slopes = np.linalg.solve(shrunk(sums - center), (sums - center).T @ residual / NUM_USERS)
        mean, residual = mean - center @ slopes, residual - (sums - center) @ slopes
        if other:
            mean = mean + weights[other].sum(axis=0) / np.sqrt(len(other)) @ slopes
    prior = np.linalg.inv(shrunk(residual))
    offset = np.full(NUM_ITEMS, MEAN)
    if solver.trained_rows.has_biases:
        offset += items[:, 0]
        items[:, 0] = 1
    x, target = items[other], np.array(rating) - offset[other]
    a = prior + 0.8 * 1.5 * x.T @ x
    return np.linalg.solve(a, prior @ mean + 0.8 * 1.5 * x.T @ target), np.linalg.inv(a)


@pytest.mark.parametrize("has_term", [False, True])
@pytest.mark.parametrize("biases", [False, True])
def test_draws_of_a_point_fit_have_the_mean_and_the_covariance_of_the_rows(biases, has_term):
    solver, given = build_solver(biases=biases, has_term=has_term and biases), ratings()
    folded = solver.solve(given)
    assert len(folded.samples) == solver.num_draws == 4 * (DIM + biases)
    drawn = np.stack([joined(folded, sample) for sample in range(solver.num_draws)])
    for user in range(4):
        rows = [row for row, each in enumerate(OWN) if each == user]
        mean, covariance = expected(solver, 0, [OTHER[row] for row in rows], [RATING[row] for row in rows])
        np.testing.assert_allclose(drawn[:, user].mean(axis=0), mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.cov(drawn[:, user].T, bias=True), covariance, rtol=1e-3, atol=1e-4)


def test_draws_from_each_sample_have_its_mean_and_over_many_samples_its_covariance():
    solver, given = build_solver(samples=400), ratings()
    folded = solver.solve(given)
    assert len(folded.samples) == 400 * solver.num_draws
    drawn = np.stack([joined(folded, number)[0] for number in range(800)]).reshape(400, 2, DIM + 1)
    means, covariances = zip(*(expected(solver, sample, OTHER[:3], RATING[:3]) for sample in range(400)), strict=True)
    np.testing.assert_allclose(drawn.mean(axis=1), means, rtol=1e-4, atol=1e-4)
    # (v − m)ᵀ A (v − m) has mean D
    away = drawn[:, 0] - means
    distances = [each @ np.linalg.solve(covariance, each) for each, covariance in zip(away, covariances, strict=True)]
    assert np.mean(distances) == pytest.approx(DIM + 1, rel=0.15)


def test_many_rows_in_small_blocks_equal_each_row_alone(monkeypatch):
    solver, given = build_solver(has_term=True), ratings()
    together = solver.solve(given)
    monkeypatch.setattr(fold_in_solver, "MAX_VALUES_AT_ONCE", 1)
    split = solver.solve(given)
    alone_ratings = ratings([0, 0, 0], OTHER[:3], RATING[:3], 1)
    alone = solver.solve(alone_ratings)
    for sample in range(solver.num_draws):
        np.testing.assert_allclose(joined(together, sample), joined(split, sample), atol=1e-6)
        np.testing.assert_allclose(joined(together, sample)[:1], joined(alone, sample), atol=1e-6)


def test_new_user_with_noisy_ratings_has_a_lower_precision_than_one_with_clean_ratings():
    precisions = torch.distributions.Gamma(5.0, 5.0).sample((NUM_USERS,))
    solver = build_solver(samples=2)
    samples = solver.trained_rows.samples
    samples[:] = [sample._replace(noise_precision=precisions) for sample in samples]
    noisy = ratings([0] * 10, list(range(10)), [1.0, 5.0] * 5, 1)
    offset = MEAN + solver.fixed_rows.samples[0].bias[:10, 0].double()
    clean = noisy._replace(rating=offset)
    low, high = (solver.solve(given).noise_precisions()[0] for given in (noisy, clean))
    assert low < precisions.median() < high


def test_precision_of_a_new_user_is_its_mean_given_the_errors_and_their_uncertainty(monkeypatch):
    """After many steps, α = (ν + n) / (2 γ + Σ β E[(r − o − x · v)²]) with ν = 10; a median of Gamma(5, γ) gives γ."""
    monkeypatch.setattr(fold_in_solver, "NOISE_STEPS", 100)
    precisions = torch.distributions.Gamma(5.0, 5.0).sample((NUM_USERS,))
    solver = build_solver()
    samples = solver.trained_rows.samples
    samples[:] = [sample._replace(noise_precision=precisions) for sample in samples]
    folded = solver.solve(ratings([0] * 3, OTHER[:3], RATING[:3], 1))
    drawn = np.stack([joined(folded, sample)[0] for sample in range(solver.num_draws)])
    items = joined(solver.fixed_rows, 0)
    x, offset = items[OTHER[:3]].copy(), MEAN + items[OTHER[:3], 0]
    x[:, 0] = 1
    squares = np.square(np.array(RATING[:3])[:, None] - offset[:, None] - x @ drawn.T).mean(axis=1)
    rate = (5 - 1 / 3) / precisions.double().median().item()
    assert folded.noise_precisions()[0].item() == pytest.approx(13 / (2 * rate + 1.5 * squares.sum()), rel=1e-4)


@pytest.mark.parametrize("has_term", [False, True])
def test_changes_are_the_differences_to_predictions_without_each_rating(has_term):
    solver = build_solver(samples=3, has_term=has_term)
    given = ratings([0, 0, 0], OTHER[:3], RATING[:3], 1)
    items = torch.tensor([1, 2, 9])
    changes = influences(solver, given, items).numpy()
    assert changes.shape == (3, 3)

    def predicted(other, rating):
        means = [expected(solver, sample, other, rating)[0] for sample in range(3)]
        rows = [joined(solver.fixed_rows, sample)[items] for sample in range(3)]
        return np.mean([row[:, 0] + mean[0] + row[:, 1:] @ mean[1:] for row, mean in zip(rows, means, strict=True)], 0)

    whole = predicted(OTHER[:3], RATING[:3])
    for left_out in range(3):
        others = [row for row in range(3) if row != left_out]
        without = predicted([OTHER[row] for row in others], [RATING[row] for row in others])
        np.testing.assert_allclose(changes[:, left_out], whole - without, rtol=1e-5, atol=1e-6)


def test_the_change_of_the_only_rating_is_the_difference_to_the_prior():
    solver = build_solver(has_term=True)
    given = ratings([0], [2], [5.0], 1)
    change = influences(solver, given, torch.tensor([4])).item()
    item = joined(solver.fixed_rows, 0)[4]
    means = expected(solver, 0, [2], [5.0])[0] - expected(solver, 0, [], [], prior_of=1)[0]
    assert change == pytest.approx(means[0] + item[1:] @ means[1:], rel=1e-5)


def test_the_fewer_ratings_the_less_who_rated_what_moves_the_prior():
    random = torch.Generator().manual_seed(3)
    user, item = torch.arange(400).repeat_interleave(30), torch.randint(200, (12_000,), generator=random)
    weights = [torch.randn(200, DIM, generator=random)]
    design = Design.from_sets(user, item.int(), num_rows=400, num_columns=200)
    term = NewRowTerm(None, design, weights)
    rows = term.design.multiply(weights[0]) + 0.1 * torch.randn(400, DIM, generator=random)
    own = SideSamples([SideFactors(rows, None, torch.ones(400))], MEAN, new_row_terms=(term,))
    solver = FoldInSolver(own, side(200, samples=1, precision=1.0, seed=1, biases=False), is_item=False)
    slopes = [solver._estimate_prior(count).slope[0].diagonal().mean().item() for count in (0, 2, 8, 18, 40)]
    assert slopes[0] == 0
    assert slopes == sorted(slopes)
    assert slopes[1] < 0.4
    assert slopes[-1] == pytest.approx(1, abs=0.05)
    covariances = [torch.linalg.inv(solver._estimate_prior(count).precision) for count in (0, 8, 40)]
    spreads = [covariance.diagonal(dim1=1, dim2=2).mean() for covariance in covariances]
    assert spreads == sorted(spreads, reverse=True)


def test_row_has_the_prior_of_the_largest_listed_number_up_to_its_own():
    """Four ratings: the prior of three, not of five."""
    solver, given = build_solver(has_term=True, each=6), ratings([0] * 4, [2, 5, 7, 0], [5.0, 1.0, 4.0, 2.0], 1)
    three, five = (expected(solver, 0, [2, 5, 7, 0], [5.0, 1.0, 4.0, 2.0], prior_of=count)[0] for count in (3, 5))
    assert np.abs(three - five).max() > 0.01
    folded = solver.solve(given)
    mean = np.mean([joined(folded, sample)[0] for sample in range(solver.num_draws)], axis=0)
    np.testing.assert_allclose(mean, three, rtol=1e-4, atol=1e-5)


def test_signs_of_new_users_and_items_cancel():
    solver = build_solver()
    users = solver._noise(4)[0]
    items = FoldInSolver(solver.fixed_rows, solver.trained_rows, is_item=True)._noise(4)[0]
    torch.testing.assert_close(users @ items.T, torch.zeros(4, 4, dtype=torch.float64))
    torch.testing.assert_close(users @ users.T / solver.num_draws, torch.eye(4, dtype=torch.float64))


def test_trained_rows_that_are_all_the_same_have_a_prior():
    solver = build_solver()
    own = solver.trained_rows.samples[0]
    own.factors[:], own.bias[:] = 1.0, 0.5
    folded = solver.solve(ratings())
    torch.testing.assert_close(folded.samples[0].factors, torch.ones(4, DIM), atol=1e-3, rtol=0)
