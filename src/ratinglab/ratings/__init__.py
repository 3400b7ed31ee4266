"""The table of ratings: reading and checking files, ids, splits, demo data."""
