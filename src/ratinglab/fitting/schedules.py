"""Learning-rate schedules: a factor on optimizer.lr for each epoch, counted from 0."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from ratinglab.options import above, at_least


@dataclass
class Schedule(ABC):
    """Options of a learning-rate schedule."""

    name: ClassVar[str]
    spans_max_epochs: ClassVar[bool] = False
    """Whether the factor depends on trainer.max_epochs."""

    @abstractmethod
    def factor(self, epoch: int, max_epochs: int) -> float:
        """Compute the factor on optimizer.lr in an epoch, counted from 0."""


@dataclass
class ConstantSchedule(Schedule):
    """A constant learning rate."""

    name: ClassVar[str] = "constant"

    def factor(self, epoch: int, max_epochs: int) -> float:
        return 1.0


@dataclass
class ExponentialSchedule(Schedule):
    """Exponential decay: lr is multiplied by `decay` after every epoch."""

    name: ClassVar[str] = "exponential"

    decay: float = field(metadata=above(0, at_most=1))
    """Factor on the learning rate after every epoch, above 0 and at most 1."""

    def factor(self, epoch: int, max_epochs: int) -> float:
        return self.decay**epoch


@dataclass
class CosineSchedule(Schedule):
    """Half a cosine over trainer.max_epochs, like torch's CosineAnnealingLR (Loshchilov and Hutter 2017)."""

    name: ClassVar[str] = "cosine"
    spans_max_epochs: ClassVar[bool] = True

    final_fraction: float = field(metadata=at_least(0, below=1))
    """Fraction of optimizer.lr that the cosine reaches one epoch after the last, from 0 to below 1."""

    def factor(self, epoch: int, max_epochs: int) -> float:
        """Compute f + (1 − f) (1 + cos(π epoch / max_epochs)) / 2, where f is final_fraction."""
        return self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * epoch / max_epochs)) / 2
