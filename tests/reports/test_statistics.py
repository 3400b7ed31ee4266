"""Paired tests of two configurations, and the variance that a key explains."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from ratinglab.evaluation.metric_kinds import MetricKind
from ratinglab.reports.statistics import bootstrap, compute_explained_share, corrected_t, paired_difference
from ratinglab.runs.finished_runs import FinishedRun

DIFFERENCES = np.array([0.011, 0.004, 0.009, -0.001, 0.007])


def test_corrected_t_without_training_rows_is_the_paired_t_test():
    found, expected = corrected_t(DIFFERENCES, share=0), stats.ttest_1samp(DIFFERENCES, 0)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((interval.low, interval.high, expected.pvalue))


def test_corrected_t_widens_the_interval_by_the_share_of_rows_evaluated():
    plain, corrected = corrected_t(DIFFERENCES, share=0), corrected_t(DIFFERENCES, share=1 / 4)
    factor = ((1 / 5 + 1 / 4) / (1 / 5)) ** 0.5
    assert corrected.high - corrected.low == pytest.approx(factor * (plain.high - plain.low))
    assert corrected.mean == plain.mean
    # Nadeau and Bengio (2003), section 3: the statistic is the plain one, divided by this factor
    statistic = stats.ttest_1samp(DIFFERENCES, 0).statistic / factor
    assert corrected.p == pytest.approx(2 * stats.t.sf(statistic, 4))


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (0.5, 0.0)])
def test_equal_differences_leave_no_doubt(value, p):
    found = corrected_t(np.full(3, value), share=0.2)
    assert (found.mean, found.low, found.high, found.p) == (value, value, value, p)


def test_difference_that_is_rounded_to_zero_has_no_minus_sign():
    assert corrected_t(np.full(3, -0.00001), share=0.2).text == "0.0000 ± 0.0000"


@pytest.mark.parametrize(("tag", "higher_is_better", "mean"), [("val/mse", False, -0.075), ("val/share", True, 0.075)])
def test_difference_is_positive_if_the_other_configuration_is_worse(monkeypatch, tag, higher_is_better, mean):
    """Each fold has 80 training and 10 validation rows; with one degree of freedom, t is 12.706."""
    monkeypatch.setattr("ratinglab.reports.statistics.count_rows_by_part", lambda folder: np.array([80, 10, 10, 0, 0]))

    def runs(*values):
        records = [SimpleNamespace(provenance={"split": f"s/{fold}"}, refit_epochs=None) for fold in (1, 2)]
        return [
            FinishedRun(Path("run"), *each) for each in zip(records, [{tag: value} for value in values], strict=True)
        ]

    found = paired_difference(runs(0.5, 0.6), runs(0.4, 0.55), MetricKind(tag, "", higher_is_better))
    half_width = 12.706 * (5 / 8 * 0.00125) ** 0.5
    assert found.mean == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx((mean - half_width, mean + half_width), rel=1e-4)


@pytest.mark.parametrize("num_users", [400, 50_000])
def test_bootstrap_has_the_interval_of_the_mean(num_users):
    differences = np.random.default_rng(1).exponential(size=num_users) - 0.98
    found = bootstrap(differences, np.arange(num_users))
    half_width = 1.96 * differences.std() / num_users**0.5
    assert found.mean == differences.mean()
    assert found.low == pytest.approx(found.mean - half_width, abs=0.15 * half_width)
    assert found.high == pytest.approx(found.mean + half_width, abs=0.15 * half_width)
    assert bootstrap(differences, np.arange(num_users)) == found, "the seed is fixed"
    assert f" {num_users:,} rows" in found.test


def test_bootstrap_covers_the_true_difference_as_often_as_it_says():
    generator = np.random.default_rng(2)
    found = [bootstrap(generator.normal(0.1, 1, size=100), np.arange(100)) for _ in range(200)]
    assert 0.91 <= np.mean([each.low <= 0.1 <= each.high for each in found]) <= 0.99
    assert np.mean([each.p <= 0.05 for each in found]) == pytest.approx(
        np.mean([each.low > 0 or each.high < 0 for each in found]), abs=0.03
    )


@pytest.mark.parametrize(("value", "p"), [(1.0, 2 / 2000), (-1.0, 2 / 2000), (0.0, 1.0)])
def test_p_value_of_a_bootstrap_is_at_least_two_over_the_number_of_resamples(value, p):
    """2,000 resamples that all have one sign do not show that the p-value is 0."""
    assert bootstrap(np.full(300, value), np.arange(300)).p == p


def test_rows_of_a_user_are_resampled_together():
    # ten equal rows of each of 1,000 users are not 10,000 independent observations, in whatever order
    by_user, user = np.random.default_rng(3).normal(size=1000), np.arange(1000)
    order = np.random.default_rng(4).permutation(10_000)
    found = bootstrap(by_user.repeat(10)[order], user.repeat(10)[order])
    expected = bootstrap(by_user, user)
    assert found.high - found.low == pytest.approx(expected.high - expected.low)


def test_key_that_decides_explains_all_and_noise_nothing():
    metric = np.repeat([1.0, 2.0, 1e6], 10) + np.linspace(0, 0.1, 30)
    assert compute_explained_share(np.repeat(["8", "16", "32"], 10).tolist(), metric) > 0.8
    assert compute_explained_share(["a"] * 15 + ["b"] * 15, np.ones(30)) == 0, "equal metrics have equal ranks"
    noise = np.random.default_rng(0).permutation(30).astype(str).tolist()
    assert compute_explained_share(noise, metric) < 0.2, "30 values do not explain 30 runs"
    assert compute_explained_share(["a"] * 30, metric) == 0
    assert compute_explained_share([str(value) for value in metric], metric) > 0.8, "a numeric key is binned"
    frequent = [1, 1, 1, 1, 2, 3, 4, 5, 6, 7]
    metric = np.array([0, 0.1, 0.2, 0.3, 9, 8, 8.1, 4, 4.1, 4.2])
    share = compute_explained_share([str(value) for value in frequent], metric)
    assert share > 0.8, "a frequent lowest value has a bin of its own"


def test_share_is_the_adjusted_ratio_of_sums_of_squares():
    # ranks 0 … 5: groups (0, 1, 2) and (3, 4, 5) have means 1 and 4; 13.5 of 17.5 lie between them
    expected = 1 - (1 - 13.5 / 17.5) * 5 / 4
    assert compute_explained_share(list("aaabbb"), np.array([0.1, 0.2, 0.3, 5.0, 6.0, 7.0])) == pytest.approx(expected)
