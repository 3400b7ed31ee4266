"""Figures of a sweep as files, and its mean curves as a run in TensorBoard."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from ratinglab.files import write_atomically
from ratinglab.fitting.loggers.tensorboard import write_band
from ratinglab.options import short_keys, short_number
from ratinglab.reports.groups import ComparableJobs, Group
from ratinglab.reports.statistics import average_curves, group_by_split
from ratinglab.reports.sweep_axes import SweptRun
from ratinglab.reports.sweep_figures import (
    plot_learning_curves,
    plot_marginal_effects,
    plot_metric_against_seconds,
    plot_parallel_coordinates,
)
from ratinglab.runs.sweep_folder import Curve, read_curve

MAX_GROUPS = 6
"""Number of best groups whose learning curves are plotted."""
FIGURE_FOLDER, MEAN_CURVE_FOLDER = "figures", "mean"
"""Subfolders of a sweep's folder, for figures and for TensorBoard events of mean curves."""


def write_figures(folder: Path, sets: Sequence[ComparableJobs]) -> None:
    """Write the figures of a sweep into its folder as PNG, and remove earlier ones.

    All figures show the monitored metric: effects.png against each swept key, parallel.png against all swept keys
    together, seconds.png against the time of the fit, with the Pareto front, and curves.png by epoch, for the best
    configurations. With several sets of jobs, the figures of each set are numbered. If the runs log to TensorBoard and
    differ in seed or fold, their mean curves are written too.
    """
    for path in [*folder.glob(f"{FIGURE_FOLDER}/*.png"), *folder.glob(f"{MEAN_CURVE_FOLDER}*/*/events.out.tfevents.*")]:
        path.unlink()
    (folder / FIGURE_FOLDER).mkdir(exist_ok=True)
    for number, jobs in enumerate(sets, start=1):
        suffix = "" if len(sets) == 1 else f"-{number}"
        curves = _read_best_curves(jobs)
        for name, figure in _plot_figures(jobs, curves):
            write_atomically(folder / FIGURE_FOLDER / f"{name}{suffix}.png", partial(figure.savefig, format="png"))
        if jobs.replicates and any(folder.glob("*/events.out.tfevents.*")):
            title = f"{jobs.columns[0].label}{suffix}: mean, and band over seeds and folds"
            for name, group in curves.items():
                run = folder / f"{MEAN_CURVE_FOLDER}{suffix}" / re.sub(r"[^A-Za-z0-9_.]+", "-", name)
                write_band(run, average_curves(group), title=title)


def _plot_figures(jobs: ComparableJobs, curves: Mapping[str, Sequence[Curve]]) -> Iterator[tuple[str, Figure]]:
    column = jobs.columns[0]
    keys = [*jobs.groups[0].settings, *jobs.replicates]
    runs = [
        SweptRun(
            {key: job.arguments[key] for key in keys if key in job.arguments},
            job.metrics[column.name],
            job.metrics["fit/seconds"],
        )
        for job in jobs.members
        if job.run is not None and {column.name, "fit/seconds"} <= job.metrics.keys()
    ]
    if len(runs) > 1 and keys:
        for name, plot in (
            ("effects", plot_marginal_effects),
            ("parallel", plot_parallel_coordinates),
            ("seconds", plot_metric_against_seconds),
        ):
            yield name, plot(runs, column)
    if curves:
        yield "curves", plot_learning_curves(curves, label=column.label)


def _read_best_curves(jobs: ComparableJobs) -> dict[str, list[Curve]]:
    """Read the curves of the best groups, by the name of the group."""
    tag = jobs.columns[0].name
    curves = {_name(group, is_job=not jobs.replicates): _read_curves(group, tag) for group in jobs.groups[:MAX_GROUPS]}
    return {name: group for name, group in curves.items() if group}


def _read_curves(group: Group, tag: str) -> list[Curve]:
    """Read the curves of a group's runs. With several splits, returns the mean curve of each split; see `values_of`."""
    by_split = [
        [curve for run in runs if (curve := read_curve(run.folder_of("val"), tag))]
        for runs in group_by_split(group.runs).values()
    ]
    by_split = [curves for curves in by_split if curves]
    if len(by_split) < 2:
        return by_split[0] if by_split else []
    means = [average_curves(curves)["mean"] for curves in by_split]
    return [dict(zip(mean.index.tolist(), mean.tolist(), strict=True)) for mean in means]


def _name(group: Group, *, is_job: bool) -> str:
    """Name a group by its settings, such as `embedding_dim=8 lr=0.01`. A single job's name also has its number."""
    short = short_keys(group.settings)
    texts = [f"{short[key]}={short_number(value)}" for key, value in group.settings.items()]
    return " ".join([*([f"{group.jobs[0].number}:"] if is_job else []), *texts]) or "all runs"
