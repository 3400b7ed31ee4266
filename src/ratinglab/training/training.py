"""Train one run, from its options to its folder."""

import gc
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ratinglab.datamodule import RatingDataModule
from ratinglab.errors import UserError, format_count
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.ranks import release_ranks, wait_for_rank_zero
from ratinglab.process.program import process_rank
from ratinglab.ratings.ids import IdMap
from ratinglab.ratings.side_information import AvailableData
from ratinglab.runs.record import read_metrics, read_record
from ratinglab.runs.run_files import LAST, METRICS, PRUNED, VALIDATION_FIT
from ratinglab.runs.storage import write_run
from ratinglab.splits.split import TEST
from ratinglab.training.continuation import check_resumable, load_initial_weights
from ratinglab.training.preparation import prepare
from ratinglab.training.run_results import evaluate_and_write, print_results, read_objective
from ratinglab.training.run_start import describe_start, log_start
from ratinglab.training.run_trainer import build_ready_fit, set_up_process
from ratinglab.training.train_options import TrainOptions

log = logging.getLogger(__name__)


def train_run(options: TrainOptions, run_folder: Path, *, command: Sequence[str]) -> float | None:
    """Train a run into an empty folder, or resume the run in the folder. `command` is stored in the run's record.

    Prints a header, the progress and a table of results. The best weights, read back from the run's folder, give the
    metrics. On a CPU, a resumed run ends with the weights of an uninterrupted run, bit for bit. The fit's other
    processes call `join_fit`.

    With split.refit, a validation fit finds the number of epochs. It is a separate run in the subfolder `validation`,
    and the main run takes its validation metrics.

    Returns:
        The objective of a search; see `read_objective`.

    Raises:
        UserError: the data or an option is wrong, or the run to reproduce is not finished; nothing has been trained.
        RunFailedError: the loss is no longer finite, or a checkpoint could not be written; files written so far remain.
    """
    set_up_process(options, run_folder, rank=0)  # also under Slurm, because Lightning writes events only in rank 0
    if options.reproduces is not None:
        read_metrics(Path(options.reproduces))  # fail before training
    refit_epochs = _find_refit_epochs(options, run_folder, command=command) if options.split.refit else None
    available = _fit_and_evaluate(options, run_folder, command=command, refit_epochs=refit_epochs)
    print_results(options, run_folder, available=available)
    return read_objective(run_folder)


def join_fit(options: TrainOptions, run_folder: Path) -> None:
    """Take part in the fit of a run that another process trains by `train_run`, without output or files."""
    silent = replace(options.trainer, enable_progress_bar=False, enable_model_summary=False)
    options = replace(options, trainer=silent, logger={})
    set_up_process(options, run_folder, rank=process_rank())
    if not wait_for_rank_zero(options.trainer.build(run_folder=run_folder)):
        return
    prepared = prepare(options)
    record = read_record(run_folder) if (run_folder / LAST).exists() else prepared.record
    build_ready_fit(prepared, record, run_folder).run(run_folder)


def build_lightning(options: TrainOptions) -> tuple[Fit, RatingDataModule]:
    """Build a fit and its data for the caller's own Trainer.

    The fit has its initial weights, or the weights of the run in `from=`.

    Raises:
        UserError: the data or an option is wrong.
    """
    if options.resume is not None:
        raise UserError("resume continues a run with ratinglab's own Trainer; from=FOLDER starts from its weights")
    prepared = prepare(options)
    data, ratings = prepared.data, prepared.ratings
    data.test_ratings = ratings.copy_rows(TEST)
    data.user_ids = IdMap(ratings.table.user_ids.ids[ratings.user_order])
    data.item_ids = IdMap(ratings.table.item_ids.ids[ratings.item_order])
    fit = prepared.build_fit()
    load_initial_weights(prepared, fit.predictor)
    return fit, data


def _find_refit_epochs(options: TrainOptions, run_folder: Path, *, command: Sequence[str]) -> int:
    """Find the number of epochs of a refit, by a fit on the training rows only."""
    folder = run_folder / VALIDATION_FIT
    _fit_and_evaluate(options, folder, command=command, refit_epochs=None)
    epochs = int(read_metrics(folder)["fit/best_epoch"])
    found = format_count(epochs, "epoch")
    log.info("refit      on training and validation rows, for %s, the best number found", found)
    return epochs


def _fit_and_evaluate(
    options: TrainOptions, run_folder: Path, *, command: Sequence[str], refit_epochs: int | None
) -> AvailableData:
    """Fit a model into a run's folder and evaluate it, unless the run is finished.

    `refit_epochs` is None for a fit that is not a refit. Returns the side information in the data.
    """
    prepared = prepare(options, command=command, refit_epochs=refit_epochs)
    options, available = prepared.options, prepared.available
    record = prepared.record if options.resume is None else check_resumable(prepared, run_folder)
    if record is None:
        log.info("resume     the run is already finished")
        release_ranks(options.trainer.build(run_folder=run_folder))
        return available
    ready_fit = build_ready_fit(prepared, record, run_folder)
    loggers, epochs_done = ready_fit.loggers, ready_fit.epochs_done
    header = list(describe_start(prepared, ready_fit.fit.predictor.model, epochs_done=epochs_done))
    for line in header:
        log.info(line)
    run_folder.mkdir(exist_ok=True)
    write_run(run_folder, record=record, ratings=prepared.ratings)
    for name in (METRICS, PRUNED):  # the run wrote them before it was extended
        (run_folder / name).unlink(missing_ok=True)
    try:
        log_start(prepared, loggers, header, run_folder=run_folder, is_new=epochs_done == 0)
        del prepared  # frees the table, which the fit does not need
        fit_metrics = ready_fit.run(run_folder)
        del ready_fit  # the evaluation reads the best weights
        if options.data.keeps_rows_on_disk:  # memory is short
            gc.collect()  # frees the fit's weights, since the fit and its Trainer refer to each other
        evaluate_and_write(options, run_folder, fit_metrics=fit_metrics, loggers=loggers)
    finally:
        for logger in loggers:
            logger.close()
    return available
