"""Train one run, from its options to its folder."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.utilities import rank_zero_only

from ratinglab.datamodule import RatingDataModule
from ratinglab.errors import RunFailedError, UserError
from ratinglab.fitting.callbacks.checkpoints import BestAndLast
from ratinglab.fitting.callbacks.learning_curve import LearningCurve
from ratinglab.fitting.callbacks.progress import progress_callbacks
from ratinglab.fitting.callbacks.stopping import StopOnSignal
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.loggers.guarded_logger import GuardedLogger
from ratinglab.fitting.ranks import (
    check_started,
    other_processes,
    release_ranks,
    wait_for_all_ranks,
    wait_for_rank_zero,
)
from ratinglab.fitting.trainer_options import Accelerator
from ratinglab.inference.run import Run
from ratinglab.inference.run_tables import RunTables
from ratinglab.process.program import process_rank
from ratinglab.ratings.side_information import AvailableData
from ratinglab.reports.protocols import compared_tag, table_with_reference_results
from ratinglab.reports.results import describe_results
from ratinglab.runs.learning_curves import read_sibling_curves
from ratinglab.runs.record import (
    Provenance,
    RunRecord,
    drop_undefined_metrics,
    read_metrics,
    read_record,
    write_metrics,
)
from ratinglab.runs.run_files import BEST, EPOCHS, LAST, METRICS, PRUNED, VALIDATION_FIT
from ratinglab.runs.storage import write_predictions, write_run
from ratinglab.runs.weights import load_weights, read_checkpoint
from ratinglab.training.continuation import check_resumable, check_same_data_and_metrics
from ratinglab.training.header import best_recipe_tip, describe_start
from ratinglab.training.logging_pages import log_end, log_start
from ratinglab.training.preparation import Preparation, prepare
from ratinglab.training.train_options import TrainOptions

log = logging.getLogger(__name__)

DEFAULT_CHOICE = ("mf", "adam")
"""Default model and optimizer in conf/train.yaml. Results of such a run end with a tip about recipe=best."""
IGNORED_WARNINGS = {
    ".*returned `None`, this fit will run with no optimizer.*": "such a fit changes the weights itself",
    ".*does not have many workers.*": "batches are slices of arrays in memory: worker processes would slow them down",
    "Total length of `Blocks` across ranks is zero.*": "a split may hold out no validation rows",
    ".*callbacks used to create the checkpoint.*": "a search's job resumed on its own has no callback for pruning",
    ".*isinstance.treespec, LeafSpec.*": "Lightning itself calls a deprecated function of torch",
    ".*sync_dist=True.*": "fits sum errors over processes themselves",
}
"""Lightning's warnings about intended settings, by the pattern of their message, each with the reason to ignore it."""


def train_run(options: TrainOptions, run_folder: Path, *, command: Sequence[str]) -> float | None:
    """Train a run into an empty folder, or resume the run in the folder. The run's record keeps the `command` line.

    Prints a header, the progress and a table of results. The metrics belong to the best weights, read back from the
    folder. A resumed run ends with the same weights, bit for bit, as an uninterrupted one. The fit's other processes
    call `join_fit`.

    With split.refit, a first fit finds the number of epochs. It is a separate run in the subfolder `validation`, and
    the main run takes its validation metrics.

    Returns:
        The objective of a search, lower is better: the monitored validation metric, negated if higher is better;
        None without validation rows.

    Raises:
        UserError: the data or an option is wrong, or the run to reproduce is not finished; nothing has been trained.
        RunFailedError: the loss is no longer finite, or a checkpoint could not be written; files written so far remain.
    """
    # rank 0 whatever Slurm says: Lightning writes events only in rank 0
    _set_up_process(options, run_folder, rank=0)
    if options.reproduces is not None:
        read_metrics(Path(options.reproduces))  # fail before training
    first_metrics = None
    if options.split.refit:
        _fit_run(options, run_folder / VALIDATION_FIT, command=command)
        first_metrics = read_metrics(run_folder / VALIDATION_FIT)
        epochs = first_metrics["fit/best_epoch"]
        log.info("refit      on training and validation rows, for %d epochs, the best number found", epochs)
    available = _fit_run(options, run_folder, command=command, first_metrics=first_metrics)
    record, metrics = read_record(run_folder), read_metrics(run_folder)
    _print_results(RunTables(run_folder, record), metrics)
    if (options.model.name, options.optimizer.name) == DEFAULT_CHOICE:
        log.info(best_recipe_tip(available))
    objective = metrics.get(record.monitor)
    return -objective if objective is not None and record.monitored_metric().higher_is_better else objective


def join_fit(options: TrainOptions, run_folder: Path) -> None:
    """Take part in the fit of a run that another process trains by `train_run`, without output or files."""
    silent = replace(options.trainer, enable_progress_bar=False, enable_model_summary=False)
    options = replace(options, trainer=silent, logger={})
    _set_up_process(options, run_folder, rank=process_rank())
    if not wait_for_rank_zero(options.trainer.build(run_folder=run_folder)):
        return
    prepared = prepare(options)
    checkpoint = last if (last := run_folder / LAST).exists() else None
    record = prepared.record if checkpoint is None else read_record(run_folder)
    trainer = _build_trainer(prepared, run_folder, loggers=())
    fit = _build_fit(prepared, run_folder, record=record, checkpoint=checkpoint)
    provenance = prepared.record.provenance  # of the data that this process has read
    _run_trainer(trainer, fit, prepared.data, run_folder=run_folder, provenance=provenance, checkpoint=checkpoint)


def compare_with_original(run_folder: Path, original_folder: Path) -> None:
    """Print the largest difference between the metrics of a run and of the run that it reproduces.

    Only test errors may be missing, which `report --test` adds to a search's job: a note names them.
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


def build_lightning(options: TrainOptions) -> tuple[Fit, RatingDataModule]:
    """Build a fit and its data for the caller's own Trainer.

    The fit has its initial weights, or the weights of the run in `from=`.

    Raises:
        UserError: the data or an option is wrong.
    """
    if options.resume is not None:
        raise UserError("resume continues a run with ratinglab's own Trainer; from=FOLDER starts from its weights")
    prepared = prepare(options)
    return prepared.build_fit(), prepared.data


def _fit_run(
    options: TrainOptions, run_folder: Path, *, command: Sequence[str], first_metrics: Mapping[str, float] | None = None
) -> AvailableData:
    """Fit a model into a run's folder, unless the run is finished.

    `first_metrics` are the first fit's, for the second of two fits; None for any other fit. Returns the side
    information in the data.
    """
    refit_epochs = None if first_metrics is None else int(first_metrics["fit/best_epoch"])
    prepared = prepare(options, command=command, refit_epochs=refit_epochs)
    record: RunRecord | None = prepared.record
    if options.resume is not None:
        record = check_resumable(
            prepared.options, record=prepared.record, run_folder=run_folder, has_best=prepared.has_best
        )
    if record is None:
        log.info("note: the run is already finished")
        release_ranks(options.trainer.build(run_folder=run_folder))
        return prepared.available
    last = run_folder / LAST
    epochs_done = read_checkpoint(last, record=record).epochs if last.exists() else 0
    checkpoint = last if epochs_done > 0 else None
    loggers = [logger.build(run_folder=run_folder, first_epoch=epochs_done + 1) for logger in options.logger.values()]
    trainer = _build_trainer(prepared, run_folder, loggers=loggers)
    fit = _build_fit(prepared, run_folder, record=record, checkpoint=checkpoint)
    lines = list(
        describe_start(prepared, fit.predictor.model, requested_model=options.model.name, epochs_done=epochs_done)
    )
    for line in lines:
        log.info(line)
    run_folder.mkdir(exist_ok=True)
    write_run(run_folder, record=record, holdout=prepared.holdout)
    for name in (METRICS, PRUNED):  # written before the run was extended
        (run_folder / name).unlink(missing_ok=True)
    options, available, data = prepared.options, prepared.available, prepared.data
    is_on_disk = data.train_ratings_in_stars.folder is not None
    del prepared  # frees the table and the split: the fit needs only the rows in its data, 12 or 16 bytes per row
    try:
        log_start(loggers, options, lines, record=record, run_folder=run_folder, is_new=checkpoint is None)
        fit_metrics = _run_trainer(
            trainer, fit, data, run_folder=run_folder, provenance=record.provenance, checkpoint=checkpoint
        )
        del trainer, fit, data  # the best weights are about to be read from the folder
        if is_on_disk:  # memory is short
            gc.collect()  # frees the fit's weights, since the fit and its Trainer refer to each other
        _evaluate_and_write(options, run_folder, fit_metrics=fit_metrics, first_metrics=first_metrics, loggers=loggers)
    finally:
        for logger in loggers:
            logger.close()
    return available


def _build_fit(prepared: Preparation, run_folder: Path, *, record: RunRecord, checkpoint: Path | None) -> Fit:
    """Build the fit of a new run, or of one that resumes from its last `checkpoint`.

    Raises:
        UserError: the rows or the weights in `from=` do not suit the fit; nothing has been written.
    """
    fit = prepared.build_fit(is_resumed=checkpoint is not None)
    if checkpoint is not None:
        load_weights(fit.predictor, checkpoint, record=record)
    fit.run_id = record.id
    fit.connect_services(run_folder)
    return fit


def _build_trainer(prepared: Preparation, run_folder: Path, *, loggers: Sequence[GuardedLogger]) -> Trainer:
    """Build Lightning's Trainer. Neither trainer.max_epochs nor trainer.max_time limits a fit with exact epochs."""
    options, monitor = prepared.options, prepared.monitor
    exact_epochs = _find_exact_epochs(prepared)
    callbacks = options.callbacks.build(run_folder=run_folder, monitor=monitor if prepared.has_best else None)
    callbacks += progress_callbacks(enabled=options.trainer.enable_progress_bar)
    callbacks.append(LearningCurve(run_folder / EPOCHS, tags=prepared.curve_tags()))
    if options.callbacks.pruning.enabled and prepared.has_validation and not options.split.refit:
        curves = read_sibling_curves(run_folder, f"val/{monitor.name}", split=prepared.holdout.split.identity)
        callbacks.append(options.callbacks.pruning.build(curves=curves, monitor=monitor))
    callbacks.append(StopOnSignal(run_folder.parent if prepared.is_first_of_two else run_folder))
    trainer = options.trainer
    if options.optimizer.runs_on_cpu_only:
        trainer = replace(trainer, accelerator=Accelerator.cpu)  # auto could find a GPU
    if exact_epochs is not None:
        # a sampler would otherwise end once min_gain is reached
        min_epochs = exact_epochs if options.optimizer.keeps_samples else min(trainer.min_epochs, exact_epochs)
        trainer = replace(trainer, max_epochs=exact_epochs, min_epochs=min_epochs, max_time=None)
    return trainer.build(run_folder=run_folder, loggers=loggers, callbacks=callbacks)


def _find_exact_epochs(prepared: Preparation) -> int | None:
    """Return the number of epochs of a second fit or of a reproduction; None if the fit itself decides."""
    options = prepared.options
    record = prepared.record
    if options.reproduces is None:
        return record.refit_epochs
    original = Path(options.reproduces) / (VALIDATION_FIT if prepared.is_first_of_two else "")
    check_same_data_and_metrics(original, record, key="run")
    # trainer.max_time or pruning may have ended the original
    if record.refit_epochs is None and (options.trainer.max_time is not None or (original / PRUNED).is_file()):
        return int(read_metrics(original)["fit/epochs"])
    return record.refit_epochs


def _intact_checkpoints(run_folder: Path) -> str:
    """Name the intact checkpoints with their epochs; "none" without any."""
    intact = []
    for path in (run_folder / BEST, run_folder / LAST):
        with suppress(UserError):
            intact.append(f"{path.name}, from epoch {read_checkpoint(path, record=read_record(run_folder)).epochs}")
    return "; ".join(intact) or "none"


def _run_trainer(
    trainer: Trainer,
    fit: Fit,
    data: RatingDataModule,
    *,
    run_folder: Path,
    provenance: Provenance,
    checkpoint: Path | None,
) -> dict[str, float]:
    """Run the fit in all its processes, from a checkpoint if there is one, and return its metrics fit/….

    Processes must have read the same data, by the digests in their `provenance`.

    Raises:
        RunFailedError: the loss is no longer finite, or a checkpoint could not be written.
    """
    digests = [provenance["data_digest"], provenance["side_digest"], provenance["split"]]
    threads = torch.get_num_threads()
    if fit.wants_one_thread(data.batch_size or len(data.train_ratings_in_stars)):
        torch.set_num_threads(1)
    try:
        with other_processes(trainer, run_folder):
            wait_for_all_ranks(trainer, digests=digests)
            start = perf_counter()
            trainer.fit(fit, datamodule=data, ckpt_path=checkpoint, weights_only=True)
            seconds = perf_counter() - start
    except OSError:
        log.warning("warning: the fit has ended early; intact checkpoints: %s", _intact_checkpoints(run_folder))
        raise
    finally:
        torch.set_num_threads(threads)
    checkpoints = trainer.checkpoint_callback
    assert isinstance(checkpoints, BestAndLast)
    if checkpoints.faults:
        raise RunFailedError(f"{'; '.join(checkpoints.faults)}; intact checkpoints: {_intact_checkpoints(run_folder)}")
    return {
        "fit/seconds": fit.seconds + seconds,
        "fit/ratings_per_second": 0.0 if fit.rows_trained == 0 else fit.rows_trained / fit.step_seconds,
        "fit/epochs": fit.epochs_done,  # Lightning counts an epoch only after its callbacks, where a signal can end it
        "fit/parameters": sum(parameter.numel() for parameter in fit.predictor.model.parameters()),
    }


def _evaluate_and_write(
    options: TrainOptions,
    run_folder: Path,
    *,
    fit_metrics: Mapping[str, float],
    first_metrics: Mapping[str, float] | None,
    loggers: Sequence[GuardedLogger],
) -> None:
    """Evaluate the best weights, and write predictions.parquet and metrics.json. Log the results of the last fit."""
    run = Run.load(run_folder)
    is_first_of_two = options.split.refit and first_metrics is None
    # with two fits, only the second one sees the test rows
    parts = ("val", "test") if options.test and not is_first_of_two else ("val",)
    metrics = run.evaluate(parts=parts) | run.evaluate_own_ranking(parts=parts)
    if not run.record.predicts_scores:
        write_predictions(run.folder, {part: run.predictions(part) for part in parts})
    metrics |= {**fit_metrics, "fit/best_epoch": run.best_epoch}
    if first_metrics is not None:
        metrics |= {tag: value for tag, value in first_metrics.items() if "val/" in tag}
        metrics["fit/seconds"] += first_metrics["fit/seconds"]
    metrics = drop_undefined_metrics(metrics, monitor=options.monitor)
    write_metrics(run_folder, metrics, written=[EPOCHS])
    if not is_first_of_two:
        log_end(loggers, options, run=run, metrics=metrics)


def _print_results(tables: RunTables, metrics: Mapping[str, float]) -> None:
    """Print the results of a finished run, among its protocol's references, if any."""
    lines = list(describe_results(metrics, tables))
    if (tag := compared_tag(tables.record)) in metrics:
        lines += table_with_reference_results([tables.record], metrics[tag])
    for line in lines:
        log.info(line)


def _set_up_process(options: TrainOptions, run_folder: Path, *, rank: int) -> None:
    """Set Lightning's rank, silence its warnings about intended settings, and check the processes of the fit.

    Raises:
        UserError: processes or devices are missing.
    """
    rank_zero_only.rank = rank  # type: ignore[attr-defined]
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("callbacks.model_summary", "profilers.profiler"):  # these print what the user has asked for
        logging.getLogger(f"pytorch_lightning.{name}").setLevel(logging.INFO)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    trainer = options.trainer
    check_started(devices=trainer.devices, num_nodes=trainer.num_nodes)
    if trainer.num_processes > 1:
        trainer.build(run_folder=run_folder)  # raises if a device is missing
