"""From predicted ratings to lists of items."""
