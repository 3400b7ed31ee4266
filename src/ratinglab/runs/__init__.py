"""One run on disk: its record, its files, and the run in use."""
