"""What a run shows in TensorBoard besides its curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ratinglab.experiment.options import TrainOptions
from ratinglab.fitting.tensorboard import EventLog
from ratinglab.models.discovery import model_name, plain_options
from ratinglab.runs import Run


def show_experiment(logger: EventLog, header: Sequence[str], *, run_folder: Path) -> None:
    """The header and the whole configuration as text, and train and val MSE on one chart."""
    logger.log_text("header", "\n".join(f"    {line}" for line in header))
    config = run_folder / ".hydra" / "config.yaml"
    if config.exists():
        logger.log_text("config", "\n".join(f"    {line}" for line in config.read_text().splitlines()))
    logger.log_charts({"train and validation MSE": ["train/mse", "val/mse"]})


def show_results(logger: EventLog, options: TrainOptions, *, run: Run, metrics: Mapping[str, float]) -> None:
    """The final errors and the run's row among the hyperparameters; then the event file is closed."""
    shown = {tag: value for tag, value in metrics.items() if tag.startswith("test/")}
    if "val/mse" in metrics:
        shown["best/val_mse"] = metrics["val/mse"]
    logger.log_results(hyperparameters(options), shown, step=int(metrics["fit/epochs"]))
    logger.close()


def hyperparameters(options: TrainOptions) -> dict[str, Any]:
    """What a user would sweep, under short names: a table of every key could not be read."""
    return {
        "data": options.data.name,
        "split": options.split.name,
        "model": model_name(options.model),
        **plain_options(options.model),
        "optimizer": options.optimizer.name,
        "lr": options.optimizer.lr,
        "weight_decay": options.optimizer.weight_decay,
        "schedule": options.schedule.name,
        "batch_size": options.data.batch_size,
        "max_epochs": options.trainer.max_epochs,
        "seed": options.seed,
    }
