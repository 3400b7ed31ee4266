"""Train one run, from the options to its folder."""

import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.utilities.exceptions import SIGTERMException

from ratinglab.datamodule import RatingDataModule, as_tensors
from ratinglab.errors import RunFailedError, UserError
from ratinglab.experiment.dashboard import show_experiment, show_results
from ratinglab.experiment.options import TAKES_ONLY, TrainOptions
from ratinglab.experiment.protocol import of_run, protocol_record
from ratinglab.experiment.provenance import provenance
from ratinglab.experiment.report import header, results
from ratinglab.experiment.resume import check_same_data, take_up
from ratinglab.fitting.checkpoints import BestAndLast
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.gradient import GradientFit
from ratinglab.fitting.optimizers import ALS, BlockSGD, Gibbs
from ratinglab.fitting.progress import progress_callbacks
from ratinglab.fitting.tensorboard import EventLog
from ratinglab.fitting.trainer import Accelerator
from ratinglab.models.discovery import model_class, model_name, plain_options, takes
from ratinglab.models.equation import Interactions
from ratinglab.models.predictor import Predictor
from ratinglab.ratings.holdout import Holdout, hold_out
from ratinglab.ratings.splits import VALIDATION
from ratinglab.runs import (
    Run,
    RunRecord,
    build_predictor,
    features_of,
    read_epoch,
    read_metrics,
    read_record,
    write_json,
    write_run,
)

STEPS = ("limit_train_batches", "accumulate_grad_batches", "gradient_clip_val", "min_epochs")
"""Keys of trainer on which the weights depend, besides the number of epochs."""
LITTLE_WORK = 1 << 20
"""Numbers read in a step below which one thread is as fast as two, and much faster beside another process."""
log = logging.getLogger(__name__)


def train(options: TrainOptions, run_folder: Path) -> float | None:
    """Fit a model as the options say and leave a run in its folder, or go on with the run that is there.

    Prints a header, the progress and a table of results; the metrics are those of the best weights, read back from
    the folder. A run that goes on ends with the same weights, bit for bit, as one that was never stopped.

    With split.refit the fit that finds the number of epochs is a run of its own, in the folder `validation` of the
    run; its validation errors are the run's too.

    Args:
        options: the experiment.
        run_folder: an existing folder; empty, unless the options resume the run in it.

    Returns:
        val/mse, by which a search ranks runs, or None without validation rows.

    Raises:
        UserError: the data or an option is wrong; nothing has been trained.
        RunFailedError: the loss is no longer finite, or a checkpoint could not be written; what was written remains.
    """
    _quiet_lightning()
    if not options.split.refit:
        _fit_run(options, run_folder)
        return _conclude(run_folder)
    first_fit = run_folder / "validation"
    _fit_run(options, first_fit)
    found = read_metrics(first_fit)
    log.info("refit      on training and validation rows, for the %d epochs that were best", found["fit/best_epoch"])
    _fit_run(options, run_folder, found=found)
    return _conclude(run_folder)


def _fit_run(options: TrainOptions, run_folder: Path, *, found: Mapping[str, float] | None = None) -> None:
    """Fit a model into a run's folder, unless the run there is finished.

    Args:
        options: the experiment.
        run_folder: where the run goes.
        found: the metrics of the first fit, where this is the second one.
    """
    table = options.data.load()
    split = options.split.apply(table)
    if model_class(model_name(options.model)).takes_day:
        table = table.with_days(asked_by=f"model={model_name(options.model)}")
    finds_epochs = options.split.refit and found is None
    if finds_epochs and split.count(VALIDATION) == 0:
        raise UserError("split.refit=true needs validation rows, to find the number of epochs by")
    holdout = hold_out(table, split if found is None else split.refitted())
    del table, split
    data = RatingDataModule(
        holdout,
        batch_size=options.data.batch_size if options.optimizer.takes_batches else None,
        fraction=options.trainer.limit_train_batches,
        seed=options.seed,
    )
    record = _record(options, data, holdout, refit_epochs=None if found is None else int(found["fit/best_epoch"]))
    if options.reproduces is not None:
        check_same_data(Path(options.reproduces), record, key="run")
    if options.resume is not None:
        record, finished = take_up(options, record=record, run_folder=run_folder)
        if finished:
            log.info("note: the run is finished already")
            return
    checkpoint = run_folder / "checkpoints" / "last.ckpt"
    first_epoch = read_epoch(checkpoint) + 1 if checkpoint.exists() else 1
    logger = options.logger.build(run_folder=run_folder, first_epoch=first_epoch)
    trainer = _build_trainer(options, run_folder=run_folder, logger=logger, data=data, epochs=record.refit_epochs)
    train_rows, genres = as_tensors(data.train_ratings), holdout.genres
    predictor = build_predictor(
        record,
        seed=options.seed,
        interactions=lambda: Interactions(train_rows.user, train_rows.item, train_rows.day),
        item_features=lambda: features_of(genres, num_items=data.num_items),
    )
    fit = _build_fit(options, predictor)  # before anything is written: it may refuse the equation
    lines = list(
        header(
            options,
            holdout=holdout,
            model=predictor.model,
            first_epoch=first_epoch,
            refit_epochs=record.refit_epochs,
        )
    )
    for line in lines:
        log.info(line)
    if logger is not None:
        show_experiment(logger, lines, run_folder=run_folder)
    predictor.baseline.fit(user=train_rows.user, item=train_rows.item, rating=train_rows.rating)
    run_folder.mkdir(exist_ok=True)
    write_run(run_folder, record=record, holdout=holdout)
    del holdout  # from here on data has all that is in use: 12 or 16 bytes a training or validation row
    (run_folder / "metrics.json").unlink(missing_ok=True)  # of a run that is extended
    facts = _fit(fit, trainer=trainer, data=data, checkpoint=checkpoint if first_epoch > 1 else None)
    run = Run.load(run_folder)
    # of two fits, only the second one is asked for the test rows
    metrics = run.evaluate(("val",) if finds_epochs else ("val", "test")) | facts | {"fit/best_epoch": run.best_epoch}
    if found is not None:
        metrics |= {tag: value for tag, value in found.items() if "val/" in tag}
        metrics["fit/seconds"] += found["fit/seconds"]
    infinite = [tag for tag, value in metrics.items() if not math.isfinite(value)]
    if infinite:
        raise RunFailedError(f"{infinite[0]} is {metrics[infinite[0]]}")
    write_json(run_folder / "metrics.json", metrics)
    if logger is not None:
        show_results(logger, options, run=run, metrics=metrics, is_whole_run=not finds_epochs)


def _record(options: TrainOptions, data: RatingDataModule, holdout: Holdout, *, refit_epochs: int | None) -> RunRecord:
    table = holdout.table
    return RunRecord(
        model=model_name(options.model),
        model_options=plain_options(options.model),
        num_users=data.num_users,
        num_items=data.num_items,
        rating_mean=data.rating_mean,
        scale=table.scale if options.clip_predictions else None,
        noise_floor=table.noise_floor,
        max_epochs=options.trainer.max_epochs,
        provenance=provenance(
            holdout, seed=options.seed, has_genres=takes(model_name(options.model), argument="item_features")
        ),
        refit_epochs=refit_epochs,
        is_sampled=options.optimizer.is_sampler,
        fit={
            "optimizer": options.optimizer.name,
            **plain_options(options.optimizer),
            "schedule": options.schedule.name,
            **plain_options(options.schedule),
            "batch_size": data.batch_size,
            "patience": options.callbacks.early_stopping.patience,
            "clip_predictions": options.clip_predictions,
            **{key: getattr(options.trainer, key) for key in STEPS},
        },
        fold=getattr(options.split, "fold", None),
        protocol=protocol_record(options, data_digest=table.digest, split=holdout.split),
    )


def _conclude(run_folder: Path) -> float | None:
    """Print the results of a finished run and, last and alone, its folder."""
    record = read_record(run_folder)
    metrics = read_metrics(run_folder)
    for line in results(metrics, model=record.model, noise_floor=record.noise_floor):
        log.info(line)
    if record.protocol is not None and "test/rmse" in metrics:
        name = f"{record.model} by {record.fit['optimizer']}"
        for line in of_run(record.protocol, name=name, rmse=metrics["test/rmse"], fold=record.fold):
            log.info(line)
    inside = run_folder.resolve().is_relative_to(Path.cwd())
    print(os.path.relpath(run_folder) if inside else run_folder, flush=True)
    return metrics.get("val/mse")


def _build_trainer(
    options: TrainOptions, *, run_folder: Path, logger: EventLog | None, data: RatingDataModule, epochs: int | None
) -> Trainer:
    """Lightning's Trainer, for `epochs` or, where they are None, for as many as the options allow."""
    callbacks = options.callbacks.build(
        checkpoint_folder=run_folder / "checkpoints",
        has_best=len(data.validation_ratings) > 0 and not options.optimizer.is_sampler,
    )
    callbacks += progress_callbacks(enabled=options.trainer.enable_progress_bar)
    trainer = options.trainer
    if options.optimizer.name in TAKES_ONLY:
        trainer = replace(trainer, accelerator=Accelerator.cpu)  # where auto would find a GPU
    if epochs is not None:
        trainer = replace(trainer, max_epochs=epochs, min_epochs=min(trainer.min_epochs, epochs))
    return trainer.build(run_folder=run_folder, logger=logger, callbacks=callbacks)


def _build_fit(options: TrainOptions, predictor: Predictor) -> Fit:
    def lr(epoch: int) -> float:
        rate: float = options.optimizer.lr * options.schedule.factor(epoch, options.trainer.max_epochs)
        return rate

    # each of these imports a compiler
    if isinstance(options.optimizer, BlockSGD):
        from ratinglab.fitting.block_sgd import BlockFit

        return BlockFit(predictor, optimizer=options.optimizer, seed=options.seed, lr=lr)
    if isinstance(options.optimizer, ALS):
        from ratinglab.fitting.als import ALSFit

        return ALSFit(predictor)
    if isinstance(options.optimizer, Gibbs):
        from ratinglab.fitting.gibbs import GibbsFit

        return GibbsFit(predictor, optimizer=options.optimizer, seed=options.seed)
    return GradientFit(
        predictor,
        optimizer=options.optimizer,
        lr=lr,
        accumulate_grad_batches=options.trainer.accumulate_grad_batches,
        gradient_clip_val=options.trainer.gradient_clip_val,
    )


def _fit(fit: Fit, *, trainer: Trainer, data: RatingDataModule, checkpoint: Path | None) -> dict[str, float]:
    """Run Lightning's Trainer, from a checkpoint where there is one; tell how long the fit took in all."""
    started = perf_counter()
    try:
        with _threads_for(fit, data):
            trainer.fit(fit, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SIGTERMException as error:
        raise SystemExit(143) from error  # Lightning alone would end with status 0
    except SystemExit as error:
        raise KeyboardInterrupt from error  # which Lightning has made an exit with status 1
    seconds = perf_counter() - started
    checkpoints = trainer.checkpoint_callback
    assert isinstance(checkpoints, BestAndLast)
    if checkpoints.failed:
        raise RunFailedError("; ".join(checkpoints.failed.values()))
    return {
        "fit/seconds": fit.seconds + seconds,
        "fit/ratings_per_second": fit.rows_trained / fit.step_seconds,
        "fit/epochs": trainer.current_epoch,
        "fit/parameters": sum(parameter.numel() for parameter in fit.predictor.model.parameters()),
    }


@contextmanager
def _threads_for(fit: Fit, data: RatingDataModule) -> Iterator[None]:
    """One thread for steps of little work, of which several threads spend most of their time waiting for each other."""
    threads = torch.get_num_threads()
    if isinstance(fit, GradientFit) and fit.numbers_in_step(data.batch_size or 0) < LITTLE_WORK:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _quiet_lightning() -> None:
    """Keep what Lightning says of things that are as they should be off the screen."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for shown in ("callbacks.model_summary", "profilers.profiler"):
        logging.getLogger(f"pytorch_lightning.{shown}").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", message=".*returned `None`, this fit will run with no optimizer.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message="Total length of `Blocks` across ranks is zero.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
