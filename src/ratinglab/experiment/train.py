"""Train one run, from the options to its folder."""

import logging
import os
import warnings
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

from pytorch_lightning import Trainer
from pytorch_lightning.utilities.exceptions import SIGTERMException

from ratinglab.datamodule import RatingDataModule, as_tensors
from ratinglab.experiment.options import TrainOptions
from ratinglab.experiment.provenance import provenance
from ratinglab.experiment.report import header, results
from ratinglab.fitting.gradient import GradientFit
from ratinglab.fitting.progress import progress_callbacks
from ratinglab.fitting.tensorboard import EventLog
from ratinglab.models.discovery import model_name
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.holdout import Holdout, hold_out
from ratinglab.runs import Run, RunRecord, build_predictor, write_json, write_run

log = logging.getLogger(__name__)


def train(options: TrainOptions, run_folder: Path) -> float | None:
    """Fit a model as the options say and leave a run in its folder.

    Prints a header, the progress and a table of results; the metrics are those of the best weights, read back from
    the folder.

    Args:
        options: the experiment.
        run_folder: an existing folder; write_run, the checkpoints and metrics.json go there.

    Returns:
        val/mse, by which a search ranks runs, or None without validation rows.

    Raises:
        UserError: the data or an option is wrong; nothing has been trained.
        TrainingDivergedError: the loss is no longer finite; the checkpoints so far remain.
    """
    _quiet_lightning()
    table = options.data.load()
    holdout = hold_out(table, options.split.apply(table))
    data = RatingDataModule(holdout, batch_size=options.data.batch_size, seed=options.seed)
    record = RunRecord(
        model=model_name(options.model),
        model_options=asdict(options.model),
        num_users=data.num_users,
        num_items=data.num_items,
        rating_mean=data.rating_mean,
        scale=holdout.table.scale if options.clip_predictions else None,
        noise_floor=holdout.table.noise_floor,
        provenance=provenance(holdout, seed=options.seed),
    )
    logger = options.logger.build(run_folder=run_folder)
    trainer = _build_trainer(options, run_folder=run_folder, logger=logger, holdout=holdout)
    predictor = build_predictor(record, seed=options.seed)
    for line in header(options, holdout=holdout, model=predictor.model):
        log.info(line)
    user, item, rating = as_tensors(data.train_ratings)
    predictor.baseline.fit(user=user, item=item, rating=rating)
    write_run(run_folder, record=record, holdout=holdout)
    facts = _fit(options, trainer=trainer, data=data, predictor=predictor)
    run = Run.load(run_folder)
    metrics = run.evaluate() | facts | {"fit/best_epoch": run.best_epoch}
    write_json(run_folder / "metrics.json", metrics)
    if logger is not None:
        test = {tag: value for tag, value in metrics.items() if tag.startswith("test/")}
        logger.log_metrics(test, step=int(metrics["fit/epochs"]))
        logger.close()
    for line in results(metrics, model=record.model, noise_floor=record.noise_floor):
        log.info(line)
    inside = run_folder.resolve().is_relative_to(Path.cwd())
    print(os.path.relpath(run_folder) if inside else run_folder, flush=True)
    return metrics.get("val/mse")


def _build_trainer(options: TrainOptions, *, run_folder: Path, logger: EventLog | None, holdout: Holdout) -> Trainer:
    callbacks = options.callbacks.build(
        checkpoint_folder=run_folder / "checkpoints", has_validation=len(holdout.split.validation) > 0
    )
    callbacks += progress_callbacks(enabled=options.trainer.enable_progress_bar)
    return options.trainer.build(run_folder=run_folder, logger=logger, callbacks=callbacks)


def _fit(options: TrainOptions, *, trainer: Trainer, data: RatingDataModule, predictor: Predictor) -> dict[str, float]:
    """Run Lightning's Trainer; tell how long it took."""
    fit = GradientFit(
        predictor,
        optimizer=options.optimizer,
        lr_factor=lambda epoch: options.schedule.factor(epoch, options.trainer.max_epochs),
    )
    started = perf_counter()
    try:
        trainer.fit(fit, datamodule=data)
    except SIGTERMException as error:
        raise SystemExit(143) from error  # Lightning alone would end with status 0
    except SystemExit as error:
        raise KeyboardInterrupt from error  # which Lightning has made an exit with status 1
    seconds = perf_counter() - started
    return {
        "fit/seconds": seconds,
        "fit/ratings_per_second": fit.rows_trained / fit.step_seconds,
        "fit/epochs": trainer.current_epoch,
    }


def _quiet_lightning() -> None:
    """Keep what Lightning says of things that are as they should be off the screen."""
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message="Total length of `Blocks` across ranks is zero.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")
