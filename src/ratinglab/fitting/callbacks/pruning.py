"""Early stopping of unpromising jobs in a search."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from pytorch_lightning import Callback, LightningModule, Trainer

from ratinglab.evaluation.metric_kinds import MetricKind
from ratinglab.fitting.callbacks.learning_curve import was_validated
from ratinglab.runs.run_files import PRUNED
from ratinglab.runs.sweep_folder import Curve, write_reason

log = logging.getLogger(__name__)


class MedianPruning(Callback):
    """Callback that ends a fit whose best value so far is worse than the median of other jobs at the same epoch.

    Optuna's MedianPruner decides from the other jobs' learning curves, not from Optuna's study, which a job may not be
    able to access from a launcher's process. The reason is written into the run's folder at the end of the fit.
    """

    def __init__(
        self, curves: Sequence[Curve], *, monitor: MetricKind, n_startup_trials: int, n_warmup_steps: int
    ) -> None:
        """Compare with the validation curves of finished jobs; see PruningOptions."""
        super().__init__()
        self.reason: str | None = None
        """Why the fit was pruned; None if it was not."""
        self._monitor, self._curves = monitor, curves
        optuna.logging.set_verbosity(logging.WARNING)  # else it logs that a study was created
        self._study = optuna.create_study(
            direction="maximize" if monitor.higher_is_better else "minimize",
            pruner=optuna.pruners.MedianPruner(
                n_startup_trials=n_startup_trials,
                n_warmup_steps=n_warmup_steps,
                n_min_trials=max(1, n_startup_trials),  # few jobs are left at late epochs: the best ones
            ),
        )
        for curve in curves:
            best = (max if monitor.higher_is_better else min)(curve.values())
            values = {epoch - 1: value for epoch, value in curve.items()}  # Optuna counts steps from 0
            self._study.add_trial(optuna.trial.create_trial(value=best, intermediate_values=values))
        self._trial = self._study.ask()

    def state_dict(self) -> dict[str, Any]:
        """Return the curve so far and the decision, for resuming."""
        curve = self._study.trials[self._trial.number].intermediate_values
        return {"curve": curve, "reason": self.reason}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.reason = state_dict["reason"]
        for step, value in state_dict["curve"].items():
            self._trial.report(value, step)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End a resumed fit that had been pruned before it was stopped."""
        trainer.should_stop = trainer.should_stop or self.reason is not None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the epoch's validation metric, and end the fit if Optuna prunes it."""
        if not was_validated(trainer):
            return
        epoch, tag = trainer.current_epoch + 1, f"val/{self._monitor.name}"
        value = float(trainer.callback_metrics[tag])
        self._trial.report(value, epoch - 1)
        if self._trial.should_prune():
            trainer.should_stop = True
            epochs = f"{epoch} epoch{'s' if epoch > 1 else ''}"
            num_jobs = sum(epoch in curve for curve in self._curves)
            jobs = f"{num_jobs} finished job{'s' if num_jobs > 1 else ''}"
            self.reason = f"after {epochs}, its best {tag} was worse than the median of {jobs}"

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log why the fit was pruned, if it was, and write it into the run's folder."""
        if self.reason is not None and trainer.is_global_zero:
            log.info("pruned     %s", self.reason)
            write_reason(Path(trainer.default_root_dir) / PRUNED, self.reason)
