"""Training of one run, also from Python: fit, resume, reproduce, and what a run records."""
