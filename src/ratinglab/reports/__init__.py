"""Tables of results: one run, a sweep, comparisons and protocols."""
