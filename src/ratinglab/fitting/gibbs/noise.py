"""Draws of the noise precisions of users and items in Gibbs sampling, and of ν, which says how alike they are."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from ratinglab.fitting.whole_epoch_options import Noise
from ratinglab.kernels.rows import FloatArray

Float64Array = NDArray[np.float64]
DEGREES = 2.0 ** np.arange(1, 10.5, 0.5)
"""Values of ν, the degrees of freedom, from 2 to 1024, with equal prior probabilities. At the highest value, the
precisions have a standard deviation of 4%."""
COMMON_SHAPE, COMMON_RATE = 1.0, 1.0
"""Parameters of the gamma prior on the common precision."""


def draw_user_noise(
    relative: FloatArray,
    counts: Float64Array,
    squares: Float64Array,
    *,
    noise: Noise,
    max_precision: float,
    random: np.random.Generator,
) -> tuple[float, Float64Array]:
    """Draw the common precision α, and the users' precisions s_u = α a_u: (N,), given the errors.

    Args:
        relative: (N,), a, the last draw.
        counts: (N,), number of ratings of each user.
        squares: (N,), sum of each user's squared errors, each multiplied by its item's relative precision.
        noise: whether each user has its own precision (own), or s = α for all (one).
        max_precision: upper bound of each user's own precision.
    """
    common = draw_common_precision(counts.sum(), float(relative @ squares), random)
    if noise is Noise.one:
        return common, np.full(len(counts), common)
    relative_drawn, degrees = draw_precisions(counts, common * squares, random)
    precision = common * relative_drawn
    return redraw_common_precision(common, precision, degrees, random), np.minimum(precision, max_precision)


def draw_common_precision(count: float, squares: float, random: np.random.Generator) -> float:
    """Draw the common precision α, whose prior is Gamma(1, 1), given the number of errors and the sum of their squares,
    each multiplied by its user's a.
    """
    return float(random.gamma(COMMON_SHAPE + count / 2, 1 / (COMMON_RATE + squares / 2)))


def redraw_common_precision(
    common: float, precision: Float64Array, degrees: float, random: np.random.Generator
) -> float:
    """Draw the common precision α again, given the users' precisions s_u = α a_u, which stay as they are.

    p(α | s) ∝ p(α) Π_u α^(−ν/2) exp(−ν s_u / (2 α)). A proposal from an inverse gamma distribution is accepted by the
    ratio of α p(α). If users have thousands of ratings, draw_common_precision hardly moves α, because a has
    followed its last value. This draw moves it freely.

    Args:
        common: α from draw_common_precision.
        precision: (N,), s.
        degrees: ν.

    Source: Yu, Meng, "To Center or Not to Center: That Is Not the Question", Journal of Computational and Graphical
    Statistics, 2011.
    """
    proposal = 1 / random.gamma(len(precision) * degrees / 2, 2 / (degrees * precision.sum()))
    log_ratio = COMMON_SHAPE * np.log(proposal / common) - COMMON_RATE * (proposal - common)
    return float(proposal) if -random.exponential() < log_ratio else common


def draw_precisions(
    counts: Float64Array, squares: Float64Array, random: np.random.Generator
) -> tuple[Float64Array, float]:
    """Draw the noise precisions a of users (or items), relative to their common precision, (N,) float64, and ν.

    a ~ Gamma(ν/2, ν/2), and the n errors of a user are Normal(0, 1/a). ν is drawn first, given the errors, with a
    integrated out:

        p(ν | errors) ∝ Π_u Γ((ν + n)/2) / Γ(ν/2) · (ν/2)^(−n/2) · (1 + S/ν)^(−(ν + n)/2)

    Drawing ν given a would mix slowly for large ν.

    Args:
        counts: (N,), n of each user.
        squares: (N,), S of each user: the sum of the squared errors, in units of the common variance.
    """
    distinct, repeats = np.unique(counts, return_counts=True)
    log_probability = np.empty(len(DEGREES))
    for index, half in enumerate(DEGREES / 2):
        terms = gammaln(half + distinct / 2) - gammaln(half) - distinct / 2 * np.log(half)
        log_probability[index] = repeats @ terms - (half + counts / 2) @ np.log1p(squares / (2 * half))
    # the largest of log p + Gumbel noise is a draw from p
    degrees = DEGREES[np.argmax(log_probability + random.gumbel(size=len(DEGREES)))]
    return random.gamma((degrees + counts) / 2, 2 / (degrees + squares)), float(degrees)
