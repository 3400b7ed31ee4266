"""Results of a run: its metrics and predictions, in its folder and on the screen."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from ratinglab.fitting.loggers.guarded_logger import GuardedLogger
from ratinglab.inference.run import Run
from ratinglab.inference.run_tables import RunTables
from ratinglab.ratings.side_information import AvailableData
from ratinglab.reports.protocols import compared_tag, tabulate_with_references
from ratinglab.reports.results import describe_results
from ratinglab.runs.record import read_metrics, read_record, write_metrics
from ratinglab.runs.run_files import EPOCHS, VALIDATION_FIT
from ratinglab.runs.storage import write_predictions
from ratinglab.training.header import best_recipe_tip
from ratinglab.training.run_logging import log_end
from ratinglab.training.train_options import TrainOptions

log = logging.getLogger(__name__)

DEFAULT_CHOICE = ("mf", "adam")
"""Default model and optimizer in conf/train.yaml. Results of such a run end with a tip about recipe=best."""


def evaluate_and_write(
    options: TrainOptions,
    run_folder: Path,
    *,
    fit_metrics: Mapping[str, float],
    loggers: Sequence[GuardedLogger],
) -> None:
    """Evaluate the best weights, and write predictions.parquet and metrics.json.

    The validation fit of a run with split.refit does not see the test rows, and logs no results. The refit trains on
    the validation rows, so it takes its validation metrics from the validation fit.
    """
    run = Run.load(run_folder)
    record = run.record
    parts = ("val", "test") if options.test and not record.is_validation_fit else ("val",)
    metrics = run.evaluate(parts=parts) | run.evaluate_own_ranking(parts=parts)
    if not record.predicts_scores:
        write_predictions(run_folder, {part: run.predictions(part) for part in parts})
    metrics |= {**fit_metrics, "fit/best_epoch": run.best_epoch}
    if record.refit_epochs is not None:
        validation_fit_metrics = read_metrics(run_folder / VALIDATION_FIT)
        metrics |= {tag: value for tag, value in validation_fit_metrics.items() if "val/" in tag}
        metrics["fit/seconds"] += validation_fit_metrics["fit/seconds"]
    metrics = write_metrics(run_folder, metrics, monitor=record.monitor, written=[EPOCHS])
    if not record.is_validation_fit:
        log_end(loggers, options, run=run, metrics=metrics)


def print_results(options: TrainOptions, run_folder: Path, *, available: AvailableData) -> None:
    """Print the results of a finished run, compare them with its protocol's references, and recommend recipe=best."""
    record, metrics = read_record(run_folder), read_metrics(run_folder)
    lines = list(describe_results(metrics, RunTables(run_folder, record)))
    if (tag := compared_tag(record)) in metrics:
        lines += tabulate_with_references([record], metrics[tag])
    if (options.model.name, options.optimizer.name) == DEFAULT_CHOICE:
        lines.append(best_recipe_tip(available))
    for line in lines:
        log.info(line)


def read_objective(run_folder: Path) -> float | None:
    """Read the value that a search minimizes: the monitored validation metric, negated if higher is better.

    Returns None if the run has no validation rows.
    """
    record = read_record(run_folder)
    objective = read_metrics(run_folder).get(record.monitor)
    return -objective if objective is not None and record.monitored_metric().higher_is_better else objective


def compare_with_original(run_folder: Path, original_folder: Path) -> None:
    """Print the largest difference between the metrics of a run and of the run that it reproduces.

    Only test errors may be missing, because `report --test` adds them to a job of a search. A note names them.
    """
    original = read_metrics(original_folder)
    metrics = read_metrics(run_folder)
    timings = ("fit/seconds", "fit/ratings_per_second")
    compared = [tag for tag in original if tag in metrics and tag not in timings]
    difference, tag = max((abs(original[tag] - metrics[tag]), tag) for tag in compared)
    missing = sorted(original.keys() - metrics.keys())
    if missing:
        log.info("note: not measured again, and so not compared: %s", ", ".join(missing))
    if any("test/" not in name for name in missing):
        log.info("not reproduced: metrics are missing")
    elif difference == 0:
        log.info("reproduced: every metric is equal to the last digit")
    else:
        log.info("not reproduced: the largest difference is %.1e (%s)", difference, tag)
