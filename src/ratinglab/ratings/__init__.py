"""The table of ratings: its ids, reading and checking files, splits, the demo data."""
