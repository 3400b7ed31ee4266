"""Loop over rows for the bias baseline."""

from ratinglab.compiled import njit


@njit(nogil=True)
def add_values(index, other, value, total):  # type: ignore[no-untyped-def]
    """Add value[other[n]] to total[index[n]] for each row n, in order, like torch.bincount; does not check bounds.

    Args:
        index: (N,) int32.
        other: (N,) int32.
        value: (num_others,) float64.
        total: (num_rows,) float64, changed.
    """
    for row in range(len(index)):
        total[index[row]] += value[other[row]]
