"""Figures of a sweep."""

import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ratinglab.evaluation.metric_kinds import MetricKind
from ratinglab.reports.sweep_figures import (
    SweptRun,
    find_pareto_front,
    plot_learning_curves,
    plot_marginal_effects,
    plot_metric_against_seconds,
    plot_parallel_coordinates,
)

# matplotlib warns of a layout that fails, or of an axis without length
pytestmark = pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
FIGURES = [plot_marginal_effects, plot_parallel_coordinates, plot_metric_against_seconds]


def metric_named(label: str, *, higher_is_better: bool = False) -> MetricKind:
    return MetricKind("val/metric", label, higher_is_better)


def runs_of(key, metrics: dict[str, float]) -> list[SweptRun]:
    return [SweptRun({key: text}, metric, seconds=1.0) for text, metric in metrics.items()]


def search(number=60, *, seed=0) -> list[SweptRun]:
    random = np.random.default_rng(seed)
    return [
        SweptRun(
            {
                "optimizer.lr": str(10 ** random.uniform(-4, -1)),
                "model.regularization": str(random.uniform(0, 0.1)),
                "model.embedding_dim": str(random.integers(4, 129)),
                "model": str(random.choice(["mf", "biased_mf"])),
            },
            metric=random.normal(0.9, 0.02),
            seconds=10 ** random.uniform(0, 2),
        )
        for _ in range(number)
    ]


GRID = [
    SweptRun({"model.embedding_dim": dim, "optimizer.lr": lr}, 0.9 + 0.01 * int(dim) - float(lr), int(dim) / float(lr))
    for dim in ("4", "8", "16")
    for lr in ("0.001", "0.003", "0.01", "0.03")
]


def saved(figure):
    """Save a figure as PNG, and return it."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
    return figure


def texts(found) -> list[str]:
    return [text.get_text() for text in found]


def title(figure) -> str:
    return figure.get_suptitle()


def mean_line(axes):
    return next(line for line in axes.get_lines() if line.get_color() == "0.2").get_xydata().tolist()


def triangles(axes) -> list[list[float]]:
    return [line.get_xydata().tolist() for line in axes.get_lines() if line.get_color() == "tab:orange"]


def curve(values) -> dict[int, float]:
    return dict(enumerate(values))


# ---------------------------------------------------------------- Pareto front


points = st.tuples(st.integers(0, 5), st.integers(-3, 3)) | st.tuples(st.floats(0, 9), st.floats(-9, 9))


@given(st.lists(points, min_size=1, max_size=12), st.booleans())
def test_pareto_front_equals_brute_force(pairs, higher_is_better):
    seconds, metric = np.array(pairs, dtype=float).T
    cost = -metric if higher_is_better else metric
    expected = [
        run
        for run in range(len(pairs))
        if not any(
            seconds[other] <= seconds[run]
            and cost[other] <= cost[run]
            and (seconds[other] < seconds[run] or cost[other] < cost[run])
            for other in range(len(pairs))
        )
    ]
    front = find_pareto_front(seconds, metric, higher_is_better=higher_is_better)
    assert sorted(front.tolist()) == expected
    assert (np.diff(seconds[front]) >= 0).all()


def test_pareto_front_is_in_order_of_seconds():
    seconds, metric = np.array([9.0, 1.0, 5.0, 6.0]), np.array([0.1, 0.9, 0.5, 0.6])
    assert find_pareto_front(seconds, metric, higher_is_better=False).tolist() == [1, 2, 0]
    assert find_pareto_front(seconds, metric, higher_is_better=True).tolist() == [1]


# ---------------------------------------------------------------- marginal effects


def test_each_key_has_a_panel_and_its_scale():
    figure = saved(plot_marginal_effects(GRID, metric_named("val RMSE")))
    dim, lr = figure.axes
    assert (dim.get_xlabel(), lr.get_xlabel(), dim.get_ylabel()) == ("embedding_dim", "lr", "val RMSE")
    assert (dim.get_xscale(), lr.get_xscale()) == ("linear", "log")
    assert texts(dim.get_xticklabels()) == ["4", "8", "16"]
    assert texts(lr.get_xticklabels()) == ["0.001", "0.003", "0.01", "0.03"]
    assert dim.get_ylim() == lr.get_ylim()
    assert "best 0.9100: embedding_dim=4 lr=0.03" in title(figure)


@pytest.mark.parametrize(("keys", "rows"), [(1, [1]), (3, [3]), (4, [2, 2]), (5, [3, 2])])
def test_panels_are_in_rows_of_at_most_three(keys, rows):
    runs = [SweptRun({f"key{key}": str(run) for key in range(keys)}, run, 1.0) for run in range(3)]
    figure = saved(plot_marginal_effects(runs, metric_named("val RMSE")))
    places = [axes.get_subplotspec() for axes in figure.axes]
    assert [(place.rowspan.start, place.colspan.start) for place in places] == [
        (row, column) for row, columns in enumerate(rows) for column in range(columns)
    ]


def test_searched_keys_have_round_ticks_on_their_scales():
    lr, regularization, dim, model = saved(plot_marginal_effects(search(), metric_named("MSE"))).axes
    assert [axes.get_xscale() for axes in (lr, regularization, dim, model)] == ["log", "linear", "linear", "linear"]
    assert texts(lr.get_xticklabels()) == ["0.001", "0.01"]
    assert texts(regularization.get_xticklabels()) == ["0.02", "0.04", "0.06", "0.08"]
    assert texts(dim.get_xticklabels()) == ["25", "50", "75", "100", "125"]
    assert sorted(texts(model.get_xticklabels())) == ["biased_mf", "mf"]


def test_means_are_of_each_value_and_without_runs_beyond_the_axis():
    runs = [SweptRun({"k": text}, metric, 1.0) for text in "12" for metric in (int(text), int(text) + 0.5)]
    axes = plot_marginal_effects(runs, metric_named("MSE")).axes[0]
    assert mean_line(axes) == [[1, 1.25], [2, 2.25]]
    axes = plot_marginal_effects([*runs, SweptRun({"k": "2"}, 1e6, 1.0)], metric_named("MSE")).axes[0]
    assert mean_line(axes) == [[1, 1.25], [2, 2.25]]


def test_means_of_many_values_are_of_bins_with_equal_numbers_of_runs():
    values = np.arange(60) ** 2
    runs = [SweptRun({"k": str(value)}, float(number), 1.0) for number, value in enumerate(values)]
    means = mean_line(plot_marginal_effects(runs, metric_named("MSE")).axes[0])
    tens = values.reshape(6, 10)
    assert means == [[np.median(ten), 10 * number + 4.5] for number, ten in enumerate(tens)]


def test_keys_with_a_text_are_categories_with_numbers_first():
    runs = runs_of("trainer.max_epochs", {"null": 1.0, "20": 2.0, "3": 3.0, "1e3": 2.5})
    axes = saved(plot_marginal_effects(runs, metric_named("MSE"))).axes[0]
    assert texts(axes.get_xticklabels()) == ["3", "20", "1000", "null"]
    assert mean_line(axes) == [[0, 3], [1, 2], [2, 2.5], [3, 1]]


def test_axes_are_logarithmic_only_where_that_spreads_the_values():
    def scale(*values):
        runs = runs_of("k", {value: 1.0 + number for number, value in enumerate(values)})
        return saved(plot_marginal_effects(runs, metric_named("MSE"))).axes[0].get_xscale()

    assert scale("0.001", "0.01", "0.1") == "log"
    assert scale("0", "0.001", "0.01", "0.1") == "symlog"
    assert scale("-1", "0.001", "0.01", "0.1") == "linear"
    assert scale("1", "2", "3") == "linear"
    assert scale("1", "50", "100") == "linear"
    assert scale("0", "0") == "linear"


def test_best_run_is_marked_in_each_panel():
    for higher_is_better, best in ((False, [4, 0.03]), (True, [16, 0.001])):
        figure = plot_marginal_effects(GRID, metric_named("val RMSE", higher_is_better=higher_is_better))
        stars = [line for axes in figure.axes for line in axes.get_lines() if line.get_marker() == "*"]
        assert [star.get_xdata().tolist() for star in stars] == [[best[0]], [best[1]]]


# ---------------------------------------------------------------- runs beyond the axis


@pytest.mark.parametrize("sign", [1, -1])
def test_far_runs_are_beyond_the_axis_and_counted(sign):
    runs = [SweptRun({"k": str(number)}, sign * (1 + number / 100), 1.0 + number) for number in range(20)]
    runs += [SweptRun({"k": "20"}, sign * 1e6, 30.0), SweptRun({"k": "21"}, sign * 40.0, 31.0)]
    for plot in FIGURES:
        figure = saved(plot(runs, metric_named("R2", higher_is_better=sign < 0)))
        assert ("2 runs above the axis, up to 1e+06" if sign > 0 else "2 runs below the axis, down to -1e+06") in title(
            figure
        )
        if plot is not plot_parallel_coordinates:
            low, high = figure.axes[0].get_ylim()
            assert high - low == pytest.approx(0.19 * 1.16)
            edge = 1 if sign > 0 else 0
            x = [20, 21] if plot is plot_marginal_effects else [30, 31]
            assert triangles(figure.axes[0]) == [[[x[0], edge], [x[1], edge]]]


def test_good_runs_are_never_beyond_the_axis():
    runs = runs_of("k", {str(number): 1 + number / 100 for number in range(20)} | {"20": -50.0})
    low, high = plot_marginal_effects(runs, metric_named("MSE")).axes[0].get_ylim()
    assert low < -50
    assert high > 1.19


def test_a_small_sweep_shows_all_its_runs_unless_one_is_huge():
    figure = plot_marginal_effects(runs_of("k", {"1": 0.90, "2": 0.91, "3": 1.0}), metric_named("MSE"))
    assert figure.axes[0].get_ylim()[1] > 1
    assert "axis" not in title(figure)
    figure = plot_marginal_effects(runs_of("k", {"1": 0.90, "2": 0.91, "3": 1e6}), metric_named("MSE"))
    assert figure.axes[0].get_ylim()[1] < 1
    assert "1 run above the axis, up to 1e+06" in title(figure)


# ---------------------------------------------------------------- parallel coordinates


def test_each_run_is_a_line_across_the_axes_with_the_best_on_top():
    runs = [
        SweptRun({"k": "1", "features": "[]"}, 3.0, 1.0),
        SweptRun({"k": "3", "features": "[genres]"}, 1.0, 1.0),
        SweptRun({"k": "2", "features": "[]"}, 2.0, 1.0),
    ]
    figure = saved(plot_parallel_coordinates(runs, metric_named("MSE")))
    host, first, second, metric, _ = figure.axes
    low, high = metric.get_ylim()
    heights = [line.get_ydata().tolist() for line in host.get_lines()]
    assert heights == [
        pytest.approx(height)
        for height in ([0, 0, (3 - low) / (high - low)], [0.5, 0, 0.5], [1, 1, (1 - low) / (high - low)])
    ]
    assert [line.get_linewidth() for line in host.get_lines()] == [1, 1, 3]
    assert texts(host.get_xticklabels()) == ["k", "features", "MSE"]
    assert texts(first.get_yticklabels()) == ["1", "2", "3"]
    assert texts(second.get_yticklabels()) == ["[]", "[genres]"]


def test_parallel_axes_are_logarithmic_and_the_best_of_a_metric_to_maximize_is_dark():
    figure = saved(plot_parallel_coordinates(GRID, metric_named("NDCG", higher_is_better=True)))
    host, _, lr, *_ = figure.axes
    assert lr.get_yscale() == "log"
    thin, thick = (np.sum(host.get_lines()[index].get_color()[:3]) for index in (0, -1))
    assert thick < thin


def test_figure_widens_with_the_number_of_parallel_axes():
    def width(num_keys):
        runs = [SweptRun({f"k{key}": value for key in range(num_keys)}, float(value), 1.0) for value in "123"]
        return plot_parallel_coordinates(runs, metric_named("MSE")).get_figwidth()

    assert width(20) > width(10)


def test_a_run_without_a_key_passes_below_its_axis():
    runs = [*runs_of("k", {"1": 1.0, "2": 2.0}), SweptRun({"other": "a"}, 3.0, 1.0)]
    figure = saved(plot_parallel_coordinates(runs, metric_named("MSE")))
    assert figure.axes[0].get_lines()[0].get_ydata()[0] < 0
    assert "not set" in texts(figure.axes[0].texts)
    assert "k (not set in 1 run)" in [
        axes.get_xlabel() for axes in plot_marginal_effects(runs, metric_named("MSE")).axes
    ]


def test_long_names_are_cut_and_stay_distinct():
    values = ["/data/a/long/folder/ratings.csv", "/data/another/folder/ratings.csv", "[genres,year,occupation,age]"]
    runs = runs_of("path", {value: 1.0 + number for number, value in enumerate(values)})
    figure = saved(plot_parallel_coordinates(runs, metric_named("MSE")))
    assert texts(figure.axes[1].get_yticklabels()) == ["1: …/ratings.csv", "2: …/ratings.csv", "3: [genre…on,age]"]


# ---------------------------------------------------------------- metric against seconds


def named(figure) -> list[str]:
    return texts(figure.legends[0].get_texts())


def test_runs_of_the_front_are_joined_and_named():
    runs = [
        SweptRun({"model.dim": "4", "split.seed": "1", "seed": "7", "optimizer.lr": "0.0012345"}, 0.9, 1.0),
        SweptRun({"model.dim": "8", "split.seed": "1", "seed": "7", "optimizer.lr": "1e-2"}, 0.8, 20.0),
        SweptRun({"model.dim": "9", "split.seed": "1", "seed": "7", "optimizer.lr": "1e-2"}, 0.85, 30.0),
    ]
    figure = saved(plot_metric_against_seconds(runs, metric_named("val RMSE")))
    axes = figure.axes[0]
    assert named(figure) == [
        "1   dim=4 split.seed=1 seed=7 lr=0.001234: 0.9000 in 1 s",
        "2   dim=8 split.seed=1 seed=7 lr=0.01: 0.8000 in 20 s",
    ]
    assert [(text.get_text(), text.xy) for text in axes.texts] == [("1", (1, 0.9)), ("2", (20, 0.8))]
    front = axes.get_lines()[1]
    assert front.get_xydata().tolist() == [[1, 0.9], [20, 0.8], [30, 0.8]]
    assert front.get_drawstyle() == "steps-post"
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "seconds of the fit", "val RMSE")


def test_seconds_within_a_factor_of_ten_or_with_zero_are_on_a_linear_axis():
    for seconds in ((1, 2, 10), (0, 2, 100)):
        runs = [SweptRun({"k": "1"}, 1.0, second) for second in seconds]
        figure = saved(plot_metric_against_seconds(runs, metric_named("MSE")))
        assert figure.axes[0].get_xscale() == "linear"


def test_at_most_six_runs_are_named_none_beside_another():
    runs = [SweptRun({"k": str(number)}, -np.log(number), float(number)) for number in range(1, 41)]
    figure = saved(plot_metric_against_seconds(runs, metric_named("MSE")))
    assert len(named(figure)) == 6
    assert named(figure)[0].startswith("1   k=1:")
    assert named(figure)[-1].startswith("6   k=40:")
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(box.overlaps(other) for number, box in enumerate(boxes) for other in boxes[:number])


# ---------------------------------------------------------------- learning curves


def band(axes, epoch):
    """Return the limits of the one band at an epoch."""
    (collection,) = axes.collections
    vertices = collection.get_paths()[0].vertices
    at = vertices[vertices[:, 0] == epoch][:, 1]
    return at.min(), at.max()


def test_band_is_the_t_interval_of_three_or_more_runs_and_the_range_of_two():
    finals = [1.0, 1.1, 1.3, 1.2]
    figure = saved(plot_learning_curves({"lr=0.01": [curve([2.0, final]) for final in finals]}, label="val MSE"))
    low, high = stats.t.interval(0.95, 3, loc=np.mean(finals), scale=stats.sem(finals))
    assert band(figure.axes[0], 1) == pytest.approx((low, high))
    assert "mean with its 95% interval (Student's t)" in title(figure)
    assert named(figure) == ["lr=0.01 (4 runs)"]
    figure = saved(plot_learning_curves({"a": [curve([2.0, 1.0]), curve([2.0, 1.5])]}, label="val MSE"))
    assert band(figure.axes[0], 1) == (1.0, 1.5)
    assert "mean with range of 2 runs (min–max)" in title(figure)
    assert "Student" not in title(figure)
    figure = saved(plot_learning_curves({"a": [curve([2.0, 1.0])]}, label="val MSE"))
    assert not figure.axes[0].collections
    assert title(figure) == "val MSE by epoch"


def test_mean_ends_with_the_first_run_and_longer_runs_go_on_alone():
    runs = [curve([4.0, 3.0]), curve([4.0, 2.0, 1.0, 0.5]), curve([4.0, 1.0])]
    figure = saved(plot_learning_curves({"a": runs, "b": [curve([4.0])]}, label="val MSE"))
    mean, rest, single = figure.axes[0].get_lines()
    assert mean.get_xydata().tolist() == [[0, 4], [1, 2]]
    assert rest.get_xydata().tolist() == [[1, 2], [2, 1], [3, 0.5]]
    assert rest.get_linewidth() < mean.get_linewidth()
    assert rest.get_color() == mean.get_color() != single.get_color()
    assert "thin: longer runs" in title(figure)


def test_curves_of_a_diverging_run_leave_the_axis():
    groups = {str(number): [curve(np.linspace(1.2, 1, 20))] for number in range(9)}
    figure = saved(plot_learning_curves(groups | {"bad": [curve(10.0 ** np.arange(20))]}, label="val MSE"))
    assert figure.axes[0].get_ylim()[1] < 2
    assert "1 run partly beyond the axis" in title(figure)
    assert len({line.get_color() for line in figure.axes[0].get_lines()}) == 10


# ---------------------------------------------------------------- odd sweeps

ODD = {
    "a single run": GRID[:1],
    "one key": runs_of("k", {"1": 1.0, "2": 2.0, "3": 0.5}),
    "equal runs": [GRID[0]] * 5,
    "equal metrics": [run._replace(metric=0.0) for run in GRID],
    "a constant key": [run._replace(values=run.values | {"model": "mf"}) for run in GRID],
    "a constant number": [run._replace(values=run.values | {"seed": "1000000000000000000000"}) for run in GRID],
    "zero seconds": [run._replace(seconds=0.0) for run in GRID],
    "a huge metric": [*GRID, GRID[0]._replace(metric=1e6)],
    "zero on a log axis": [
        run._replace(values={"wd": wd}) for run, wd in zip(GRID, ["0", "1e-5", "1e-3"] * 4, strict=True)
    ],
    "partly numbers": runs_of("k", {"1": 1.0, "nan": 2.0, "inf": 3.0, "1e999": 2.0, "1.": 1.5, "": 2.0}),
    "formulas and quotes": runs_of("k", {"$x^$": 1.0, "'b'": 2.0, "_c": 3.0, "a\\b": 1.0}),
    "60 runs": search(),
    "60 categories": runs_of("k", {f"name_{number}": float(number) for number in range(60)}),
    "keys missing": [*GRID, SweptRun({"other": "1"}, 0.5, 1.0), SweptRun({}, 0.6, 1.0)],
    "one key missing in the best": [*runs_of("k", {"1": 1.0, "2": 2.0}), SweptRun({}, 0.5, 1.0)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_odd_sweeps_are_plotted_whole(name):
    runs = ODD[name]
    keys = {key for run in runs for key in run.values}
    effects, parallel, against = (saved(plot(runs, metric_named("val"))) for plot in FIGURES)
    assert len(effects.axes) == len(keys)
    assert len(parallel.axes) == 1 + len(keys) + 2  # with the metric and the color bar
    assert len(parallel.axes[0].get_lines()) == len(runs)
    assert all(np.isfinite(line.get_ydata()).all() for line in parallel.axes[0].get_lines())
    dots = against.axes[0].get_lines()[0].get_xydata()
    assert dots.tolist() == [[run.seconds, run.metric] for run in runs]
    assert 1 <= len(named(against)) <= 6
    for figure in (effects, against):
        for axes in figure.axes:
            assert axes.get_ylim()[0] < min(run.metric for run in runs) < axes.get_ylim()[1]
            boxes = [label.get_window_extent() for label in axes.get_xticklabels() if not label.get_rotation()]
            assert not any(box.overlaps(other) for box, other in pairwise(boxes))
