"""A run that answers requests over HTTP: requests and answers, the app and its limits, reloading, and the page."""
