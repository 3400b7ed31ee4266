"""Top-k recommendations from predicted ratings."""
