"""Reproduce a run: train it again and compare the metrics."""

import logging
from pathlib import Path

from ratinglab.experiment.root_options import TrainOptions
from ratinglab.experiment.training import train
from ratinglab.runs.record import read_metrics

log = logging.getLogger(__name__)


def reproduce(options: TrainOptions, run_folder: Path) -> None:
    """Train a new run with these options and compare its metrics with those of the original run.

    Raises:
        UserError: the original run is not finished, or its data has changed since; nothing has been trained.
    """
    assert options.reproduces is not None
    first = read_metrics(Path(options.reproduces))
    train(options, run_folder)
    second = read_metrics(run_folder)
    timed = ("fit/seconds", "fit/ratings_per_second")
    differences = [(abs(value - second[tag]), tag) for tag, value in first.items() if tag not in timed]
    difference, tag = max(differences)
    if difference == 0:
        log.info("reproduced: every metric is equal to the last digit")
    else:
        log.info("not equal: the largest difference is %.1e (%s)", difference, tag)
