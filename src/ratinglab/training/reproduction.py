"""Reproduction of a run: the number of epochs to train, and the comparison with the original."""

import logging
from pathlib import Path

from ratinglab.runs.record import read_metrics
from ratinglab.runs.run_files import PRUNED, VALIDATION_FIT
from ratinglab.training.continuation import check_same_data_and_metrics
from ratinglab.training.preparation import Preparation

log = logging.getLogger(__name__)


def find_exact_epochs(prepared: Preparation) -> int | None:
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


def compare_with_original(run_folder: Path, original_folder: Path) -> None:
    """Print the largest difference between the metrics of a run and of the run that it reproduces."""
    original = read_metrics(original_folder)
    metrics = read_metrics(run_folder)
    timings = ("fit/seconds", "fit/ratings_per_second")
    difference, tag = max((abs(value - metrics[tag]), tag) for tag, value in original.items() if tag not in timings)
    if difference == 0:
        log.info("reproduced: every metric is equal to the last digit")
    else:
        log.info("not reproduced: the largest difference is %.1e (%s)", difference, tag)
