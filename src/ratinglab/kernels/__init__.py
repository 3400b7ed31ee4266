"""Loops compiled by numba.

The order of every sum is independent of the number of threads, so the results are bit-for-bit identical for any number
of threads. `compile_…_loops` loads a file's loops from the compiler's cache, or compiles them in a few seconds.
"""
