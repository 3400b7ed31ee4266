"""The fit of a run: new or resumed, in this process or as one of several, and evaluated at its end.

Functions end where memory must be free: `_start_run` before the fit, which does without the table; `run_fit` before the
best weights are read.
"""

import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ratinglab.datasets.sources import CsvOptions
from ratinglab.fitting.loggers.guarded_logger import GuardedLogger
from ratinglab.fitting.ranks import release_ranks, wait_for_rank_zero
from ratinglab.process.program import process_rank
from ratinglab.ratings.side_information import AvailableData
from ratinglab.runs.record import RunRecord, read_record
from ratinglab.runs.run_files import LAST, METRICS, PRUNED
from ratinglab.runs.storage import write_run
from ratinglab.runs.weights import load_weights
from ratinglab.training.continuation import FitStart, check_resumable, find_start
from ratinglab.training.header import describe_start
from ratinglab.training.lightning_setup import set_up_process
from ratinglab.training.preparation import Preparation, prepare
from ratinglab.training.run_logging import log_start
from ratinglab.training.run_results import evaluate_and_write
from ratinglab.training.run_trainer import ReadyFit, build_trainer
from ratinglab.training.train_options import TrainOptions

log = logging.getLogger(__name__)


@dataclass
class StartedRun:
    """A run whose record and tables are written, without the table that they were written from.

    Attributes:
        options: the options, with the equation that model=best chooses for the data.
        available: side information in the data.
        loggers: open loggers.
        ready_fit: the fit to run; None if the run is finished.
    """

    options: TrainOptions
    available: AvailableData
    loggers: Sequence[GuardedLogger]
    ready_fit: ReadyFit | None

    def run_fit(self, run_folder: Path) -> dict[str, float]:
        """Run the fit, and free its weights and its rows. Returns its metrics fit/…."""
        assert self.ready_fit is not None
        ready_fit, self.ready_fit = self.ready_fit, None
        return ready_fit.run(run_folder)


def fit_run(
    options: TrainOptions,
    run_folder: Path,
    *,
    command: Sequence[str],
    validation_fit_metrics: Mapping[str, float] | None = None,
) -> AvailableData:
    """Fit a model into a run's folder and evaluate it, unless the run is finished.

    `validation_fit_metrics` are the metrics of the validation fit, for the refit that follows it; None for other fits.
    Returns the side information in the data.
    """
    refit_epochs = None if validation_fit_metrics is None else int(validation_fit_metrics["fit/best_epoch"])
    run = _start_run(options, run_folder, command=command, refit_epochs=refit_epochs)
    if run.ready_fit is None:
        log.info("resume     the run is already finished")
        release_ranks(options.trainer.build(run_folder=run_folder))
        return run.available
    try:
        fit_metrics = run.run_fit(run_folder)
        if isinstance(options.data, CsvOptions) and options.data.on_disk:  # memory is short
            gc.collect()  # frees the fit's weights, since the fit and its Trainer refer to each other
        evaluate_and_write(
            run.options,
            run_folder,
            fit_metrics=fit_metrics,
            validation_fit_metrics=validation_fit_metrics,
            loggers=run.loggers,
        )
    finally:
        for logger in run.loggers:
            logger.close()
    return run.available


def _start_run(
    options: TrainOptions, run_folder: Path, *, command: Sequence[str], refit_epochs: int | None
) -> StartedRun:
    """Prepare a run, print its header, and write its record and tables; do nothing if the run is finished."""
    prepared = prepare(options, command=command, refit_epochs=refit_epochs)
    record: RunRecord | None = prepared.record
    if options.resume is not None:
        record = check_resumable(
            prepared.options, record=prepared.record, run_folder=run_folder, has_best=prepared.has_best
        )
    if record is None:
        return StartedRun(prepared.options, prepared.available, loggers=(), ready_fit=None)
    start = find_start(run_folder, record)
    loggers = [
        logger.build(run_folder=run_folder, first_epoch=start.epochs_done + 1) for logger in options.logger.values()
    ]
    ready_fit = _build_fit(prepared, run_folder, start=start, loggers=loggers)
    model = ready_fit.fit.predictor.model
    header = list(describe_start(prepared, model, requested_model=options.model.name, epochs_done=start.epochs_done))
    for line in header:
        log.info(line)
    run_folder.mkdir(exist_ok=True)
    write_run(run_folder, record=record, ratings=prepared.ratings)
    for name in (METRICS, PRUNED):  # written before the run was extended
        (run_folder / name).unlink(missing_ok=True)
    is_new = start.checkpoint is None
    log_start(loggers, prepared.options, header, record=record, run_folder=run_folder, is_new=is_new)
    return StartedRun(prepared.options, prepared.available, loggers, ready_fit)


def _build_fit(
    prepared: Preparation, run_folder: Path, *, start: FitStart, loggers: Sequence[GuardedLogger]
) -> ReadyFit:
    """Build the fit of a new run, or of one that resumes from its last checkpoint.

    Raises:
        UserError: the rows or the weights in `from=` do not suit the fit; nothing has been written.
    """
    trainer = build_trainer(prepared, run_folder, loggers=loggers)
    fit = prepared.build_fit(is_resumed=start.checkpoint is not None)
    if start.checkpoint is not None:
        load_weights(fit.predictor, start.checkpoint, record=start.record)
    fit.run_id = start.record.id
    fit.connect_services(run_folder)
    return ReadyFit(trainer, fit, prepared.data, start.checkpoint, prepared.record.provenance)


def join_fit(options: TrainOptions, run_folder: Path) -> None:
    """Take part in the fit of a run that another process trains by `train_run`, without output or files."""
    silent = replace(options.trainer, enable_progress_bar=False, enable_model_summary=False)
    options = replace(options, trainer=silent, logger={})
    set_up_process(options, run_folder, rank=process_rank())
    if not wait_for_rank_zero(options.trainer.build(run_folder=run_folder)):
        return
    prepared = prepare(options)
    record = read_record(run_folder) if (run_folder / LAST).exists() else prepared.record
    start = find_start(run_folder, record)
    _build_fit(prepared, run_folder, start=start, loggers=()).run(run_folder)
