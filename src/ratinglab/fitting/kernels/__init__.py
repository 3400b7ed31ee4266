"""The loops that are compiled by numba."""
