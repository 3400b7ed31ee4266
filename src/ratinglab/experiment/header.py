"""The header that training prints before the fit."""

from collections.abc import Iterator

from torch import nn

from ratinglab.experiment.root_options import TrainOptions
from ratinglab.models.posterior import Posterior
from ratinglab.options import as_yaml, to_plain
from ratinglab.ratings.holdout import Holdout
from ratinglab.ratings.splits import TEST, TRAIN, VALIDATION

MANY_BYTES = 1 << 30
"""Size of all samples, in bytes, above which the header warns."""


def header(
    options: TrainOptions, *, holdout: Holdout, model: nn.Module, first_epoch: int, refit_epochs: int | None
) -> Iterator[str]:
    """Summarize data, split, model and fit in a few lines, with notes on anything unusual."""
    table, split = holdout.table, holdout.split
    train, validation, test = (split.count(part) for part in (TRAIN, VALIDATION, TEST))
    lowest, highest = holdout.scale
    yield (
        f"data       {table.name}: {len(table.ratings):,} ratings of {table.num_users:,} users "
        f"over {table.num_items:,} items, density {table.density:.2%}, scale {lowest:g} to {highest:g}"
    )
    yield (
        f"split      {options.split.name} {split.identity}: {train:,} train, {validation:,} validation, {test:,} test"
    )
    epochs = f"{refit_epochs} epochs"
    if refit_epochs is None:
        limit = "" if options.trainer.max_time is None else f" in {options.trainer.max_time}"
        epochs = f"at most {options.trainer.max_epochs} epochs{limit}"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    settings = ", ".join(f"{key}={as_yaml(value)}" for key, value in to_plain(options.model).items())
    yield f"model      {options.model.name}: {settings}; {parameters:,} parameters"
    yield f"optimizer  {options.optimizer.name}: {_fit_settings(options)}, {epochs}"
    if options.trainer.limit_train_batches < 1:
        yield (
            f"warning: the fit trains on {100 * options.trainer.limit_train_batches:g}% of the batches of each epoch "
            "(trainer.limit_train_batches)"
        )
    yield from (f"note: {note}" for note in (*table.notes, *split.notes))
    if options.clip_predictions and (table.scale[0] < lowest or table.scale[1] > highest):
        yield (
            f"note: test ratings lie outside the scale of the others, {lowest:g} to {highest:g}, to which predictions "
            "are clipped; data.scale sets it"
        )
    if first_epoch > 1:
        yield f"note: the run resumes after {first_epoch - 1} epochs"
    if options.optimizer.keeps_samples:
        yield "note: the fit samples its own priors: model.regularization and early stopping have no effect"
        assert isinstance(model, Posterior)
        kept = options.optimizer.num_samples(options.trainer.max_epochs)
        if kept * model.sample_bytes > MANY_BYTES:
            yield (
                f"warning: {kept} samples take {kept * model.sample_bytes / 1e9:.1f} GB, three times as much while a "
                "checkpoint is written; a larger optimizer.thin keeps fewer"
            )
    elif validation == 0:
        yield "note: no validation rows, so no early stopping: the run keeps its last weights"


def _fit_settings(options: TrainOptions) -> str:
    optimizer = options.optimizer
    lr, pace = optimizer.initial_lr, optimizer.pace
    if optimizer.takes_batches:
        pace = f"batches of {options.data.batch_size:,}"
    if lr is not None:
        return f"lr={lr:g}, {options.schedule.name} schedule, {pace}"
    return "".join(f"{key}={as_yaml(value)}, " for key, value in to_plain(optimizer).items()) + pace
