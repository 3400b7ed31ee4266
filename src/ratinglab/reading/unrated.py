"""Values that mean unrated, such as -1, 0 or 99."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SAMPLE_SIZE = 200_000
"""Approximate number of ratings in a sample. All ratings are checked only if the sample has suspect values."""
MAX_OUTLIERS = 3
"""Maximum number of outlying values."""
MIN_ZERO_SHARE = 0.05
"""Minimum share of the rows for which a lowest rating of 0 may mean unrated."""


def is_unrated(rating: NDArray[np.float32], values: Sequence[float]) -> NDArray[np.bool_]:
    """Return whether each rating is one of the values: (N,) bool, compared in float32."""
    return np.isin(rating, np.array(values, dtype=np.float32))


def note_suspected_unrated(rating: NDArray[np.float32], *, expected: Sequence[float]) -> list[str]:
    """Make notes on values that may mean unrated, except the expected values.

    Suspects are values beyond a gap that is wider than the range of all other values; the only negative value; and a
    lowest value of 0 that is more frequent than the average value.
    """
    if len(rating) > SAMPLE_SIZE:  # counting all values takes 5% of the reading time
        sample = np.append(rating[:: len(rating) // SAMPLE_SIZE], [rating.min(), rating.max()]).astype(np.float32)
        if not _find_suspects(sample):
            return []
    return [
        _note(suspect, int(rows), reason, num_rows=len(rating))
        for suspect, rows, reason in _find_suspects(rating)
        if not is_unrated(suspect, expected).all()
    ]


def _find_suspects(rating: NDArray[np.float32]) -> list[tuple[NDArray[np.float32], int, str]]:
    """Find values that may mean unrated, with the number of their rows and the reason."""
    values, count = np.unique(rating, return_counts=True)
    suspects = []
    is_outlier = _is_outlier(values)
    if is_outlier.any():
        outliers, num_rows = values[is_outlier], count[is_outlier].sum()
        values, count = values[~is_outlier], count[~is_outlier]
        reason = f"far from all other ratings, which range from {values[0]:g} to {values[-1]:g}"
        suspects.append((outliers, num_rows, reason))
    if len(values) > 2 and values[0] < 0 <= values[1]:
        suspects.append((values[:1], count[0], "the only negative one"))
        values, count = values[1:], count[1:]
    if len(values) > 2 and values[0] == 0 and count[0] / count.sum() > max(MIN_ZERO_SHARE, 1 / len(values)):
        suspects.append((values[:1], count[0], "frequent, and below all other ratings"))
    return suspects


def _is_outlier(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return whether each sorted value lies beyond a gap that is wider than the range of all other values: (n,) bool.

    There are at most MAX_OUTLIERS outliers, which are close together. If the other values also have a wide gap, like
    counts of events, there are no outliers.
    """
    is_outlier = np.zeros(len(values), dtype=np.bool_)
    for count in range(1, min(MAX_OUTLIERS, (len(values) - 1) // 2) + 1):
        for others, beyond, gap in (
            (values[:-count], slice(-count, None), values[-count] - values[-count - 1]),
            (values[count:], slice(None, count), values[count] - values[count - 1]),
        ):
            outlier_range, other_range = values[beyond][-1] - values[beyond][0], others[-1] - others[0]
            if len(others) > 2 and gap > other_range >= max(outlier_range, 2 * np.diff(others).max()):
                is_outlier[beyond] = True
    return is_outlier


def _note(values: NDArray[np.float32], count: int, reason: str, *, num_rows: int) -> str:
    texts = [f"{value:g}" for value in values]
    subject = f"the rating {texts[0]} is" if len(texts) == 1 else f"the ratings {' and '.join(texts)} are"
    return (
        f"{subject} {reason} ({count:,} of {num_rows:,} rows); if these rows are errors or "
        f"unrated, data.unrated=[{','.join(texts)}] drops them"
    )
