"""Figures of a sweep: the metric by swept key, by combination of values and by time, and learning curves."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ratinglab.errors import format_count
from ratinglab.evaluation.metric_kinds import MetricKind
from ratinglab.reports.statistics import average_curves
from ratinglab.reports.sweep_axes import (
    MAX_SEPARATE_VALUES,
    Limits,
    Numbers,
    SweptKey,
    SweptRun,
    abbreviate,
    axis_limits,
    describe_outliers,
    mark_beyond,
    name_runs,
    read_keys,
    set_scale_and_ticks,
    to_fractions,
    write_title,
)
from ratinglab.runs.sweep_folder import Curve

SIZE = (7.0, 4.2)
"""Inches, at 100 dots per inch; figures with many panels, axes or names are larger."""
MAX_NAMED_RUNS = 6
"""Maximum number of runs on the Pareto front that are named."""
RUN_COLOR, MEAN_COLOR, BEST_COLOR = "tab:blue", "0.2", "tab:red"
LEGEND_STYLE: dict[str, Any] = {"loc": "outside lower left", "frameon": False, "fontsize": 9}
"""Style of a legend with names of runs."""


def plot_marginal_effects(runs: Sequence[SweptRun], column: MetricKind) -> Figure:
    """Plot the metric against each swept key, one panel per key, with the mean over the other keys.

    Keys with few distinct values have one mean per value. Other keys have one mean per bin, and all bins have about the
    same number of runs. Means exclude runs beyond the axis. There must be at least one key.
    """
    keys = read_keys(runs)
    metric, limits, order = _read(runs, column)
    columns = 2 if len(keys) == 4 else min(3, len(keys))
    rows = math.ceil(len(keys) / columns)
    width = max(SIZE[0], 3.2 * columns)
    figure = Figure(figsize=(width, max(SIZE[1], 1.2 + 2.6 * rows)), dpi=100, layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, key in zip(panels.flat, keys, strict=False):
        _plot_effect(axes, key, metric, limits=limits, best=order[0], inches=(width - 0.8) / columns - 0.3)
    for axes in panels.flat[len(keys) :]:
        axes.remove()
    for axes in panels[:, 0]:
        axes.set_ylabel(column.label)
    beyond = describe_outliers(metric, limits)
    handles = [
        Line2D([], [], color=RUN_COLOR, marker="o", linestyle="", alpha=0.5, label="run"),
        Line2D([], [], color=MEAN_COLOR, marker=".", label="mean of the runs within the axis" if beyond else "mean"),
        Line2D([], [], color=BEST_COLOR, marker="*", markersize=11, linestyle="", label="best run"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    best = f"best {metric[order[0]]:#.4g}: {name_runs(runs)[order[0]]}"
    write_title(figure, f"{column.label} by swept key", best, beyond)
    return figure


def plot_parallel_coordinates(runs: Sequence[SweptRun], column: MetricKind) -> Figure:
    """Plot each run as a line across a vertical axis per key and one of the metric; the best tenth is thick."""
    keys = read_keys(runs)
    metric, limits, order = _read(runs, column)
    width = max(SIZE[0], 2 + 1.4 * len(keys))
    figure = Figure(figsize=(width, SIZE[1]), dpi=100, layout="constrained")
    host = figure.add_subplot()
    host.set(xlim=(0, len(keys)), ylim=(0, 1), yticks=[])
    host.spines[:].set_visible(False)
    host.xaxis.tick_top()
    host.tick_params(axis="x", length=0, pad=10)
    names = [*(key.label for key in keys), column.label]
    host.set_xticks(range(len(names)), [abbreviate(name, 16) for name in names])
    heights = [_add_vertical_axis(host, key, at=at) for at, key in enumerate(keys)]
    heights.append(_add_vertical_axis(host, SweptKey(column.label, metric, "linear"), at=len(keys), limits=limits))
    colors = ScalarMappable(Normalize(*limits), colormaps["viridis_r" if column.higher_is_better else "viridis"])
    thick = math.ceil(len(runs) / 10)
    for rank, run in reversed(list(enumerate(order))):  # the best last, so on top
        style: dict[str, Any] = {"linewidth": 3} if rank < thick else {"linewidth": 1, "alpha": 0.6}
        host.plot([height[run] for height in heights], color=colors.to_rgba(metric[run]), clip_on=False, **style)
    bar = figure.colorbar(colors, ax=host, pad=0.8 / width, label=f"{column.label} (dark is better)")
    bar.ax.ticklabel_format(axis="y", useOffset=False)
    note = f"thick: best {format_count(thick, 'run')}" if thick > 1 else "thick: best run"
    write_title(figure, f"{column.label} by combination of values", note, describe_outliers(metric, limits))
    return figure


def plot_metric_against_seconds(runs: Sequence[SweptRun], column: MetricKind) -> Figure:
    """Plot the metric against the duration of the fit, and name the runs of the Pareto front by number."""
    metric, limits, _ = _read(runs, column)
    seconds = np.array([run.seconds for run in runs], dtype=np.float64)
    front = find_pareto_front(seconds, metric, higher_is_better=column.higher_is_better)
    figure = Figure(dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel="seconds of the fit", ylabel=column.label, ylim=limits)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.plot(seconds, metric, "o", color="0.6", alpha=0.6)
    # the best run stays the best for longer fits
    until, best_until = np.append(seconds[front], seconds.max()), np.append(metric[front], metric[front[-1]])
    axes.plot(until, best_until, color=RUN_COLOR, drawstyle="steps-post", marker="o", markevery=range(len(front)))
    mark_beyond(axes, seconds, metric, limits)
    scale = "log" if 0 < 10 * seconds.min() < seconds.max() else "linear"
    set_scale_and_ticks(axes.xaxis, SweptKey("", seconds, scale), inches=SIZE[0] - 1)
    front = front[(limits[0] <= metric[front]) & (metric[front] <= limits[1])]
    points = np.column_stack([to_fractions(axes.xaxis, seconds[front]), to_fractions(axes.yaxis, metric[front])])
    settings, handles, lines = name_runs(runs), [], 0
    for number, run in enumerate(front[_choose_far_apart(points)].tolist(), start=1):
        # beside the front, where no runs are
        offset = (-8, 9 if column.higher_is_better else -9)
        at = (seconds[run], metric[run])
        axes.annotate(str(number), at, offset, textcoords="offset points", ha="center", va="center", weight="bold")
        text = f"{number}   {settings[run]}: {metric[run]:#.4g} in {seconds[run]:.3g} s"
        text = textwrap.fill(text, 88, subsequent_indent="      ", break_long_words=False, break_on_hyphens=False)
        handles.append(Line2D([], [], linestyle="", label=text))
        lines += 1 + text.count("\n")
    figure.set_size_inches(SIZE[0], SIZE[1] + 0.2 * lines)
    figure.legend(handles=handles, handlelength=0, **LEGEND_STYLE)
    note = "line: Pareto front, the best run up to each time"
    write_title(figure, f"{column.label} against time", note, describe_outliers(metric, limits))
    return figure


def find_pareto_front(seconds: Numbers, metric: Numbers, *, higher_is_better: bool) -> NDArray[np.intp]:
    """Find the Pareto front: runs that no other run beats in time or metric while being at least equal in the other.

    Returns their indices, by increasing seconds. Either all of several equal runs are on the front, or none is.
    """
    cost = -metric if higher_is_better else metric
    points, point = np.unique(np.column_stack([seconds, cost]), axis=0, return_inverse=True)
    best_before = np.minimum.accumulate(np.append(np.inf, points[:-1, 1]))
    front = np.flatnonzero((points[:, 1] < best_before)[point.reshape(-1)])
    return front[np.argsort(seconds[front], kind="stable")]


def plot_learning_curves(curves: Mapping[str, Sequence[Curve]], *, label: str) -> Figure:
    """Plot the mean curve, and its uncertainty, of each group of runs that differ only in seed or fold.

    `curves` holds the curves of up to ten groups, at least one of each, by the group's name. The mean ends with the
    shortest run, because it would jump where a run ends. Longer runs continue as thin lines.
    """
    values = [np.array(list(curve.values())) for group in curves.values() for curve in group]
    # the first epochs often fall steeply, and the last ones are what matters
    limits = axis_limits(np.concatenate(values), clip_low=True, clip_high=True, squeeze=2)
    columns = 2 if len(curves) > 4 and max(map(len, curves)) <= 40 else 1
    height = SIZE[1] + 0.22 * math.ceil(len(curves) / columns)
    figure = Figure(figsize=(SIZE[0], height), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel="epoch", ylabel=label, ylim=limits)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, notes = [], dict[str, None]()
    for number, (name, group) in enumerate(curves.items()):
        color = f"C{number}"
        notes |= dict.fromkeys(_plot_group(axes, group, color=color))
        handles.append(Line2D([], [], color=color, label=f"{abbreviate(name, 80)} ({format_count(len(group), 'run')})"))
    figure.legend(handles=handles, ncols=columns, **LEGEND_STYLE)
    beyond = sum(bool(((curve < limits[0]) | (curve > limits[1])).any()) for curve in values)
    note = f"{format_count(beyond, 'run')} partly beyond the axis" if beyond else ""
    write_title(figure, f"{label} by epoch", "; ".join(sorted(notes)), note)
    return figure


def _plot_group(axes: Axes, group: Sequence[Curve], *, color: str) -> Iterator[str]:
    """Plot the mean curve of a group, and explain its lines and band."""
    mean = average_curves(group)
    axes.plot(mean.index, mean["mean"], color=color, marker="o" if len(mean) == 1 else None)
    if len(group) > 1:
        axes.fill_between(mean.index, mean["low"], mean["high"], color=color, alpha=0.2, linewidth=0)
        band = "range of 2 runs (min–max)" if len(group) == 2 else "its 95% interval (Student's t)"
        yield f"mean with {band}"
    last = mean.index.max() if len(mean) > 0 else 0
    for curve in group:
        rest = {epoch: value for epoch, value in curve.items() if epoch >= last}
        if len(rest) > 1:
            axes.plot(list(rest), list(rest.values()), color=color, linewidth=0.8, alpha=0.7)
            yield "thin: longer runs"


def _plot_effect(axes: Axes, key: SweptKey, metric: Numbers, *, limits: Limits, best: int, inches: float) -> None:
    """Plot the metric against a key, its means, and the best run, whose index is `best`; the panel is `inches` wide."""
    missing = int(np.isnan(key.coordinate).sum())
    axes.set(xlabel=key.label + (f" (not set in {format_count(missing, 'run')})" if missing else ""), ylim=limits)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.plot(key.coordinate, metric, "o", color=RUN_COLOR, alpha=0.5)
    is_shown = np.isfinite(key.coordinate) & (limits[0] <= metric) & (metric <= limits[1])
    x, y = key.coordinate[is_shown], metric[is_shown]
    bins: NDArray[Any] = x
    if len(np.unique(x)) > MAX_SEPARATE_VALUES and not key.categories:
        borders = np.quantile(x, np.linspace(0, 1, min(6, len(x) // 4) + 1))
        bins = np.searchsorted(borders[1:-1], x, side="right")
    distinct = np.unique(bins)
    means = [y[bins == value].mean() for value in distinct]
    style: dict[str, Any] = {"marker": "."}
    if key.categories:  # without a line, since their order means nothing
        style = {"marker": "_", "linestyle": "", "markersize": min(22, 40 * inches / len(key.categories))}
    axes.plot([np.median(x[bins == value]) for value in distinct], means, color=MEAN_COLOR, markeredgewidth=2, **style)
    axes.plot(key.coordinate[[best]], metric[[best]], "*", color=BEST_COLOR, markersize=13)
    if key.categories:
        axes.set_xlim(-0.5, len(key.categories) - 0.5)
    mark_beyond(axes, key.coordinate, metric, limits)
    set_scale_and_ticks(axes.xaxis, key, inches=inches)


def _add_vertical_axis(host: Axes, key: SweptKey, *, at: int, limits: Limits | None = None) -> Numbers:
    """Add the axis of a key, or of the metric if it has limits; return the height of each run on it, 0 to 1."""
    axes = host.twinx()
    side: Literal["left", "right"] = "left" if limits is None else "right"
    axes.spines[:].set_visible(False)
    axes.spines[side].set(visible=True, position=("data", at))
    axes.yaxis.set_ticks_position(side)
    axes.ticklabel_format(axis="y", useOffset=False)
    low, high = np.nanmin(key.coordinate), np.nanmax(key.coordinate)
    pad = 0 if low < high else abs(low) / 10 or 0.5
    axes.set_ylim(limits or (low - pad, high + pad))
    if limits is None:
        set_scale_and_ticks(axes.yaxis, key, inches=SIZE[1] - 1)
    for text in axes.get_yticklabels():
        text.set(size=9, bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.5})
    if np.isnan(key.coordinate).any():
        host.text(at, -0.1, "not set", ha="center", va="top", fontsize=9)
    return np.nan_to_num(to_fractions(axes.yaxis, key.coordinate).clip(-0.04, 1.04), nan=-0.09)


def _read(runs: Sequence[SweptRun], column: MetricKind) -> tuple[Numbers, Limits, list[int]]:
    """Return the metric of each run, the limits of its axis, and the runs from best to worst."""
    metric = np.array([run.metric for run in runs], dtype=np.float64)
    squeeze = 4 if len(runs) >= 10 else 20  # quartiles of few runs say little
    clip_low = column.higher_is_better
    limits = axis_limits(metric, clip_low=clip_low, clip_high=not clip_low, squeeze=squeeze)
    return metric, limits, np.argsort(-metric if column.higher_is_better else metric, kind="stable").tolist()


def _choose_far_apart(points: Numbers) -> list[int]:
    """Choose points to label: the last one, then repeatedly the one farthest from all chosen points.

    points: (n, 2), in fractions of the axes; labels of points closer than 0.04 would overlap
    """
    chosen = [len(points) - 1] if len(points) else []
    while 0 < len(chosen) < MAX_NAMED_RUNS:
        distance = np.linalg.norm(points[:, None] - points[chosen], axis=2).min(axis=1)
        if distance.max() < 0.04:
            break
        chosen.append(int(distance.argmax()))
    return sorted(chosen)
