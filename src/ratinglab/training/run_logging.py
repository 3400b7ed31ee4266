"""Logs of a run besides its curves: hyperparameters, final metrics, and texts and figures for TensorBoard."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from ratinglab.fitting.loggers.logger_options import TensorBoardOptions
from ratinglab.fitting.loggers.tensorboard import EventLog
from ratinglab.inference.run import Run
from ratinglab.options import group_to_plain
from ratinglab.runs.record import read_hydra_files, read_swept_arguments
from ratinglab.training.preparation import Preparation
from ratinglab.training.train_options import TrainOptions


def log_start(
    prepared: Preparation, loggers: Sequence[GuardedLogger], header: Sequence[str], *, run_folder: Path, is_new: bool
) -> None:
    """Log texts and a chart to TensorBoard and, if the run is new, hyperparameters to the other loggers."""
    for logger in loggers:
        if isinstance(logger, EventLog):
            _log_texts(logger, header, run_folder=run_folder)
            if not prepared.options.model.predicts_scores:
                logger.log_charts({"train and validation MSE": ["train/mse", "val/mse"]})
        elif is_new:
            settings = collect_hyperparameters(prepared.options, data=prepared.ratings.table.name)
            logger.log_hyperparams(settings | read_swept_arguments(run_folder))


def _log_texts(logger: EventLog, header: Sequence[str], *, run_folder: Path) -> None:
    """Log the overrides, the header and the configuration as text."""
    files = read_hydra_files(run_folder) | {"header": "\n".join(header)}
    # TensorBoard sorts the texts by name
    for name, file in (("1_overrides", "overrides.yaml"), ("2_header", "header"), ("3_config", "config.yaml")):
        if file in files:
            logger.log_text(name, "\n".join(f"    {line}" for line in files[file].splitlines()))


def log_end(loggers: Sequence[GuardedLogger], options: TrainOptions, *, run: Run, metrics: Mapping[str, float]) -> None:
    """Log the final metrics to all loggers, and figures to TensorBoard.

    The validation metrics of the best epoch get other names, because val/… are the curves.
    """
    for logger_options, logger in zip(options.logger.values(), loggers, strict=True):
        if isinstance(logger, EventLog):
            assert isinstance(logger_options, TensorBoardOptions), "no other options make such a logger"
            _log_results(logger, options, logger_options, run=run, metrics=metrics)
        else:
            names = {tag: f"best/{tag.replace('/', '_')}" for tag in metrics if tag.startswith("val/")}
            logger.log_metrics({names.get(tag, tag): metrics[tag] for tag in metrics}, int(metrics["fit/epochs"]))


def _log_results(
    logger: EventLog, options: TrainOptions, wanted: TensorBoardOptions, *, run: Run, metrics: Mapping[str, float]
) -> None:
    """Log the final metrics, the `wanted` figures and the hyperparameters. A sweep logs only the swept ones."""
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
    if wanted.figures and not run.record.predicts_scores:
        _log_error_figures(logger, run, part="test" if "test/mse" in metrics else "val", step=step)
    if wanted.data_figures:
        item_count = run.tables.train_counts[1]
        logger.log_figure("data/ratings", plot_rating_histogram(run.part("train").rating), step=step)
        logger.log_figure("data/long_tail", plot_long_tail(item_count[item_count > 0]), step=step)
    if wanted.projector_items > 0:
        _log_embeddings(logger, run, num_items=wanted.projector_items)


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


def _log_embeddings(logger: EventLog, run: Run, *, num_items: int) -> None:
    """Log the embeddings of the most rated items, if the equation has any."""
    factors = run.predictor.base_equation.factors()
    if factors is None:
        return
    embedding = factors.item.factors.detach()
    item_count = run.tables.train_counts[1][: len(embedding)]
    item = np.argsort(-item_count, kind="stable")[:num_items]
    tables = run.tables
    titles = np.full(len(tables.item_ids), "", dtype=object) if tables.titles is None else tables.titles
    # a tab or a line break would end the cell in the projector's file
    labels = [[str(tables.item_ids.ids[i]), " ".join(titles[i].split()), str(item_count[i])] for i in item]
    logger.log_embeddings("items", embedding[item], columns=["item_id", "title", "ratings"], labels=labels)


def collect_hyperparameters(options: TrainOptions, *, data: str) -> dict[str, Any]:
    """Collect the name of the data and, by key, the values that users sweep. A table of all keys is unreadable."""
    fit = options.optimizer
    return {
        "data": data,
        "split": options.split.name,
        **group_to_plain("model", options.model),
        **group_to_plain("optimizer", fit),
        **({} if fit.initial_lr is None else {"schedule": options.schedule.name}),
        **({"batch_size": options.data.batch_size} if fit.takes_batches else {}),
        "max_epochs": options.trainer.max_epochs,
        "seed": options.seed,
    }
