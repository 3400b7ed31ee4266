"""Sources of ratings: files, guessed layouts, named data sets, synthetic data."""
