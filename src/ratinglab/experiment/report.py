"""What a training run prints before and after the fit."""

from collections.abc import Iterator, Mapping

from torch import nn

from ratinglab.experiment.options import TrainOptions
from ratinglab.models.discovery import model_name
from ratinglab.ratings.holdout import Holdout


def header(options: TrainOptions, *, holdout: Holdout, model: nn.Module, first_epoch: int) -> Iterator[str]:
    """What is about to be trained, in a few lines."""
    table, split = holdout.table, holdout.split
    lowest, highest = table.scale
    yield (
        f"data       {table.name}: {len(table.ratings):,} ratings of {table.num_users:,} users "
        f"over {table.num_items:,} items, density {table.density:.2%}, scale {lowest:g} to {highest:g}"
    )
    yield (
        f"split      {options.split.name}: {len(split.train):,} train, {len(split.validation):,} validation, "
        f"{len(split.test):,} test"
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    settings = ", ".join(f"{key}={value}" for key, value in vars(options.model).items())
    yield f"model      {model_name(options.model)}: {settings}; {parameters:,} parameters"
    yield (
        f"optimizer  {options.optimizer.name}: lr={options.optimizer.lr:g}, {options.schedule.name} schedule, "
        f"batches of {options.data.batch_size:,}, at most {options.trainer.max_epochs} epochs"
    )
    if options.trainer.limit_train_batches < 1:
        yield (
            f"warning: trains on {options.trainer.limit_train_batches:.0%} of the batches of each epoch "
            "(trainer.limit_train_batches)"
        )
    repeated = table.num_repeated
    if repeated > 0:
        yield f"note: {repeated:,} ratings repeat a pair of user and item; all are used, in any part"
    if first_epoch > 1:
        yield f"note: goes on after {first_epoch - 1} epochs"
    if len(split.validation) == 0:
        yield "note: no validation rows, so no early stopping; the last weights are the run's"


def errors_table(metrics: Mapping[str, float], *, model: str, noise_floor: float | None) -> Iterator[str]:
    """The errors of the model and of the baselines on each part, a row each."""
    yield f"{'':24}{'MSE':>9}{'RMSE':>9}{'MAE':>9}"
    for part, label in (("val", "validation"), ("test", "test")):
        for prefix, name in (
            ("", model),
            ("baseline/bias/", "bias baseline"),
            ("baseline/mean/", "mean baseline"),
        ):
            if f"{part}/mse" in metrics:
                values = [metrics[f"{prefix}{part}/{error}"] for error in ("mse", "rmse", "mae")]
                yield f"{label:11}{name:13}" + "".join(f"{value:9.4f}" for value in values)
    if noise_floor is not None:
        yield f"{'':11}{'noise floor':13}{noise_floor:9.4f}{noise_floor**0.5:9.4f}"


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
    if noise_floor is not None:
        closed = (bias_mse - model_mse) / (bias_mse - noise_floor)
        yield f"closed     {closed:.0%} of the gap from the bias baseline to the noise floor"
    if model_mse > bias_mse:
        yield (
            f"warning: {model} is worse than the bias baseline on {part}: MSE {model_mse:.4f} against {bias_mse:.4f}"
        )
