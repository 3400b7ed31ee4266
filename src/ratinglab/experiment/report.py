"""What a training run prints before and after the fit."""

from collections.abc import Iterator, Mapping

from torch import nn

from ratinglab.experiment.options import TrainOptions
from ratinglab.models.discovery import model_name, plain_options
from ratinglab.models.posterior import Posterior
from ratinglab.ratings.holdout import Holdout
from ratinglab.ratings.splits import TEST, TRAIN, VALIDATION

MANY_BYTES = 1 << 30
"""Of all samples, above which their number is worth a thought."""


def header(
    options: TrainOptions, *, holdout: Holdout, model: nn.Module, first_epoch: int, refit_epochs: int | None
) -> Iterator[str]:
    """What is about to be trained, in a few lines."""
    table, split = holdout.table, holdout.split
    train, validation, test = (split.count(part) for part in (TRAIN, VALIDATION, TEST))
    lowest, highest = table.scale
    yield (
        f"data       {table.name}: {len(table.ratings):,} ratings of {table.num_users:,} users "
        f"over {table.num_items:,} items, density {table.density:.2%}, scale {lowest:g} to {highest:g}"
    )
    yield (
        f"split      {options.split.name} {split.identity}: {train:,} train, {validation:,} validation, {test:,} test"
    )
    epochs = f"at most {options.trainer.max_epochs}" if refit_epochs is None else f"{refit_epochs}"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    settings = ", ".join(f"{key}={value}" for key, value in plain_options(options.model).items())
    yield f"model      {model_name(options.model)}: {settings}; {parameters:,} parameters"
    yield f"optimizer  {options.optimizer.name}: {_how_it_is_fitted(options)}, {epochs} epochs"
    if options.trainer.limit_train_batches < 1:
        yield (
            f"warning: trains on {options.trainer.limit_train_batches:.0%} of the batches of each epoch "
            "(trainer.limit_train_batches)"
        )
    yield from (f"note: {note}" for note in (*table.notes, *split.notes))
    if first_epoch > 1:
        yield f"note: goes on after {first_epoch - 1} epochs"
    if options.optimizer.is_sampler:
        yield "note: samples its own priors: model.regularization and early stopping have nothing to act on"
        assert isinstance(model, Posterior)
        kept = -(-(options.trainer.max_epochs - options.optimizer.burn_in) // options.optimizer.thin)
        if kept * model.sample_bytes > MANY_BYTES:
            yield (
                f"warning: {kept} samples take {kept * model.sample_bytes / 1e9:.1f} GB, in memory three times when a "
                "checkpoint is written; a larger optimizer.thin keeps fewer"
            )
    elif validation == 0:
        yield "note: no validation rows, so no early stopping; the last weights are the run's"


def _how_it_is_fitted(options: TrainOptions) -> str:
    optimizer = options.optimizer
    if optimizer.has_lr:
        steps = f"batches of {options.data.batch_size:,}" if optimizer.takes_batches else "a rating a step"
        return f"lr={optimizer.lr:g}, {options.schedule.name} schedule, {steps}"
    settings = "".join(f"{key}={value}, " for key, value in plain_options(optimizer).items())
    return f"{settings}a sweep an epoch"


def errors_table(metrics: Mapping[str, float], *, model: str, noise_floor: float | None) -> Iterator[str]:
    """The errors of the model and of the baselines on each part, a row each; warm and cold rows apart."""
    parts = {"val": "validation", "test": "test"}
    labels = {
        f"{part}{group}": f"{label}{group.replace('/', ' ')}"
        for part, label in parts.items()
        for group in ("", "/warm", "/cold")
        if f"{part}{group}/mse" in metrics
    }
    width = max([11, *(len(label) + 1 for label in labels.values())])
    yield f"{'':{width + 13}}{'MSE':>9}{'RMSE':>9}{'MAE':>9}"
    for tag, label in labels.items():
        for prefix, name in (("", model), ("baseline/bias/", "bias baseline"), ("baseline/mean/", "mean baseline")):
            values = [metrics[f"{prefix}{tag}/{error}"] for error in ("mse", "rmse", "mae")]
            yield f"{label:{width}}{name:13}" + "".join(f"{value:9.4f}" for value in values)
    if noise_floor is not None:
        yield f"{'':{width}}{'noise floor':13}{noise_floor:9.4f}{noise_floor**0.5:9.4f}"
    for part, label in parts.items():
        if f"{part}/cold/rows" in metrics:
            yield (
                f"note: {metrics[f'{part}/cold/rows']:,} {label} rows are cold: their user or item has no training "
                "ratings, and the bias baseline predicts them"
            )


def results(metrics: Mapping[str, float], *, model: str, noise_floor: float | None) -> Iterator[str]:
    """The table of errors, the time, and what is to be said of them."""
    yield from errors_table(metrics, model=model, noise_floor=noise_floor)
    yield (
        f"fit        {metrics['fit/seconds']:.1f} s, {metrics['fit/epochs']} epochs, best after "
        f"{metrics['fit/best_epoch']}; {metrics['fit/ratings_per_second']:,.0f} ratings/s"
    )
    part = "test" if "test/mse" in metrics else "val"
    if f"{part}/mse" not in metrics:
        return
    model_mse, bias_mse = metrics[f"{part}/mse"], metrics[f"baseline/bias/{part}/mse"]
    if f"{part}/coverage_90" in metrics:
        share = metrics[f"{part}/coverage_90"]
        yield f"interval   {share:.1%} of the warm {part} ratings lie in the 90 % interval of their prediction"
    if noise_floor is not None:
        closed = (bias_mse - model_mse) / (bias_mse - noise_floor)
        yield f"closed     {closed:.0%} of the gap from the bias baseline to the noise floor"
    if model_mse > bias_mse:
        yield (
            f"warning: {model} is worse than the bias baseline on {part}: MSE {model_mse:.4f} against {bias_mse:.4f}"
        )
