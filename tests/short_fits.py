"""A shorter fit of interest, which took half the time of tests of lists."""

from unittest.mock import patch

SHORT_FITS = patch("ratinglab.recommend.interest.ALS_ITERATIONS", 2)
"""Fits interest by 2 iterations instead of 12, after start() and until stop(), in this process."""
