"""Sources of ratings: files, guessed layouts, named data sets, generated data."""
