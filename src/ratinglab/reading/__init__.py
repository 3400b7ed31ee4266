"""Files of ratings, users and items, read into a checked table; its cache."""
