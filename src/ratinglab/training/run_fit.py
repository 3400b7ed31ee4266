"""The fit of a run: new or resumed, in this process or as one of several, and evaluated at its end."""

import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ratinglab.fitting.loggers.guarded_logger import GuardedLogger
from ratinglab.fitting.ranks import release_ranks, wait_for_rank_zero
from ratinglab.process.program import process_rank
from ratinglab.ratings.side_information import AvailableData
from ratinglab.runs.record import RunRecord, read_record
from ratinglab.runs.run_files import LAST, METRICS, PRUNED
from ratinglab.runs.storage import write_run
from ratinglab.runs.weights import load_weights
from ratinglab.training.continuation import check_resumable, count_epochs_done
from ratinglab.training.header import describe_start
from ratinglab.training.lightning_setup import set_up_process
from ratinglab.training.preparation import Preparation, prepare
from ratinglab.training.run_logging import log_start
from ratinglab.training.run_results import evaluate_and_write
from ratinglab.training.run_trainer import ReadyFit, build_trainer
from ratinglab.training.train_options import TrainOptions

log = logging.getLogger(__name__)


def fit_and_evaluate(
    options: TrainOptions,
    run_folder: Path,
    *,
    command: Sequence[str],
    validation_fit_metrics: Mapping[str, float] | None = None,
) -> AvailableData:
    """Fit a model into a run's folder and evaluate it, unless the run is finished.

    `validation_fit_metrics` are the metrics of the validation fit, for the refit that follows it. None for other fits.
    Returns the side information in the data.
    """
    requested_model = options.model.name
    refit_epochs = None if validation_fit_metrics is None else int(validation_fit_metrics["fit/best_epoch"])
    prepared = prepare(options, command=command, refit_epochs=refit_epochs)
    options, available = prepared.options, prepared.available
    record: RunRecord | None = prepared.record
    if options.resume is not None:
        record = check_resumable(options, record=prepared.record, run_folder=run_folder, has_best=prepared.has_best)
    if record is None:
        log.info("resume     the run is already finished")
        release_ranks(options.trainer.build(run_folder=run_folder))
        return available
    epochs_done = count_epochs_done(run_folder, record)
    loggers = [logger.build(run_folder=run_folder, first_epoch=epochs_done + 1) for logger in options.logger.values()]
    ready_fit = _build_fit(prepared, record, run_folder, epochs_done=epochs_done, loggers=loggers)
    equation = ready_fit.fit.predictor.model
    header = list(describe_start(prepared, equation, requested_model=requested_model, epochs_done=epochs_done))
    for line in header:
        log.info(line)
    run_folder.mkdir(exist_ok=True)
    write_run(run_folder, record=record, ratings=prepared.ratings)
    for name in (METRICS, PRUNED):  # written before the run was extended
        (run_folder / name).unlink(missing_ok=True)
    try:
        log_start(loggers, options, header, record=record, run_folder=run_folder, is_new=epochs_done == 0)
        del prepared  # frees the table, which the fit does not need
        fit_metrics = ready_fit.run(run_folder)
        del ready_fit, equation  # the evaluation reads the best weights
        if options.data.keeps_rows_on_disk:  # memory is short
            gc.collect()  # frees the fit's weights, since the fit and its Trainer refer to each other
        evaluate_and_write(
            options,
            run_folder,
            fit_metrics=fit_metrics,
            validation_fit_metrics=validation_fit_metrics,
            loggers=loggers,
        )
    finally:
        for logger in loggers:
            logger.close()
    return available


def _build_fit(
    prepared: Preparation, record: RunRecord, run_folder: Path, *, epochs_done: int, loggers: Sequence[GuardedLogger]
) -> ReadyFit:
    """Build the fit of a new run, or of one that resumes from its last checkpoint.

    Raises:
        UserError: the rows or the weights in `from=` do not suit the fit; nothing has been written.
    """
    checkpoint = run_folder / LAST if epochs_done > 0 else None
    trainer = build_trainer(prepared, run_folder, loggers=loggers)
    fit = prepared.build_fit(is_resumed=checkpoint is not None)
    if checkpoint is not None:
        load_weights(fit.predictor, checkpoint, record=record)
    fit.run_id = record.id
    fit.connect_services(run_folder)
    read = prepared.record.provenance
    digests = [read["data_digest"], read["side_digest"], read["split"]]
    return ReadyFit(trainer, fit, prepared.data, checkpoint, digests)


def join_fit(options: TrainOptions, run_folder: Path) -> None:
    """Take part in the fit of a run that another process trains by `train_run`, without output or files."""
    silent = replace(options.trainer, enable_progress_bar=False, enable_model_summary=False)
    options = replace(options, trainer=silent, logger={})
    set_up_process(options, run_folder, rank=process_rank())
    if not wait_for_rank_zero(options.trainer.build(run_folder=run_folder)):
        return
    prepared = prepare(options)
    record = read_record(run_folder) if (run_folder / LAST).exists() else prepared.record
    epochs_done = count_epochs_done(run_folder, record)
    _build_fit(prepared, record, run_folder, epochs_done=epochs_done, loggers=()).run(run_folder)
