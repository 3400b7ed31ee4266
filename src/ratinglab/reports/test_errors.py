"""The test errors of a sweep's best configuration."""

from collections.abc import Iterator, Sequence

import numpy as np

from ratinglab.reports.finished_runs import FinishedRun
from ratinglab.runs.record import write_json
from ratinglab.runs.run import Run


def evaluate_test_rows(runs: Sequence[FinishedRun]) -> Iterator[str]:
    """Evaluate runs on their test rows, unless they were before; return the mean of each metric as lines.

    Each run keeps its test errors, in metrics.json and predictions.parquet.
    """
    found = []
    for each in runs:
        metrics = each.metrics
        if "test/mse" not in metrics:
            run = Run.load(each.folder)
            metrics = metrics | run.evaluate(("test",))
            run.write_predictions(("val", "test"))
            write_json(each.folder / "metrics.json", metrics)
        found.append(metrics)
    count = "" if len(runs) == 1 else f", mean of {len(runs)} runs"
    for kind in runs[0].record.metric_kinds():
        tag = f"test/{kind.name}"
        if all(tag in metrics for metrics in found):
            yield f"test       {kind.label} {np.mean([metrics[tag] for metrics in found]):.4f}{count}"
