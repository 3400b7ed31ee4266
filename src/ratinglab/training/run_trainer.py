"""Lightning's part of a run: the set-up of the process, the Trainer with its callbacks, and the fit that it runs."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.utilities import rank_zero_only

from ratinglab.datamodule import RatingDataModule
from ratinglab.errors import RunFailedError
from ratinglab.fitting.callbacks.checkpoints import BestAndLast
from ratinglab.fitting.callbacks.learning_curve import LearningCurve
from ratinglab.fitting.callbacks.progress import progress_callbacks
from ratinglab.fitting.callbacks.pruning import MedianPruning
from ratinglab.fitting.callbacks.stopping import StopOnSignal
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.loggers.guarded_logger import GuardedLogger
from ratinglab.fitting.ranks import check_started, other_processes, wait_for_all_ranks
from ratinglab.fitting.trainer_options import Accelerator
from ratinglab.runs.record import RunRecord, read_metrics
from ratinglab.runs.run_files import EPOCHS, LAST, PRUNED, VALIDATION_FIT
from ratinglab.runs.sweep_folder import read_sibling_curves
from ratinglab.runs.weights import describe_intact_checkpoints, load_weights, read_checkpoint
from ratinglab.training.continuation import check_same_data_and_metrics, load_initial_weights
from ratinglab.training.preparation import PreparedRun
from ratinglab.training.train_options import TrainOptions

log = logging.getLogger(__name__)

IGNORED_WARNINGS = {
    ".*returned `None`, this fit will run with no optimizer.*": "such a fit changes the weights itself",
    ".*does not have many workers.*": "batches are slices of arrays in memory: worker processes would slow them down",
    "Total length of `EvaluationLoader` across ranks is zero.*": "a split may hold out no validation rows",
    ".*callbacks used to create the checkpoint.*": "a job of a search that is resumed alone is not pruned",
    ".*isinstance.treespec, LeafSpec.*": "Lightning itself calls a deprecated function of torch",
    ".*sync_dist=True.*": "fits sum errors over processes themselves",
}
"""Patterns of Lightning's warnings about settings that are intentional here, each with the reason to ignore it."""


def set_up_process(options: TrainOptions, run_folder: Path, *, rank: int) -> None:
    """Set Lightning's rank, silence its warnings about intentional settings, and check the processes of the fit.

    Raises:
        UserError: processes or devices are missing.
    """
    rank_zero_only.rank = rank  # type: ignore[attr-defined]
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("callbacks.model_summary", "profilers.profiler"):  # these print what the user has asked for
        logging.getLogger(f"pytorch_lightning.{name}").setLevel(logging.INFO)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    trainer = options.trainer
    check_started(devices=trainer.devices, num_nodes=trainer.num_nodes)
    if trainer.num_processes > 1:
        trainer.build(run_folder=run_folder)  # raises if a device is missing


class ReadyFit(NamedTuple):
    """A new or resumed fit, ready to run. It does not need the table: its data take only 12 or 16 bytes per row.

    Attributes:
        trainer: Lightning's Trainer.
        fit: the fit, with its initial weights or the weights of the last checkpoint.
        data: the training and validation rows.
        loggers: the Trainer's loggers.
        epochs_done: number of epochs that trained the last checkpoint, or 0 for a new fit.
        digests: digests of the data, the side information and the split that this process has read.
    """

    trainer: Trainer
    fit: Fit
    data: RatingDataModule
    loggers: list[GuardedLogger]
    epochs_done: int
    digests: Sequence[str | None]

    def run(self, run_folder: Path) -> dict[str, float]:
        """Run the fit in all its processes, which must have read the same data, and return its metrics fit/….

        Raises:
            RunFailedError: the loss is no longer finite, or a checkpoint could not be written.
        """
        trainer, fit = self.trainer, self.fit
        checkpoint = run_folder / LAST if self.epochs_done > 0 else None
        threads = torch.get_num_threads()
        if fit.wants_one_thread(self.data.batch_size or len(self.data.train_ratings_in_stars)):
            torch.set_num_threads(1)
        try:
            with other_processes(trainer, run_folder):
                wait_for_all_ranks(trainer, digests=self.digests)
                start = perf_counter()
                trainer.fit(fit, datamodule=self.data, ckpt_path=checkpoint, weights_only=True)
                seconds = perf_counter() - start
        except OSError:
            intact = describe_intact_checkpoints(run_folder, run_id=fit.run_id)
            log.warning("warning: the fit has ended early; %s", intact)
            raise
        finally:
            torch.set_num_threads(threads)
        checkpoints = trainer.checkpoint_callback
        assert isinstance(checkpoints, BestAndLast)
        if checkpoints.faults:
            intact = describe_intact_checkpoints(run_folder, run_id=fit.run_id)
            raise RunFailedError("; ".join([*checkpoints.faults, intact]))
        return {
            "fit/seconds": fit.seconds + seconds,
            "fit/ratings_per_second": 0.0 if fit.rows_trained == 0 else fit.rows_trained / fit.step_seconds,
            # Lightning counts an epoch only after its callbacks, where a signal can end it
            "fit/epochs": fit.epochs_done,
            "fit/parameters": sum(parameter.numel() for parameter in fit.predictor.model.parameters()),
        }


def build_ready_fit(prepared: PreparedRun, record: RunRecord, run_folder: Path) -> ReadyFit:
    """Build the fit of a new run, or of one that resumes from its last checkpoint. `record` is the run's own record.

    Raises:
        UserError: the rows or the weights in `from=` do not suit the fit, or the checkpoint is damaged; nothing has
            been written.
    """
    last, provenance = run_folder / LAST, prepared.record.provenance
    epochs_done = read_checkpoint(last, record=record).epochs if last.exists() else 0
    loggers = [
        logger.build(run_folder=run_folder, first_epoch=epochs_done + 1) for logger in prepared.options.logger.values()
    ]
    trainer = _build_trainer(prepared, run_folder, loggers=loggers)
    fit = prepared.build_fit()
    if epochs_done > 0:
        load_weights(fit.predictor, last, record=record)
    else:
        load_initial_weights(prepared, fit.predictor)
    fit.run_id = record.id
    fit.connect_services(run_folder)
    digests = [provenance[key] for key in ("data_digest", "side_digest", "split")]
    return ReadyFit(trainer, fit, prepared.data, loggers, epochs_done, digests)


def _build_trainer(prepared: PreparedRun, run_folder: Path, *, loggers: Sequence[GuardedLogger]) -> Trainer:
    """Build the Trainer of a run. Neither trainer.max_epochs nor trainer.max_time limits a fit with exact epochs."""
    options, monitor = prepared.options, prepared.monitor
    callbacks = options.callbacks.build(run_folder=run_folder, monitor=monitor if prepared.has_best else None)
    callbacks += progress_callbacks(enabled=options.trainer.enable_progress_bar)
    callbacks.append(LearningCurve(run_folder / EPOCHS, tags=prepared.curve_tags()))
    if options.callbacks.pruning.enabled and prepared.has_validation and not options.split.refit:
        curves = read_sibling_curves(run_folder, f"val/{monitor.name}", split=prepared.ratings.split.identity)
        callbacks.append(MedianPruning(options.callbacks.pruning, curves=curves, monitor=monitor))
    callbacks.append(StopOnSignal(run_folder.parent if prepared.record.is_validation_fit else run_folder))
    trainer = options.trainer
    if options.optimizer.runs_on_cpu_only:
        trainer = replace(trainer, accelerator=Accelerator.cpu)  # auto could find a GPU
    exact_epochs = _find_exact_epochs(prepared)
    if exact_epochs is not None:
        # a sampler would otherwise end once min_gain is reached
        min_epochs = exact_epochs if options.optimizer.keeps_samples else min(trainer.min_epochs, exact_epochs)
        trainer = replace(trainer, max_epochs=exact_epochs, min_epochs=min_epochs, max_time=None)
    if options.optimizer.is_single_epoch:
        trainer = replace(trainer, max_epochs=1)  # the progress shows it
    return trainer.build(run_folder=run_folder, loggers=loggers, callbacks=callbacks)


def _find_exact_epochs(prepared: PreparedRun) -> int | None:
    """Return the number of epochs of a refit or of a reproduction, or None if the fit itself decides."""
    options, record = prepared.options, prepared.record
    if options.reproduces is None:
        return record.refit_epochs
    original = Path(options.reproduces) / (VALIDATION_FIT if record.is_validation_fit else "")
    check_same_data_and_metrics(original, record, key="run")
    # trainer.max_time or pruning may have ended the original
    if record.refit_epochs is None and (options.trainer.max_time is not None or (original / PRUNED).is_file()):
        return int(read_metrics(original)["fit/epochs"])
    return record.refit_epochs
