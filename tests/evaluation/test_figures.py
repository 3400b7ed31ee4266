import numpy as np
import pytest

from ratinglab.evaluation.figures import (
    error_by_count,
    error_distribution,
    long_tail,
    predicted_against_true,
    rating_histogram,
)
from ratinglab.evaluation.predictions import Predictions


def predictions(rating, model, baseline=None, user_count=None, item_count=None) -> Predictions:
    ones = np.ones(len(rating), dtype=np.int64)
    return Predictions(
        rating=np.array(rating, dtype=np.float32),
        model=np.array(model, dtype=np.float32),
        baseline=np.array(model if baseline is None else baseline, dtype=np.float32),
        user_count=ones if user_count is None else np.array(user_count),
        item_count=ones if item_count is None else np.array(item_count),
    )


def test_heat_map_columns_sum_to_one():
    figure = predicted_against_true(predictions([1, 1, 2, 5], [1.2, 1.4, 2.0, 4.0]))
    shares = np.asarray(figure.axes[0].collections[0].get_array()).reshape(40, 3)
    assert shares.sum(axis=0).tolist() == pytest.approx([1, 1, 1])


def test_figures_accept_continuous_ratings_and_a_single_rating_value():
    random = np.random.default_rng(0)
    predicted_against_true(predictions(random.normal(size=100), random.normal(size=100)))
    predicted_against_true(predictions([3, 3], [3, 3]))
    rating_histogram(random.normal(size=100).astype(np.float32))


@pytest.mark.parametrize(("of", "other"), [("item", "user"), ("user", "item")])
def test_errors_are_grouped_by_count_with_equal_counts_in_one_group(of, other):
    counts = {f"{of}_count": [1] * 50 + [9] * 50, f"{other}_count": list(range(100))}
    drawn = error_by_count(predictions([0] * 100, [1] * 50 + [2] * 50, [3] * 100, **counts), of=of).axes[0]
    model, baseline = (line.get_ydata() for line in drawn.get_lines())
    assert list(model) == [1, 4]
    assert list(baseline) == [9, 9]
    assert [label.get_text() for label in drawn.get_xticklabels()] == ["1", "9"]


def test_each_decile_holds_a_tenth_of_the_rows():
    drawn = error_by_count(predictions([0] * 1000, [1] * 1000, item_count=np.arange(1000)), of="item").axes[0]
    assert len(drawn.get_lines()[0].get_ydata()) == 10


def test_error_distributions_of_model_and_baseline_sum_to_one():
    figure = error_distribution(predictions([1, 2, 3], [1, 2, 9], [2, 2, 2]))
    assert [patch.get_data().values.sum() for patch in figure.axes[0].patches] == pytest.approx([1, 1])


def test_rating_histogram_and_long_tail_show_counts():
    assert [bar.get_height() for bar in rating_histogram(np.array([1, 1, 5], dtype=np.float32)).axes[0].patches] == [
        2,
        1,
    ]
    assert list(long_tail(np.array([3, 9, 1])).axes[0].get_lines()[0].get_ydata()) == [9, 3, 1]
