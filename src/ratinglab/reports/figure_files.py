"""Figures of a sweep as files, and its mean curves as a run in TensorBoard."""

import re
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from ratinglab.files import write_bytes
from ratinglab.fitting.loggers.tensorboard import write_band
from ratinglab.options import short_keys, short_number
from ratinglab.reports.averages import average_curves
from ratinglab.reports.paired_tests import by_split
from ratinglab.reports.sweep_axes import SweptRun
from ratinglab.reports.sweep_figures import (
    learning_curves,
    marginal_effects,
    metric_against_seconds,
    parallel_coordinates,
)
from ratinglab.reports.sweep_results import ComparableJobs, Group
from ratinglab.runs.learning_curves import Curve, read_curve

MAX_GROUPS = 6
"""Number of best groups whose learning curves are drawn."""
FIGURES, MEANS = "figures", "mean"
"""Subfolders of a sweep's folder, for figures and for TensorBoard events of mean curves."""


def write_figures(folder: Path, sets: Sequence[ComparableJobs]) -> None:
    """Write the figures of a sweep into its folder as PNG, and remove earlier ones.

    effects: the monitored metric against each swept key; parallel: against all of them; seconds: against the time of
    the fit, with the Pareto front; curves: by epoch, of the best configurations. With several sets of jobs, the figures
    of each set are numbered. If the runs log to TensorBoard and differ in seed or fold, also writes mean curves.
    """
    for path in [*folder.glob(f"{FIGURES}/*.png"), *folder.glob(f"{MEANS}*/*/events.out.tfevents.*")]:
        path.unlink()
    (folder / FIGURES).mkdir(exist_ok=True)
    for number, jobs in enumerate(sets, start=1):
        suffix = "" if len(sets) == 1 else f"-{number}"
        curves = _best_curves(jobs)
        for name, figure in _figures(jobs, curves):
            content = BytesIO()
            figure.savefig(content, format="png")
            write_bytes(folder / FIGURES / f"{name}{suffix}.png", content.getvalue())
        if jobs.replicates and any(folder.glob("*/events.out.tfevents.*")):
            title = f"{jobs.columns[0].label}{suffix}: mean, and band over seeds and folds"
            for name, group in curves.items():
                run = folder / f"{MEANS}{suffix}" / re.sub(r"[^A-Za-z0-9_.]+", "-", name)
                write_band(run, average_curves(group), title=title)


def _figures(jobs: ComparableJobs, curves: Mapping[str, Sequence[Curve]]) -> Iterator[tuple[str, Figure]]:
    column = jobs.columns[0]
    keys = [*jobs.groups[0].settings, *jobs.replicates]
    runs = [
        SweptRun(
            {key: result.job.arguments[key] for key in keys if key in result.job.arguments},
            result.metrics[column.tag],
            result.metrics["fit/seconds"],
        )
        for result in jobs.results
        if result.has_metrics and {column.tag, "fit/seconds"} <= result.metrics.keys()
    ]
    if len(runs) > 1 and keys:
        for name, draw in (
            ("effects", marginal_effects),
            ("parallel", parallel_coordinates),
            ("seconds", metric_against_seconds),
        ):
            yield name, draw(runs, label=column.label, higher_is_better=column.higher_is_better)
    if curves:
        yield "curves", learning_curves(curves, label=column.label)


def _best_curves(jobs: ComparableJobs) -> dict[str, list[Curve]]:
    """Read the curves of the best groups, by the name of the group."""
    tag = jobs.columns[0].tag
    curves = {_name(group, is_job=not jobs.replicates): _curves_of(group, tag) for group in jobs.groups[:MAX_GROUPS]}
    return {name: group for name, group in curves.items() if group}


def _curves_of(group: Group, tag: str) -> list[Curve]:
    """Read the curves of a group's runs. With several splits, returns the mean curve of each split; see `values_of`."""
    of_splits = [
        [curve for run in runs if (curve := read_curve(run.folder_of("val"), tag))]
        for runs in by_split(group.runs).values()
    ]
    kept = [curves for curves in of_splits if curves]
    if len(kept) < 2:
        return kept[0] if kept else []
    means = [average_curves(curves)["mean"] for curves in kept]
    return [dict(zip(mean.index.tolist(), mean.tolist(), strict=True)) for mean in means]


def _name(group: Group, *, is_job: bool) -> str:
    """Name a group by its settings, such as `embedding_dim=8 lr=0.01`; a single job, also by its number."""
    short = short_keys(group.settings)
    texts = [f"{short[key]}={short_number(value)}" for key, value in group.settings.items()]
    return " ".join([*([f"{group.results[0].number}:"] if is_job else []), *texts]) or "all runs"
