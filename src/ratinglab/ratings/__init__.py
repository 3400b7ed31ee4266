"""The table of ratings: its rows, ids, titles and side information."""
