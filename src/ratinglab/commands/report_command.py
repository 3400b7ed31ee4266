"""Compare runs with one another and with published results, and evaluate the best runs of a sweep on test rows."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ratinglab.errors import UserError
from ratinglab.files import user_path
from ratinglab.inference.run import Run
from ratinglab.reports.comparison import tabulate_comparisons
from ratinglab.reports.groups import divide_jobs
from ratinglab.reports.sweep_report import report_sweep
from ratinglab.runs.finished_runs import FinishedRun
from ratinglab.runs.record import write_metrics
from ratinglab.runs.run_files import SWEEP_RECORD
from ratinglab.runs.storage import write_predictions
from ratinglab.runs.sweep_folder import read_jobs


def report_folders(folders: Sequence[str], *, test: bool) -> Iterator[str]:
    """Report each sweep among the folders, then compare all finished runs in the folders.

    Rewrites the files of a sweep's report if its folder is writable. With `test`, evaluates the best configuration of
    each sweep on its test rows first, and stores the errors in its runs.

    Raises:
        UserError: the folders have no finished run. With `test`, they have no sweep, or a sweep has no single best
            configuration.
    """
    sweeps = [path for path in (user_path(name, key="folder") for name in folders) if (path / SWEEP_RECORD).is_file()]
    if test and not sweeps:
        raise UserError(f"--test needs the folder of a sweep, got {', '.join(folders)}")
    for folder in sweeps:
        if test:
            _test_best(folder)
        sweep = report_sweep(read_jobs(folder))
        yield from (*sweep.lines, "")
        if os.access(folder, os.W_OK):
            sweep.write(folder)
    is_single_sweep = len(sweeps) == len(folders) == 1  # its table has all runs; only protocols need another table
    yield from tabulate_comparisons(folders, only_protocols=is_single_sweep)


def _test_best(sweep: Path) -> None:
    """Evaluate the runs of a sweep's best configuration on their test rows, and store the errors in their folders."""
    sets = divide_jobs(read_jobs(sweep))
    best = sets[0].best if len(sets) == 1 else None
    if best is None:
        raise UserError(
            f"--test needs one best configuration; the sweep in {sweep} has none, or its jobs use different data or "
            "splits"
        )
    for run in best.runs:
        if not any(tag.startswith("test/") for tag in run.metrics):
            _test_run(run)


def _test_run(run: FinishedRun) -> None:
    """Measure the test errors of a run, and rewrite its metrics.json and predictions.parquet."""
    loaded = Run.load(run.folder)
    metrics = run.metrics | loaded.evaluate(parts=("test",)) | loaded.evaluate_own_ranking(parts=("test",))
    if not run.record.predicts_scores:
        write_predictions(run.folder, {part: loaded.predictions(part) for part in ("val", "test")})
    write_metrics(run.folder, metrics, monitor=run.record.monitor)
