"""Early stopping of unpromising jobs in a search."""

import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from ratinglab.errors import format_count
from ratinglab.evaluation.metric_kinds import MetricKind
from ratinglab.fitting.callbacks.learning_curve import was_validated
from ratinglab.fitting.trainer_options import PruningOptions
from ratinglab.runs.run_files import PRUNED
from ratinglab.runs.sweep_folder import Curve, write_reason

log = logging.getLogger(__name__)


class MedianPruning(Callback):
    """Callback that ends a fit whose best value so far is worse than the median of other jobs at the same epoch.

    This is the rule of Optuna's MedianPruner, which reads the other jobs' values from Optuna's study. A job in a
    launcher's process may not be able to access the study, so this callback gets the learning curves of finished jobs
    instead. At the end of the fit, it writes the reason into the run's folder.
    """

    def __init__(self, options: PruningOptions, *, curves: Sequence[Curve], monitor: MetricKind) -> None:
        """Compare with the validation curves of finished jobs."""
        super().__init__()
        self.reason: str | None = None
        """Why the fit was pruned, or None if it was not."""
        self._options, self._curves, self._monitor = options, curves, monitor
        self._own_curve: dict[int, float] = {}
        """Values of this job by epoch, counted from 0."""

    def state_dict(self) -> dict[str, Any]:
        """Return the curve so far and the decision, for resuming."""
        return {"curve": self._own_curve, "reason": self.reason}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.reason, self._own_curve = state_dict["reason"], state_dict["curve"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End a resumed fit that had been pruned before it was stopped."""
        trainer.should_stop = trainer.should_stop or self.reason is not None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the best value so far with the other jobs, and end the fit if it is worse than their median."""
        if not was_validated(trainer):
            return
        epoch, tag = trainer.current_epoch + 1, f"val/{self._monitor.name}"
        self._own_curve[epoch - 1] = float(trainer.callback_metrics[tag])
        others = [curve[epoch] for curve in self._curves if epoch in curve]
        if epoch <= self._options.n_warmup_steps or len(others) < max(1, self._options.n_startup_trials):
            return
        best = (max if self._monitor.higher_is_better else min)(self._own_curve.values())
        if self._monitor.is_better(median(others), than=best):
            trainer.should_stop = True
            epochs, jobs = format_count(epoch, "epoch"), format_count(len(others), "finished job")
            self.reason = f"after {epochs}, its best {tag} was worse than the median of {jobs}"

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log why the fit was pruned, if it was, and write it into the run's folder."""
        if self.reason is not None and trainer.is_global_zero:
            log.info("pruned     %s", self.reason)
            write_reason(Path(trainer.default_root_dir) / PRUNED, self.reason)
