"""The start of a fit: the header that it prints, and the texts and hyperparameters that it logs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ratinglab.errors import format_count
from ratinglab.fitting.loggers.guarded_logger import GuardedLogger
from ratinglab.fitting.loggers.tensorboard import EventLog
from ratinglab.models.best import choose_best_equation
from ratinglab.models.equation import Equation
from ratinglab.options import as_yaml, group_to_plain, to_plain
from ratinglab.ratings.side_information import AvailableData
from ratinglab.runs.hydra_files import read_hydra_files, read_swept_arguments
from ratinglab.splits.split import TEST, TEST_HISTORY, TRAIN, VALIDATION, VALIDATION_HISTORY
from ratinglab.training.preparation import PreparedRun
from ratinglab.training.train_options import TrainOptions


def describe_start(prepared: PreparedRun, model: Equation, *, epochs_done: int) -> Iterator[str]:
    """Yield the lines of the header: data, split, model and fit, and notes on anything unusual.

    `model` is the equation being fitted, or its posterior. `epochs_done` counts the epochs trained before this process.
    """
    yield from _describe_rows(prepared)
    yield from _describe_fit(prepared, model)
    yield from _list_notes(prepared, model, epochs_done=epochs_done)


def _describe_rows(prepared: PreparedRun) -> Iterator[str]:
    """Describe the table, and the number of rows in each part."""
    table, split = prepared.ratings.table, prepared.ratings.split
    lowest, highest = prepared.ratings.scale
    density = f"density {table.density:.2%}"
    yield f"data       {table.name}: {table.size}, {density}, scale {lowest:g} to {highest:g}"
    train, validation, test = (split.count(part) for part in (TRAIN, VALIDATION, TEST))
    history = split.count(VALIDATION_HISTORY) + split.count(TEST_HISTORY)
    folded_in = f", {history:,} folded in" if history > 0 else ""
    rows = f"{train:,} train, {validation:,} validation, {test:,} test{folded_in}"
    yield f"split      {prepared.options.split.name} {split.identity}: {rows}"


def _describe_fit(prepared: PreparedRun, model: Equation) -> Iterator[str]:
    """Describe the equation with its number of parameters, and the fit with its number of epochs."""
    options, refit_epochs = prepared.options, prepared.record.refit_epochs
    parameters = sum(parameter.numel() for parameter in model.parameters())
    settings = [
        f"{key}={as_yaml(value)}"
        for key, value in to_plain(options.model).items()
        if key not in options.optimizer.ignored_options
    ]
    yield f"model      {options.model.name}: {', '.join(settings)}; {parameters:,} parameters"
    if refit_epochs is None:
        limit = "" if options.trainer.max_time is None else f" in {options.trainer.max_time}"
        epochs = f"at most {format_count(options.trainer.max_epochs, 'epoch')}{limit}"
    else:
        epochs = format_count(refit_epochs, "epoch")
    if options.optimizer.is_single_epoch:
        epochs = "one epoch"
    yield f"optimizer  {options.optimizer.name}: {_fit_settings(options)}, {epochs}"


def _list_notes(prepared: PreparedRun, model: Equation, *, epochs_done: int) -> Iterator[str]:
    """Yield notes and warnings on anything unusual."""
    options, table, split = prepared.options, prepared.ratings.table, prepared.ratings.split
    lowest, highest = prepared.ratings.scale
    if options.trainer.limit_train_batches < 1:
        yield (
            f"warning: the fit trains on {100 * options.trainer.limit_train_batches:g}% of the batches of each epoch "
            "(trainer.limit_train_batches)"
        )
    yield from (f"note: {note}" for note in (*table.notes, *split.notes))
    if prepared.record.scale is not None and (table.scale[0] < lowest or table.scale[1] > highest):
        yield (
            f"note: some test ratings lie outside the scale of the other ratings, {lowest:g} to {highest:g}, to which "
            "predictions are clipped; data.scale sets the scale"
        )
    if epochs_done > 0:
        yield f"resume     after {epochs_done} epochs"
    yield from options.optimizer.notes(max_epochs=options.trainer.max_epochs, sample_bytes=model.sample_bytes)
    if split.count(VALIDATION) == 0 and not options.optimizer.keeps_samples:
        yield "note: no validation rows: early stopping is off, and the run keeps its last weights"
    if prepared.requested_model != options.model.name:
        terms = f"{_supported_terms(prepared.available)}{_unsupported_terms(prepared.available)}"
        yield f"note: model={prepared.requested_model} selects {options.model.name} for these data, {terms}"


def _supported_terms(available: AvailableData) -> str:
    """List the terms that the data support."""
    terms = ["implicit feedback", *(["timestamps"] if available.has_sessions else [])]
    terms += [f"{side} features ({', '.join(names)})" for side, names in available.features.items() if names]
    return f"with {', '.join(terms)}"


def _unsupported_terms(available: AvailableData) -> str:
    """Explain which terms the data do not support. Returns "" if they support all."""
    sides = [side for side, names in available.features.items() if not names]
    reasons = [f"no useful {' or '.join(sides)} features"] if sides else []
    if not available.has_times:
        reasons.append("no timestamps (data.columns.timestamp)")
    elif not available.has_sessions:
        reasons.append("too few ratings per user and day to use the timestamps")
    return f"; the data have {' and '.join(reasons)}" if reasons else ""


def best_recipe_tip(available: AvailableData) -> str:
    """Name the equation that recipe=best would fit to these data."""
    terms = _supported_terms(available)
    return f"tip: recipe=best fits {choose_best_equation(available).name} by Gibbs sampling here, {terms}"


def _fit_settings(options: TrainOptions) -> str:
    """List the learning rate and schedule or, without a learning rate, all options; and how often weights change."""
    optimizer = options.optimizer
    lr, update_frequency = optimizer.initial_lr, optimizer.update_frequency
    if optimizer.takes_batches:
        update_frequency = f"batches of {options.data.batch_size:,}"
    if lr is not None:
        return f"lr={lr:g}, {options.schedule.name} schedule, {update_frequency}"
    return "".join(f"{key}={as_yaml(value)}, " for key, value in to_plain(optimizer).items()) + update_frequency


def log_start(
    prepared: PreparedRun, loggers: Sequence[GuardedLogger], header: Sequence[str], *, run_folder: Path, is_new: bool
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
