"""Results of a run: its metrics, predictions and figures, in its folder, in its loggers and on the screen."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ratinglab.evaluation.metrics import MSE, find_metrics
from ratinglab.evaluation.plots import (
    plot_error_by_count,
    plot_error_distribution,
    plot_long_tail,
    plot_predicted_against_true,
    plot_rating_histogram,
)
from ratinglab.evaluation.ranking import METRIC_LABELS
from ratinglab.fitting.loggers.guarded_logger import GuardedLogger
from ratinglab.fitting.loggers.tensorboard import EventLog
from ratinglab.inference.run import Run
from ratinglab.inference.run_tables import RunTables
from ratinglab.ratings.side_information import AvailableData
from ratinglab.reports.protocols import compared_tag, tabulate_with_references
from ratinglab.reports.results import describe_results
from ratinglab.runs.hydra_files import read_swept_arguments
from ratinglab.runs.record import find_largest_difference, read_metrics, read_record, write_metrics
from ratinglab.runs.run_files import EPOCHS, VALIDATION_FIT
from ratinglab.runs.storage import write_predictions
from ratinglab.training.run_start import best_recipe_tip, collect_hyperparameters
from ratinglab.training.train_options import TrainOptions

log = logging.getLogger(__name__)

TEXTBOOK_FITS = {("mf", "adam"), ("biased_mf", "adam")}
"""Models and optimizers that newcomers begin with, so that their results end with a tip about recipe=best."""


def evaluate_and_write(
    options: TrainOptions, run_folder: Path, *, fit_metrics: Mapping[str, float], loggers: Sequence[GuardedLogger]
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
        _log_end(options, loggers, run, metrics)


def _log_end(options: TrainOptions, loggers: Sequence[GuardedLogger], run: Run, metrics: Mapping[str, float]) -> None:
    """Log the final metrics to all loggers, and figures to TensorBoard.

    The validation metrics of the best epoch get other names, because val/… are the curves.
    """
    for logger in loggers:
        if isinstance(logger, EventLog):
            _log_results(logger, options, run=run, metrics=metrics)
        else:
            names = {tag: f"best/{tag.replace('/', '_')}" for tag in metrics if tag.startswith("val/")}
            logger.log_metrics({names.get(tag, tag): metrics[tag] for tag in metrics}, int(metrics["fit/epochs"]))


def _log_results(logger: EventLog, options: TrainOptions, *, run: Run, metrics: Mapping[str, float]) -> None:
    """Log the final metrics, the figures that are wanted, and the hyperparameters (in a sweep, only the swept ones)."""
    step = int(metrics["fit/epochs"])
    tests = [f"test/{metric.name}" for metric in find_metrics(options.metrics) if metric is not MSE]
    tests += [f"test/{name}@{k}" for k in run.record.list_lengths() for name in METRIC_LABELS]
    logger.log_metrics({tag: metrics[tag] for tag in tests if tag in metrics}, step)
    monitor = options.monitor.removeprefix("val/")
    tags = {f"best/val_{monitor}": options.monitor, "test/mse": "test/mse"}
    tags |= {f"test/ndcg@{k}": f"test/ndcg@{k}" for k in run.record.list_lengths()}
    results = {tag: metrics[key] for tag, key in tags.items() if key in metrics}
    settings = read_swept_arguments(run.folder) or collect_hyperparameters(options, data=run.record.provenance["data"])
    logger.log_results(settings, results, step=step)
    wanted = logger.options
    if wanted.figures and not run.record.predicts_scores:
        _log_error_figures(logger, run, part="test" if "test/mse" in metrics else "val", step=step)
    if wanted.data_figures:
        item_count = run.tables.train_counts[1]
        logger.log_figure("data/ratings", plot_rating_histogram(run.part("train").rating), step=step)
        logger.log_figure("data/long_tail", plot_long_tail(item_count[item_count > 0]), step=step)
    if wanted.projector_items > 0:
        _log_embeddings(logger, run, num_items=wanted.projector_items, step=step)


def _log_error_figures(logger: EventLog, run: Run, *, part: str, step: int) -> None:
    """Log figures of a part's errors, if it has rows."""
    if len(run.part(part)) == 0:
        return
    predictions = run.predictions(part)
    user_count, item_count = run.tables.train_counts
    for name, figure in (
        ("predicted_against_true", plot_predicted_against_true(predictions)),
        ("error_by_item_popularity", plot_error_by_count(predictions, item_count[predictions.rows.item], side="item")),
        ("error_by_user_activity", plot_error_by_count(predictions, user_count[predictions.rows.user], side="user")),
        ("error_distribution", plot_error_distribution(predictions)),
    ):
        logger.log_figure(f"{part}/{name}", figure, step=step)


def _log_embeddings(logger: EventLog, run: Run, *, num_items: int, step: int) -> None:
    """Log the embeddings of the most rated items, if the equation has any."""
    factors = run.predictor.equation.factors()
    if factors is None:
        return
    embedding = factors.item.factors.detach()
    item_count = run.tables.train_counts[1][: len(embedding)]
    item = np.argsort(-item_count, kind="stable")[:num_items]
    tables = run.tables
    titles = np.full(len(tables.item_ids), "", dtype=object) if tables.titles is None else tables.titles
    # a tab or a line break would end the cell in the projector's file
    labels = [[str(tables.item_ids.ids[i]), " ".join(titles[i].split()), str(item_count[i])] for i in item]
    columns = ["item_id", "title", "ratings"]
    logger.log_embeddings("items", embedding[item], columns=columns, labels=labels, step=step)


def print_results(options: TrainOptions, run_folder: Path, *, available: AvailableData) -> None:
    """Print the results of a finished run, compare them with its protocol's references, and recommend recipe=best."""
    record, metrics = read_record(run_folder), read_metrics(run_folder)
    lines = list(describe_results(metrics, RunTables(run_folder, record)))
    if (tag := compared_tag(record)) in metrics:
        lines += tabulate_with_references([record], metrics[tag])
    if (options.model.name, options.optimizer.name) in TEXTBOOK_FITS:
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
    compared = {tag: value for tag, value in original.items() if tag not in timings}
    largest = find_largest_difference(compared, metrics)
    assert largest is not None, "all runs have fit/epochs"
    difference, tag = largest
    missing = sorted(original.keys() - metrics.keys())
    if missing:
        log.info("note: not measured again, and so not compared: %s", ", ".join(missing))
    if any("test/" not in name for name in missing):
        log.info("not reproduced: metrics are missing")
    elif difference == 0:
        log.info("reproduced: every metric is equal to the last digit")
    else:
        log.info("not reproduced: the largest difference is %.1e (%s)", difference, tag)
