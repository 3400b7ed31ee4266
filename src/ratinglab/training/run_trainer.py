"""Lightning's Trainer of a run: its callbacks and number of epochs, and the fit that it runs."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch
from pytorch_lightning import Trainer

from ratinglab.datamodule import RatingDataModule
from ratinglab.errors import RunFailedError, UserError
from ratinglab.fitting.callbacks.checkpoints import BestAndLast
from ratinglab.fitting.callbacks.learning_curve import LearningCurve
from ratinglab.fitting.callbacks.progress import progress_callbacks
from ratinglab.fitting.callbacks.stopping import StopOnSignal
from ratinglab.fitting.fit import Fit
from ratinglab.fitting.loggers.guarded_logger import GuardedLogger
from ratinglab.fitting.ranks import other_processes, wait_for_all_ranks
from ratinglab.fitting.trainer_options import Accelerator
from ratinglab.runs.learning_curves import read_sibling_curves
from ratinglab.runs.record import read_metrics, read_record
from ratinglab.runs.run_files import BEST, EPOCHS, LAST, PRUNED, VALIDATION_FIT
from ratinglab.runs.weights import read_checkpoint
from ratinglab.training.continuation import check_same_data_and_metrics
from ratinglab.training.preparation import Preparation

log = logging.getLogger(__name__)


class ReadyFit(NamedTuple):
    """A fit with its Trainer and its data. It does not hold the table: its data take 12 or 16 bytes per row.

    Attributes:
        trainer: Lightning's Trainer.
        fit: the fit, with its initial weights or the weights of the checkpoint.
        data: training and validation rows.
        checkpoint: checkpoint from which the Trainer restores everything else, or None for a new fit.
        digests: digests of the data, the side information and the split that this process has read.
    """

    trainer: Trainer
    fit: Fit
    data: RatingDataModule
    checkpoint: Path | None
    digests: Sequence[str | None]

    def run(self, run_folder: Path) -> dict[str, float]:
        """Run the fit in all its processes, which must have read the same data, and return its metrics fit/….

        Raises:
            RunFailedError: the loss is no longer finite, or a checkpoint could not be written.
        """
        trainer, fit = self.trainer, self.fit
        threads = torch.get_num_threads()
        if fit.wants_one_thread(self.data.batch_size or len(self.data.train_ratings_in_stars)):
            torch.set_num_threads(1)
        try:
            with other_processes(trainer, run_folder):
                wait_for_all_ranks(trainer, digests=self.digests)
                start = perf_counter()
                trainer.fit(fit, datamodule=self.data, ckpt_path=self.checkpoint, weights_only=True)
                seconds = perf_counter() - start
        except OSError:
            log.warning("warning: the fit has ended early; intact checkpoints: %s", _intact_checkpoints(run_folder))
            raise
        finally:
            torch.set_num_threads(threads)
        checkpoints = trainer.checkpoint_callback
        assert isinstance(checkpoints, BestAndLast)
        if checkpoints.faults:
            faults = "; ".join(checkpoints.faults)
            raise RunFailedError(f"{faults}; intact checkpoints: {_intact_checkpoints(run_folder)}")
        return {
            "fit/seconds": fit.seconds + seconds,
            "fit/ratings_per_second": 0.0 if fit.rows_trained == 0 else fit.rows_trained / fit.step_seconds,
            # Lightning counts an epoch only after its callbacks, where a signal can end it
            "fit/epochs": fit.epochs_done,
            "fit/parameters": sum(parameter.numel() for parameter in fit.predictor.model.parameters()),
        }


def build_trainer(prepared: Preparation, run_folder: Path, *, loggers: Sequence[GuardedLogger]) -> Trainer:
    """Build the Trainer of a run. Neither trainer.max_epochs nor trainer.max_time limits a fit with exact epochs."""
    options, monitor = prepared.options, prepared.monitor
    callbacks = options.callbacks.build(run_folder=run_folder, monitor=monitor if prepared.has_best else None)
    callbacks += progress_callbacks(enabled=options.trainer.enable_progress_bar)
    callbacks.append(LearningCurve(run_folder / EPOCHS, tags=prepared.curve_tags()))
    if options.callbacks.pruning.enabled and prepared.has_validation and not options.split.refit:
        curves = read_sibling_curves(run_folder, f"val/{monitor.name}", split=prepared.ratings.split.identity)
        callbacks.append(options.callbacks.pruning.build(curves=curves, monitor=monitor))
    callbacks.append(StopOnSignal(run_folder.parent if prepared.is_validation_fit else run_folder))
    trainer = options.trainer
    if options.optimizer.runs_on_cpu_only:
        trainer = replace(trainer, accelerator=Accelerator.cpu)  # auto could find a GPU
    exact_epochs = _find_exact_epochs(prepared)
    if exact_epochs is not None:
        # a sampler would otherwise end once min_gain is reached
        min_epochs = exact_epochs if options.optimizer.keeps_samples else min(trainer.min_epochs, exact_epochs)
        trainer = replace(trainer, max_epochs=exact_epochs, min_epochs=min_epochs, max_time=None)
    return trainer.build(run_folder=run_folder, loggers=loggers, callbacks=callbacks)


def _find_exact_epochs(prepared: Preparation) -> int | None:
    """Return the number of epochs of a refit or of a reproduction, or None if the fit itself decides."""
    options = prepared.options
    record = prepared.record
    if options.reproduces is None:
        return record.refit_epochs
    original = Path(options.reproduces) / (VALIDATION_FIT if prepared.is_validation_fit else "")
    check_same_data_and_metrics(original, record, key="run")
    # trainer.max_time or pruning may have ended the original
    if record.refit_epochs is None and (options.trainer.max_time is not None or (original / PRUNED).is_file()):
        return int(read_metrics(original)["fit/epochs"])
    return record.refit_epochs


def _intact_checkpoints(run_folder: Path) -> str:
    """Name the intact checkpoints with their epochs, or return "none"."""
    intact = []
    for path in (run_folder / BEST, run_folder / LAST):
        with suppress(UserError):
            intact.append(f"{path.name}, from epoch {read_checkpoint(path, record=read_record(run_folder)).epochs}")
    return "; ".join(intact) or "none"
