"""Checks before a run is resumed or reproduced."""

import logging
from dataclasses import replace
from pathlib import Path

from ratinglab.errors import UserError
from ratinglab.experiment.root_options import TrainOptions
from ratinglab.files import RUN_RECORD, remove_half_done
from ratinglab.runs.record import RunRecord, read_record
from ratinglab.runs.storage import read_epoch

log = logging.getLogger(__name__)


def check_same_data(run_folder: Path, record: RunRecord, *, key: str) -> RunRecord:
    """Check that a run used the data, split and metrics of `record`, and return the run's own record.

    Raises:
        UserError: the data, the side information, the split or a metric has changed since.
    """
    before = read_record(run_folder)
    compared = {"data_digest": "the data", "split": "the split", "side_digest": "the side information"}
    for name, what in compared.items():
        if before.provenance[name] != record.provenance[name]:
            raise UserError(
                f"{key}: {what} has changed since {run_folder} was started: "
                f"{before.provenance[name]} then, {record.provenance[name]} now"
            )
    if (before.metrics, before.monitor) != (record.metrics, record.monitor):
        raise UserError(f"{key}: the metrics or their directions have changed since {run_folder} was started")
    for name in ("threads", "versions"):
        if before.provenance[name] != record.provenance[name]:
            log.info("note: %s have changed since the run was started; the last bits may differ", name)
    return before


def check_resumable(options: TrainOptions, *, record: RunRecord, run_folder: Path) -> tuple[RunRecord, bool]:
    """Check that the run in a folder is the same experiment as `record`.

    Removes files that a killed process left incomplete. A run that was killed before it wrote its record counts as new.

    Returns:
        The run's record as first written, with the new max_epochs; and whether the run is finished.

    Raises:
        UserError: as in `check_same_data`, or the run cannot be extended as asked.
    """
    for folder in (run_folder, run_folder / "checkpoints"):
        remove_half_done(folder)
    if not (run_folder / RUN_RECORD).exists():
        return record, False
    before = check_same_data(run_folder, record, key="resume")
    if record.max_epochs == before.max_epochs:
        return before, (run_folder / "metrics.json").exists()
    if options.split.refit:
        raise UserError(
            "a run with split.refit=true cannot be extended: "
            "its second fit trains for the number of epochs that the first one found"
        )
    done = read_epoch(run_folder / "checkpoints" / "last.ckpt")
    if record.max_epochs <= done:
        raise UserError(f"trainer.max_epochs must be above the {done} epochs done, got {record.max_epochs}")
    if options.schedule.spans_max_epochs:
        raise UserError(
            f"a run under schedule={options.schedule.name} cannot be extended: its learning rates depend on "
            "trainer.max_epochs from the first epoch on"
        )
    return replace(before, max_epochs=record.max_epochs), False
