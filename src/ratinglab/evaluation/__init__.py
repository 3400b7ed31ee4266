"""Metrics of ratings and of lists by name, plots, and the options of protocols."""
