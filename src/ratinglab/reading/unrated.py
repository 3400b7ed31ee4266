"""Values that mean unrated, such as -1, 0 or 99."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SAMPLE = 200_000
"""Number of ratings in a sample; all ratings are checked only if some of the sample are suspect."""
MAX_OUTLIERS = 3
"""Maximum number of outlying values."""
MIN_ZERO_SHARE = 0.05
"""Share of the rows above which a lowest rating of 0 may mean unrated."""


def is_unrated(rating: NDArray[np.float32], values: Sequence[float]) -> NDArray[np.bool_]:
    """Return whether each rating is one of the values: (N,) bool, compared in float32."""
    return np.isin(rating, np.array(values, dtype=np.float32))


def notes_on_suspected_unrated(rating: NDArray[np.float32], *, expected: Sequence[float]) -> list[str]:
    """List notes on ratings that may mean unrated, except the expected ones.

    Suspect values are those beyond a gap that is wider than the range of all others; a single negative value if all
    others are at least 0; and a lowest value of 0 if it has more than an even share of the rows.
    """
    if len(rating) > SAMPLE:  # counting all values takes 5% of the reading time
        sample = np.append(rating[:: len(rating) // SAMPLE], [rating.min(), rating.max()]).astype(np.float32)
        if not _suspects(sample):
            return []
    return [
        _note(suspect, int(rows), reason, num_rows=len(rating))
        for suspect, rows, reason in _suspects(rating)
        if not is_unrated(suspect, expected).all()
    ]


def _suspects(rating: NDArray[np.float32]) -> list[tuple[NDArray[np.float32], int, str]]:
    """Find values that may mean unrated, with the number of their rows and the reason."""
    values, count = np.unique(rating, return_counts=True)
    suspects = []
    is_outlier = _is_outlier(values)
    kept, kept_count = values[~is_outlier], count[~is_outlier]
    if is_outlier.any():
        reason = f"far from all others, which range from {kept[0]:g} to {kept[-1]:g}"
        suspects.append((values[is_outlier], count[is_outlier].sum(), reason))
    if len(kept) > 2 and kept[0] < 0 <= kept[1]:
        suspects.append((kept[:1], kept_count[0], "the only negative one"))
        kept, kept_count = kept[1:], kept_count[1:]
    if len(kept) > 2 and kept[0] == 0 and kept_count[0] / kept_count.sum() > max(MIN_ZERO_SHARE, 1 / len(kept)):
        suspects.append((kept[:1], kept_count[0], "frequent, and below all others"))
    return suspects


def _is_outlier(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return whether each sorted value lies beyond a gap that is wider than the range of all others: (n,) bool.

    Outliers are at most MAX_OUTLIERS values that are close together, while the other values have no wide gap, as counts
    of events do.
    """
    is_apart = np.zeros(len(values), dtype=np.bool_)
    for number in range(1, min(MAX_OUTLIERS, (len(values) - 1) // 2) + 1):
        for rest, beyond, gap in (
            (values[:-number], slice(-number, None), values[-number] - values[-number - 1]),
            (values[number:], slice(None, number), values[number] - values[number - 1]),
        ):
            spread, extent = values[beyond][-1] - values[beyond][0], rest[-1] - rest[0]
            if len(rest) > 2 and gap > extent >= max(spread, 2 * np.diff(rest).max()):
                is_apart[beyond] = True
    return is_apart


def _note(values: NDArray[np.float32], count: int, reason: str, *, num_rows: int) -> str:
    listed = [f"{value:g}" for value in values]
    subject = f"the rating {listed[0]} is" if len(listed) == 1 else f"the ratings {' and '.join(listed)} are"
    return (
        f"{subject} {reason} ({count:,} of {num_rows:,} rows); if these rows are unrated, set "
        f"data.unrated=[{','.join(listed)}]"
    )
