"""HTTP server of a run: requests and responses, the app and its limits, reloading, and the web page."""
