"""The test errors of a sweep's best configuration."""

import sys
from collections.abc import Iterator, Sequence

import numpy as np

from ratinglab.reports.finished_runs import FinishedRun
from ratinglab.runs.record import defined_metrics, write_metrics
from ratinglab.runs.run import Run
from ratinglab.runs.storage import write_predictions
from ratinglab.runs.sweep_folder import config_dir_of


def evaluate_test_rows(runs: Sequence[FinishedRun]) -> Iterator[str]:
    """Evaluate runs on their test rows, unless already done, and yield the mean of each metric as lines.

    Stores the test errors in metrics.json and predictions.parquet of each run.
    """
    metrics_of_runs = []
    for each in runs:
        metrics = each.metrics
        if not any(tag.startswith("test/") for tag in metrics):
            if (config_dir := config_dir_of(each.folder)) is not None:
                sys.path.insert(0, config_dir)  # for the run's own equation
            run = Run.load(each.folder)
            metrics = defined_metrics(
                metrics | run.evaluate(parts=("test",)) | run.evaluate_own_ranking(parts=("test",)),
                monitor=each.record.monitor,
            )
            if not each.record.predicts_scores:
                write_predictions(each.folder, {part: run.predictions(part) for part in ("val", "test")})
            write_metrics(each.folder, metrics)
        metrics_of_runs.append(metrics)
    count = "" if len(runs) == 1 else f", mean of {len(runs)} runs"
    record = runs[0].record
    for kind in dict.fromkeys([*record.metric_kinds(), record.monitored()]):  # the monitored metric may be one of lists
        tag = f"test/{kind.name}"
        if all(tag in metrics for metrics in metrics_of_runs):
            yield f"test       {kind.label} {np.mean([metrics[tag] for metrics in metrics_of_runs]):.4f}{count}"
