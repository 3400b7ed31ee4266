"""Figures of a sweep as files, and its mean curves as a run in TensorBoard."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from ratinglab.files import VALIDATION_FIT, write_whole
from ratinglab.fitting.tensorboard import write_band
from ratinglab.reports.mean_curves import mean_curve
from ratinglab.reports.sweep_axes import SweptRun
from ratinglab.reports.sweep_figures import (
    learning_curves,
    marginal_effects,
    metric_against_seconds,
    parallel_coordinates,
)
from ratinglab.reports.sweep_results import Comparison, Group
from ratinglab.runs.learning_curves import Curve, read_curve
from ratinglab.runs.sweep_folder import short_number

MAX_GROUPS = 6
"""Maximum number of groups whose learning curves are drawn: the best ones."""
FIGURES, MEANS = "figures", "mean"
"""Subfolders of a sweep's folder: with figures, and with the TensorBoard events of its mean curves."""


def write_figures(folder: Path, comparisons: Sequence[Comparison]) -> None:
    """Draw the figures of a sweep into its folder, as PNG.

    effects: the monitored metric against each swept key; parallel: against all of them; seconds: against the time of
    the fit, with the Pareto front; curves: by epoch, of the best configurations. Of several comparisons, each has its
    own, numbered ones. If the runs log to TensorBoard and differ in seed or fold, it also writes their mean curves.
    """
    (folder / FIGURES).mkdir(exist_ok=True)
    for number, part in enumerate(comparisons, start=1):
        suffix = "" if len(comparisons) == 1 else f"-{number}"
        for name, figure in _figures(part):
            content = BytesIO()
            figure.savefig(content, format="png")
            write_whole(folder / FIGURES / f"{name}{suffix}.png", partial(_put, content=content.getvalue()))
        if part.axes and any(folder.glob("*/events.out.tfevents.*")):
            title = f"{part.columns[0].label}{suffix}: mean, and 95 % interval over seeds and folds"
            for name, group in _curves(part).items():
                run = folder / f"{MEANS}{suffix}" / re.sub(r"[^A-Za-z0-9_.]+", "-", name)
                write_band(run, mean_curve(group), title=title)


def _figures(part: Comparison) -> Iterator[tuple[str, Figure]]:
    column = part.columns[0]
    keys = [*part.groups[0].settings, *part.axes]
    runs = [
        SweptRun(
            {key: result.job.arguments[key] for key in keys if key in result.job.arguments},
            result.metrics[column.tag],
            result.metrics["fit/seconds"],
        )
        for result in part.results
        if column.tag in result.metrics and "fit/seconds" in result.metrics
    ]
    if len(runs) > 1 and keys:
        for name, draw in (
            ("effects", marginal_effects),
            ("parallel", parallel_coordinates),
            ("seconds", metric_against_seconds),
        ):
            yield name, draw(runs, label=column.label, higher_is_better=column.higher_is_better)
    if curves := _curves(part):
        yield "curves", learning_curves(curves, label=column.label)


def _curves(part: Comparison) -> dict[str, list[Curve]]:
    """Read the curves of the best groups, by the name of the group."""
    found = {_name(group): _curves_of(group, part.columns[0].tag) for group in part.groups[:MAX_GROUPS]}
    return {name: curves for name, curves in found.items() if curves}


def _curves_of(group: Group, tag: str) -> list[Curve]:
    """Read the curves of a group's runs. With two fits, the first one has the validation rows."""
    folders = [run.folder / (VALIDATION_FIT if run.record.refit_epochs is not None else "") for run in group.runs]
    return [curve for folder in folders if (curve := read_curve(folder, tag))]


def _name(group: Group) -> str:
    """Name a group by its settings, such as `embedding_dim=8 lr=0.01`."""
    last = [key.rpartition(".")[2] for key in group.settings]
    short = [name if last.count(name) == 1 else key for key, name in zip(group.settings, last, strict=True)]
    texts = [f"{key}={short_number(value)}" for key, value in zip(short, group.settings.values(), strict=True)]
    return " ".join(texts) or "all runs"


def _put(file: BytesIO, *, content: bytes) -> None:
    file.write(content)
