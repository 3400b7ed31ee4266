"""A run on disk: its record, its tables, its weights; the folder of a sweep."""
