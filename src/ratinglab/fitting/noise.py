"""Noise precisions of users and items in Gibbs sampling, and ν, which says how alike they are."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Float64Array = NDArray[np.float64]
DEGREES = 2.0 ** np.arange(1, 10.5, 0.5)
"""Degrees of freedom ν that a draw chooses from, with equal prior probabilities: 2 to 1024. At the highest, the
precisions have a standard deviation of 4%."""


def draw_precisions(counts: Float64Array, squares: Float64Array, random: np.random.Generator) -> Float64Array:
    """Draw the noise precisions a of users (or items), relative to their common precision: (N,) float64.

    a ~ Gamma(ν/2, ν/2), and the n errors of a user are Normal(0, 1/a). ν is drawn first, given the errors, with a
    integrated out:

        p(ν | errors) ∝ Π_u Γ((ν + n)/2) / Γ(ν/2) · (ν/2)^(−n/2) · (1 + S/ν)^(−(ν + n)/2)

    Given a, ν would mix slowly where it is large.

    Args:
        counts: (N,), n of each user.
        squares: (N,), S of each user: the sum of the squared errors, in units of the common variance.
        random: generator of the draws.
    """
    distinct, repeats = np.unique(counts, return_counts=True)
    log_probability = np.empty(len(DEGREES))
    for index, half in enumerate(DEGREES / 2):
        terms = gammaln(half + distinct / 2) - gammaln(half) - distinct / 2 * np.log(half)
        spread = (half + counts / 2) @ np.log1p(squares / (2 * half))
        log_probability[index] = repeats @ terms - spread
    # the largest of log p + Gumbel noise is a draw from p
    degrees = DEGREES[np.argmax(log_probability + random.gumbel(size=len(DEGREES)))]
    return random.gamma((degrees + counts) / 2, 2 / (degrees + squares))
