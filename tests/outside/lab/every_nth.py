"""A split by row number."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ratinglab.options import at_least
from ratinglab.ratings.table import RatingTable
from ratinglab.splits.split import TEST, TRAIN, VALIDATION, SplitOptions


@dataclass
class EveryNthSplit(SplitOptions):
    """Every n-th row for test, and the row after it for validation."""

    name: ClassVar[str] = "every_nth"

    n: int = field(metadata=at_least(3))
    """Distance between two test rows."""

    def assign(self, table: RatingTable) -> NDArray[np.integer]:
        """Assign each row to a part."""
        place = np.arange(len(table.ratings)) % self.n
        return np.select([place == 0, place == 1], [TEST, VALIDATION], TRAIN)
