"""Settings of a fit besides its own options."""

from collections.abc import Callable
from typing import NamedTuple, Self

from ratinglab.evaluation.metrics import Metric, RankingMetric
from ratinglab.fitting.schedules import Schedule
from ratinglab.fitting.trainer import TrainerOptions


class FitSetup(NamedTuple):
    """Settings of a fit besides its own options.

    Attributes:
        lr: learning rate as a function of the epoch, counted from 0; None for a fit without one.
        trainer: options of the Trainer.
        monitor: validation metric that decides which epoch is the best.
        seed: seed of the order of the training rows and of all draws.
    """

    lr: Callable[[int], float] | None
    trainer: TrainerOptions
    monitor: Metric | RankingMetric
    seed: int

    @classmethod
    def scheduled(
        cls,
        *,
        initial_lr: float | None,
        schedule: Schedule,
        trainer: TrainerOptions,
        monitor: Metric | RankingMetric,
        seed: int,
    ) -> Self:
        """Make the settings of a fit whose learning rate, if it has one, follows a schedule."""
        lr = None if initial_lr is None else lambda epoch: initial_lr * schedule.factor(epoch, trainer.max_epochs)
        return cls(lr=lr, trainer=trainer, monitor=monitor, seed=seed)
