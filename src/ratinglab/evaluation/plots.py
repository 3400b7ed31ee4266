"""Figures of predictions and of the data, for TensorBoard and for inspect_data."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from ratinglab.evaluation.metrics import Predictions
from ratinglab.ratings.table import Ratings, RatingTable
from ratinglab.sides import SideName

NUM_GROUPS = 10
"""Number of groups of users or items. The groups are deciles, with the same number of rows except for ties."""
SIZE_INCHES = (7.0, 4.2)
"""Size in inches, at 100 dots per inch, which fits a card in TensorBoard's image tab."""

MAX_FINE_TICKS = 5_000
"""Number of users or items from which labels at 1, 2, 5, 10, … would overlap, so that only powers of ten have one."""


SIGNIFICANT_DIGITS = 6
"""Number of digits to which the differences of ratings are compared: float32 has 7."""


def rating_bin_edges(rating: NDArray[np.float32], *, max_bins: int) -> NDArray[np.float64]:
    """Return the edges of at most `max_bins` bins of equal width, (bins + 1,).

    All bins except perhaps the last cover equally many steps of the rating scale. A step is the largest number of which
    all differences of ratings are multiples. Bins of other widths would show spikes: of the scores 0 to 99, bins of 2.5
    points hold two and three in turn.
    """
    magnitude = math.floor(math.log10(max(float(np.abs(rating).max()), 1e-9)))
    unit = 10.0 ** (magnitude + 1 - SIGNIFICANT_DIGITS)
    values = np.unique(np.rint(rating.astype(np.float64) / unit)).astype(np.int64)
    step = max(int(np.gcd.reduce(np.diff(values))), 1)
    num_values = (values[-1] - values[0]) // step + 1
    steps_per_bin = math.ceil(num_values / max_bins)
    num_bins = math.ceil(num_values / steps_per_bin)
    return (values[0] - step / 2 + step * steps_per_bin * np.arange(num_bins + 1)) * unit


def plot_predicted_against_true(predictions: Predictions) -> Figure:
    """Plot a heat map of the predictions for each true rating. Each column sums to one."""
    figure, axes = _new_figure("Predicted against true ratings", x="true rating", y="predicted rating")
    rating = predictions.rows.rating
    lowest, highest = float(rating.min()), float(rating.max())
    distinct = np.unique(rating)
    if len(distinct) > 20 or len(distinct) == 1:
        columns = rating_bin_edges(rating, max_bins=20)
    else:
        middle = (distinct[1:] + distinct[:-1]) / 2
        columns = np.concatenate([[2 * distinct[0] - middle[0]], middle, [2 * distinct[-1] - middle[-1]]])
    rows = np.linspace(min(lowest, predictions.predicted.min()), max(highest, predictions.predicted.max()) + 1e-6, 41)
    counts, _, _ = np.histogram2d(rating, predictions.predicted, bins=(columns, rows))
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mesh = axes.pcolormesh(columns, rows, share.T, cmap="viridis")
    axes.plot([lowest, highest], [lowest, highest], color="white", linewidth=1, linestyle="--")
    figure.colorbar(mesh, ax=axes, label="share of the true rating's rows")
    return figure


def plot_error_by_count(predictions: Predictions, count: NDArray[np.int64], *, side: SideName) -> Figure:
    """Plot MSE by decile of item popularity or user activity, for the model and the bias baseline.

    `count` is the number of training ratings of each row's item or user: (N,).
    """
    name = "item popularity" if side == "item" else "user activity"
    figure, axes = _new_figure(f"Error by {name}", x=f"training ratings of the {side} (deciles of the rows)", y="MSE")
    # a group is a range of counts, so equal counts stay together
    borders = np.unique(np.quantile(count, np.linspace(0, 1, NUM_GROUPS + 1)))
    group = np.clip(np.searchsorted(borders, count, side="right") - 1, 0, max(len(borders) - 2, 0))
    present = np.unique(group)
    for label, predicted in (("model", predictions.predicted), ("bias baseline", predictions.baseline)):
        squared = np.square(predicted - predictions.rows.rating)
        axes.plot([squared[group == number].mean() for number in present], marker="o", label=label)
    ranges = [(count[group == number].min(), count[group == number].max()) for number in present]
    axes.set_xticks(range(len(present)), [f"{low}–{high}" if low < high else f"{low}" for low, high in ranges])
    axes.tick_params(axis="x", labelrotation=30)
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def plot_error_distribution(predictions: Predictions) -> Figure:
    """Plot histograms of predicted − true, for the model and the bias baseline, over the full range of both."""
    figure, axes = _new_figure("Distribution of errors", x="predicted − true rating", y="share of the rows")
    rating = predictions.rows.rating
    errors = {"model": predictions.predicted - rating, "bias baseline": predictions.baseline - rating}
    reach = max(float(np.abs(error).max()) for error in errors.values()) or 1.0
    bins = np.linspace(-reach, reach, 41)
    for label, error in errors.items():
        counts, _ = np.histogram(error, bins=bins)
        axes.stairs(counts / len(error), bins, label=label, linewidth=1.5)
    axes.legend()
    return figure


def plot_rating_histogram(rating: NDArray[np.float32]) -> Figure:
    """Plot the frequency of each rating."""
    figure, axes = _new_figure()
    _plot_ratings(axes, rating)
    return figure


def plot_long_tail(item_count: NDArray[np.int64]) -> Figure:
    """Plot the number of ratings per item, most rated first."""
    figure, axes = _new_figure()
    _plot_counts(axes, item_count, side="item")
    return figure


def plot_overview(table: RatingTable) -> Figure:
    """Plot the ratings of a table, and their number per item, per user and over time.

    Without timestamps, plots mean ratings in place of the number over time.
    """
    figure = Figure(figsize=(2 * SIZE_INCHES[0], 2 * SIZE_INCHES[1]), dpi=100, layout="constrained")
    ((top_left, top_right), (bottom_left, bottom_right)) = figure.subplots(2, 2)
    figure.suptitle(f"{table.name}: {table.size}")
    _plot_ratings(top_left, table.ratings.rating)
    _plot_counts(bottom_left, np.bincount(table.ratings.item), side="item")
    _plot_counts(bottom_right, np.bincount(table.ratings.user), side="user")
    if table.timestamp is None:
        _plot_means(top_right, table.ratings)
    else:
        # numpy months, which matplotlib reads as dates
        months, count = np.unique(table.timestamp.astype("datetime64[ms]").astype("datetime64[M]"), return_counts=True)
        top_right.fill_between(months, count, step="post", alpha=0.8)
        top_right.set(title="Ratings over time", xlabel="month", ylabel="rows", ylim=(0, None))
    return figure


def _plot_ratings(axes: Axes, rating: NDArray[np.float32]) -> None:
    axes.set(title="Ratings", xlabel="rating", ylabel="rows")
    distinct, count = np.unique(rating, return_counts=True)
    if len(distinct) <= 20:
        axes.bar(range(len(distinct)), count)
        axes.set_xticks(range(len(distinct)), [f"{value:g}" for value in distinct])
    else:
        axes.hist(rating, bins=rating_bin_edges(rating, max_bins=40).tolist())


def _plot_means(axes: Axes, ratings: Ratings) -> None:
    axes.set(title="Mean ratings of items and users", xlabel="mean rating", ylabel="share")
    bins = np.linspace(float(ratings.rating.min()), float(ratings.rating.max()), 31)
    for label, index in (("items", ratings.item), ("users", ratings.user)):
        mean = np.bincount(index, weights=ratings.rating) / np.bincount(index)
        share, _ = np.histogram(mean, bins)
        axes.stairs(share / len(mean), bins, label=label, linewidth=1.5)
    axes.legend()


def _plot_counts(axes: Axes, count: NDArray[np.int64], *, side: SideName) -> None:
    axes.set(title=f"Ratings per {side}", xlabel=f"{side}s, the most rated first", ylabel=f"ratings of the {side}")
    axes.plot(np.arange(1, len(count) + 1), np.sort(count)[::-1])
    axes.axhline(float(np.median(count)), color="gray", linestyle="--", label=f"median {np.median(count):,.0f}")
    axes.legend()
    axes.set(xscale="log", yscale="log")
    for axis, has_room in ((axes.xaxis, len(count) < MAX_FINE_TICKS), (axes.yaxis, True)):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if has_room else (1,)))
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.set_minor_formatter(NullFormatter())


def _new_figure(title: str = "", *, x: str = "", y: str = "") -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_INCHES, dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes
