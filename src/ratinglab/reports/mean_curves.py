"""Mean learning curves of runs that differ only in seed or fold."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ratinglab.runs.learning_curves import Curve


def average_curves(curves: Sequence[Curve]) -> pd.DataFrame:
    """Average curves over the epochs that all of them have, with a band around the mean.

    The band is the 95% confidence interval of the mean, by Student's t. With two curves, it is their range.

    Returns:
        Columns mean, low and high, float64; indexed by epoch. The mean ends with the shortest curve, because it would
        jump where a curve ends.
    """
    together = pd.concat([pd.Series(curve, dtype=np.float64) for curve in curves], axis=1, join="inner").sort_index()
    values, mean = together.to_numpy(), together.mean(axis=1)
    if len(curves) < 3:
        return pd.DataFrame({"mean": mean, "low": values.min(axis=1), "high": values.max(axis=1)})
    from scipy import stats  # slow to import

    half_width = stats.t.ppf(0.975, len(curves) - 1) * stats.sem(values, axis=1)
    return pd.DataFrame({"mean": mean, "low": mean - half_width, "high": mean + half_width})
