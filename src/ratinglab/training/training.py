"""Train one run, from its options to its folder."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ratinglab.datamodule import RatingDataModule
from ratinglab.errors import UserError
from ratinglab.fitting.fit import Fit
from ratinglab.runs.record import read_metrics
from ratinglab.runs.run_files import VALIDATION_FIT
from ratinglab.training.lightning_setup import set_up_process
from ratinglab.training.preparation import prepare
from ratinglab.training.run_fit import fit_and_evaluate
from ratinglab.training.run_results import print_results, read_objective
from ratinglab.training.train_options import TrainOptions

log = logging.getLogger(__name__)


def train_run(options: TrainOptions, run_folder: Path, *, command: Sequence[str]) -> float | None:
    """Train a run into an empty folder, or resume the run in the folder. `command` is stored in the run's record.

    Prints a header, the progress and a table of results. The best weights, read back from the run's folder, give the
    metrics. A resumed run ends with the same weights, bit for bit, as an uninterrupted one. The fit's other
    processes call `join_fit`.

    With split.refit, a validation fit finds the number of epochs. It is a separate run in the subfolder `validation`,
    and the main run takes its validation metrics.

    Returns:
        The objective of a search; see `read_objective`.

    Raises:
        UserError: the data or an option is wrong, or the run to reproduce is not finished; nothing has been trained.
        RunFailedError: the loss is no longer finite, or a checkpoint could not be written; files written so far remain.
    """
    set_up_process(options, run_folder, rank=0)  # whatever Slurm says: Lightning writes events only in rank 0
    if options.reproduces is not None:
        read_metrics(Path(options.reproduces))  # fail before training
    validation_fit_metrics = _fit_validation_run(options, run_folder, command=command) if options.split.refit else None
    available = fit_and_evaluate(options, run_folder, command=command, validation_fit_metrics=validation_fit_metrics)
    print_results(options, run_folder, available=available)
    return read_objective(run_folder)


def _fit_validation_run(options: TrainOptions, run_folder: Path, *, command: Sequence[str]) -> dict[str, float]:
    """Find the number of epochs of a refit by a fit on the training rows alone, and return the metrics of that fit."""
    folder = run_folder / VALIDATION_FIT
    fit_and_evaluate(options, folder, command=command)
    metrics = read_metrics(folder)
    epochs = metrics["fit/best_epoch"]
    log.info("refit      on training and validation rows, for %d epochs, the best number found", epochs)
    return metrics


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
