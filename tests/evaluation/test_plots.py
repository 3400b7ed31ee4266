"""Figures of predictions and of the data."""

import itertools

import numpy as np
import pytest
from tables import table_of

from ratinglab.evaluation.metrics import Predictions
from ratinglab.evaluation.plots import (
    plot_error_by_count,
    plot_error_distribution,
    plot_long_tail,
    plot_overview,
    plot_predicted_against_true,
    plot_rating_histogram,
    rating_bin_edges,
)
from ratinglab.ratings.table import Ratings


def predictions(rating, model, baseline=None) -> Predictions:
    index = np.zeros(len(rating), dtype=np.int32)
    return Predictions(
        Ratings(index, index, np.array(rating, dtype=np.float32)),
        predicted=np.array(model, dtype=np.float32),
        baseline=np.array(model if baseline is None else baseline, dtype=np.float32),
    )


def test_heat_map_columns_sum_to_one():
    figure = plot_predicted_against_true(predictions([1, 1, 2, 5], [1.2, 1.4, 2.0, 4.0]))
    shares = np.asarray(figure.axes[0].collections[0].get_array()).reshape(40, 3)
    assert shares.sum(axis=0).tolist() == pytest.approx([1, 1, 1])


def test_figures_accept_continuous_ratings_and_a_single_rating_value():
    random = np.random.default_rng(0)
    plot_predicted_against_true(predictions(random.normal(size=100), random.normal(size=100)))
    plot_predicted_against_true(predictions([3, 3], [3, 3]))
    plot_rating_histogram(random.normal(size=100).astype(np.float32))


def test_errors_are_grouped_by_count_with_equal_counts_in_one_group():
    count = np.repeat([1, 9], 50)
    drawn = plot_error_by_count(predictions([0] * 100, [1] * 50 + [2] * 50, [3] * 100), count, side="item").axes[0]
    model, baseline = (line.get_ydata() for line in drawn.get_lines())
    assert list(model) == [1, 4]
    assert list(baseline) == [9, 9]
    assert [label.get_text() for label in drawn.get_xticklabels()] == ["1", "9"]


def test_each_decile_holds_a_tenth_of_the_rows():
    drawn = plot_error_by_count(predictions([0] * 1000, [1] * 1000), np.arange(1000), side="item").axes[0]
    assert len(drawn.get_lines()[0].get_ydata()) == 10


def test_error_distributions_of_model_and_baseline_sum_to_one():
    figure = plot_error_distribution(predictions([1, 2, 3], [1, 2, 9], [2, 2, 2]))
    assert [patch.get_data().values.sum() for patch in figure.axes[0].patches] == pytest.approx([1, 1])


def test_error_distribution_reaches_to_the_largest_error_of_either():
    axes = plot_error_distribution(predictions([1, 2, 3], [1, 2, 9], [2, 2, 2])).axes[0]
    assert {tuple(patch.get_data().edges[[0, -1]]) for patch in axes.patches} == {(-6, 6)}


def test_figure_and_its_axes_have_titles():
    axes = plot_error_distribution(predictions([1, 2, 3], [1, 2, 9])).axes[0]
    labels = axes.get_title(), axes.get_xlabel(), axes.get_ylabel()
    assert labels == ("Distribution of errors", "predicted − true rating", "share of the rows")


def test_rating_histogram_and_long_tail_show_counts():
    (axes,) = plot_rating_histogram(np.array([1, 1, 5], dtype=np.float32)).axes
    assert [bar.get_height() for bar in axes.patches] == [2, 1]
    assert list(plot_long_tail(np.array([3, 9, 1])).axes[0].get_lines()[0].get_ydata()) == [9, 3, 1]


@pytest.mark.parametrize(
    ("lowest", "highest", "step", "expected"),
    [
        (1, 100, 1, [5] * 20),
        (0, 100, 1, [6] * 16 + [5]),
        (0.1, 10, 0.1, [5] * 20),
        (-10, 10, 0.01, [101] * 19 + [82]),
        (1, 100, 0.1, [50] * 19 + [41]),
        (0.5, 5, 0.5, [1] * 10),
        (3, 3, 1, [1]),
        (0, 0, 1, [1]),
    ],
)
def test_bins_hold_equally_many_values_of_the_scale(lowest, highest, step, expected):
    rating = np.linspace(lowest, highest, round((highest - lowest) / step) + 1).astype(np.float32)
    count, edges = np.histogram(rating, rating_bin_edges(rating, max_bins=20))
    assert count.tolist() == expected
    assert edges[0] < lowest
    assert edges[-1] > highest


def test_bins_of_continuous_ratings_cover_the_range():
    rating = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    count, _ = np.histogram(rating, rating_bin_edges(rating, max_bins=20))
    assert (len(count), count.sum()) == (20, 1000)


@pytest.mark.parametrize("num_items", [300, 4_999, 5_000, 9_000, 3_000_000])
def test_labels_of_the_long_tail_do_not_overlap(num_items):
    figure = plot_long_tail(np.maximum(30_000 // np.arange(1, num_items + 1), 1))
    figure.draw_without_rendering()
    lowest, highest = figure.axes[0].get_xlim()
    labels = [tick.label1 for tick in figure.axes[0].xaxis.get_major_ticks() if lowest <= tick.get_loc() <= highest]
    boxes = [label.get_window_extent() for label in labels]
    assert len(boxes) >= 4
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_overview_shows_means_and_medians_of_items_and_users():
    """A bin is a thirtieth of the range from 1 to 5: the mean 3 of item 0 begins the sixteenth."""
    table = table_of([0, 0, 0, 0, 1], [0, 1, 2, 3, 0], [5, 5, 5, 5, 1])
    _, means, items, users = plot_overview(table).axes
    of_items, of_users = (patch.get_data() for patch in means.patches)
    assert of_items.edges[[0, 15, 30]].tolist() == pytest.approx([1, 3, 5])
    assert {place: of_items.values[place] for place in np.flatnonzero(of_items.values)} == {15: 0.25, 29: 0.75}
    assert {place: of_users.values[place] for place in np.flatnonzero(of_users.values)} == {0: 0.5, 29: 0.5}
    for axes, counts, median in ((items, [2, 1, 1, 1], 1), (users, [4, 1], 2.5)):
        tail, line = axes.get_lines()
        assert list(tail.get_ydata()) == counts
        assert list(line.get_ydata()) == [median, median]
