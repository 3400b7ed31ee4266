"""Axes of a sweep's figures: swept keys as numbers or categories, scales, limits, ticks, titles."""

import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from ratinglab.errors import format_count
from ratinglab.options import short_keys

MAX_SEPARATE_VALUES = 8
"""Maximum number of distinct numbers of a key that are averaged and labeled one by one."""
OUTLIER_COLOR = "tab:orange"
"""Color of runs beyond an axis."""

Numbers = NDArray[np.float64]
Limits = tuple[float, float]


class SweptRun(NamedTuple):
    """A finished run of a sweep.

    Attributes:
        values: the swept arguments by key, as typed; a run need not have the keys of other runs.
        metric: value of the monitored validation metric.
        seconds: duration of the fit.
    """

    values: dict[str, str]
    metric: float
    seconds: float


class SweptKey(NamedTuple):
    """A quantity that differs between runs.

    Attributes:
        label: title of the axis.
        coordinate: (runs,) float64, position of each run on the axis: the value, or the index of its category. NaN
            if the run has no value.
        scale: scale of the axis: linear, log, or symlog, which is log with a position for 0.
        categories: labels of the categories, none if the values are numbers.
    """

    label: str
    coordinate: Numbers
    scale: str
    categories: Sequence[str] = ()


def read_keys(runs: Sequence[SweptRun]) -> list[SweptKey]:
    """Read each swept key as numbers if all its values are numbers, else as categories, numbers first."""
    keys = []
    for name, label in short_keys(name for run in runs for name in run.values).items():
        texts = [run.values.get(name) for run in runs]
        positions = {text: _number(text) for text in texts if text is not None}
        categories: list[str] = []
        if math.inf in positions.values():
            distinct = sorted(positions, key=positions.__getitem__)
            positions = {text: float(index) for index, text in enumerate(distinct)}
            categories = [abbreviate(text, 14) for text in distinct]
        if len(set(categories)) < len(categories):
            categories = [f"{number}: {text}" for number, text in enumerate(categories, start=1)]
        coordinate = np.array([math.nan if text is None else positions[text] for text in texts])
        keys.append(SweptKey(label, coordinate, "linear" if categories else _choose_scale(coordinate), categories))
    return keys


def name_runs(runs: Sequence[SweptRun]) -> list[str]:
    """Name each run by its keys and values, abbreviated."""
    short = short_keys(name for run in runs for name in run.values)
    return [" ".join(f"{short[name]}={abbreviate(text)}" for name, text in run.values.items()) for run in runs]


def _number(text: str) -> float:
    """Parse a finite number. Returns infinity for any other text."""
    try:
        return float(text) if math.isfinite(float(text)) else math.inf
    except ValueError:
        return math.inf


def abbreviate(text: str, length: int = 24) -> str:
    """Shorten a value: round numbers except integers to 4 digits, cut paths at the front, other text in the middle."""
    if math.isfinite(_number(text)):
        is_integer = re.fullmatch(r"[+-]?\d+", text)
        return text if is_integer else re.sub(r"e\+?(-?)0*", r"e\1", f"{float(text):.4g}")
    if len(text) > length:
        head = 0 if "/" in text else (length - 1) // 2
        tail = text.rstrip("/")[head + 1 - length :]
        text = f"{text[:head]}…{tail[max(tail.find('/'), 0) :]}"
    return text.replace("$", r"\$")  # two of them would enclose a formula


def _choose_scale(coordinate: Numbers) -> str:
    """Choose a log axis if positive values span a factor of 8 and log spreads them more evenly; symlog if 0 occurs."""
    values = np.unique(coordinate[np.isfinite(coordinate)])
    positive = values[values > 0]
    if (values < 0).any() or not len(positive) or positive[-1] < 8 * positive[0]:
        return "linear"
    off_center = [abs(np.median(x) - (x[0] + x[-1]) / 2) / (x[-1] - x[0]) for x in (positive, np.log(positive))]
    if off_center[0] <= off_center[1]:
        return "linear"
    return "log" if len(positive) == len(values) else "symlog"


def axis_limits(values: Numbers, *, clip_low: bool, clip_high: bool, squeeze: float) -> Limits:
    """Choose limits; exclude outliers if they would lengthen the axis by more than the factor `squeeze`.

    Outliers are more than 1.5 interquartile ranges beyond the quartiles, on the sides that are clipped.
    """
    is_shown = np.ones(len(values), dtype=bool)
    for sign in [1] * clip_high + [-1] * clip_low:
        # no interpolation, which would let one huge value of four raise the third quartile
        first, third = np.quantile(sign * values, (0.25, 0.75), method="lower")
        is_shown &= sign * values <= third + 1.5 * (third - first)
    if is_shown.sum() < 2 or np.ptp(values) <= squeeze * np.ptp(values[is_shown]):
        is_shown[:] = True
    low, high = values[is_shown].min(), values[is_shown].max()
    pad = 0.08 * (high - low) or 0.05 * abs(low) or 1.0
    return float(low - pad), float(high + pad)


def describe_outliers(metric: Numbers, limits: Limits) -> str:
    """Describe the runs beyond the axis: their number and the farthest metric."""
    above, below = metric[metric > limits[1]], metric[metric < limits[0]]
    if len(above):
        return f"{format_count(len(above), 'run')} above the axis, up to {above.max():.4g}"
    return f"{format_count(len(below), 'run')} below the axis, down to {below.min():.4g}" if len(below) else ""


def mark_beyond(axes: Axes, coordinate: Numbers, metric: Numbers, limits: Limits) -> None:
    """Draw a triangle at the edge of the axes for each run beyond it."""
    for is_beyond, edge, marker in ((metric > limits[1], 1, "^"), (metric < limits[0], 0, "v")):
        positions = coordinate[is_beyond & np.isfinite(coordinate)]
        if len(positions):  # an empty line that is not clipped has no extent to lay out
            edges, transform = np.full(len(positions), edge), axes.get_xaxis_transform()
            axes.plot(positions, edges, marker, color=OUTLIER_COLOR, transform=transform, clip_on=False)


def to_fractions(axis: Axis, values: Numbers) -> Numbers:
    """Convert values to fractions of the axis: 0 at its lower limit, 1 at its upper one."""
    limits = axis.axes.get_xlim() if isinstance(axis, XAxis) else axis.axes.get_ylim()
    low, high = axis.get_transform().transform(np.array(limits))
    return (axis.get_transform().transform(values) - low) / (high - low)


def set_scale_and_ticks(axis: Axis, key: SweptKey, *, inches: float) -> None:
    """Set the scale of an axis, and as many ticks as fit its length in inches."""
    is_x = isinstance(axis, XAxis)
    options = {"linthresh": key.coordinate[key.coordinate > 0].min()} if key.scale == "symlog" else {}
    (axis.axes.set_xscale if is_x else axis.axes.set_yscale)(key.scale, **options)
    ticks = np.unique(key.coordinate[np.isfinite(key.coordinate)])
    if len(ticks) > MAX_SEPARATE_VALUES and not key.categories:
        ticks = _round_numbers(ticks, key.scale)
    labels = key.categories or [abbreviate(f"{tick:.15g}") for tick in ticks]
    middles = inches * to_fractions(axis, ticks)
    sizes = np.array([0.1 + 0.08 * len(text) for text in labels]) if is_x else np.full(len(ticks), 0.16)
    style: dict[str, Any] = {}
    if is_x and key.categories and (np.diff(middles) < (sizes[1:] + sizes[:-1]) / 2).any():
        sizes, style = np.full(len(ticks), 0.2), {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    labeled: list[int] = []
    for tick, (middle, size) in enumerate(zip(middles, sizes, strict=True)):
        if not labeled or middle - middles[labeled[-1]] >= (size + sizes[labeled[-1]]) / 2:
            labeled.append(tick)
    axis.set_ticks(ticks[labeled], [labels[tick] for tick in labeled], **style)
    axis.set_minor_locator(NullLocator())


def _round_numbers(values: Numbers, scale: str) -> Numbers:
    """Return round numbers within the range of the values."""
    if scale == "linear":
        ticks = np.asarray(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(values.min(), values.max()))
    else:
        positive = values[values > 0]
        subs = (1, 3) if positive.max() < 100 * positive.min() else (1,)
        ticks = np.append(0, LogLocator(subs=subs).tick_values(positive.min(), positive.max()))
    return ticks[(values.min() <= ticks) & (ticks <= values.max())]


def write_title(figure: Figure, title: str, *notes: str) -> None:
    """Write a title with notes below, wrapped to the width."""
    width = int(14 * figure.get_figwidth())
    lines = [line for note in notes for line in textwrap.wrap(note, width, break_on_hyphens=False)]
    figure.suptitle("\n".join([title, *lines]), fontsize=10)
