"""Where a model errs, and how its data looks."""
