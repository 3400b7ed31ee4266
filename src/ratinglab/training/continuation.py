"""Continuing earlier runs: checks before one is resumed or reproduced, and the weights that a fit starts from."""

import logging
from dataclasses import replace
from pathlib import Path

from pytorch_lightning.callbacks import Timer

from ratinglab.errors import UserError
from ratinglab.files import remove_temporary_files, user_path
from ratinglab.fitting.fit_options import named_fits
from ratinglab.fitting.whole_epoch_options import SparkALSOptions
from ratinglab.models.predictor import Predictor
from ratinglab.options import as_yaml
from ratinglab.runs.record import RunRecord, has_finished, read_record
from ratinglab.runs.run_files import BEST, CHECKPOINTS, LAST, METRICS, RUN_RECORD, TABLES, VALIDATION_FIT
from ratinglab.runs.storage import find_damaged_files
from ratinglab.runs.weights import load_equation, read_checkpoint
from ratinglab.training.preparation import PreparedRun

log = logging.getLogger(__name__)


def check_same_rows(earlier: RunRecord, record: RunRecord, *, folder: Path, key: str) -> None:
    """Check that two runs have the same rows in the same parts. Messages name `key` and the earlier run's `folder`.

    Raises:
        UserError: the data, the side information or the split differs.
    """
    then, now = earlier.provenance, record.provenance
    for change, old, new in (
        ("the data have changed", then["data_digest"], now["data_digest"]),
        ("the split has changed", then["split"], now["split"]),
        ("the side information has changed", then["side_digest"], now["side_digest"]),
    ):
        if old != new:
            raise UserError(f"{key}: {change} since {folder} was started: {old} then, {new} now")


def check_same_data_and_metrics(run_folder: Path, record: RunRecord, *, key: str) -> RunRecord:
    """Check that a run used the data, split and metrics of `record`, and return its own record.

    Logs a note if the versions of the packages or the kind of processor differ or, where this can change the weights,
    the number of threads. Messages of errors begin with `key`.

    Raises:
        UserError: the data, the side information, the split or a metric has changed since.
    """
    earlier = read_record(run_folder)
    check_same_rows(earlier, record, folder=run_folder, key=key)
    if (earlier.metrics, earlier.monitor, earlier.ranking) != (record.metrics, record.monitor, record.ranking):
        raise UserError(f"{key}: the metrics or their directions have changed since {run_folder} was started")
    then, now = earlier.provenance, record.provenance
    changes = []
    if then["versions"] != now["versions"]:
        changes.append("the versions of the packages differ from when the run was started")
    if then["cpu"] != now["cpu"]:
        changes.append(f"the processor is {now['cpu']}; the run was started on {then['cpu']}")
    if then["threads"] != now["threads"] and _depends_on_threads(record):
        changes.append("the number of threads differs from when the run was started")
    for change in changes:
        log.info("note: %s; results may not match bit for bit", change)
    return earlier


def _depends_on_threads(record: RunRecord) -> bool:
    """Return whether the number of threads can change the last bits: with Spark, or the user's own equation or fit."""
    safe_fits = {fit.name for fit in named_fits() if fit.__module__.startswith("ratinglab.")} - {SparkALSOptions.name}
    return not record.model_target.startswith("ratinglab.") or record.fit["optimizer"] not in safe_fits


def load_initial_weights(prepared: PreparedRun, predictor: Predictor) -> None:
    """Load the best weights of the run that `from=` names, if any, into the predictor's equation, before it is fitted.

    Both runs must have the same rows in the same parts: otherwise the weights may have been fitted on rows that this
    run holds out. The validation fit of a run with split.refit starts from the earlier run's validation fit.

    Raises:
        UserError: there is no such run, its weights have other shapes, or its rows or parts differ.
    """
    options, record = prepared.options, prepared.record
    if options.from_ is None:
        return
    folder = user_path(options.from_, key="from")
    earlier = read_record(folder, key="from")
    if options.split.refit and earlier.refit_epochs is None:
        raise UserError(f"from: {folder} was fitted without split.refit=true, but this run sets it")
    if not options.split.refit and earlier.refit_epochs is not None:
        raise UserError(
            f"from: {folder} was fitted on its validation rows too; from={folder / VALIDATION_FIT} starts from its "
            "validation fit, which was not"
        )
    if record.is_validation_fit:
        folder = folder / VALIDATION_FIT
        earlier = read_record(folder, key="from")
    then, now = earlier.provenance, record.provenance
    if then["data"] != now["data"] and then["data_digest"] != now["data_digest"]:
        raise UserError(
            f"from: {folder} was trained on {then['data']}, but this run has {now['data']}: repeat the data settings "
            f"of {folder}"
        )
    check_same_rows(earlier, record, folder=folder, key="from")
    if (old := earlier.stars) != (new := record.stars):
        raise UserError(
            f"from: {folder} was fitted with {old.lowest:g} to {old.highest:g} as 1 to 5 stars, "
            f"but this run has {new.lowest:g} to {new.highest:g}"
        )
    if earlier.model_target != record.model_target:
        raise UserError(f"from: {folder} was fitted with model={earlier.model}, but this run has model={record.model}")
    epoch = load_equation(predictor, folder / BEST, record=earlier, key="from")
    log.info("from       %s, after %d epochs", folder, epoch)


def check_resumable(prepared: PreparedRun, run_folder: Path) -> RunRecord | None:
    """Check that the run in a folder is the same experiment as the prepared one, and remove incomplete files.

    A run that was killed before it wrote its record counts as new. A finished run whose tables or metrics.json are
    damaged or missing counts as unfinished, because resuming it rewrites them.

    Returns:
        The run's record as first written, with the new limits. The prepared record for a new run. None if the run is
        finished.

    Raises:
        UserError: the data, the split, a metric or an option has changed, a checkpoint is damaged, or the run cannot
            reach its new limits.
    """
    record = prepared.record
    for folder in (run_folder, run_folder / CHECKPOINTS):
        remove_temporary_files(folder)
    if not (run_folder / RUN_RECORD).exists():
        return record
    earlier = check_same_data_and_metrics(run_folder, record, key="resume")
    for name, value in record.fit.items():
        if name not in earlier.fit:
            raise UserError(
                f"resume: {name} is {as_yaml(value)} now, but {run_folder} was started with a version without it"
            )
    if (run_folder / METRICS).exists() or (prepared.has_best and (run_folder / LAST).exists()):
        read_checkpoint(run_folder / BEST, record=earlier, key="resume")
    if (record.max_epochs, record.max_time) != (earlier.max_epochs, earlier.max_time):
        _check_extendable(prepared, earlier, run_folder)
        return replace(earlier, max_epochs=record.max_epochs, max_time=record.max_time)
    if not has_finished(run_folder):
        return earlier
    damaged = find_damaged_files(run_folder, [*TABLES, METRICS])
    for message in damaged.values():
        log.info("note: %s; it will be rewritten", message)
    return earlier if damaged else None


def _check_extendable(prepared: PreparedRun, earlier: RunRecord, run_folder: Path) -> None:
    """Raise UserError if the earlier run cannot train on to the prepared limits."""
    options, record, last = prepared.options, prepared.record, run_folder / LAST
    if options.split.refit:
        raise UserError(
            "a run with split.refit=true cannot be extended: "
            "the refit trains for the number of epochs that the validation fit found"
        )
    epochs, seconds = 0, 0.0
    if (run_folder / METRICS).exists() or last.exists():
        _, epochs, seconds = read_checkpoint(last, record=earlier)
    max_seconds = Timer(options.trainer.max_time).time_remaining()  # None without a limit
    if options.optimizer.is_single_epoch and epochs > 0:
        raise UserError(f"a run by optimizer={options.optimizer.name} cannot be extended: it trains in a single epoch")
    if record.max_epochs <= epochs:
        raise UserError(f"trainer.max_epochs must be above the {epochs} epochs done, got {record.max_epochs}")
    if max_seconds is not None and max_seconds <= seconds:
        raise UserError(f"trainer.max_time must be above the {seconds:.1f} s of training done, got {record.max_time}")
    if record.max_epochs != earlier.max_epochs and options.schedule.spans_max_epochs:
        raise UserError(
            f"a run under schedule={options.schedule.name} cannot be extended: its learning rates depend on "
            "trainer.max_epochs from the first epoch on"
        )
