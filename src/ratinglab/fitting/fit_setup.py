"""Settings of a fit besides its own options."""

from typing import NamedTuple

from ratinglab.evaluation.metrics import Metric, RankingMetric
from ratinglab.fitting.schedules import Schedule
from ratinglab.fitting.trainer import TrainerOptions


class FitSetup(NamedTuple):
    """Settings of a fit besides its own options.

    Attributes:
        schedule: learning-rate schedule.
        trainer: options of the Trainer.
        monitor: validation metric that decides which epoch is the best.
        seed: seed of the order of the training rows and of all draws.
    """

    schedule: Schedule
    trainer: TrainerOptions
    monitor: Metric | RankingMetric
    seed: int

    def lr(self, epoch: int, *, initial: float | None) -> float | None:
        """Compute the learning rate in an epoch, counted from 0; None for a fit without an initial one."""
        return None if initial is None else initial * self.schedule.factor(epoch, self.trainer.max_epochs)
